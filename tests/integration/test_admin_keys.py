"""The page Keys: a key is shown once, in the answer that makes it, and stands nowhere; what is refused says where."""

from __future__ import annotations

import hmac
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from mutt.formats.base import Rejected
from mutt.grant import Signing, every_of
from mutt.sealing import Sealer, new_key
from mutt.services import Services
from mutt.settings import Settings
from mutt.source import UNKNOWN, Source
from mutt.store import keys
from mutt.store.engine import transaction
from mutt.store.keys import Key
from mutt.streams.keys import KeysCopy
from mutt.web.signatures import PRESETS
from tests.admin_client import filled_in, notes_of, operator_of, send, token

SEALING = new_key()
SECRET = "a secret that the source gave"


@pytest.fixture
def admin(engine: Engine, database_url: str, redis_url: str) -> FlaskClient:
    return operator_of(engine, database_url, redis_url=redis_url, sealing_key=SEALING)


@pytest.fixture
def copy(redis_url: str) -> KeysCopy:
    return KeysCopy(redis.Redis.from_url(redis_url))


def shown(page: TestResponse) -> str:
    """The text that a page shows once."""
    found = re.search(r'<code class="once"[^>]*>([^<]+)</code>', page.text)
    assert found, page.text
    return found[1]


def make(admin: FlaskClient, name: str = "collector", **more: Any) -> str:
    page = send(admin, "/keys/new", name=name, **{"scopes": ["ingest"], **more})
    assert (page.status_code, page.headers["Cache-Control"]) == (200, "no-store")
    return shown(page)


def stored(engine: Engine, name: str = "collector") -> Key:
    with transaction(engine) as conn:
        return keys.find(conn, name)


def test_a_key_is_made_and_ingest_knows_it(admin: FlaskClient, engine: Engine, copy: KeysCopy) -> None:
    key = make(admin, formats=["syslog"], quota="600", note="of the lab", expires_at="2099-01-01T00:00")
    grants = copy.read()
    assert grants
    (grant,) = grants.values()
    assert (grant.name, grant.scopes, grant.formats, grant.quota) == (
        "collector",
        ("ingest",),
        ("syslog",),
        600,
    )
    found = stored(engine)
    assert (found.created_by, found.note, found.secrets[0].hint) == ("admin", "of the lab", key[-4:])
    assert found.secrets[0].expires_at == datetime(2099, 1, 1, tzinfo=UTC)


def test_it_is_shown_once_and_stands_in_no_page_no_cookie_and_no_note(
    admin: FlaskClient, engine: Engine
) -> None:
    key = make(admin)
    for page in ("/keys/", "/keys/collector", "/keys/collector/rotate", "/history/", "/keys/new"):
        answer = admin.get(page)
        assert answer.status_code == 200
        assert key not in answer.text
        assert key not in str(answer.headers)
    cookie = admin.get_cookie("mutt_admin")
    assert cookie
    assert key not in cookie.value
    assert key not in str(notes_of(engine))


def test_the_list_tells_rights_and_hints(admin: FlaskClient) -> None:
    key = make(admin, note="of the <b>lab</b>", quota="1200")
    page = admin.get("/keys/").text
    assert f"…{key[-4:]}" in page
    assert "of the &lt;b&gt;lab&lt;/b&gt;" in page
    assert "1,200" in page
    assert "collector" in admin.get("/keys/?q=LAB").text
    assert "collector" not in admin.get("/keys/?q=nothing").text


def test_a_key_that_can_not_be_is_refused_at_its_field(admin: FlaskClient, engine: Engine) -> None:
    cases: list[tuple[str, dict[str, Any]]] = [
        ("name", {"name": "Not a name"}),
        ("name", {"name": "bootstrap"}),
        ("scopes", {"scopes": []}),
        ("scopes", {"scopes": ["root"]}),
        ("formats", {"formats": ["nothing"]}),
        ("quota", {"quota": "many"}),
        ("quota", {"quota": "0"}),
        ("expires_at", {"expires_at": "2020-01-01T00:00"}),
        ("expires_at", {"expires_at": "soon"}),
    ]
    for field, fields in cases:
        page = send(admin, "/keys/new", **{"name": "collector", "scopes": ["ingest"], **fields})
        assert page.status_code == 422, fields
        assert f'class="error" id="{field}-error"' in page.text, fields
    with transaction(engine) as conn:
        assert keys.listed(conn) == []


