"""Users: made, changed and kept out, in the store, on the pages and from a shell; never with a hash in the history."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select

from mutt import passwords
from mutt.cli import cli, common
from mutt.cli.users import NoUser
from mutt.errors import Refused
from mutt.store import users
from mutt.store.engine import transaction
from mutt.store.tables import config_audit_log
from mutt.store.users import Role
from mutt.web.admin.app import make_admin
from tests.admin_client import log_in, notes_of, send, settings_of, token
from tests.people import PASSWORD, browser, enter, person

OTHER = "another horse, another staple"


@pytest.fixture
def app(engine: Engine, database_url: str, redis_url: str) -> Flask:
    return make_admin(settings_of(database_url, redis_url=redis_url), engine)


@pytest.fixture
def admin(app: Flask) -> FlaskClient:
    """A browser of the settings' administrator."""
    client = app.test_client()
    assert log_in(client).status_code == 302
    return client


@pytest.fixture(autouse=True)
def no_secret_is_kept(engine: Engine, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a test does: no hash and no password stands in the history, or in a log line."""
    yield
    with transaction(engine) as conn:
        rows = conn.execute(select(config_audit_log)).all()
    for text in (*(json.dumps(row._asdict(), default=str) for row in rows), caplog.text):
        assert not re.search(r"argon2|horse|staple", text)


def user_of(engine: Engine, name: str) -> users.User:
    with transaction(engine) as conn:
        found = users.by_name(conn, name)
    assert found is not None
    return found


def test_roles_have_an_order() -> None:
    """Of what they may do, and not of their words."""
    assert sorted([Role.ADMIN, Role.VIEWER, Role.OPERATOR]) == [Role.VIEWER, Role.OPERATOR, Role.ADMIN]
    assert Role.ADMIN >= "operator" > Role.VIEWER and not Role.VIEWER > Role.VIEWER


def test_a_user_is_made_and_found(engine: Engine) -> None:
    """By name, by number, and by what a provider calls them."""
    with transaction(engine) as conn:
        ada = users.make(conn, " Ada ", "operator", password_hash="h", changed_by="test", reason="r")
        eve = users.make(conn, "eve@x", Role.VIEWER, issuer="https://id", subject="7", changed_by="test")
        assert users.by_name(conn, "ada") == users.by_id(conn, ada.id) == ada
        assert users.by_subject(conn, "https://id", "7") == eve and users.by_subject(conn, "x", "7") is None
        assert [user.name for user in users.listed(conn)] == ["ada", "eve@x"]
    assert (ada.role, ada.epoch, ada.is_active, eve.password_hash) == (Role.OPERATOR, 1, True, None)
    assert ada.password_changed_at is not None and "password_hash" not in repr(ada)


@pytest.mark.parametrize(
    ("name", "more", "field"),
    [
        ("ada", {}, "name"),  # taken
        ("ADA ", {}, "name"),
        ("Root", {}, "name"),  # the settings' administrator
        ("api", {}, "name"),  # stands for a key in the history
        ("mutt", {}, "name"),
        ("", {}, "name"),
        ("a b", {}, "name"),
        ("-a", {}, "name"),
        ("a" * 129, {}, "name"),
        ("a\0", {}, "name"),
        ("Ådne", {}, "name"),
        ("new", {"role": "root"}, "role"),
        ("new", {"issuer": "https://id", "subject": "7"}, "subject"),  # taken
    ],
)
def test_who_can_not_be_made(engine: Engine, name: str, more: dict[str, Any], field: str) -> None:
    """The field at fault is named, and nothing is noted."""
    with transaction(engine) as conn:
        users.make(
            conn, "ada", Role.VIEWER, issuer="https://id", subject="7", administrator="root", changed_by="t"
        )
    with pytest.raises(Refused) as caught, transaction(engine) as conn:
        users.make(
            conn, name, **{"role": Role.VIEWER, "administrator": "root", "changed_by": "admin", **more}
        )
    assert caught.value.field == field
    assert notes_of(engine) == []


def test_what_really_changes_ends_their_sessions(engine: Engine) -> None:
    """Once each, with a note; what is as it was already ends none."""
    epoch = person(engine, "ada", Role.VIEWER).epoch
    with transaction(engine) as conn:
        assert users.change(conn, "ada", role=Role.VIEWER, is_active=True, changed_by="admin").epoch == epoch
        users.change(conn, "ada", role=Role.ADMIN, changed_by="admin")
        users.change(conn, "ada", is_active=False, changed_by="admin")
        users.change(conn, "ada", password_hash="$argon2id$x", changed_by="admin")
        assert users.end_sessions(conn, "ada", changed_by="admin").epoch == epoch + 4
        with pytest.raises(LookupError):
            users.change(conn, "eve", role=Role.ADMIN, changed_by="admin")
    notes = notes_of(engine)
    assert [(note.operation, note.table_name, note.record_id) for note in notes] == [
        ("UPDATE", "users", "ada")
    ] * 4
    assert (notes[0].before["role"], notes[0].after["role"]) == ("viewer", "admin")
    assert notes[2].before["password_changed_at"] != notes[2].after["password_changed_at"]


def test_an_administrator_makes_users(admin: FlaskClient, app: Flask, engine: Engine) -> None:
    """With a password of theirs, or with one that is made, shown once, and good."""
    made = send(admin, "/users/new", name="Ada", role="operator", reason="new here")
    assert made.status_code == 200 and made.headers["Cache-Control"] == "no-store"
    [password] = re.findall(r"<pre[^>]*>([^<]+)</pre>", made.text)
    assert (
        len(password) >= passwords.SHORTEST and enter(app.test_client(), "ada", password).status_code == 302
    )
    for page in ("/users/", f"/users/{user_of(engine, 'ada').id}", "/history/"):
        assert password not in admin.get(page).text
    assert send(admin, "/users/new", name="eve", role="viewer", password=PASSWORD).status_code == 302
    assert enter(app.test_client(), "eve").status_code == 302
    assert [(note.operation, note.record_id, note.reason) for note in notes_of(engine)] == [
        ("CREATE", "ada", "new here"), ("CREATE", "eve", ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "label"),
    [
        ({"name": "admin"}, "Name"),
        ({"name": "two words"}, "Name"),
        ({"password": "too-little"}, "Password"),
        ({"password": "new@user.example"}, "Password"),
        ({"role": "root"}, "Role"),
    ],
)
def test_a_user_that_can_not_be_made_is_told_at_the_field(
    admin: FlaskClient, engine: Engine, fields: dict[str, str], label: str
) -> None:
    given = {"name": "new@user.example", "role": "viewer", "password": PASSWORD} | fields
    answer = send(admin, "/users/new", **given)
    assert answer.status_code == 422 and f'class="error" id="{label.lower()}-error">{label}' in answer.text
    # What was typed as a password does not come back.
    assert given["password"] not in re.sub(r'value="new@user.example"', "", answer.text)
    assert notes_of(engine) == []


def test_a_user_is_changed_by_others_and_not_by_themselves(
    admin: FlaskClient, app: Flask, engine: Engine
) -> None:
    """Role, password, sessions, kept out and let in; each time what they had open has ended."""
    ada = person(engine, "ada", Role.ADMIN)
    page = f"/users/{ada.id}"
    theirs = browser(app, "ada")
    csrf = token(theirs, "/profile/")
    for action in ("role", "password", "active", "end"):
        assert theirs.post(f"{page}/{action}", data={"csrf_token": csrf, "role": "viewer"}).status_code == 409
    assert user_of(engine, "ada").epoch == ada.epoch

    csrf = token(admin, page)
    for action, fields, enters in (
        ("role", {"role": "viewer"}, 302),
        ("end", {}, 302),
        ("password", {"password": OTHER}, 403),
        ("active", {"active": "off"}, 403),
    ):
        epoch = user_of(engine, "ada").epoch
        assert admin.post(f"{page}/{action}", data={"csrf_token": csrf, **fields}).status_code == 302, action
        assert user_of(engine, "ada").epoch == epoch + 1
        assert theirs.get("/profile/").status_code == 302
        again = enter(theirs, "ada")
        assert again.status_code == enters, action
    assert enter(app.test_client(), "ada", OTHER).status_code == 403
    admin.post(f"{page}/active", data={"csrf_token": csrf, "active": "on"})
    assert enter(app.test_client(), "ada", OTHER).status_code == 302
    assert admin.post("/users/999/end", data={"csrf_token": csrf}).status_code == 404
    assert admin.get("/users/99999999999").status_code == 404
    assert admin.post(f"{page}/role", data={"csrf_token": csrf, "role": "root"}).status_code == 422


def test_whoever_has_the_administrators_name_is_nobody(
    engine: Engine, database_url: str, redis_url: str
) -> None:
    """A user of before ADMIN_USER took their name can't log in, goes on with no session, and is shown as shadowed."""
    person(engine, "ada", Role.VIEWER)
    key = {"redis_url": redis_url, "secret_key": "s" * 32}
    theirs = browser(make_admin(settings_of(database_url, **key), engine), "ada")
    cookie = theirs.get_cookie("mutt_admin")
    assert cookie is not None
    app = make_admin(settings_of(database_url, admin_user="Ada", **key), engine)
    client = app.test_client()
    client.set_cookie("mutt_admin", cookie.value)
    assert client.get("/profile/").status_code == 302
    assert enter(app.test_client(), "ada").status_code == 403
    administrator = app.test_client()
    assert enter(administrator, "ADA", "correct horse").status_code == 302
    shown = administrator.get("/users/").text
    assert "ADMIN_USER has this name" in shown
    assert send(administrator, "/users/new", name="ada", role="viewer").status_code == 422


def test_somebody_changes_their_own_password(app: Flask, engine: Engine) -> None:
    """With the one of now; the other sessions end, this one goes on under a new cookie."""
    person(engine, "ada", Role.VIEWER)
    here, there = browser(app, "ada"), browser(app, "ada")
    given = {"current": PASSWORD, "password": OTHER, "again": OTHER}
    for wrong in ({"current": "x"}, {"password": "short", "again": "short"}, {"again": "differs"}):
        answer = here.post(
            "/profile/password", data={"csrf_token": token(here, "/profile/"), **given, **wrong}
        )
        assert answer.status_code == 422 and there.get("/profile/").status_code == 200
    old = here.get_cookie("mutt_admin")
    answer = here.post("/profile/password", data={"csrf_token": token(here, "/profile/"), **given})
    new = here.get_cookie("mutt_admin")
    assert answer.status_code == 302 and old and new and old.value != new.value
    assert here.get("/profile/").status_code == 200 and there.get("/profile/").status_code == 302
    assert enter(app.test_client(), "ada").status_code == 403
    assert enter(app.test_client(), "ada", OTHER).status_code == 302


def test_the_password_of_now_is_no_way_round_the_throttle(app: Flask, engine: Engine) -> None:
    """Who found a browser open guesses no faster than at the login."""
    person(engine, "ada", Role.VIEWER)
    client = browser(app, "ada")
    csrf = token(client, "/profile/")
    given = {"csrf_token": csrf, "current": "wrong", "password": OTHER, "again": OTHER}
    statuses = [client.post("/profile/password", data=given).status_code for _ in range(10)]
    assert statuses[0] == 422 and statuses[-1] == 429


@pytest.mark.parametrize("who", ["ada", "admin"])
def test_somebody_ends_their_other_sessions(app: Flask, engine: Engine, who: str) -> None:
    """A user, and the administrator of the settings, who has no row."""
    person(engine, "ada", Role.OPERATOR)
    person(engine, "eve", Role.OPERATOR)
    known = {"ada": PASSWORD, "admin": "correct horse"}[who]
    here, there, other = app.test_client(), app.test_client(), browser(app, "eve")
    for client in (here, there):
        assert enter(client, who, known).status_code == 302
    assert here.post("/profile/end", data={"csrf_token": token(here, "/profile/")}).status_code == 302
    assert here.get("/profile/").status_code == 200 and other.get("/profile/").status_code == 200
    assert there.get("/profile/").status_code == 302
    assert enter(there, who, known).status_code == 302 and here.get("/profile/").status_code == 200


def test_the_history_names_who_did_it(app: Flask, engine: Engine) -> None:
    """A user's change stands under their name, on pages and by the API with their session."""
    person(engine, "ada", Role.ADMIN)
    client = browser(app, "ada")
    csrf = token(client, "/hosts/")
    client.post("/hosts/", data={"csrf_token": csrf, "hostname": "lab-1"})
    client.post("/api/v2/dev-hosts", json={"hostname": "lab-2"}, headers={"X-CSRFToken": csrf})
    with transaction(engine) as conn:
        rows = conn.execute(select(config_audit_log).where(config_audit_log.c.changed_by == "ada")).all()
    assert [row.record_id for row in rows] == ["lab-1", "lab-2"]


Run = Callable[..., Result]


@pytest.fixture
def run(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setenv("DATABASE_URL", database_url)
    common.services.cache_clear()
    yield lambda *arguments, said="": CliRunner().invoke(cli, ["users", *arguments], input=said)
    common.services().engine.dispose()
    common.services.cache_clear()


def test_a_shell_makes_and_changes_users(run: Run, app: Flask, engine: Engine) -> None:
    """The password comes from stdin or a prompt and is in no output; each change is in the history."""
    who = ("--who", "admin", "--reason", "ticket 7")
    made = run("make", "Ada", "--role", "viewer", "--password-stdin", *who, said=f"{PASSWORD}\n")
    assert made.exit_code == 0, made.output
    assert enter(app.test_client(), "ada").status_code == 302
    typed = run("password", "ada", *who, said=f"{OTHER}\n{OTHER}\n")
    assert typed.exit_code == 0, typed.output
    assert enter(app.test_client(), "ada", OTHER).status_code == 302
    outputs = [made.output, typed.output]
    for arguments in (("role", "ada", "admin"), ("disable", "Ada"), ("enable", "ada"), ("disable", "ada")):
        outputs.append(run(*arguments, *who).output)
    shown = run("list", "--json")
    [told] = json.loads(shown.stdout)
    assert (told["name"], told["role"], told["is_active"]) == ("ada", "admin", False)
    table = run("list").output
    assert "kept out" in table
    assert not re.search("argon2|horse", "".join([*outputs, shown.output, table]))
    notes = notes_of(engine)
    assert [note.operation for note in notes] == ["CREATE", *["UPDATE"] * 5]
    assert {note.reason for note in notes} == {"ticket 7"}


def test_a_shell_is_told_what_is_wrong(run: Run) -> None:
    """Of a name, a password, a user that is not there; a password can't be an argument."""
    short = run("make", "ada", "--role", "viewer", "--password-stdin", said="short\n")
    assert isinstance(short.exception, Refused) and short.exception.field == "password"
    taken = run("make", "admin", "--role", "viewer", "--password-stdin", said=f"{PASSWORD}\n")
    assert isinstance(taken.exception, Refused) and taken.exception.field == "name"
    assert isinstance(run("role", "eve", "admin").exception, NoUser)
    assert run("make", "ada", PASSWORD, "--role", "viewer").exit_code == 2
    assert run("role", "eve", "root").exit_code == 2
