"""The pages of versions and of the linter, as a browser uses them."""

from __future__ import annotations

import io

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from mutt.rules import book
from mutt.store import plans, rulebook, versions
from mutt.store.engine import transaction
from tests.admin_client import filled_in, hidden, notes_of, operator_of, send


@pytest.fixture
def client(engine: Engine, database_url: str) -> FlaskClient:
    return operator_of(engine, database_url)


def saved(engine: Engine, **fields: object) -> int:
    with transaction(engine) as conn:
        rulebook.save_rule(conn, fields, changed_by="ann", reason="<b>why</b>")
        return rulebook.current_version(conn)


def stands(engine: Engine) -> int:
    with transaction(engine) as conn:
        return rulebook.current_version(conn)


def test_versions_are_listed_and_shown(client: FlaskClient, engine: Engine) -> None:
    """Who made which and why; what a version holds and what it changed; texts stay texts."""
    version = saved(engine, match_string="<i>fan</i>")
    listed = client.get("/versions/").text
    assert "ann" in listed and "&lt;b&gt;why" in listed
    shown = client.get(f"/versions/{version}").text
    assert "&lt;i&gt;fan" in shown and "<i>fan" not in shown
    assert client.get(f"/versions/?before={version}").status_code == 200
    assert client.get("/versions/99").status_code == 404
    assert client.get("/versions/99/restore").status_code == 404
    assert client.get("/versions/99.yaml").status_code == 404


def test_two_versions_are_compared(client: FlaskClient, engine: Engine) -> None:
    """Both ways round; what is no number, or not there, is said to be so."""
    first, second = saved(engine, match_string="fan"), saved(engine, match_string="pump")
    page = client.get(f"/versions/compare?before={first}&after={second}").text
    assert "pump" in page and "fan" not in page
    assert client.get("/versions/compare?before=x&after=1").status_code == 400
    assert client.get("/versions/compare?before=1&after=99").status_code == 404


def test_a_version_is_restored(client: FlaskClient, engine: Engine) -> None:
    """After a look at what would change; noted with who and why."""
    version = saved(engine, match_string="fan")
    with transaction(engine) as conn:
        stood = versions.book_of(conn, version)
        conn.execute(text("DELETE FROM alert_rules"))
    answer = send(client, f"/versions/{version}/restore", reason="oops")
    assert answer.status_code == 302
    with transaction(engine) as conn:
        assert plans.standing(conn) == stood
    assert {(note.operation, note.reason) for note in notes_of(engine)} == {("CREATE", "oops")}


def test_what_was_not_seen_is_not_restored_over(client: FlaskClient, engine: Engine) -> None:
    """A change that came after the look refuses it; the page then shows what stands now."""
    version = saved(engine, match_string="fan")
    page = f"/versions/{version}/restore"
    saved(engine, match_string="pump")
    form = filled_in(client.get(page).text)
    saved(engine, match_string="late")
    answer = client.post(page, data=form)
    assert answer.status_code == 422
    assert hidden(answer.text, "seen") == str(stands(engine))
    assert not notes_of(engine)


def test_a_version_is_exported(client: FlaskClient, engine: Engine) -> None:
    """As a file that an import takes."""
    version = saved(engine, match_string="fan", tags={"site": "no"})
    answer = client.get(f"/versions/{version}.yaml")
    assert f"rules-{version}.yaml" in answer.headers["Content-Disposition"]
    found, faults = book.check(book.read("f", answer.data))
    assert not faults and "fan" in [rule.name for rule in found.rules or ()]


def upload(client: FlaskClient, content: bytes, **more: str) -> str:
    token = hidden(client.get("/versions/import").text, "csrf_token")
    file = (io.BytesIO(content), "rules.yaml")
    answer = client.post("/versions/import", data={"csrf_token": token, "file": file, **more})
    return answer.text


def test_a_file_is_planned_and_then_applied(client: FlaskClient, engine: Engine) -> None:
    """The plan changes nothing; what was shown is then done, in one version."""
    before = stands(engine)
    page = upload(
        client,
        b"rules: [{name: ERROR, match_string: ERR}, {match_string: fan}]\ndevelopment_hosts: [lab-*]\n",
    )
    assert stands(engine) == before and "fan" in page and "lab-*" in page
    answer = client.post("/versions/import", data={**filled_in(page), "reason": "new"})
    assert answer.status_code == 302
    assert stands(engine) == before + 1
    assert {(note.operation, note.table_name) for note in notes_of(engine)} == {
        ("UPDATE", "alert_rules"),
        ("CREATE", "alert_rules"),
        ("CREATE", "development_hosts"),
    }


def test_a_plan_that_is_out_of_date_is_shown_anew(client: FlaskClient, engine: Engine) -> None:
    """Nothing is done; the new plan can be."""
    page = upload(client, b"rules: [{match_string: fan}]")
    saved(engine, match_string="pump")
    answer = client.post("/versions/import", data=filled_in(page))
    assert answer.status_code == 409
    assert not notes_of(engine)
    assert client.post("/versions/import", data=filled_in(answer.text)).status_code == 302


@pytest.mark.parametrize(
    "content", [b"", b"rules: {", b"rules: [{match_string: ''}]", b"\xff\xfe", b"hosts: [a]"]
)
def test_a_file_that_can_not_be_meant(client: FlaskClient, engine: Engine, content: bytes) -> None:
    """It is said what is wrong, and nothing is changed."""
    before = stands(engine)
    assert "error" in upload(client, content) or "wrong" in upload(client, content)
    assert stands(engine) == before


def test_the_linter_shows_what_is_odd(client: FlaskClient, engine: Engine) -> None:
    """With its rule, and by kinds; texts stay texts."""
    saved(engine, match_string="ERR", priority=1)
    saved(engine, name="<i>", match_type="regex", match_string=".*fan.*")
    page = client.get("/rules/lint/").text
    assert "unreachable" in page and "&lt;i&gt;" in page
    simpler = client.get("/rules/lint/?kind=simpler").text
    assert "this regex is a contains" in simpler and "is tried first" not in simpler
    assert client.get("/rules/lint/?kind=<x>").status_code == 200
    assert client.get("/rules/lint").status_code in (200, 308)