def test_rights_are_changed_with_a_reason(admin: FlaskClient, engine: Engine, copy: KeysCopy) -> None:
    make(admin)
    page = send(
        admin, "/keys/collector", scopes=["ingest", "management"], formats=["native"], quota="5", why="t-7"
    )
    assert page.status_code == 302
    grants = copy.read()
    assert grants
    (grant,) = grants.values()
    assert (grant.scopes, grant.formats, grant.quota) == (("ingest", "management"), ("native",), 5)
    assert notes_of(engine)[-1].reason == "t-7"
    assert send(admin, "/keys/collector", scopes=[]).status_code == 422


def test_rotation_gives_a_second_text_and_the_form_sent_twice_no_third(
    admin: FlaskClient, engine: Engine, copy: KeysCopy
) -> None:
    old = make(admin)
    fields = filled_in(admin.get("/keys/collector/rotate").text)
    fields |= {"overlap": "3600"}
    new = shown(admin.post("/keys/collector/rotate", data=fields))
    assert new != old
    assert len(copy.read() or {}) == 2
    assert admin.post("/keys/collector/rotate", data=fields).status_code == 409
    ends = stored(engine).secrets[1].expires_at
    assert ends
    assert timedelta(minutes=59) < ends - datetime.now(UTC) <= timedelta(hours=1)
    assert send(admin, "/keys/collector/rotate", overlap="3600").status_code == 422  # two are live
    assert send(admin, "/keys/collector/rotate", overlap="7").status_code == 422
    assert shown(send(admin, "/keys/collector/rotate", overlap="0")) != new
    assert len(copy.read() or {}) == 1


def test_one_text_is_revoked_or_the_whole_key(admin: FlaskClient, engine: Engine, copy: KeysCopy) -> None:
    make(admin)
    send(admin, "/keys/collector/rotate", overlap="3600")
    made = stored(engine).secrets[1].created_at.isoformat()
    given = {"csrf_token": token(admin, "/keys/collector"), "made": made}
    assert admin.post("/keys/collector/revoke", data=given).status_code == 302
    assert len(copy.read() or {}) == 1
    assert admin.post("/keys/collector/revoke", data={**given, "made": "never"}).status_code == 404
    whole = {**given, "made": "", "reason": "lost"}
    assert admin.post("/keys/collector/revoke", data=whole).status_code == 302
    assert copy.read() == {}
    assert stored(engine).revoked_at
    assert notes_of(engine)[-1].reason == "lost"
    assert "revoked" in admin.get("/keys/collector").text


def test_a_change_that_redis_can_not_hear_of_stands_and_is_told(database_url: str, engine: Engine) -> None:
    admin = operator_of(engine, database_url, redis_url="redis://127.0.0.1:1/0", sealing_key=SEALING)
    page = send(admin, "/keys/new", name="collector", scopes=["ingest"])
    assert page.status_code == 200
    assert 'class="warning"' in page.text
    assert shown(page).endswith(stored(engine).secrets[0].hint)


def test_a_key_that_is_not_there_is_a_404(admin: FlaskClient) -> None:
    given = {"csrf_token": token(admin, "/keys/new")}
    for name in ("nobody", "Not%20a%20name", "%00"):
        for page in ("", "/rotate", "/signing"):
            assert admin.get(f"/keys/{name}{page}").status_code == 404
        for page in ("/revoke", "/unsign", "/try"):
            assert admin.post(f"/keys/{name}{page}", data=given).status_code == 404


def test_nobody_changes_a_key_without_the_token_or_the_login(admin: FlaskClient, engine: Engine) -> None:
    make(admin)
    for page in ("/keys/new", "/keys/collector", "/keys/collector/revoke", "/keys/collector/signing"):
        assert admin.post(page, data={"name": "other", "scopes": "ingest"}).status_code == 400
    admin.delete_cookie("mutt_admin")
    for page in ("/keys/", "/keys/collector", "/keys/collector/signing"):
        answer = admin.get(page)
        assert (answer.status_code, "/login" in answer.headers["Location"]) == (302, True)
    assert stored(engine).revoked_at is None


