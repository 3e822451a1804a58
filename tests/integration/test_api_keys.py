"""The management API and keys: who may manage, under which name, until when; and keys made and ended by script."""

from __future__ import annotations

import hmac
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import redis
from flask import Flask
from sqlalchemy import Engine, select, text

from mutt.grant import INGEST, MANAGEMENT
from mutt.sealing import Sealer, new_key
from mutt.settings import Settings
from mutt.store import keys
from mutt.store.engine import make_engine, transaction
from mutt.store.tables import api_keys, config_audit_log
from mutt.streams.keys import KeysCopy
from mutt.web.admin.app import make_admin
from mutt.web.api import holders
from mutt.web.signatures import PRESETS
from tests.admin_client import settings_of
from tests.integration.test_api import Api, is_problem
from tests.waiting import wait_until

BOOTSTRAP, SEALING = "management-5e1f", new_key()


@pytest.fixture
def app(engine: Engine, database_url: str, redis_url: str) -> Flask:
    given = {"management_api_key": BOOTSTRAP, "sealing_key": SEALING, "redis_url": redis_url}
    return make_admin(settings_of(database_url, **given), engine)


@pytest.fixture
def api(app: Flask) -> Api:
    return Api(app, key=BOOTSTRAP)


def made(engine: Engine, name: str, *scopes: str, **more: Any) -> str:
    with transaction(engine) as conn:
        return keys.make(conn, name, scopes, changed_by="ada", **more)[1]


def notes(engine: Engine, who: str) -> list[Any]:
    with transaction(engine) as conn:
        query = select(config_audit_log).where(config_audit_log.c.changed_by == who).order_by("id")
        return list(conn.execute(query))


def test_a_key_of_the_scope_manages_under_its_own_name(app: Flask, engine: Engine) -> None:
    api = Api(app, key=made(engine, "deployer", MANAGEMENT))
    assert api("POST", "/dev-hosts", {"hostname": "lab-1"}).status_code == 201
    (note,) = notes(engine, "api:deployer")
    assert (note.operation, note.table_name, note.record_id) == ("CREATE", "development_hosts", "lab-1")


def test_its_use_is_noted(app: Flask, engine: Engine) -> None:
    api = Api(app, key=made(engine, "deployer", MANAGEMENT))
    assert api("GET", "/version").status_code == 200
    with transaction(engine) as conn:
        assert keys.find(conn, "deployer").last_used_at is not None


def test_a_key_without_the_scope_may_not_manage(app: Flask, engine: Engine) -> None:
    api = Api(app, key=made(engine, "sender", INGEST))
    for method, path in (("GET", "/version"), ("GET", "/keys"), ("POST", "/rules")):
        is_problem(api(method, path, {} if method == "POST" else None), 403)
    assert notes(engine, "api:sender") == []


def test_an_unknown_key_is_told_so(app: Flask, engine: Engine) -> None:
    made(engine, "deployer", MANAGEMENT)
    for key in ("", "mutt_", "mutt_" + "A" * 43, "\xff\xfe", "management-5e1", "a" * 5000):
        is_problem(Api(app, key=key)("GET", "/version"), 401)


