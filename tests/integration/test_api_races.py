"""Two who change the same thing at once: the second one's check is made against what the first one left."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from flask import Flask
from sqlalchemy import Connection, Engine, select, text

from mutt.errors import Refused
from mutt.store import devices, redactions, rulebook, storms, undo, windows
from mutt.store.engine import transaction
from mutt.store.tables import config_audit_log, device_teams
from mutt.web.admin.app import make_admin
from tests.admin_client import settings_of
from tests.integration.test_api import INGEST_KEY, KEY, RULE, WINDOW, Api, is_problem
from tests.waiting import wait_until

T = TypeVar("T")

SAID: dict[str, Any] = {"changed_by": "first"}
STORM = {"name": "s", "group_by": "host", "alert_count": 9, "alert_window": 60}


@pytest.fixture
def app(engine: Engine, database_url: str, redis_url: str) -> Flask:
    keys = {"management_api_key": KEY, "ingest_api_key": INGEST_KEY, "redis_url": redis_url}
    return make_admin(settings_of(database_url, **keys), engine)


def beside(engine: Engine, first: Callable[[Connection], Any], second: Callable[[], T]) -> T:
    """What ``second`` gets, who asks while ``first`` is not committed, and waits for that."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with ThreadPoolExecutor(1) as pool:
        with transaction(engine) as conn:
            first(conn)
            answer = pool.submit(second)

            def waits() -> bool:
                with transaction(engine) as look:
                    return bool(look.execute(waiting).scalar_one())

            wait_until(waits, what="the second writer to wait")
        return answer.result(timeout=30)


def test_who_deletes_a_rule_is_told_what_was_deleted(app: Flask, engine: Engine) -> None:
    """Not what stood before somebody else's change."""
    rule_id = Api(app)("POST", "/rules", RULE).get_json()["id"]
    answer = beside(
        engine,
        lambda conn: rulebook.save_rule(conn, {"priority": 3}, rule_id=rule_id, **SAID),
        lambda: Api(app)("DELETE", f"/rules/{rule_id}"),
    )
    assert answer.get_json()["priority"] == 3


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize(
    ("path", "body", "change"),
    [
        (
            "/storm-policies",
            STORM,
            lambda conn, id_: storms.save(conn, {"alert_count": 5}, policy_id=id_, **SAID),
        ),
        (
            "/maintenance-windows",
            WINDOW,
            lambda conn, id_: windows.save(conn, {"owner": "p"}, window_id=id_, **SAID),
        ),
        (
            "/redactions",
            {"name": "first", "pattern": "x"},
            lambda conn, id_: redactions.save(conn, {"pattern": "p"}, redaction_id=id_, **SAID),
        ),
    ],
)
def test_an_etag_that_was_good_when_asked_is_refused_where_another_change_came_first(
    app: Flask, engine: Engine, method: str, path: str, body: Any, change: Any
) -> None:
    """The first one's change stands, and the second one sees it."""
    made = Api(app)("POST", path, body)
    assert made.status_code == 201, made.get_json()
    id_, etag = made.get_json()["id"], made.headers["ETag"]
    given = {**body, "name": "second"} if method == "PUT" else None
    answer = beside(
        engine,
        lambda conn: change(conn, id_),
        lambda: Api(app)(method, f"{path}/{id_}", given, If_Match=etag),
    )
    assert is_problem(answer, 412)["stands"] == Api(app)("GET", f"{path}/{id_}").get_json()


def test_of_two_who_give_a_device_its_first_team_one_is_refused(app: Flask, engine: Engine) -> None:
    """Its row can't be locked before it is there."""
    answer = beside(
        engine,
        lambda conn: devices.put_team(conn, "core-1", "First", **SAID),
        lambda: Api(app)("PUT", "/teams/core-1", {"team_assignment": "Second"}, If_Match='"none"'),
    )
    assert is_problem(answer, 412)["stands"]["team_assignment"] == "First"


def test_a_row_that_another_made_meanwhile_is_noted_as_changed_and_not_as_made(
    app: Flask, engine: Engine
) -> None:
    """Else to undo the second change would delete the row."""
    answer = beside(
        engine,
        lambda conn: devices.put_team(conn, "core-1", "First", **SAID),
        lambda: Api(app)("PUT", "/teams/core-1", {"team_assignment": "Second"}),
    )
    assert answer.status_code == 200
    with transaction(engine) as conn:
        query = select(config_audit_log).where(config_audit_log.c.table_name == device_teams.name)
        noted = conn.execute(query.order_by(config_audit_log.c.id)).all()
    assert [(note.operation, (note.before or {}).get("team_assignment")) for note in noted] == [
        ("CREATE", None),
        ("UPDATE", "First"),
    ]


def test_a_row_that_is_made_anew_meanwhile_is_not_given_back(engine: Engine) -> None:
    """An undo is refused with a sentence, whoever came first."""
    with transaction(engine) as conn:
        devices.add_host(conn, "lab-1", **SAID)
        devices.remove_host(conn, "lab-1", **SAID)
        note = (
            conn.execute(select(config_audit_log.c.id).order_by(config_audit_log.c.id.desc()))
            .scalars()
            .first()
        )

    def back() -> Any:
        with transaction(engine) as conn:
            return undo.undo(conn, note or 0, {"changed_by": "second"})

    with pytest.raises(Refused, match="again"):
        beside(engine, lambda conn: devices.add_host(conn, "lab-1", **SAID), back)


def test_a_fault_of_our_own_is_no_missing_thing(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that reads 404 takes the rule for deleted."""

    def broken(*_: Any) -> Any:
        raise KeyError("x")

    monkeypatch.setattr("mutt.web.api.rules._found", broken)
    is_problem(Api(app)("GET", "/rules/1"), 500)