# ---- signatures


def signing_of(engine: Engine) -> Signing:
    found = stored(engine).signing
    assert found
    return found


def sign(admin: FlaskClient, **fields: Any) -> TestResponse:
    return send(admin, "/keys/collector/signing", **fields)


def test_a_given_secret_is_sealed_and_never_shown(admin: FlaskClient, engine: Engine, copy: KeysCopy) -> None:
    make(admin)
    page = sign(admin, preset="github", source="given", secret=SECRET)
    assert page.status_code == 302
    signing = signing_of(engine)
    assert (signing.header, signing.prefix) == ("X-Hub-Signature-256", "sha256=")
    assert Sealer(SEALING).open(signing.secret) == SECRET.encode()
    assert (copy.read_signed() or {})["collector"].signing == signing
    for shows in ("/keys/", "/keys/collector", "/keys/collector/signing", "/history/"):
        text = admin.get(shows).text
        assert SECRET not in text
        assert signing.secret not in text
    assert signing.secret not in str(notes_of(engine))


def test_a_secret_made_here_is_shown_once_and_the_form_sent_twice_makes_no_other(
    admin: FlaskClient, engine: Engine
) -> None:
    make(admin)
    fields = filled_in(admin.get("/keys/collector/signing").text) | {"preset": "grafana", "source": "made"}
    page = admin.post("/keys/collector/signing", data=fields)
    secret = shown(page)
    assert page.headers["Cache-Control"] == "no-store"
    assert Sealer(SEALING).open(signing_of(engine).secret) == secret.encode()
    assert secret not in admin.get("/keys/collector/signing").text
    assert admin.post("/keys/collector/signing", data=fields).status_code == 409
    assert Sealer(SEALING).open(signing_of(engine).secret) == secret.encode()


def test_how_it_signs_is_changed_and_the_secret_stays(admin: FlaskClient, engine: Engine) -> None:
    make(admin)
    sign(admin, preset="github", source="given", secret=SECRET)
    own = {"preset": "own", "source": "kept", "header": "X-Sig", "algorithm": "sha512", "encoding": "base64"}
    own |= {"timestamp_header": "X-Time", "template": "{timestamp}|{body}", "tolerance": "60"}
    assert sign(admin, **own).status_code == 302
    signing = signing_of(engine)
    assert Sealer(SEALING).open(signing.secret) == SECRET.encode()
    assert (signing.header, signing.algorithm, signing.encoding, signing.tolerance) == (
        "X-Sig", "sha512", "base64", 60,
    )  # fmt: skip
    again = filled_in(admin.get("/keys/collector/signing").text)
    assert (again["preset"], again["header"], again["template"]) == ("own", "X-Sig", "{timestamp}|{body}")


def test_a_signing_that_can_not_be_is_refused_at_its_field(admin: FlaskClient, engine: Engine) -> None:
    make(admin)
    plain = {"source": "made", "algorithm": "sha256", "encoding": "hex", "template": "{body}"}
    cases: list[tuple[str, dict[str, Any]]] = [
        ("secret", {"preset": "github", "source": "given", "secret": "too short"}),
        ("secret", {"preset": "github", "source": "given", "secret": ""}),
        ("header", {"preset": "own", "header": "no header"}),
        ("algorithm", {"preset": "own", "header": "X-A", "algorithm": "md5"}),
        ("template", {"preset": "own", "header": "X-A", "template": "{timestamp}{body}"}),
        ("tolerance", {"preset": "own", "header": "X-A", "tolerance": "long"}),
    ]
    for field, fields in cases:
        page = sign(admin, **{**plain, **fields})
        assert page.status_code == 422, fields
        assert f'id="{field}-error"' in page.text, fields
        assert "too short" not in page.text
    assert stored(engine).signing is None


def test_without_a_sealing_key_signing_can_not_be_set_up_and_says_so(
    engine: Engine, database_url: str, redis_url: str
) -> None:
    admin = operator_of(engine, database_url, redis_url=redis_url)
    make(admin)
    assert "SEALING_KEY" in admin.get("/keys/collector/signing").text
    page = sign(admin, preset="github", source="given", secret=SECRET)
    assert (page.status_code, "SEALING_KEY" in page.text) == (503, True)
    assert stored(engine).signing is None


