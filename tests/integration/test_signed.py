"""/signed/NAME over a real gunicorn: a good signature takes events without a key, and nothing else does."""

from __future__ import annotations

import gzip
import hmac
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import orjson
import pytest
import redis
from sqlalchemy import Engine

from mutt import keyring, names
from mutt.grant import INGEST, MANAGEMENT, Grant, Signing, digest_of
from mutt.sealing import Sealer, new_key
from mutt.services import Services
from mutt.settings import Settings
from mutt.store import keys
from mutt.store.engine import transaction
from mutt.streams.keys import KeysCopy
from mutt.web.intake import Intake
from mutt.web.lane import recognised
from mutt.web.post import Post
from mutt.web.signatures import PRESETS
from tests.doors import Door, served
from tests.integration.test_ingest import GOOD
from tests.servers import live_redis, scratch
from tests.waiting import wait_until

SEALING, SECRET, KEY, BOOTSTRAP = (
    new_key(),
    "a secret that the source gave",
    "mutt_" + "k" * 43,
    "bootstrap-5e1f",
)
BODY = orjson.dumps(GOOD)


def sealed(preset: str, key: str = SEALING) -> Signing:
    return msgspec.structs.replace(PRESETS[preset], secret=Sealer(key).seal(SECRET))


SOURCES = {
    "github": Grant("github", (INGEST,), signing=sealed("github")),
    "slack": Grant("slack", (INGEST,), signing=sealed("slack")),
    "stripe": Grant("stripe", (INGEST,), signing=sealed("stripe")),
    "narrow": Grant("narrow", (INGEST,), formats=("native",), signing=sealed("github")),
    "limited": Grant("limited", (INGEST,), quota=1, signing=sealed("github")),
    "manager": Grant("manager", (MANAGEMENT,), signing=sealed("github")),
    "lost": Grant("lost", (INGEST,), signing=sealed("github", new_key())),
}


def mac(signed: bytes) -> str:
    return hmac.digest(SECRET.encode(), signed, "sha256").hex()


def github(body: bytes) -> list[str]:
    return [f"X-Hub-Signature-256: sha256={mac(body)}"]


def slack(body: bytes, at: int) -> list[str]:
    return [f"X-Slack-Request-Timestamp: {at}", f"X-Slack-Signature: v0={mac(b'v0:%d:' % at + body)}"]


def stripe(body: bytes, at: int) -> list[str]:
    other = "0" * 64
    return [f"Stripe-Signature: t={at},v1={other},v1={mac(b'%d.' % at + body)},v0={other}"]


def request(path: str, headers: list[str], body: bytes = BODY) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: x", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class Signers(Door):
    """Ingest, and its Redis."""

    def __init__(self, port: int, url: str, log: Path) -> None:
        super().__init__(port)
        self.redis, self.log = redis.Redis.from_url(url), log

    def post(self, path: str, headers: list[str], body: bytes = BODY) -> tuple[int, dict[str, str]]:
        """Its status, and its document."""
        status, _, told = self.ask(request(path, headers, body))
        return status, orjson.loads(told)

    @property
    def accepted(self) -> int:
        return int(self.redis.hget(names.LEDGER, "events.accepted") or 0)


@pytest.fixture(scope="module")
def door() -> Iterator[Signers]:
    with scratch() as directory, live_redis(directory) as server:
        copy = KeysCopy(redis.Redis.from_url(server.url))
        copy.publish({digest_of(KEY.encode()): SOURCES["github"]}, SOURCES)
        env = {"REDIS_URL": server.url, "INGEST_API_KEY": BOOTSTRAP, "SEALING_KEY": SEALING}
        with served("ingest", env, directory) as (port, log):
            yield Signers(port, server.url, log)
            text = log.read_text()
            assert not any(secret in text for secret in (SECRET, KEY, BOOTSTRAP, SEALING)), text


def test_a_good_signature_is_enough_as_its_sender_writes_it(door: Signers) -> None:
    now, before = int(time.time()), door.accepted
    for path, headers in (
        ("/signed/github", github(BODY)),
        ("/signed/github/native", github(BODY)),
        ("/signed/slack", slack(BODY, now)),
        ("/signed/stripe", stripe(BODY, now)),
    ):
        status, told = door.post(path, headers)
        assert (status, told["accepted"]) == (202, 1), told
    assert door.accepted == before + 4


