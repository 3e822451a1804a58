"""What is sent to MUTT leads nobody elsewhere: no redirect, no request of the server's own, no other question."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import orjson
import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from mutt.errors import SettingsError
from mutt.moog.client import MoogClient
from mutt.moog.connection import is_metadata
from mutt.moog.dialects import DIALECTS
from mutt.moog.outcome import Kind, Reason
from mutt.services import Services
from mutt.settings import Settings
from mutt.store import rulebook
from mutt.store.engine import transaction
from mutt.web.ingest import make_ingest
from tests.admin_client import operator_of
from tests.bench import Bench, event
from tests.contract.test_moog_client import permit
from tests.forwarding import alert
from tests.integration.test_headers import addresses

#: Addresses that a server might be made to ask, and a browser to go to.
ELSEWHERE = (
    "http://169.254.169.254/latest/meta-data/iam/",
    "//elsewhere.example/",
    "/\\elsewhere.example",
    "https:elsewhere.example",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "file:///etc/passwd",
)

#: Fields by which forms, filters and bodies are known to take something.
FIELDS = (
    "next", "url", "q", "text", "hostname", "host", "team", "source", "span", "since", "until", "before", "after",
    "name", "match_string", "reason", "events", "queue", "group", "id", "rules", "yaml",
    "csv", "message", "file",
)  # fmt: skip

#: Texts that would be more than text in SQL, in LIKE or in a regular expression.
SQL = (
    "' OR '1'='1", "'; DROP TABLE alerts; --", "\\", "\\'; SELECT pg_sleep(9); --", "%", "_", "%%%%%%%%%%%%", "$$",
    "$1", "%(text)s", ":text", "{}", "{raw}", "(a+)+$", "' || pg_read_file('/etc/passwd') || '",
)  # fmt: skip

_asked: list[str] | None = None


def _hook(name: str, arguments: tuple[Any, ...]) -> None:
    if _asked is not None and name in (
        "socket.connect",
        "socket.getaddrinfo",
        "urllib.Request",
        "subprocess.Popen",
    ):
        _asked.append(f"{name} {arguments[-1] if name == 'socket.connect' else arguments[:2]}")


@contextmanager
def overheard(*ports: int | None) -> Iterator[list[str]]:
    """What this process asks the network for, apart from our own servers' ports."""
    global _asked
    if not getattr(_hook, "there", False):
        sys.addaudithook(_hook)
        _hook.there = True  # type: ignore[attr-defined]  # one can't be taken away again
    _asked = said = []
    yield said
    _asked = None
    said[:] = [one for one in said if not any(str(port) in one for port in ports)]


@pytest.fixture
def operator(engine: Engine, database_url: str, redis_url: str) -> FlaskClient:
    with transaction(engine) as conn:
        rulebook.seed(conn)
    client = operator_of(engine, database_url, redis_url=redis_url, management_api_key="m")
    client.application.config["WTF_CSRF_ENABLED"] = False  # what is behind that door is asked here
    return client


def test_no_page_form_or_operation_asks_an_address_or_sends_anybody_there(
    operator: FlaskClient, redis_url: str, database_url: str
) -> None:
    """Every address with every method, each field an address, as a form and as JSON; by session and by key."""
    with overheard(urlsplit(redis_url).port, urlsplit(database_url).port) as asked:
        for elsewhere in ELSEWHERE[:2]:
            data = dict.fromkeys(FIELDS, elsewhere)
            query = "&".join(f"{name}={quote(elsewhere)}" for name in FIELDS)
            told = {"Referer": elsewhere, "HX-Current-URL": elsewhere, "X-Forwarded-Host": "elsewhere.example",
                    "Origin": elsewhere, "X-Original-URL": elsewhere}  # fmt: skip
            for path, endpoint in addresses(operator.application):
                if endpoint == "auth.logout":
                    continue
                answers = [
                    operator.get(f"{path}?{query}", headers=told),
                    operator.post(path, data=data, headers=told),
                ]
                if path.startswith("/api/"):
                    key = {"X-API-KEY": "m", "Content-Type": "application/json"}
                    for method in ("POST", "PUT", "PATCH"):
                        answers.append(
                            operator.open(path, method=method, data=orjson.dumps(data), headers=key)
                        )
                for answer in answers:
                    for name in (
                        "Location",
                        "HX-Redirect",
                        "HX-Location",
                        "Content-Location",
                        "Refresh",
                        "Link",
                    ):
                        led = answer.headers.get(name, "")
                        parts = urlsplit(led)
                        assert (path, parts.scheme, parts.netloc) in (
                            (path, "", ""),
                            (path, "http", "localhost"),
                        )
                        assert not led.startswith(("//", "/\\")), path
    assert asked == []


