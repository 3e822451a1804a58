"""What is too much is refused soon, with its reason, by both applications: deep, wide, long, squeezed and slow."""

from __future__ import annotations

import contextlib
import gzip
import io
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard
from flask.testing import FlaskClient
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from mutt.services import Services
from mutt.settings import Settings
from mutt.store import rulebook
from mutt.store.engine import transaction
from mutt.web.ingest import make_ingest
from tests.admin_client import PASSWORD, operator_of, token
from tests.doors import Door, answer, served

#: Seconds in which any of it must be answered, on a busy machine, too. What is not bounded takes minutes.
SOON = 30.0

MEGA = 1 << 20

DEEP = b"[" * MEGA + b"]" * MEGA
DEEP_OBJECTS = b'{"a":' * 200_000 + b"1" + b"}" * 200_000
DIGITS = b'{"hostname": "h", "message": "m", "severity": %b}' % (b"9" * 500_000)
EXPONENT = b'{"hostname": "h", "message": "m", "severity": 1e999999999, "timestamp": 1e308}'
WIDE = b'{"hostname": "h", "message": "m", %b}' % b",".join(b'"k%d": %d' % (n, n) for n in range(60_000))
LAUGHS = b"a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"a%d: &a%d [%b]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 12)
)
YAMLS = {
    "laughs": LAUGHS,
    "deep": b"[" * 100_000,
    "deep lines": b"".join(b" " * n + b"-\n" for n in range(1500)),
    "an object": b"!!python/object/apply:os.system [id]",
    "merged": b"a: &a {b: c}\nd:\n  <<: *a\n",
    "wide": b"[" + b"x," * 500_000 + b"x]",
}


def soon(ask: Callable[[], TestResponse]) -> TestResponse:
    """The answer, which came in time and is no fault of the server's."""
    began = time.monotonic()
    found = ask()
    assert time.monotonic() - began < SOON
    assert found.status_code < 500, found.text[:300]
    return found


class Ingest:
    def __init__(self, redis_url: str) -> None:
        settings = Settings.from_env({}, redis_url=redis_url, ingest_api_key="k")
        services = Services(settings, lambda *_, **__: None, role="ingest", web=True)
        self.most = settings.ingest_max_body
        self._client = make_ingest(services).test_client()

    def post(self, body: bytes, path: str = "/ingest", **headers: str) -> TestResponse:
        told = {"X-API-KEY": "k"} | {name.replace("_", "-"): value for name, value in headers.items()}
        return soon(lambda: self._client.post(path, data=body, headers=told, buffered=True))


@pytest.fixture
def ingest(redis_url: str) -> Ingest:
    return Ingest(redis_url)


@pytest.mark.parametrize("body", [DEEP, DEEP_OBJECTS, DIGITS, EXPONENT, WIDE],
                         ids=["deep", "deep objects", "digits", "exponent", "wide"])  # fmt: skip
def test_ingest_takes_no_harm_from_odd_json(ingest: Ingest, body: bytes) -> None:
    """Deep, wide, or with numbers that nobody can hold: refused by name, or taken as text."""
    for path in ("/ingest", "/ingest/native", "/ingest/snmptrap"):
        found = ingest.post(body, path)
        assert found.status_code in (202, 400)
        if found.status_code == 400:
            assert found.get_json()["field"]


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, 6)


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(data)


@pytest.mark.parametrize(("coding", "pack"), [("gzip", _gzip), ("deflate", zlib.compress), ("zstd", _zstd)])
def test_a_bomb_does_not_go_off(ingest: Ingest, coding: str, pack: Callable[[bytes], bytes]) -> None:
    """One that unpacks to three times the limit, the same in many members, and one within another."""
    filler, times = b" " * MEGA, 48
    once = pack(filler * times)
    bombs = {
        coding: once,
        f"{coding}, {coding}": pack(once),
        f"{coding}, gzip": _gzip(once),
    }
    if coding != "deflate":  # which knows no members
        bombs[f"{coding} "] = pack(filler) * times
    for told, bomb in bombs.items():
        assert len(bomb) < ingest.most
        assert ingest.post(bomb, Content_Encoding=told).status_code == 413


