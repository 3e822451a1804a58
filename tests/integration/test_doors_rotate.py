"""Secrets of the doors in files: ingest's key, the administrator's password, the key that signs the sessions."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine

from mutt.services import Services
from mutt.settings import Settings
from mutt.streams.keys import KeysCopy
from mutt.web.admin.app import make_admin
from mutt.web.ingest import make_ingest
from tests.admin_client import PASSWORD, log_in
from tests.waiting import wait_until

OLD, NEW = "the-old-key-of-ingest", "the-new-key-of-ingest"


class Files:
    """Secrets as their owner writes them: at once, another file by the same name."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, name: str, text: str) -> str:
        """Where it stands now."""
        place = self._directory / name
        place.with_suffix(".new").write_text(text)
        place.with_suffix(".new").replace(place)
        return str(place)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_a_new_key_of_ingest_counts_and_the_old_one_no_more(files: Files, redis_url: str) -> None:
    settings = Settings.from_env({"REDIS_URL": redis_url, "INGEST_API_KEY_FILE": files.write("key", OLD)})
    services = Services(settings, lambda _queue, **_labels: None, web=True)
    KeysCopy(services.redis).publish({})
    client = make_ingest(services).test_client()

    def status(key: str) -> int:
        body = orjson.dumps({"hostname": "core-1", "message": "x"})
        return client.post("/ingest", data=body, headers={"X-API-KEY": key}).status_code

    assert (status(OLD), status(NEW)) == (202, 401)
    files.write("key", NEW)
    wait_until(lambda: status(NEW) == 202, 5, "the new key to count")
    assert status(OLD) == 401


@pytest.fixture
def admin(files: Files, database_url: str, engine: Engine) -> Flask:
    env = {
        "DATABASE_URL": database_url,
        "ADMIN_PASSWORD_FILE": files.write("password", PASSWORD),
        "SECRET_KEY_FILE": files.write("session", "s" * 32),
    }
    return make_admin(Settings.from_env(env), engine)


def is_in(client: FlaskClient) -> bool:
    return client.get("/").status_code == 200


def test_a_new_password_of_the_administrator_counts_and_ends_old_sessions(admin: Flask, files: Files) -> None:
    client = admin.test_client()
    log_in(client)
    assert is_in(client)
    files.write("password", "another horse")
    wait_until(lambda: not is_in(client), 5, "the old session to end")
    assert log_in(client).status_code == 403
    assert log_in(client, "another horse").status_code == 302
    assert is_in(client)


def test_a_new_session_key_ends_all_sessions(admin: Flask, files: Files) -> None:
    """Also for who has a copy of the cookie; and who logs in anew has one that is good."""
    client = admin.test_client()
    log_in(client)
    assert is_in(client)
    files.write("session", "t" * 32)
    wait_until(lambda: not is_in(client), 5, "the old session to end")
    assert log_in(client).status_code == 302
    assert is_in(client)