def test_no_event_has_ingest_ask_an_address(redis_url: str) -> None:
    """Whatever its fields say."""
    settings = Settings.from_env({}, redis_url=redis_url, ingest_api_key="k")
    services = Services(settings, lambda *_, **__: None, role="ingest", web=True)
    client = make_ingest(services).test_client()
    services.redis.ping()
    with overheard(urlsplit(redis_url).port) as asked:
        for elsewhere in ELSEWHERE:
            body = dict.fromkeys((*FIELDS, "generatorURL", "trap_oid", "source_ip"), elsewhere) | {
                "hostname": "h"
            }
            for path in ("/ingest", "/ingest/snmptrap", f"/ingest/{quote(elsewhere, safe='')}"):
                told = {
                    "X-API-KEY": "k",
                    "Referer": elsewhere,
                    "X-Forwarded-For": elsewhere,
                    "Host": "elsewhere.example",
                }
                client.post(path, data=orjson.dumps(body), headers=told, buffered=True)
    assert asked == []


@pytest.mark.parametrize("next_", ELSEWHERE[1:4])
def test_a_login_leads_to_a_page_of_ours(operator: FlaskClient, next_: str) -> None:
    """Also where somebody is logged in already."""
    led = operator.get(f"/login?next={quote(next_, safe='')}").headers["Location"]
    assert led == "/"


@pytest.mark.parametrize("page", ["/audit/?span=all&text=", "/alerts/?span=all&text=", "/audit/?span=all&hostname=",
                                  "/rules/?q=", "/history/?span=all&who=", "/teams/?q="])  # fmt: skip
def test_what_is_looked_for_is_text(operator: FlaskClient, engine: Engine, page: str) -> None:
    """Never a part of the question: an answer comes at once, and every table stands."""
    for asked in SQL:
        assert operator.get(page + quote(asked)).status_code == 200, asked
    with transaction(engine) as conn:
        assert conn.execute(text("SELECT count(*) FROM alerts")).scalar() == 0


def test_a_wildcard_is_a_letter(operator: FlaskClient, redis_url: str, database_url: str) -> None:
    """Of four messages, a search for one of LIKE's own characters finds the one that holds it."""
    bench = Bench(redis_url, database_url)
    for message in ("aaa 100% full", "bbb under_score", "ccc back\\slash", "ddd none"):
        bench.append(event(message, "wild"))
    bench.run()
    bench.close()
    for asked, found in (("%", "aaa"), ("_", "bbb"), ("\\", "ccc"), ("%_", ""), ("' OR 1=1 --", "")):
        page = operator.get(f"/audit/?hostname=wild&text={quote(asked)}").text
        assert [word for word in ("aaa", "bbb", "ccc", "ddd") if word in page] == (
            [found] if found else []
        ), asked


@pytest.mark.parametrize("host", [
    "169.254.169.254", "2852039166", "0xA9FEA9FE", "0251.0376.0251.0376", "[fe80::1]", "[::ffff:169.254.169.254]",
    "[fd00:ec2::254]", "100.100.100.200",
])  # fmt: skip
def test_no_alert_goes_to_where_a_cloud_keeps_its_credentials(host: str) -> None:
    """However the address is written; nothing is connected, nothing parked, and the breaker is to open."""
    client = MoogClient(f"http://{host}/latest/meta-data", DIALECTS["enterprise"], "key", timeout=5)
    with overheard() as asked:
        answer = client.send([alert()], permit())
    assert (answer.kind, answer.reason, answer.started_at) == (Kind.CONFIG, Reason.CONFIG, None)
    assert [one for one in asked if one.startswith("socket.connect")] == []


@pytest.mark.parametrize(("address", "theirs"), [
    ("169.254.0.1", True), ("fe80::1%eth0", True), ("::ffff:169.254.169.254", True), ("168.63.129.16", True),
    ("127.0.0.1", False), ("10.0.0.1", False), ("::1", False), ("2001:db8::1", False),
])  # fmt: skip
def test_which_addresses_are_a_clouds(address: str, theirs: bool) -> None:
    """Link-local ones, and those that the large clouds name; no private network."""
    assert is_metadata(address) is theirs


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://moog/", "gopher://127.0.0.1:6379/_", "moog.example",
                                 "unix:///run/x", "https://user:secret-1@moog/", "https://key@moog/"])  # fmt: skip
def test_moogs_address_is_http_and_holds_no_login(url: str) -> None:
    """Refused when the settings are read, without repeating what may be a password."""
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({"MOOG_URL": url})
    assert refused.value.name == "MOOG_URL"
    assert "secret-1" not in str(refused.value)
