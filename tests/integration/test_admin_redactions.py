"""The page of redactions: tried before they act, made, changed, switched and deleted by hand, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine

from mutt.rules.redaction import COMMON, Redaction
from mutt.store import redactions, rulebook
from mutt.store.engine import transaction
from tests.admin_client import filled_in, hidden, notes_of, operator_of, token
from tests.bench import Bench, event

SAID = {"changed_by": "ann"}
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def operator(engine: Engine, database_url: str) -> FlaskClient:
    return operator_of(engine, database_url)


@pytest.fixture
def bench(redis_url: str, database_url: str) -> Iterator[Bench]:
    made = Bench(redis_url, database_url)
    yield made
    made.close()


def standing(engine: Engine) -> list[Redaction]:
    with transaction(engine) as conn:
        return redactions.listed(conn)


def add(engine: Engine, **given: Any) -> Redaction:
    with transaction(engine) as conn:
        return redactions.save(conn, {"name": "passwords", "pattern": r"password=\S+", **given}, **SAID)


def fill(client: FlaskClient, page: str, **fields: Any) -> Any:
    """Send the form as a browser would, with these fields filled in."""
    return client.post(page, data={**filled_in(client.get(page).text), **fields})


def test_one_is_made_changed_and_deleted(operator: FlaskClient, engine: Engine) -> None:
    """Each is one note in the history with its reason; a change over one not seen is refused."""
    given = {"name": EVIL, "pattern": " x{2} ", "replacement": "", "position": "7", "why": "CHG-7"}
    assert fill(operator, "/redactions/new", **given).status_code == 302
    [made] = standing(engine)
    assert (made.name, made.pattern, made.replacement, made.position, made.is_active) == (
        EVIL,
        " x{2} ",
        "",
        7,
        True,
    )
    page = operator.get("/redactions/").text
    assert EVIL not in page and "&lt;script&gt;" in page
    one = f"/redactions/{made.id}"
    stale = filled_in(operator.get(one).text)
    assert fill(operator, one, name="plain").status_code == 302
    assert operator.post(one, data={**stale, "name": "late"}).status_code == 409
    shown = operator.get(one).text
    sent = {"csrf_token": hidden(shown, "csrf_token"), "seen": hidden(shown, "seen"), "reason": "done"}
    assert operator.post(f"{one}/delete", data=sent).status_code == 302
    assert standing(engine) == []
    notes = [(note.operation, note.reason) for note in notes_of(engine)]
    assert notes == [("CREATE", "CHG-7"), ("UPDATE", ""), ("DELETE", "done")]
    assert operator.get(one).status_code == 404


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"pattern": "x*"}, "Pattern:"), ({"replacement": r"\1"}, "Replacement:"), ({"name": ""}, "Name:")],
)
def test_what_can_not_stay_is_shown_at_its_field(
    operator: FlaskClient, engine: Engine, fields: dict[str, str], words: str
) -> None:
    """The form comes back as it was filled in, with what is wrong; nothing is saved."""
    given = {"name": "n", "pattern": "x", **fields}
    answer = fill(operator, "/redactions/new", **given)
    assert answer.status_code == 422 and words in answer.text
    assert filled_in(answer.text)["pattern"] == given["pattern"]
    assert standing(engine) == []


def test_a_draft_is_tried_and_not_saved(operator: FlaskClient, engine: Engine, bench: Bench) -> None:
    """What it would take out of a text, and of how many stored events, is shown; the form keeps what it has."""
    bench.append(event("login password=hunter2 ok"), event("fan failed"))
    bench.run()
    answer = fill(
        operator, "/redactions/new", pattern=r"password=\S+", text=f"{EVIL} password=abc", **{"try": "1"}
    )
    assert answer.status_code == 200
    assert "<del>password=abc</del> <ins>[redacted]</ins>" in answer.text and EVIL not in answer.text
    assert "<del>password=hunter2</del>" in answer.text
    assert "Of 2 stored events of late, <strong>1</strong>" in answer.text
    assert filled_in(answer.text)["text"].endswith("password=abc")
    assert standing(engine) == []
    assert fill(operator, "/redactions/new", pattern="(", **{"try": "1"}).status_code == 422


def test_those_in_force_are_tried(operator: FlaskClient, engine: Engine) -> None:
    """All that are on, one after the other, on one text; one that is off takes nothing."""
    add(engine, replacement="password=[x]")
    add(engine, name="off", pattern="ok", is_active=False)
    given = {"csrf_token": token(operator, "/redactions/"), "text": '{"password": "hunter2"} ok'}
    shown = operator.post("/redactions/try", data={**given, "text": "password=abc ok"}).text
    assert "<del>password=abc</del> <ins>password=[x]</ins> ok" in shown
    assert "Nothing would be taken out" in operator.post("/redactions/try", data={**given, "text": "ok"}).text


def test_it_is_switched(operator: FlaskClient, engine: Engine) -> None:
    """Off and on by the button of the list."""
    made = add(engine)
    for on in (False, True):
        given = {"csrf_token": token(operator, "/redactions/"), "is_active": str(int(on))}
        assert operator.post(f"/redactions/{made.id}/switch", data=given).status_code == 302
        assert [one.is_active for one in standing(engine)] == [on]


def test_a_common_one_is_added_off(operator: FlaskClient, engine: Engine) -> None:
    """Each that is offered can be added once, and does nothing until it is switched on."""
    for number, (name, what, _, _) in enumerate(COMMON):
        page = operator.get("/redactions/").text
        assert name in page and what.split(",")[0] in page
        given = {"csrf_token": hidden(page, "csrf_token")}
        assert operator.post(f"/redactions/common/{number}", data=given).status_code == 302
    assert [(one.name, one.is_active) for one in standing(engine)] == [(one[0], False) for one in COMMON]
    page = operator.get("/redactions/").text
    assert "Common ones" not in page
    given = {"csrf_token": hidden(page, "csrf_token")}
    assert operator.post("/redactions/common/0", data=given).status_code == 409
    assert operator.post(f"/redactions/common/{len(COMMON)}", data=given).status_code == 404


def test_a_tested_event_shows_what_would_be_taken(operator: FlaskClient, engine: Engine) -> None:
    """The page that tests rules judges what would be kept, and says what was taken out of it."""
    add(engine, pattern="CRITICAL", replacement="ERROR")
    answer = operator.get("/rules/test")
    sent = {"csrf_token": hidden(answer.text, "csrf_token"), "events": "CRITICAL disk"}
    shown = operator.post("/rules/test", data=sent).text
    assert "<del>CRITICAL</del> <ins>ERROR</ins>" in shown
    assert "<mark>ERROR</mark>" in shown


def test_the_version_counts_them(operator: FlaskClient, engine: Engine) -> None:
    """A version's page counts them, and the history names them."""
    made = add(engine)
    with transaction(engine) as conn:
        version = rulebook.current_version(conn)
    assert "1 redaction." in operator.get(f"/versions/{version}").text
    assert made.name in operator.get("/history/?table=redactions").text
