"""The audit takes any text, exactly once, and says what it can't take."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select, text

from mutt.errors import AlreadyStored, PoisonRow
from mutt.event import Event, State, Varbind
from mutt.pipeline.work import UNJUDGED
from mutt.rules.rule import Verdict
from mutt.settings import Settings
from mutt.store import audit
from mutt.store.audit import AuditRow, Stored
from mutt.store.engine import make_engine, transaction
from mutt.store.tables import audit_ledger, event_audit_log

NOW = datetime(2026, 3, 14, 15, 9, 26, 535897, tzinfo=UTC)


def row(**changes: object) -> AuditRow:
    plain = AuditRow(
        uuid4(),
        NOW,
        NOW,
        "router1",
        3,
        "syslog",
        "LINK-DOWN",
        5,
        7,
        "Ticket_only",
        "NetOps",
        "batch",
        0,
        "corr",
        "raw",
    )
    return plain._replace(**changes)


def write(engine: Engine, *rows: AuditRow) -> None:
    with transaction(engine) as conn:
        audit.copy_rows(conn, rows)


def read(engine: Engine, ids: Sequence[UUID]) -> list[AuditRow]:
    with transaction(engine) as conn:
        found = conn.execute(select(event_audit_log).where(event_audit_log.c.event_id.in_(ids)))
        return [AuditRow(*values) for values in found]


#: Anything an event may hold: no NUL, no surrogates. What COPY gives a meaning to comes more often than by chance.
any_text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.text(
    st.sampled_from("\\\t\n\rNbx.\v\f\b\"',{}\x7f\x85\u2028é😀")
)
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
any_time = st.datetimes(datetime(1000, 1, 1), datetime(9000, 1, 1), timezones=zones)
any_row = st.builds(
    AuditRow,
    st.uuids(),
    any_time,
    any_time,
    any_text,
    st.none() | st.integers(0, 7),
    any_text,
    any_text,
    st.none() | st.integers(0, 2**31 - 1),
    st.integers(0, 2**31 - 1),
    any_text,
    st.none() | any_text,
    any_text,
    st.integers(0, 500),
    any_text,
    any_text,
    st.none() | any_text,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(any_row, min_size=1, max_size=8, unique_by=lambda each: each.event_id))
def test_every_value_comes_back_as_it_was(engine: Engine, rows: list[AuditRow]) -> None:
    """COPY and back changes no character, no NULL and no moment."""
    with transaction(engine) as conn:
        conn.execute(text("TRUNCATE event_audit_log"))
    write(engine, *rows)
    assert sorted(read(engine, [each.event_id for each in rows])) == sorted(rows)


any_word = st.none() | any_text
any_event = st.builds(
    Event,
    event_id=st.uuids(),
    received_at=any_time,
    occurred_at=any_time,
    hostname=any_text,
    message=any_text,
    item=st.integers(0, 500),
    severity=st.none() | st.integers(0, 7),
    state=st.sampled_from(State),
    source=any_text,
    facility=any_word,
    program=any_word,
    trap_oid=any_word,
    varbinds=st.lists(st.builds(Varbind, any_text, any_text), max_size=3).map(tuple),
    tags=st.dictionaries(any_text, any_text, max_size=3),
    raw=any_text,
    occurred_text=any_word,
    clear_key=any_word,
    instance=any_word,
    template=any_word,
    team=any_word,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(event=any_event)
def test_an_event_comes_back_out_of_its_row(engine: Engine, event: Event) -> None:
    """What was judged can be judged again: nothing of an event is lost in the audit."""
    with transaction(engine) as conn:
        conn.execute(text("TRUNCATE event_audit_log"))
    write(engine, audit.audit_row(event, UNJUDGED, ruleset_version=1, batch_id="b", correlation_id="c"))
    assert audit.event_of(read(engine, [event.event_id])[0]) == event


def test_a_row_is_made_of_event_and_verdict(engine: Engine) -> None:
    """Each of the audit's columns has its value from the event, its verdict and its request."""
    event = Event(
        event_id=uuid4(),
        received_at=NOW,
        occurred_at=NOW,
        hostname="r1",
        message="m",
        item=4,
        severity=2,
        raw="<2>m",
    )
    verdict = Verdict(
        rule_id=None,
        handling="Unhandled",
        forward=False,
        environment="production",
        team=None,
        moog_severity=None,
        why="",
    )
    made = audit.audit_row(event, verdict, ruleset_version=9, batch_id="b", correlation_id="c")
    with transaction(engine) as conn:
        audit.copy_judged(
            conn, [SimpleNamespace(event=event, verdict=verdict, batch_id="b", correlation_id="c")], 9
        )
    assert read(engine, [event.event_id]) == [made]
    expected = (
        event.event_id,
        NOW,
        NOW,
        "r1",
        2,
        "native",
        "m",
        None,
        9,
        "Unhandled",
        None,
        "b",
        4,
        "c",
        "<2>m",
        None,
    )
    assert made == expected