def test_a_zstd_window_larger_than_the_limit_is_no_memory(ingest: Ingest) -> None:
    """What a frame says that it needs is not believed."""
    frame = b"\x28\xb5\x2f\xfd" + bytes([0b1100_0000, 0xF8]) + b"\xff" * 8 + b"\x01\x00\x00"
    assert ingest.post(frame, Content_Encoding="zstd").status_code in (400, 413)


@pytest.fixture
def operator(engine: Engine, database_url: str, redis_url: str) -> FlaskClient:
    with transaction(engine) as conn:
        rulebook.seed(conn)
    return operator_of(engine, database_url, redis_url=redis_url, management_api_key="m")


@pytest.mark.parametrize(
    "path", ["/rules", "/rules/plan", "/rules/test", "/dev-hosts", "/teams", "/backtests"]
)
def test_the_api_takes_no_harm_from_odd_json(operator: FlaskClient, path: str) -> None:
    """The same, and names and texts without end; nothing is a fault of the server's."""
    long_ = orjson.dumps({"name": "x" * MEGA, "match_string": "(a|b)*" * 50_000, "match_type": "regex"})
    for body in (DEEP, DEEP_OBJECTS, DIGITS, EXPONENT, WIDE, long_):
        told = {"X-API-KEY": "m", "Content-Type": "application/json"}
        found = soon(lambda body=body, told=told: operator.post(f"/api/v2{path}", data=body, headers=told))  # type: ignore[misc]
        assert found.status_code in (400, 413, 422), found.text[:300]


def test_the_api_has_a_limit_and_undoes_no_coding(operator: FlaskClient) -> None:
    """What is larger is 413; what is compressed is not JSON, and is never unpacked."""
    told = {"X-API-KEY": "m", "Content-Type": "application/json"}
    assert (
        soon(lambda: operator.post("/api/v2/rules", data=b" " * (5 * MEGA), headers=told)).status_code == 413
    )
    packed = _gzip(b" " * (40 * MEGA))
    coded = told | {"Content-Encoding": "gzip"}
    assert soon(lambda: operator.post("/api/v2/rules", data=packed, headers=coded)).status_code in (400, 415)


#: Patterns that are slow, or large, in engines that go back.
PATTERNS = (
    "(a+)+$",
    "((a|a)*)*b", "(?:a?){500}a{500}", "a{1000}{1000}", "(" * 500 + ")" * 500, "(x|" * 1000 + "y" + ")" * 1000,
    r"(?=a)b", r"(a)\1", "[" + "".join(chr(c) for c in range(0x4E00, 0x9000)) + "]{50}", "\\p{L}{900}{900}",
)  # fmt: skip


def test_no_pattern_stops_the_admin(operator: FlaskClient) -> None:
    """It is saved or refused by name, at once, and matches in time that grows with the text alone."""
    for pattern in PATTERNS:
        told = {"X-API-KEY": "m"}
        rule = {
            "name": "p",
            "match_type": "regex",
            "match_string": pattern,
            "examples": [{"message": "a" * 4000, "matches": True}],
        }
        found = soon(lambda rule=rule, told=told: operator.post("/api/v2/rules", json=rule, headers=told))  # type: ignore[misc]
        assert found.status_code in (201, 422), (pattern[:40], found.text[:200])


def uploaded(
    operator: FlaskClient, page: str, body: bytes, name: str = "rules.csv", **fields: Any
) -> TestResponse:
    told = {"csrf_token": token(operator, page), "file": (io.BytesIO(body), name), **fields}
    return soon(lambda: operator.post(page, data=told, content_type="multipart/form-data"))