def test_the_signature_is_of_the_bytes_as_they_come(door: Signers) -> None:
    """Compressed bodies are signed compressed; chunks are of the way, and none of the body."""
    packed = gzip.compress(BODY)
    coding = "Content-Encoding: gzip"
    assert door.post("/signed/github", [coding, *github(packed)], packed)[0] == 202
    assert door.post("/signed/github", [coding, *github(BODY)], packed)[0] == 401
    head = ["POST /signed/github HTTP/1.1", "Host: x", "Transfer-Encoding: chunked", *github(BODY)]
    chunks = b"".join(b"%x\r\n%c\r\n" % (1, byte) for byte in BODY) + b"0\r\n\r\n"
    assert door.ask("\r\n".join(head).encode() + b"\r\n\r\n" + chunks)[0] == 202


def test_nothing_else_is_taken_and_the_answer_names_the_header(door: Signers) -> None:
    now, before = int(time.time()), door.accepted
    refused: list[tuple[str, list[str], str]] = [
        ("/signed/github", [], "X-Hub-Signature-256"),
        ("/signed/github", github(BODY + b" "), "X-Hub-Signature-256"),
        ("/signed/github", [f"X-Hub-Signature-256: sha1={mac(BODY)}"], "X-Hub-Signature-256"),
        ("/signed/github", [f"X-API-KEY: {BOOTSTRAP}"], "X-Hub-Signature-256"),
        ("/signed/slack", slack(BODY, now - 400), "X-Slack-Request-Timestamp"),
        ("/signed/slack", slack(BODY, now + 400), "X-Slack-Request-Timestamp"),
        ("/signed/slack", slack(BODY, now)[1:], "X-Slack-Request-Timestamp"),
        ("/signed/stripe", stripe(BODY, now - 400), "Stripe-Signature"),
        ("/signed/stripe", [f"Stripe-Signature: t={now},v0={mac(b'%d.' % now + BODY)}"], "Stripe-Signature"),
    ]
    for path, headers, field in refused:
        status, told = door.post(path, headers)
        assert (status, told.get("field")) == (401, field), (path, headers, told)
    for path in ("/signed/nobody", "/signed/bootstrap", "/signed/github%00", "/signed/GITHUB"):
        assert door.post(path, github(BODY))[0] == 401
    assert door.accepted == before


def test_a_key_whose_source_signs_is_no_good_without_the_signature_also_in_the_lane(door: Signers) -> None:
    shows, before = f"X-API-KEY: {KEY}", door.accepted
    bare, whole = request("/ingest", [shows]), request("/ingest", [shows, *github(BODY)])
    assert recognised(bare, "192.0.2.1")
    assert recognised(whole, "192.0.2.1")
    assert door.ask(bare)[0] == 401
    assert door.ask(whole)[0] == 202
    assert door.post("/ingest/native", [shows])[0] == 401  # no lane
    assert door.post("/ingest/native", [shows, *github(BODY)])[0] == 202
    assert door.accepted == before + 2


def test_scopes_formats_and_quota_hold_as_for_keys(door: Signers) -> None:
    line = b"<187>Mar  4 09:15:02 core-1 fan failed"
    for path, body, status in (
        ("/signed/manager", BODY, 403),
        ("/signed/narrow", line, 403),
        ("/signed/narrow/syslog", line, 403),
        ("/signed/narrow", BODY, 202),
        ("/signed/github/pigeon", BODY, 404),
        ("/signed/limited", b"[%b,%b]" % (BODY, BODY), 413),
        ("/signed/limited", BODY, 202),
        ("/signed/limited", BODY, 429),
    ):
        assert door.post(path, github(body), body)[0] == status, (path, body)