def test_an_expired_key_is_good_no_longer_though_the_copy_is_fresh(
    app: Flask, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = datetime.now(UTC) + timedelta(hours=1)
    api = Api(app, key=made(engine, "deployer", MANAGEMENT, expires_at=ends))
    assert api("GET", "/version").status_code == 200
    then = SimpleNamespace(time=ends.timestamp, monotonic=time.monotonic)
    monkeypatch.setattr(holders, "time", then)
    assert api("GET", "/version").status_code == 401


def test_a_revoked_key_is_refused_within_five_seconds(app: Flask, engine: Engine) -> None:
    api = Api(app, key=made(engine, "deployer", MANAGEMENT))
    assert api("GET", "/version").status_code == 200
    with transaction(engine) as conn:
        keys.revoke(conn, "deployer", changed_by="ada")
    wait_until(lambda: api("GET", "/version").status_code == 401, 5, "a revoked key is good")


def test_while_postgresql_is_away_known_keys_stay_good_and_unknown_ones_are_not_taken_for_bad(
    database_url: str, engine: Engine
) -> None:
    key = made(engine, "deployer", MANAGEMENT)
    nowhere = make_engine(
        Settings.from_env({}, database_url="postgresql://mutt@127.0.0.1:1/mutt"), role="test"
    )
    app = make_admin(settings_of(database_url), engine)
    assert Api(app, key=key)("GET", "/version").status_code == 200
    app.extensions["holders"]._read_at = float("-inf")  # as if it had been read long ago
    app.extensions["holders"]._services.engine = nowhere
    assert Api(app, key=key)("GET", "/version").status_code == 200
    never = make_admin(settings_of(database_url), nowhere)
    told = Api(never, key=key)("GET", "/version")
    is_problem(told, 503)
    assert int(told.headers["Retry-After"]) >= 1


def test_the_first_key_works_while_postgresql_is_away(database_url: str) -> None:
    nowhere = make_engine(
        Settings.from_env({}, database_url="postgresql://mutt@127.0.0.1:1/mutt"), role="test"
    )
    app = make_admin(settings_of(database_url, management_api_key=BOOTSTRAP), nowhere)
    assert Api(app, key=BOOTSTRAP)("GET", "/version").status_code == 200


def test_a_key_whose_source_signs_needs_the_signature_here_too(app: Flask, engine: Engine) -> None:
    key, secret = made(engine, "deployer", MANAGEMENT), "the secret of the source"
    signing = msgspec.structs.replace(PRESETS["timestamped"], secret=Sealer(SEALING).seal(secret))
    with transaction(engine) as conn:
        keys.sign_with(conn, "deployer", signing, changed_by="ada")
    api = Api(app, key=key)
    assert is_problem(api("GET", "/version"), 401)["field"] == "X-Signature"
    stamp = str(int(time.time()))
    signature = hmac.digest(secret.encode(), f"{stamp}.".encode(), "sha256").hex()
    signed = {"X_Signature": signature, "X_Timestamp": stamp}
    assert api("GET", "/version", **signed).status_code == 200
    assert (
        is_problem(api("POST", "/dev-hosts", {"hostname": "lab-1"}, **signed), 401)["field"] == "X-Signature"
    )


# ---- keys by script


def test_a_key_is_made_shown_once_and_known_to_ingest(api: Api, engine: Engine, redis_url: str) -> None:
    answer = api(
        "POST", "/keys", {"name": "collector", "scopes": ["ingest"], "formats": ["syslog"], "quota": 600}
    )
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store")
    told = answer.get_json()
    key = told.pop("key")
    assert told.pop("published") is True
    assert key.startswith("mutt_")
    assert api("GET", "/keys/collector").get_json() == told
    assert api("GET", "/keys").get_json() == {"keys": [told]}
    for path in ("/keys", "/keys/collector", "/audit"):
        assert key not in api("GET", path).text
    grants = KeysCopy(redis.Redis.from_url(redis_url)).read()
    assert grants
    (grant,) = grants.values()
    assert (grant.name, grant.formats, grant.quota) == ("collector", ("syslog",), 600)
    (note,) = notes(engine, "api")
    assert (note.operation, note.table_name, note.record_id) == ("CREATE", "api_keys", "collector")
    assert key not in str(note)


def test_what_is_known_of_a_source_is_said_whole_and_refused_at_its_field(api: Api, engine: Engine) -> None:
    made(engine, "collector", INGEST)
    said = {"format": "native", "team": "Web", "severity": 0, "every": 300, "in_address": True}
    told = api("PUT", "/keys/collector/source", said)
    assert (told.status_code, told.get_json()["source"]) == (
        200,
        {"mapping": "", "environment": "", **said},
    )
    assert notes(engine, "api")[-1].after["source"] == said | {"every": 300.0}
    cases: list[tuple[str, Any]] = [
        ("format", "x"), ("format", 1), ("severity", 8), ("severity", "3"), ("severity", True), ("every", 1),
        ("in_address", "yes"), ("mapping", "message: a b"), ("mapping", None), ("colour", "red"),
    ]  # fmt: skip
    for field, given in cases:
        assert is_problem(api("PUT", "/keys/collector/source", {field: given}), 422)["field"] == field, given
    assert api("PUT", "/keys/collector/source", {}).get_json()["source"]["team"] == ""
    is_problem(api("PUT", "/keys/nobody/source", {}), 404)


def test_who_changes_a_key_that_changed_since_is_told_so(app: Flask, api: Api, engine: Engine) -> None:
    """Two scripts read a key and change it: the second is refused, and told what stands. Use is no change."""
    key, one = made(engine, "deployer", MANAGEMENT), "/keys/deployer"
    read = api("GET", one)
    assert Api(app, key=key)("GET", "/version").status_code == 200
    etag = api("GET", one).headers["ETag"]
    assert etag == read.headers["ETag"]
    for method, path, given in (("PATCH", one, {"note": "a"}), ("PUT", f"{one}/source", {"team": "Web"})):
        good = api(method, path, given, If_Match=etag)
        assert (good.status_code, good.headers["ETag"]) == (200, api("GET", one).headers["ETag"])
        late = api(method, path, dict.fromkeys(given, "late"), If_Match=etag)
        stands = is_problem(late, 412)["stands"]
        assert (stands, late.headers["ETag"]) == (api("GET", one).get_json(), good.headers["ETag"])
        etag = good.headers["ETag"]
    for path in (f"{one}/rotate", f"{one}/revoke"):
        changed = api("POST", path, {})
        assert changed.headers["ETag"] == api("GET", one).headers["ETag"] != etag
        etag = changed.headers["ETag"]


def test_a_key_made_by_a_key_is_its_making(app: Flask, engine: Engine) -> None:
    api = Api(app, key=made(engine, "deployer", MANAGEMENT))
    told = api("POST", "/keys", {"name": "collector", "scopes": ["ingest"]}).get_json()
    assert told["created_by"] == "api:deployer"


def test_a_key_that_can_not_be_is_refused_at_its_field(api: Api, engine: Engine) -> None:
    cases: list[tuple[str, dict[str, Any]]] = [
        ("name", {"scopes": ["ingest"]}),
        ("name", {"name": 1, "scopes": ["ingest"]}),
        ("name", {"name": "Not A Name", "scopes": ["ingest"]}),
        ("name", {"name": "bootstrap", "scopes": ["ingest"]}),
        ("scopes", {"name": "a"}),
        ("scopes", {"name": "a", "scopes": "ingest"}),
        ("scopes", {"name": "a", "scopes": ["root"]}),
        ("formats", {"name": "a", "scopes": ["ingest"], "formats": ["nothing"]}),
        ("formats", {"name": "a", "scopes": ["ingest"], "formats": [1]}),
        ("quota", {"name": "a", "scopes": ["ingest"], "quota": 0}),
        ("quota", {"name": "a", "scopes": ["ingest"], "quota": True}),
        ("quota", {"name": "a", "scopes": ["ingest"], "quota": "many"}),
        ("expires_at", {"name": "a", "scopes": ["ingest"], "expires_at": "2020-01-01T00:00:00Z"}),
        ("expires_at", {"name": "a", "scopes": ["ingest"], "expires_at": "soon"}),
        ("note", {"name": "a", "scopes": ["ingest"], "note": 1}),
        ("scope", {"name": "a", "scope": ["ingest"]}),
    ]
    for field, given in cases:
        assert is_problem(api("POST", "/keys", given), 422)["field"] == field, given
    with transaction(engine) as conn:
        assert keys.listed(conn) == []


def test_a_name_is_given_once(api: Api, engine: Engine) -> None:
    made(engine, "collector", INGEST)
    assert (
        is_problem(api("POST", "/keys", {"name": "collector", "scopes": ["ingest"]}), 422)["field"] == "name"
    )


def test_a_rotation_leaves_the_old_text_good_for_so_long_as_told(api: Api, engine: Engine) -> None:
    old = made(engine, "collector", INGEST, expires_at=datetime.now(UTC) + timedelta(days=90))
    told = api("POST", "/keys/collector/rotate", {"overlap": 3600}).get_json()
    new, before = told["secrets"]
    assert told["key"].endswith(new["hint"])
    assert old.endswith(before["hint"])
    now = datetime.now(UTC)
    assert timedelta(minutes=59) < datetime.fromisoformat(before["expires_at"]) - now <= timedelta(hours=1)
    assert timedelta(days=89) < datetime.fromisoformat(new["expires_at"]) - now <= timedelta(days=90)
    assert is_problem(api("POST", "/keys/collector/rotate", {"overlap": 3600}), 422)["field"] == "name"


def test_an_overlap_that_is_none_is_refused(api: Api, engine: Engine) -> None:
    made(engine, "collector", INGEST)
    for overlap in (-1, True, "1h", 1.5, 10**9):
        assert (
            is_problem(api("POST", "/keys/collector/rotate", {"overlap": overlap}), 422)["field"] == "overlap"
        )


def test_one_text_or_the_whole_key_is_revoked(api: Api, engine: Engine, redis_url: str) -> None:
    old = made(engine, "collector", INGEST)
    copy = KeysCopy(redis.Redis.from_url(redis_url))
    api("POST", "/keys/collector/rotate", {})
    assert len(copy.read() or {}) == 2
    assert is_problem(api("POST", "/keys/collector/revoke", {"hint": "none"}), 422)["field"] == "hint"
    told = api("POST", "/keys/collector/revoke", {"hint": old[-4:]}).get_json()
    assert [bool(one["revoked_at"]) for one in told["secrets"]] == [False, True]
    assert told["revoked_at"] is None
    assert len(copy.read() or {}) == 1
    assert api("POST", "/keys/collector/revoke", {}).get_json()["revoked_at"]
    assert copy.read() == {}
    assert is_problem(api("POST", "/keys/collector/rotate", {}), 422)["field"] == "name"


def test_rights_are_changed_and_what_is_not_given_stays(api: Api, engine: Engine) -> None:
    made(engine, "collector", INGEST, formats=["syslog"], quota=5, note="of the lab")
    told = api("PATCH", "/keys/collector", {"quota": None, "scopes": ["ingest", "management"]}).get_json()
    assert (told["scopes"], told["formats"], told["quota"], told["note"]) == (
        ["ingest", "management"], ["syslog"], None, "of the lab",
    )  # fmt: skip


def test_a_key_that_is_not_there_is_told_so(api: Api) -> None:
    for name in ("nobody", "Not%20A%20Name", "%00", "a" * 300):
        is_problem(api("GET", f"/keys/{name}"), 404)
        is_problem(api("PATCH", f"/keys/{name}", {}), 404)
        is_problem(api("POST", f"/keys/{name}/rotate", {}), 404)
        is_problem(api("POST", f"/keys/{name}/revoke", {}), 404)


def test_a_change_that_redis_could_not_hear_of_stands_and_says_so(database_url: str, engine: Engine) -> None:
    settings = settings_of(database_url, management_api_key=BOOTSTRAP, redis_url="redis://127.0.0.1:1/0")
    api = Api(make_admin(settings, engine), key=BOOTSTRAP)
    told = api("POST", "/keys", {"name": "collector", "scopes": ["ingest"]})
    assert (told.status_code, told.get_json()["published"]) == (201, False)
    with transaction(engine) as conn:
        assert keys.find(conn, "collector").revoked_at is None


def test_no_more_than_the_digest_of_a_key_is_kept(api: Api, engine: Engine) -> None:
    key = api("POST", "/keys", {"name": "collector", "scopes": ["ingest"]}).get_json()["key"]
    with transaction(engine) as conn:
        for table in (api_keys.name, "api_key_secrets", "config_audit_log"):
            assert key not in str(conn.execute(text(f"SELECT t::text FROM {table} t")).all())