@pytest.mark.parametrize("page", ["/rules/import", "/hosts/import", "/teams/import", "/versions/import"])
@pytest.mark.parametrize("what", YAMLS)
def test_no_upload_fills_the_memory(operator: FlaskClient, page: str, what: str) -> None:
    """YAML that laughs, nests or makes objects is refused where YAML is read, and no CSV elsewhere."""
    found = uploaded(operator, page, YAMLS[what], "rules.yaml", reason="x")
    assert found.status_code in (200, 400, 422)
    assert "uid=" not in found.text


@pytest.mark.parametrize("page", ["/rules/import", "/hosts/import", "/teams/import"])
def test_a_csv_without_end_is_refused(operator: FlaskClient, page: str) -> None:
    """Too many rows, too many cells, one cell that never ends, and quotes that are never closed."""
    for body in (
        b"hostname,team\n" + b"h,t\n" * 300_000,
        b"hostname" + b"," * 2_000_000,
        b"hostname\n" + b"x" * 3_000_000,
        b'hostname\n"' + b"x\n" * 1_000_000,
    ):
        assert uploaded(operator, page, body, reason="x").status_code in (200, 400, 413, 422)


def test_a_form_has_an_end(operator: FlaskClient) -> None:
    """Many fields, many parts, many files, long names, and a boundary that is none."""
    told = token(operator, "/rules/new")
    many = b"&".join(b"f%d=x" % n for n in range(300_000))
    form = "application/x-www-form-urlencoded"
    part = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n'
    for body, kind in (
        (b"csrf_token=" + told.encode() + b"&" + many, form),
                        (b"%" * 4_000_000, form),
        (b"x" * 2_000_000 + b"=1", form),
        (part * 50_000 + b"--b--", "multipart/form-data; boundary=b"),
        (part.replace(b'"x"', b'"x"; filename="y"') * 40_000 + b"--b--", "multipart/form-data; boundary=b"),
        (b"--b\r\n" + b"A: b\r\n" * 500_000, "multipart/form-data; boundary=b"),
        (b"\r\n" * 2_000_000, "multipart/form-data; boundary=b"),
        (b"x", "multipart/form-data; boundary=" + "b" * 100_000),
        (b"x", "multipart/form-data"),
    ):  # fmt: skip
        found = soon(lambda body=body, kind=kind: operator.post("/rules/new", data=body, content_type=kind))  # type: ignore[misc]
        assert found.status_code in (200, 400, 413, 422), kind[:60]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("admin")


@pytest.fixture
def door(database_url: str, directory: Path) -> Iterator[Door]:
    env = {"DATABASE_URL": database_url, "ADMIN_PASSWORD": PASSWORD, "REQUEST_TIMEOUT": "1"}
    with served("admin", env, directory, "--threads", "2") as (port, _):
        yield Door(port)


def test_the_admin_has_the_limits_of_a_request_and_no_time_for_the_slow(door: Door) -> None:
    """The line, the headers, their number; a head, a body and chunks that drip; meanwhile others are answered."""
    get = b"GET /login HTTP/1.1\r\nHost: x\r\n"
    post = b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    for request, status in (
        (get.replace(b"/login", b"/" + b"x" * 5000) + b"\r\n", 414),
        (get + b"A: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (get + b"A: b\r\n" * 101 + b"\r\n", 431),
        (get + b"A: " + b"x" * 100_000, 431),
        (post + b"Content-Length: 99999999999\r\n\r\n", 413),
        (post + b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\n", 413),
    ):
        assert door.ask(request)[0] == status
    slow = [
        get[:-2],
        post + b"Content-Length: 1000\r\n\r\na",
        post + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
    ]
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(contextlib.closing(door.connect(slow[n % 3]))) for n in range(30)]
        began = time.monotonic()
        assert door.ask(get + b"\r\n")[0] == 200
        assert time.monotonic() - began < SOON
        for sock in crowd:
            sock.settimeout(SOON)
            assert answer(sock)[0] == 408