def test_a_secret_that_can_not_be_opened_here_is_told(
    admin: FlaskClient, engine: Engine, database_url: str, redis_url: str
) -> None:
    make(admin)
    sign(admin, preset="github", source="given", secret=SECRET)
    other = operator_of(engine, database_url, redis_url=redis_url, sealing_key=new_key())
    page = other.get("/keys/collector/signing")
    assert (page.status_code, 'class="warning"' in page.text) == (200, True)
    given = {"csrf_token": token(other, "/keys/collector/signing"), "body": "a", "signature": "b"}
    assert other.post("/keys/collector/try", data=given).status_code == 503
    assert 'class="warning"' not in admin.get("/keys/collector/signing").text


def test_signing_is_taken_away(admin: FlaskClient, engine: Engine, copy: KeysCopy) -> None:
    make(admin)
    sign(admin, preset="github", source="given", secret=SECRET)
    given = {"csrf_token": token(admin, "/keys/collector/signing"), "reason": "moved"}
    assert admin.post("/keys/collector/unsign", data=given).status_code == 302
    assert stored(engine).signing is None
    assert copy.read_signed() == {}


def test_a_pasted_signature_is_tried(admin: FlaskClient) -> None:
    make(admin)
    sign(admin, preset="slack", source="given", secret=SECRET)
    body, now = "a=1\nb=é", int(time.time())

    def tried(time: int, text: str = body) -> str:
        digest = hmac.digest(SECRET.encode(), f"v0:{time}:{body}".encode(), "sha256").hex()
        given = {"body": text.replace("\n", "\r\n"), "signature": f"v0={digest}", "timestamp": str(time)}
        given["csrf_token"] = token(admin, "/keys/collector/signing")
        page = admin.post("/keys/collector/try", data=given)
        assert page.status_code == 200
        found = re.search(r'<p class="([a-z ]+)" role="status">', page.text)
        assert found
        return found[1]

    assert tried(now) == "note"
    assert tried(now - 4000) == "warning"  # it would be too old
    assert tried(now, body + "!") == "warning error"


def test_what_is_tried_may_have_lines_that_end_as_a_browser_writes_them(admin: FlaskClient) -> None:
    make(admin)
    sign(admin, preset="github", source="given", secret=SECRET)
    digest = hmac.digest(SECRET.encode(), b"a\r\nb", "sha256").hex()
    given = {"body": "a\r\nb", "signature": f"sha256={digest}"}
    given["csrf_token"] = token(admin, "/keys/collector/signing")
    assert 'class="note"' in admin.post("/keys/collector/try", data=given).text


def test_each_preset_can_be_chosen_and_is_told_again(admin: FlaskClient) -> None:
    make(admin)
    for preset in PRESETS:
        assert sign(admin, preset=preset, source="given", secret=SECRET).status_code == 302
        assert filled_in(admin.get("/keys/collector/signing").text)["preset"] == preset


# ---- its source


def rejected(redis_url: str, key: str, raw: str) -> str:
    """The id of a letter about an item of ``key`` that ingest refused."""
    services = Services(Settings.from_env({}, redis_url=redis_url), lambda *_, **__: None, role="test")
    services.letters.keep_rejected(key, [Rejected(0, "hostname", "is missing", raw)], most_bytes=10**6)
    return services.letters.newest("ingest")


MAPPING = "hostname: host\r\nmessage: title\r\nseverity: p\r\nwords: {severity: {P1: 2}}"


