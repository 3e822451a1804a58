"""Texts that would run, if a page took them for more than text: through every field, to every page."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

import orjson
import pytest
import requests
from playwright.sync_api import Page, expect
from sqlalchemy import Engine

from mutt import codec, names
from mutt.event import Envelope, Segment
from mutt.moogsim.server import Simulator
from mutt.services import Services
from mutt.settings import Settings
from mutt.sources.heard import Gathering
from mutt.store import devices, rulebook, shadows, storms, windows
from mutt.store.engine import transaction
from mutt.store.shadows import Edit
from mutt.streams.sources import Reports
from mutt.web import telling
from mutt.web.ingest import make_ingest
from tests.bench import Bench, event
from tests.browser.test_admin_pages import raised
from tests.browser.test_every_page import _ELSEWHERE, shape_of
from tests.waiting import wait_until

#: One of each way to get from text to what runs, is loaded, or is asked for; each leaves its mark.
WAYS = (
    "<own-ed>{{7*7}}${7*7}#{7*7}<%=7*7%>{%raw%}</own-ed>",
    "<script>window.owned=1</script>",
    '"><img src=x onerror=window.owned=2>',
    "' onfocus='window.owned=3' autofocus x='",
    "</textarea></title></script></style><svg/onload=window.owned=4>",
    "javascript:window.owned=5//",
    '<a href="javascript:window.owned=6" ping="https://elsewhere.example/">x</a>',
    '<p hx-get="https://elsewhere.example/" hx-trigger="load" hx-on:load="window.owned=7">',
    '<p data-hx-post="/logout" data-hx-trigger="load" data-hx-on::load="window.owned=8">',
    "<iframe srcdoc='<script>parent.owned=9</script>'></iframe><base href=https://elsewhere.example/>",
    "<link rel=stylesheet href=//elsewhere.example/x.css><meta http-equiv=refresh content='0;url=//elsewhere.example'>",
    "<!--<math><mtext></form><form action=https://elsewhere.example/><button name=csrf_token>",
    "\u202egnp.exe\u202c\u200b\ufeff\u2028\x1b[2J\uff1cscript\uff1ewindow.owned=10\uff1c/script\uff1e",
    "&lt;own-ed&gt;&#60;own-ed&#62;\\u003cown-ed\\u003e",
)
ALL = " ".join(WAYS)

#: For a field that has few characters.
SHORT = "<own-ed>{{7*7}}\"'><img/src=x onerror=owned=1><p hx-get=//elsewhere.example hx-trigger=load>javascript:owned=1"
TINY = "<own-ed>{{7*7}}\"'>"

#: What a page must not have become: elements and attributes of the payloads, scripts and handlers of nobody's.
FOUND = """() => {
    const bad = ({name, value}) => /^on|hx-on/.test(name)
        || /^(href|src|action|formaction)$/.test(name) && /^\\s*javascript:/i.test(value)
        || /^(href|src|action|formaction|data|(data-)?hx-.*)$/.test(name) && /^(https?:)?\\/\\/elsewhere/.test(value);
    const theirs = 'own-ed, math, iframe, base, object, embed, [ping], [srcdoc], meta[http-equiv]';
    return [
        ...[...document.querySelectorAll(theirs)].map(one => one.outerHTML),
        ...[...document.querySelectorAll('*')].flatMap(one => [...one.attributes].filter(bad)
            .map(({name, value}) => `${one.tagName} ${name}=${value}`)),
        ...[...document.scripts].filter(one => !new URL(one.src || 'about:blank').pathname.startsWith('/static/'))
            .map(one => one.outerHTML),
        ...('owned' in window ? [`ran: ${window.owned}`] : []),
    ];
}"""

#: What is written on it, in fields too.
SAID = """() => document.body.innerText
    + [...document.querySelectorAll('input, textarea')].map(one => one.value).join(' ')"""

WATCH = """addEventListener('securitypolicyviolation',
    said => console.error('policy', said.violatedDirective, said.blockedURI))"""


#: Pages on which such a text can be read.
TELLING = (
    "/audit/", "/audit/N", "/alerts/", "/alerts/N", "/rules/", "/rules/N", "/teams/", "/history/", "/history/N/undo",
    "/letters/", "/letters/alerts/", "/letters/alerts/N", "/letters/alerts/N/edit", "/letters/moog/N",
    "/letters/ingest/N", "/sources/bootstrap", "/storms/", "/storms/N", "/maintenance/", "/maintenance/N", "/shadow/N",
)  # fmt: skip

#: What a native event holds apart from its host and message.
FIELDS = (
    "timestamp", "event_id", "severity", "facility", "program", "source", "state", "note", "clear_key",
)  # fmt: skip


#: What lists are asked for.
ASKED = ("q", "host", "hostname", "team", "status", "since", "rule", "next", "text", "group", "page", "state")


class Hostile(BaseHTTPRequestHandler):
    """A Moog that answers with a page of its own."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"success": False, "message": ALL, "<own-ed>": [ALL]}).encode()
        self.send_response(400)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextlib.contextmanager
