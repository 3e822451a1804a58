"""What opens is nowhere: no key and no signing secret stands in PostgreSQL, in Redis, in a log line or a page."""

from __future__ import annotations

import hmac
import logging
from typing import Any

import orjson
import pytest
import redis
from sqlalchemy import Engine, inspect, text

from mutt.grant import digest_of
from mutt.sealing import Sealer, new_key
from mutt.services import Services
from mutt.store import keys
from mutt.store.engine import transaction
from mutt.web.admin.app import make_admin
from mutt.web.intake import Intake
from mutt.web.post import Post
from tests.admin_client import log_in, send, settings_of
from tests.integration.test_admin_keys import shown
from tests.integration.test_api import Api
from tests.integration.test_ingest import GOOD

SEALING, GIVEN, BOOTSTRAP = new_key(), "a secret that the source gave", "management-5e1f"
BODY = orjson.dumps(GOOD)


def rows_of(engine: Engine) -> str:
    """Every row of every table, as text."""
    with transaction(engine) as conn:
        tables = inspect(conn).get_table_names()
        assert {"api_keys", "api_key_secrets", "config_audit_log"} <= set(tables)
        found = [conn.execute(text(f'SELECT t::text FROM "{name}" t')).scalars().all() for name in tables]
    return "\n".join(row for rows in found for row in rows)


def values_of(client: Any) -> bytes:
    """Every key of Redis, with what it holds."""
    found = []
    for name in client.scan_iter(count=1000):
        kind = client.type(name).decode()
        read = {
            "string": lambda name=name: client.get(name),
            "hash": lambda name=name: client.hgetall(name),
            "list": lambda name=name: client.lrange(name, 0, -1),
            "set": lambda name=name: client.smembers(name),
            "zset": lambda name=name: client.zrange(name, 0, -1, withscores=True),
            "stream": lambda name=name: client.xrange(name),
        }[kind]
        found.append(repr((name, read())).encode())
    return b"\n".join(found)


def test_what_opens_is_kept_nowhere(
    engine: Engine, database_url: str, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Keys and secrets are made by every door, used well and badly, rotated and revoked: then all is looked through."""
    caplog.set_level(logging.DEBUG)
    given = {"redis_url": redis_url, "sealing_key": SEALING, "management_api_key": BOOTSTRAP}
    settings = settings_of(database_url, **given)
    app = make_admin(settings, engine)
    admin, api = app.test_client(), Api(app, key=BOOTSTRAP)
    log_in(admin)
    opens = [SEALING, GIVEN, BOOTSTRAP]
    opens.append(shown(send(admin, "/keys/new", name="paged", scopes=["ingest", "management"])))
    opens.append(shown(send(admin, "/keys/paged/rotate", overlap="3600")))
    opens.append(shown(send(admin, "/keys/paged/signing", preset="slack", source="made")))
    opens.append(
        api("POST", "/keys", {"name": "scripted", "scopes": ["ingest", "management"]}).get_json()["key"]
    )
    opens.append(api("POST", "/keys/scripted/rotate", {"overlap": 60}).get_json()["key"])
    assert (
        send(admin, "/keys/scripted/signing", preset="github", source="given", secret=GIVEN).status_code
        == 302
    )
    assert (
        send(admin, "/keys/scripted/signing", preset="github", source="given", secret="short").status_code
        == 422
    )

    intake = Intake(Services(settings, lambda _queue, **_labels: None, role="ingest", web=True))
    good = {"X-HUB-SIGNATURE-256": "sha256=" + hmac.digest(GIVEN.encode(), BODY, "sha256").hex()}
    for headers, status in (
        (good, 202),
        ({"X-HUB-SIGNATURE-256": "sha256=" + "0" * 64}, 401),
        ({"X-HUB-SIGNATURE-256": GIVEN}, 401),
        ({}, 401),
    ):
        assert intake.answer(Post(headers, "192.0.2.1", source="scripted"), lambda: BODY).status == status
    shows = {"X-API-KEY": opens[-1], **good}
    assert intake.answer(Post(shows, "192.0.2.1"), lambda: BODY).status == 202
    assert intake.answer(Post(shows, "192.0.2.1"), lambda: b"[1]").status == 401
    assert Api(app, key=opens[-1])("GET", "/version").status_code == 401  # no signature
    assert Api(app, key=opens[3] + "x")("GET", "/version").status_code == 401
    assert api("POST", "/keys/scripted/revoke", {}).status_code == 200

    with transaction(engine) as conn:
        sealed = [key.signing.secret for key in keys.listed(conn) if key.signing]
        digests = [one.digest for key in keys.listed(conn) for one in key.secrets]
    assert len(sealed) == 2
    assert GIVEN.encode() in map(Sealer(SEALING).open, sealed)
    rows, values = rows_of(engine), values_of(redis.Redis.from_url(redis_url))
    pages = "".join(
        admin.get(page).text for page in ("/keys/", "/keys/paged", "/keys/paged/signing", "/history/")
    )
    pages += api("GET", "/keys").text + api("GET", "/audit").text + api("GET", "/config").text
    assert digest_of(opens[3].encode()) in rows  # it is looked through indeed
    assert b"scripted" in values or b"paged" in values
    for secret in opens:
        assert secret not in rows
        assert secret.encode() not in values
        assert secret not in caplog.text
        assert secret not in pages
    with transaction(engine) as conn:
        notes = "\n".join(conn.execute(text("SELECT t::text FROM config_audit_log t")).scalars())
    for hidden in (*sealed, *digests):
        assert hidden not in notes
        assert hidden not in pages
        assert hidden not in caplog.text