def test_what_is_known_of_a_source_is_saved_shown_and_published(
    admin: FlaskClient, engine: Engine, copy: KeysCopy
) -> None:
    make(admin)
    assert "Nothing is known beforehand" in admin.get("/keys/collector").text
    given = {"format": "native", "team": "Web", "environment": "development", "severity": "3", "every": "5m"}
    page = send(admin, "/keys/collector/source", **given, in_address="y", mapping=MAPPING, why="t-8")
    assert page.status_code == 302
    known = stored(engine).source
    assert (known.format, known.team, known.environment, known.severity) == (
        "native",
        "Web",
        "development",
        3,
    )
    assert (known.every, known.in_address, known.mapping) == (300.0, True, MAPPING.replace("\r", ""))
    grants = copy.read()
    assert grants
    assert next(iter(grants.values())).source == known
    assert notes_of(engine)[-1].reason == "t-8"
    fields = filled_in(admin.get("/keys/collector/source").text)
    assert {name: fields[name] for name in given} == given
    assert "4 lines" in admin.get("/keys/collector").text
    assert send(admin, "/keys/collector/source", **dict.fromkeys([*given, "mapping"], "")).status_code == 302
    assert stored(engine).source == UNKNOWN


def test_a_source_that_may_be_silent_is_saved_as_its_page_shows_it(
    admin: FlaskClient, engine: Engine
) -> None:
    make(admin)
    for every in ("0", "0", "1h", "90s"):
        send(admin, "/keys/collector/source", every=every)
        assert filled_in(admin.get("/keys/collector/source").text)["every"] == every
        assert stored(engine).source.every == every_of(every)


def test_a_source_that_somebody_else_changed_is_not_overwritten_unseen(
    admin: FlaskClient, engine: Engine
) -> None:
    make(admin)
    opened = filled_in(admin.get("/keys/collector/source").text)
    send(admin, "/keys/collector/source", severity="3")
    late = admin.post("/keys/collector/source", data={**opened, "mapping": MAPPING})
    assert late.status_code == 422
    assert "changed since this page was opened" in late.text
    assert "hostname: host" in late.text  # what was typed stands
    assert stored(engine).source == Source(severity=3)


def test_a_source_that_can_not_be_is_refused_at_its_field(admin: FlaskClient, engine: Engine) -> None:
    make(admin)
    cases = {
        "format": "x",
        "environment": "x",
        "severity": "x",
        "every": "soon",
        "mapping": "message: a b",
        "team": "a" * 256,
    }
    for field, given in cases.items():
        for address in ("/keys/collector/source", "/keys/collector/source/preview"):
            page = admin.post(
                address, data={field: given, "csrf_token": token(admin, "/keys/collector/source")}
            )
            assert page.status_code == 422, (address, field)
            assert f'class="error" id="{field}-error"' in page.text, field
    assert stored(engine).source == UNKNOWN


def test_a_mapping_is_previewed_on_what_was_refused_or_is_pasted_and_nothing_is_saved(
    admin: FlaskClient, engine: Engine, redis_url: str
) -> None:
    """A page without script, a fragment with it; an item of another key is no sample."""
    make(admin)
    other = rejected(redis_url, "other", '{"host": "secret"}')
    letter = rejected(redis_url, "collector", '{"host": "<b>w1</b>", "title": "t", "p": "P1", "x": {"y": 1}}')
    page = admin.get("/keys/collector/source")
    assert "hostname: is missing" in page.text and "secret" not in page.text
    given = {"mapping": MAPPING, "csrf_token": token(admin, "/keys/collector/source")}
    preview = "/keys/collector/source/preview"
    whole = admin.post(preview, data=given | {"letter": letter}).text
    assert "<h1>" in whole
    for shown in ("&lt;b&gt;w1&lt;/b&gt;", "2 (crit)", "tags.x.y", "1 event"):
        assert shown in whole, shown
    scripted = {"HX-Request": "true"}
    for picked, shown in ((letter, True), (other, False), ("1-1", False), ("nonsense", False)):
        fragment = admin.post(preview, data=given | {"letter": picked}, headers=scripted)
        assert (fragment.status_code, "tags.x.y" in fragment.text) == (200, shown), picked
        assert "secret" not in fragment.text
    pasted = admin.post(
        preview, data=given | {"letter": "", "sample": '[{"host": "w2"}, 1]'}, headers=scripted
    ).text
    assert "<h1>" not in pasted
    assert "Item 1 is refused: message is missing" in pasted and "Item 2 is refused" in pasted
    wrong = admin.post(preview, data=given | {"mapping": "message: a..b"}, headers=scripted)
    assert (wrong.status_code, "at character 3" in wrong.text) == (200, True)
    assert stored(engine).source == UNKNOWN
