"""No secret stands anywhere but where it was given: a whole stack at work and in trouble, and then searched."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psutil
import pytest
import redis
import requests

from mutt.settings import Settings
from tests.servers import scratch
from tests.stack import QUICK, ROLES, Stack
from tests.waiting import wait_until

#: Each can be searched for, and none is a part of another.
SECRETS = {
    "MOOG_API_KEY": "canary-moog-5e1f09",
    "INGEST_API_KEY": "canary-ingest-77aa31",
    "MANAGEMENT_API_KEY": "canary-manage-b2c4d8",
    "ADMIN_PASSWORD": "canary-admin-0f9e8d",
    "SECRET_KEY": "canary-session-6a5b4c",
}

#: What somebody types who is wrong: it may be the password of something else.
WRONG = "canary-wrong-3d2c1b"

#: Of servers that are not there, or let nobody in.
AWAY = "canary-away-9c8b7a"

#: The logs of MUTT's own processes: each line is a record.
OURS = re.compile(r"(ingest|admin|alerts\d|moog\d|housekeeping|backtests)\.log(\.1)?")


class Echo(BaseHTTPRequestHandler):
    """A Moog that shows what it was shown, with one status after the other."""

    statuses = [500, 400, 400, 401]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status = self.statuses.pop(0) if self.statuses else 200
        shown = dict(self.headers) | {"plain": SECRETS["MOOG_API_KEY"]}
        body = json.dumps(
            {"success": status == 200, "message": f"you sent {shown}", "headers": shown}
        ).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


class Alone(Stack):
    """A stack without a simulator."""

    roles = tuple(role for role in ROLES if role != "moogsim")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    moog = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=moog.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{moog.server_port}/events"
    with scratch() as directory:
        alone = Alone(directory / "home", {**QUICK, **SECRETS, "MOOG_URL": url, "MOOG_BREAKER_TIMEOUT": "1s"})
        try:
            yield alone.start()
        finally:
            tree = alone.tree()
            alone.stop()
            psutil.wait_procs(tree, 15)
            moog.shutdown()


@pytest.mark.timeout(300)
def test_no_secret_stands_where_it_was_not_given(stack: Stack) -> None:
    """After work, refusals, wrong logins, a Moog that echoes, killed servers, and commands that fail."""
    works(stack)
    senders_are_wrong(stack)
    people_are_wrong(stack)
    servers_end(stack)
    stack.balanced()
    places = {f"log {log.name}": log.read_text(errors="replace") for log in (stack.home / "logs").iterdir()}
    places["the screen"] = _without_logins((stack.home / "up.log").read_text())
    places["Redis"] = everything_in_redis(stack.owner_redis_url)
    places["PostgreSQL"] = everything_in_postgres(stack)
    places["arguments"] = "\n".join(stack.command_lines())
    places |= pages(stack) | commands(stack)
    places["repr"] = repr(Settings.from_env(stack.environ))
    up = stack.up
    kept = json.loads((stack.home / "secrets.json").read_text())
    secrets = SECRETS | {
        "Redis' password": kept["redis_password"],
        "PostgreSQL's password": kept["postgres_password"],
        "what the roles' passwords are made of": kept["roles_secret"],
        "what seals": kept["sealing_key"],
        "the shell's password at Redis": up["redis_url"].split(":")[2].split("@")[0],
        "the shell's password at PostgreSQL": up["database_url"].split(":")[2].split("@")[0],
        "a wrong one": WRONG,
        "one of a server that is away": AWAY,
    }
    secrets |= {f"{name} of this home": text for name, text in kept.items()}
    secrets |= {
        f"{name}, as Basic": base64.b64encode(f":{text}".encode()).decode() for name, text in secrets.items()
    }
    found = [
        (what, where) for what, secret in secrets.items() for where, said in places.items() if secret in said
    ]
    assert found == []
    assert "you sent" in places["PostgreSQL"], "Moog's words, without the key, do stand there"


def test_every_line_of_a_log_is_one_record(stack: Stack) -> None:
    """Of every process of MUTT's own, whoever's library wrote it; but for Celery's greeting when a worker begins."""
    found = [log for log in (stack.home / "logs").iterdir() if OURS.fullmatch(log.name)]
    assert len(found) >= 6
    for log in found:
        for records, lines in itertools.groupby(
            log.read_text().splitlines(), lambda line: line.startswith("{")
        ):
            said = list(lines)
            if records:
                assert all(isinstance(json.loads(line), dict) for line in said), log.name
            else:
                assert "[tasks]" in said, (log.name, said)