def hostile_moog() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/events"
    server.shutdown()


def bodies() -> Iterator[tuple[str, bytes]]:
    """Posts whose every field is hostile: (path, body)."""
    for critical in ("CRITICAL ", "", "ERROR "):
        native: dict[str, Any] = dict.fromkeys(FIELDS, ALL)
        native |= {
            "hostname": SHORT,
            "message": critical + ALL,
            "tags": {ALL: ALL, TINY: TINY, "href": "javascript:owned=1"},
            ALL: ALL,
        }
        yield "/ingest", orjson.dumps(native)
    trap = {
        "source_ip": SHORT, "trap_oid": "1.3.6.1.4.1.9.9.187.0.1", "version": ALL, "community": ALL, "timestamp": ALL,
        "varbinds": [{"oid": "1.3.6.1.2.1.2.2.1.1.12", "type": ALL, "value": ALL}, {"oid": ALL, "value": ALL}],
        "enterprise": ALL, "severity": ALL,
    }  # fmt: skip
    yield "/ingest/snmptrap", orjson.dumps(trap)
    yield "/ingest", orjson.dumps(trap | {"trap_oid": ALL, "hostname": TINY, "message": "CRITICAL " + ALL})
    line = ALL.replace("\n", " ").replace("\u2028", " ")
    for head in ("<13>Mar  4 09:15:02 ", "<187>1 2026-03-04T09:15:02Z "):
        yield "/ingest/syslog", f"{head}{TINY.replace(' ', '')} {TINY}[{TINY}]: CRITICAL {line}\n".encode()
    yield (
        "/ingest/syslog",
        f'<13>1 2026-03-04T09:15:02Z h p 1 m [x@1 a="{TINY}"] {line}\n<999>{line}\n'.encode(),
    )
    # One by one rejected, of a request of which something is taken, and of one of which nothing is.
    yield (
        "/ingest",
        orjson.dumps([{"hostname": "h", "message": "CRITICAL"}, {"hostname": ALL * 9, "message": ALL}, ALL]),
    )
    yield "/ingest", orjson.dumps({"hostname": "", "message": ALL, ALL: ALL})


def sent(redis_url: str) -> None:
    """All of it, through ingest."""
    settings = Settings.from_env({}, redis_url=redis_url, ingest_api_key="k")
    rung: list[str] = []
    services = Services(
        settings, lambda queue, **labels: rung.append(f"{queue} {labels}"), role="ingest", web=True
    )
    app = make_ingest(services)
    # A second a look: fields of each request are noted.
    heard = app.extensions["ingest"].heard = Gathering(partial(next, itertools.count(time.time() - 600)))
    client = app.test_client()
    for n, (path, body) in enumerate(bodies()):
        told = {"X-API-KEY": "k", "X-Correlation-ID": SHORT, "Idempotency-Key": f"{n}{SHORT}"}
        assert client.post(path, data=body, headers=told, buffered=True).status_code in (202, 400)
    telling.tell(heard, Reports(services.redis))
    # What rings is what Flower shows of a task.
    assert rung and not any("own-ed" in labels for labels in rung)


def configured(engine: Engine) -> None:
    """What administrators write, and what they write of it."""
    now = datetime.now(UTC)
    # As SHORT where a field takes it, else what of it does.
    said = {"changed_by": SHORT, "reason": ALL[:1000]}
    with transaction(engine) as conn:
        rule = {
            "name": SHORT, "match_string": SHORT, "team_assignment": TINY,
            "examples": [{"message": SHORT, "program": TINY, "matches": True}],
        }  # fmt: skip
        rulebook.save_rule(conn, rule, **said)
        for team in (SHORT, TINY):
            devices.put_team(conn, "core-" + str(len(team)), team, **said)
        storms.save(conn, {"name": SHORT, "group_by": "host", "alert_count": 2, "alert_window": 3600}, **said)
        times = {"starts_at": now - timedelta(hours=1), "ends_at": now + timedelta(hours=1)}
        windows.save(conn, {"name": SHORT, "owner": TINY, "hostname": "edge-*", **times}, **said)
        shadows.start(conn, [Edit(None, {"match_string": SHORT, "name": TINY})], name=SHORT[:60], **said)


def kept_apart(redis_url: str, engine: Engine, bench: Bench) -> None:
    """Letters of an evaluation that failed, and an alert with words of Moog's."""
    fields, _ = codec.encode(
        Envelope([Segment("b", "c", [event("CRITICAL " + ALL, SHORT, tags={ALL: ALL}, raw=ALL)])])
    )
    told = dict(zip(fields[::2], fields[1::2], strict=True))
    why = {"reason": SHORT, "detail": ALL, "attempts": 3, "traceback": ALL, "at": ALL}
    bench.redis.xadd(names.DLQ_ALERTS, {**told, b"why": orjson.dumps(why)})
    bench.redis.xadd(names.DLQ_ALERTS, {b"d": ALL.encode("utf-8", "replace"), b"why": orjson.dumps(why)})
    raised(
        engine, status="parked", reason=ALL[:500], description=ALL, team=TINY, hostname=SHORT, signature=SHORT
    )