def test_a_name_alone_learns_nothing_of_what_its_source_may_do(door: Signers) -> None:
    wrong = ["X-Hub-Signature-256: sha256=" + "0" * 64]
    for path in ("/signed/manager", "/signed/narrow/syslog", "/signed/github/pigeon", "/signed/github"):
        assert door.post(path, wrong, BODY)[0] == 401, path


def test_senders_health_checks_are_answered(door: Signers) -> None:
    for method in (b"GET", b"HEAD", b"OPTIONS"):
        for path in (b"/signed/github", b"/signed/nobody/native"):
            assert (
                door.ask(b"%b %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % (method, path))[0] == 200
            )


def test_a_secret_that_can_not_be_opened_is_our_fault_and_is_logged_once(door: Signers) -> None:
    for _ in range(3):
        status, headers, _ = door.ask(request("/signed/lost", github(BODY)))
        assert status == 503
        assert int(headers["retry-after"]) >= 1
    assert door.log.read_text().count("posts of lost") == 1


def test_a_source_is_closed_within_five_seconds_of_its_revocation(door: Signers) -> None:
    copy = KeysCopy(door.redis)
    known = copy.read() or {}
    later = {**SOURCES, "leaving": Grant("leaving", (INGEST,), signing=sealed("github"))}
    copy.publish(known, later)
    wait_until(lambda: door.post("/signed/leaving", github(BODY))[0] == 202, 5, "a new source is not known")
    copy.publish(known, SOURCES)
    wait_until(lambda: door.post("/signed/leaving", github(BODY))[0] == 401, 5, "a revoked source is good")


def intake_of(redis_url: str) -> Intake:
    settings = Settings.from_env({}, redis_url=redis_url, ingest_api_key=BOOTSTRAP, sealing_key=SEALING)
    return Intake(Services(settings, lambda _queue, **_labels: None, role="ingest", web=True))


def test_a_bad_signature_in_a_group_of_the_lane_costs_no_neighbour(redis_url: str) -> None:
    KeysCopy(redis.Redis.from_url(redis_url)).publish({digest_of(KEY.encode()): SOURCES["github"]}, SOURCES)
    bad, good = {"X-API-KEY": KEY}, {"X-API-KEY": KEY, "X-HUB-SIGNATURE-256": "sha256=" + mac(BODY)}
    posts = [
        (Post(headers, "192.0.2.1"), BODY) for headers in (good, bad, {"X-API-KEY": BOOTSTRAP}, bad, good)
    ]
    intake = intake_of(redis_url)
    answers = intake.answer_all(posts, time.monotonic())
    assert [answer.status for answer in answers] == [202, 401, 202, 401, 202]
    counted = intake.services.metrics.registry.get_sample_value
    assert counted("mutt_ingest_refused_total", {"reason": "signature"}) == 2


def test_while_redis_has_no_copy_nobody_is_told_that_he_signs_wrongly(redis_url: str) -> None:
    answer = intake_of(redis_url).answer(Post({}, "192.0.2.1", source="github"), lambda: BODY)
    assert answer.status == 503


def test_when_a_source_was_last_heard_of_is_noted(redis_url: str, database_url: str, engine: Engine) -> None:
    """Of a good signature only; it is in PostgreSQL when the uses are next brought there."""
    signature = {"X-HUB-SIGNATURE-256": "sha256=" + mac(BODY)}
    services = Services(
        Settings.from_env({}, redis_url=redis_url, database_url=database_url), lambda _queue, **_labels: None
    )
    with transaction(engine) as conn:
        for name in ("github", "narrow"):
            keys.make(conn, name, [INGEST], changed_by="ada")
            keys.sign_with(conn, name, SOURCES[name].signing, changed_by="ada")
    keyring.publish(services)
    for source, headers, status in (("narrow", {}, 401), ("github", signature, 202)):
        answer = intake_of(redis_url).answer(Post(headers, "192.0.2.1", source=source), lambda: BODY)
        assert answer.status == status
    assert keyring.note_uses(services) == 1
    with transaction(engine) as conn:
        heard_of, never = keys.find(conn, "github"), keys.find(conn, "narrow")
    assert heard_of.signed_at
    assert heard_of.last_used_at == heard_of.signed_at
    assert never.last_used_at is None
    services.engine.dispose()