def works(stack: Stack) -> None:
    """Events of each kind, of which Moog refuses some."""
    events = [{"hostname": f"s{n}", "message": f"CRITICAL secret search {n}"} for n in range(8)]
    assert stack.post(events).status_code == 202
    stack.post([{"hostname": "s1", "message": "ERROR x"}, {"hostname": "", "message": ""}])
    stack.post({"hostname": "s2", "message": "CRITICAL y"}, **{"Idempotency-Key": SECRETS["INGEST_API_KEY"]})
    wait_until(lambda: not Echo.statuses, 60, "Moog to have said no in each way")


def senders_are_wrong(stack: Stack) -> None:
    """No key, a wrong one, and the right one where none belongs."""
    door, key, body = (
        stack.up["ingest"],
        SECRETS["INGEST_API_KEY"],
        {"hostname": "w", "message": "CRITICAL w"},
    )
    for headers in (
        {"X-API-KEY": WRONG}, {"Authorization": f"Bearer {WRONG}"}, {"Authorization": f"Basic {WRONG}"},
        {"Authorization": f"Token {key}"}, {"Cookie": f"key={key}"}, {"X-Api-Token": key}, {"User-Agent": key},
    ):  # fmt: skip
        assert requests.post(f"{door}/ingest", json=body, headers=headers, timeout=10).status_code == 401
    for path in (f"/ingest/{key}", f"/{key}", f"/ingest?api_key={key}", f"/ingest/{key}%0a%1b[2J"):
        assert requests.post(door + path, json=body, timeout=10).status_code in (401, 404)
    told = {"X-API-KEY": key}
    assert requests.post(f"{door}/ingest/{key}", json=body, headers=told, timeout=10).status_code == 404
    assert requests.post(f"{door}/ingest/native", data=b"{", headers=told, timeout=10).status_code == 400
    assert (
        requests.post(
            f"{door}/ingest", data=b"x" * 9, headers=told | {"Content-Encoding": key}, timeout=10
        ).status_code
        == 415
    )
    garbled = f"POST /ingest HTTP/1.1\r\nX-API-KEY {key}\r\n {key}\r\n\r\n"
    assert b" 400 " in _raw(door, garbled.encode())
    assert b" 4" in _raw(door, f"GET /{key} {key} HTTP/1.1\r\n\r\n".encode())


def people_are_wrong(stack: Stack) -> None:
    """Logins and API keys that are wrong, or shown in the wrong place."""
    admin, key = stack.up["admin"], SECRETS["MANAGEMENT_API_KEY"]
    with requests.Session() as session:
        for password in (WRONG, SECRETS["ADMIN_PASSWORD"] + WRONG):
            assert _log_in(session, admin, password).status_code in (403, 429)
        session.get(f"{admin}/login", params={"password": SECRETS["ADMIN_PASSWORD"]}, timeout=10)
        session.get(f"{admin}/{SECRETS['ADMIN_PASSWORD']}", timeout=10)
        session.cookies.set("mutt_admin", WRONG)
        session.get(admin, timeout=10)
    for headers in ({"X-API-KEY": WRONG}, {"Authorization": f"Bearer {WRONG}"}, {}):
        for path in (
            "/api/v2/rules",
            f"/api/v2/rules?api_key={key}",
            f"/api/v2/{key}",
            f"/api/v2/rules/{key}",
        ):
            answer = requests.get(admin + path, headers=headers, timeout=10)
            assert answer.status_code in (401, 403, 404, 429), answer.text


def servers_end(stack: Stack) -> None:
    """Redis and PostgreSQL are killed under load; so is who works with them."""
    for name in ("redis", "postgres", "alerts1"):
        old = stack.kill(name)
        with contextlib.suppress(requests.RequestException):
            stack.post({"hostname": "e", "message": f"CRITICAL when {name} ended"})
        with contextlib.suppress(requests.RequestException):
            requests.get(stack.up["admin"] + "/readyz", timeout=5)
        stack.back(name, old)
    assert wait_until(
        lambda: stack.post({"hostname": "e", "message": "CRITICAL after"}).status_code == 202, 30
    )