@pytest.fixture
def hostile(redis_url: str, database_url: str, engine: Engine) -> Iterator[Bench]:
    """A MUTT that has taken, judged, sent and parked such texts."""
    with hostile_moog() as url:
        bench = Bench(
            redis_url, database_url, moog_url=url, moog_rate_limit=1000, moog_breaker_threshold=1000
        )
        configured_before = transaction
        with configured_before(engine) as conn:
            rulebook.seed(conn)
        configured(engine)
        sent(redis_url)
        bench.run()
        wait_until(
            lambda: bench.services.forwarder.forward_turn() and bench.redis.xlen(names.DLQS["moog"]) > 1,
            20,
            "Moog's no",
        )
        bench.record()
        kept_apart(redis_url, engine, bench)
        yield bench
        bench.close()


def watched(page: Page) -> list[str]:
    """What the page tells of that it should not: it fills as the page goes on."""
    told: list[str] = []
    page.add_init_script(WATCH)
    page.on("dialog", lambda dialog: (told.append(dialog.message), dialog.dismiss()))
    page.on("popup", lambda popup: told.append(popup.url))
    page.on("download", lambda download: told.append(download.url))
    return told


def test_no_page_takes_a_text_for_more_than_a_text(
    log_in: Callable[..., Page], admin: str, hostile: Bench
) -> None:
    """From Home along every link there is, two of each kind: nothing ran, was loaded or asked; and it can be read."""
    page = log_in()
    told = watched(page)
    seen: dict[str, int] = {}
    shown: set[str] = set()
    ahead = [f"{admin}/rules/?q=own-ed", admin + "/"]
    while ahead:
        address = ahead.pop(0)
        path = address.partition("?")[0]
        shape = shape_of(address)
        if seen.get(shape, 0) >= (2 if shape.endswith("N") else 1) or _ELSEWHERE.search(path):
            continue
        seen[shape] = seen.get(shape, 0) + 1
        answer = page.goto(address)
        assert answer and (address, answer.status) == (address, 200)
        assert (address, page.evaluate(FOUND), told) == (address, [], [])
        if "<own-ed>" in page.evaluate(SAID):
            shown.add(shape_of(path).removeprefix(admin))
            assert "{{7*7}}" in page.evaluate(SAID), address
        links = page.evaluate(
            "[...document.querySelectorAll('a[href]')].map(link => link.href.split('#')[0])"
        )
        assert [
            link for link in links if "elsewhere" in link.partition("?")[0] or not link.startswith("http")
        ] == []
        ahead += [link for link in links if link.startswith(admin + "/") and link.count("&") < 2]
    for path in TELLING:
        assert path in shown, f"{path} of {sorted(shown)}"


def test_what_htmx_puts_into_a_page_is_text_too(
    log_in: Callable[..., Page], admin: str, hostile: Bench
) -> None:
    """A test beside the rule's form, a refusal that names what was sent, and a search that finds nothing."""
    page = log_in(refused=[422])
    told = watched(page)
    page.goto(f"{admin}/rules/new")
    page.get_by_label("Text", exact=True).fill(SHORT)
    page.get_by_label("Events", exact=True).fill(f"{SHORT}\nCRITICAL {SHORT}")
    page.get_by_label("Team", exact=True).fill(TINY)
    expect(page.locator("body")).to_contain_text("{{7*7}}")
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_load_state()
    assert (page.evaluate(FOUND), told) == ([], [])
    asked = "&".join(f"{name}={quote(ALL)}" for name in ASKED)
    for path in (
        "rules",
        "audit",
        "alerts",
        "history",
        "teams",
        "hosts",
        "letters/alerts",
        "backtests",
        "login",
    ):
        page.goto(f"{admin}/{path}/?{asked}".replace("login/", "login"))
        assert (path, page.evaluate(FOUND), told) == (path, [], [])


def test_swagger_and_the_simulator_show_text(
    open_page: Callable[..., Page], log_in: Callable[..., Page], admin: str
) -> None:
    """Swagger takes its document from nowhere else, whatever the address says; the simulator shows what came."""
    page = log_in(refused=[404])
    told = watched(page)
    elsewhere = "https://elsewhere.example/openapi.json"
    page.goto(f"{admin}/api/docs?url={elsewhere}&configUrl={elsewhere}&urls.primaryName=x#{quote(ALL)}")
    page.locator("#operations-tag-version").wait_for()
    assert (page.evaluate(FOUND), told) == ([], [])
    with Simulator() as moog:
        event_ = {
            "signature": ALL,
            "source": ALL,
            "severity": 5,
            "description": ALL,
            "custom_info": {"event_id": ALL},
        }
        assert requests.post(moog.enterprise_url, json={"events": [event_]}, timeout=5).ok
        page = open_page()
        told = watched(page)
        page.goto(moog.url)
        expect(page.locator("#alerts")).to_contain_text("<own-ed>{{7*7}}")
        found = [one for one in page.evaluate(FOUND) if "page.js" not in one]
        assert (found, told) == ([], [])