def test_a_known_key_is_already_stored_and_takes_its_neighbours_back(engine: Engine) -> None:
    """The transaction of a repeated key leaves nothing behind; the first row stands."""
    first, neighbour = row(batch_id="first"), row()
    write(engine, first)
    with pytest.raises(AlreadyStored):
        write(engine, neighbour, first._replace(batch_id="second"))
    assert read(engine, [first.event_id, neighbour.event_id]) == [first]


@pytest.mark.parametrize(
    ("changes", "sqlstate"),
    [
        ({"message": "a\0b"}, "22021"),
        ({"message": "half \ud83d"}, "22021"),  # a lone surrogate: refused before it is sent
        ({"item": 2**31}, "22003"),
        ({"severity": 40_000}, "22003"),
        ({"hostname": "h" * 9000 + "".join(map(chr, range(256, 4000)))}, "54000"),  # too long for its index
    ],
)
def test_a_row_that_can_not_be_stored_is_poison(
    engine: Engine, changes: dict[str, object], sqlstate: str
) -> None:
    """It is told from an outage, with the reason, and its neighbour goes in without it."""
    good = row()
    with pytest.raises(PoisonRow) as caught:
        write(engine, good, row(**changes))
    assert caught.value.sqlstate == sqlstate
    write(engine, good)


def test_stored_finds_whose_row_it_is(engine: Engine) -> None:
    """Only the keys that stand are answered, over months, each with its request, item and handling."""
    here, later = row(batch_id="b1", item=3), row(received_at=NOW + timedelta(days=40), handling="Ignore")
    write(engine, here, later)
    keys = [(each.event_id, each.received_at) for each in (here, later)]
    with transaction(engine) as conn:
        assert audit.stored(conn, []) == {}
        found = audit.stored(conn, [*keys, (here.event_id, later.received_at), (uuid4(), NOW)])
    assert found == {keys[0]: Stored("b1", 3, "Ticket_only"), keys[1]: Stored("batch", 0, "Ignore")}


def test_the_ledger_keeps_a_line_a_drain(engine: Engine) -> None:
    with transaction(engine) as conn:
        audit.write_ledger(conn, 500, 3)
        assert conn.execute(select(audit_ledger.c.rows, audit_ledger.c.alerts)).all() == [(500, 3)]


def test_the_control_row_leaves_no_trace(engine: Engine) -> None:
    """It says yes while the audit takes rows, and nothing stays of it."""
    assert audit.control_row(engine)
    with transaction(engine) as conn:
        assert conn.execute(select(event_audit_log)).all() == []


@pytest.mark.parametrize(
    "damage",
    [
        "ALTER TABLE event_audit_log RENAME TO gone",
        "ALTER DATABASE {name} SET default_transaction_read_only = on",
        "ALTER TABLE event_audit_log ADD CONSTRAINT wrong CHECK (hostname <> 'mutt')",
    ],
)
def test_the_control_row_says_no_while_ordinary_rows_are_refused(
    database_url: str, engine: Engine, damage: str
) -> None:
    """Then what was refused is no poison: it is an outage."""
    with transaction(engine) as conn:
        conn.execute(text(damage.format(name=engine.url.database)))
    fresh = make_engine(Settings.from_env({}, database_url=database_url), role="test")
    assert not audit.control_row(fresh)
    fresh.dispose()
