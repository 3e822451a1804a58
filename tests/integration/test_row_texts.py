"""What PostgreSQL says of a row that it refuses tells the row: none of that gets into an error or its traceback."""

from __future__ import annotations

import traceback
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from sqlalchemy import Engine, insert, text

from mutt.errors import AlreadyStored, MuttError, PoisonRow, StoreDown
from mutt.store.copying import Copy
from mutt.store.engine import SAID_MAX, transaction
from mutt.store.tables import alerts, event_audit_log

CANARY = "a text of some event"

#: A statement, and what it raises.
REFUSED = {
    "a NULL": ("INSERT INTO device_teams (hostname) VALUES (:t)", MuttError),
    "a row that is there": (
        "INSERT INTO development_hosts (hostname) VALUES (left(:t, 20)), (left(:t, 20))", AlreadyStored,
    ),
    "no number": ("SELECT CAST(:t AS integer) WHERE :t || 'x' > ''", PoisonRow),
    "no such column": ("SELECT nothing FROM alerts WHERE team = :t", StoreDown),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_an_error_holds_no_row(engine: Engine, what: str) -> None:
    """Neither DETAIL nor CONTEXT nor the parameters; but for the one value that PostgreSQL itself names, cut."""
    statement, kind = REFUSED[what]
    long_ = CANARY + "\n" + CANARY * 500
    with pytest.raises(kind) as raised, transaction(engine) as conn:
        conn.execute(text(statement), {"t": long_})
    said = "".join(traceback.format_exception(raised.value))
    assert said.count(CANARY) == 0 or what == "no number"
    assert len(str(raised.value)) < SAID_MAX + 100
    for word in ("DETAIL", "CONTEXT", "parameters:", "Failing row"):
        assert word not in said


def test_a_copy_that_is_refused_holds_no_row(engine: Engine) -> None:
    """PostgreSQL shows the line that it was at."""
    copy = Copy(event_audit_log, ["hostname", "message", "received_at"])
    with pytest.raises(MuttError) as raised, transaction(engine) as conn:
        copy.write(conn, [[CANARY], [CANARY], [datetime.now(UTC)]])
    assert CANARY not in "".join(traceback.format_exception(raised.value))


def test_an_insert_that_is_refused_holds_no_parameters(engine: Engine) -> None:
    """SQLAlchemy shows what it was given."""
    with pytest.raises(MuttError) as raised, transaction(engine) as conn:
        conn.execute(insert(alerts).values(alert_id=uuid4(), hostname=CANARY, description=CANARY))
    assert CANARY not in "".join(traceback.format_exception(raised.value))
