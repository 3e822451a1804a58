"""People for tests: users in the database, and browsers in which they are logged in."""

from __future__ import annotations

from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from mutt.store import users
from mutt.store.engine import transaction
from mutt.store.users import Role, User
from tests.admin_client import token

#: Theirs, all of them.
PASSWORD = "correct horse battery staple"

#: Like ours, and worked in no time; the first login makes it one of ours.
_HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)


def person(engine: Engine, name: str, role: Role | str) -> User:
    """A user with this role."""
    with transaction(engine) as conn:
        return users.make(conn, name, role, password_hash=_HASH, changed_by="test")


def enter(
    client: FlaskClient, name: str, password: str = PASSWORD, address: str = "192.0.2.1"
) -> TestResponse:
    """Try to log in from an address."""
    given = {"name": name, "password": password, "csrf_token": token(client, "/login")}
    return client.post("/login", data=given, environ_overrides={"REMOTE_ADDR": address})


def browser(app: Flask, name: str, address: str = "192.0.2.1") -> FlaskClient:
    """A browser in which ``name`` is logged in."""
    client = app.test_client()
    assert enter(client, name, address=address).status_code == 302
    return client


def everybody(engine: Engine, app: Flask) -> dict[str, FlaskClient]:
    """A browser for each role, named as its user and as the role."""
    for role in Role:
        person(engine, role.value + "-1", role)
    return {role.value: browser(app, role.value + "-1") for role in Role}