def pages(stack: Stack) -> dict[str, str]:
    """What the admin, its API, ingest and Flower show, to who may see it and to who may not."""
    up, found = stack.up, {}
    with requests.Session() as session:
        assert wait_until(
            lambda: _log_in(session, up["admin"], SECRETS["ADMIN_PASSWORD"]).status_code == 302, 120, every=1
        )
        ahead, shapes = [up["admin"] + "/"], set()
        while ahead:
            address = ahead.pop()
            shape = re.sub(r"[0-9a-f-]{36}|\d+(-\d+)?|=[^&]*", "N", address)
            if shape in shapes or "logout" in address:
                continue
            shapes.add(shape)
            answer = session.get(address, timeout=20)
            found[f"page {address}"] = answer.text + str(answer.headers)
            links = [unescape(link) for link in re.findall(r'href="([^"#]+)', answer.text)]
            ahead += [requests.compat.urljoin(address, link) for link in links]
            ahead = [link for link in ahead if link.startswith(up["admin"])]
        assert len(found) > 40
    shown = {"X-API-KEY": SECRETS["MANAGEMENT_API_KEY"]}
    described = requests.get(f"{up['admin']}/api/openapi.json", timeout=10).json()["paths"]
    for path in [path for path in described if "{" not in path]:
        answer = requests.get(up["admin"] + path, headers=shown, timeout=20)
        found[f"API {path}"] = answer.text + str(answer.headers)
    for door in ("ingest", "admin"):
        for path in ("/metrics", "/healthz", "/readyz", "/openapi.json"):
            found[f"{door} {path}"] = requests.get(up[door] + path, timeout=10).text
    found["metrics"] = requests.get(up["metrics"], timeout=10).text
    login = ("admin", SECRETS["ADMIN_PASSWORD"])
    for path in ("/", "/workers", "/tasks", "/broker", "/api/workers?refresh=1", "/api/tasks?limit=500"):
        found[f"Flower {path}"] = requests.get(up["flower"] + path, auth=login, timeout=20).text
    return found


def commands(stack: Stack) -> dict[str, str]:
    """What commands print that work, and that can't: servers that are away, or refuse the password."""
    port = stack.up["redis_url"].rpartition(":")[2].partition("/")[0]
    pg = stack.up["database_url"].rpartition("@")[2]
    wrong = {
        "away": {"REDIS_URL": f"redis://:{AWAY}@127.0.0.1:1/0", "DATABASE_URL": f"postgresql://mutt:{AWAY}@127.0.0.1:1/x"},
        "refused": {"REDIS_URL": f"redis://:{AWAY}@127.0.0.1:{port}/0", "DATABASE_URL": f"postgresql://mutt:{AWAY}@{pg}"},
        "no address": {"REDIS_URL": f"http://:{AWAY}@x/0", "DATABASE_URL": f"mysql://mutt:{AWAY}@x/x"},
    }  # fmt: skip
    asked = [
        (name, ["mutt", *name.split()], {})
        for name in ("queues", "ledger", "doctor", "migrate", "rules list")
    ]
    for what, environ in wrong.items():
        asked.append(
            (f"worker, {what}", ["celery", "-A", "mutt", "worker", "-c", "1", "-l", "debug"], environ)
        )
        for name in ("doctor", "queues", "migrate"):
            asked.append((f"{name}, {what}", ["mutt", name], environ))
    gunicorn = ["gunicorn", "-c", "python:mutt.web.gunicorn", "-b", "127.0.0.1:0", "mutt.wsgi:admin"]
    asked.append(("gunicorn, no address", gunicorn, wrong["no address"]))
    with ThreadPoolExecutor(4) as pool:
        said = pool.map(lambda one: _said(one[1], stack.environ | one[2]), asked)
        return {f"command {name}": text for (name, _, _), text in zip(asked, said, strict=True)}


def _said(argv: list[str], environ: dict[str, str]) -> str:
    """What a command says, within some seconds: a worker tries for ever."""
    with subprocess.Popen(
        [sys.executable, "-m", *argv],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=5)[0]
        for one in [*psutil.Process(process.pid).children(recursive=True), process]:
            one.kill()
        return process.communicate()[0]


def _log_in(session: requests.Session, admin: str, password: str) -> requests.Response:
    page = session.get(f"{admin}/login", timeout=10).text
    token = re.findall(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    data = {"name": "admin", "password": password, "csrf_token": unescape(token[0]) if token else ""}
    return session.post(f"{admin}/login", data=data, timeout=30, allow_redirects=False)


def _raw(door: str, request: bytes) -> bytes:
    host, _, port = door.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(request)
        return sock.recv(65536)


def _without_logins(screen: str) -> str:
    # `mutt up` prints the addresses with their logins on purpose: that is how its user gets in.
    return "\n".join(line for line in screen.splitlines() if not line.startswith("  "))


def everything_in_redis(url: str) -> str:
    """Every key with all that stands in it, as text."""
    client = redis.Redis.from_url(url)
    readers = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"stream": client.xrange,
    }
    kinds = {key: client.type(key) for key in client.scan_iter()}
    return "\n".join(f"{key} {readers[kind](key)}" for key, kind in kinds.items() if kind in readers)


def everything_in_postgres(stack: Stack) -> str:
    """Every row of every table, as text."""
    tables = stack.sql("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
    return "\n".join(
        str(row) for table in tables for row in stack.sql(f'SELECT t::text FROM "{table.table_name}" t')
    )
