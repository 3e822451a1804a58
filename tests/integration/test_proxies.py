"""Behind a proxy: an event's sender is who the trusted proxy says, on both ways that a post may take."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mutt.web.lane import recognised
from tests.doors import Door, served
from tests.integration.test_ingest import KEY, Ingest
from tests.servers import live_redis, scratch

LINE = b"<13>fan 2 failed"  # it names no host


class Behind(Door):
    """Ingest that trusts this machine, and what it has taken."""

    def __init__(self, port: int, redis_url: str) -> None:
        super().__init__(port)
        self._taken = Ingest(redis_url)

    def host_of(self, *headers: str) -> str:
        """Which host an event is said to come from that was posted with these headers, whichever way it went."""
        hosts = set()
        for way in ((), ("Content-Encoding: identity",)):
            head = ["POST /ingest HTTP/1.1", "Host: x", f"X-API-KEY: {KEY}", f"Content-Length: {len(LINE)}"]
            request = "\r\n".join([*head, *headers, *way]).encode() + b"\r\n\r\n" + LINE
            assert bool(recognised(request, "")) is not bool(way)
            assert self.ask(request)[0] == 202
            (event,) = self._taken.events()
            hosts.add(event.hostname)
        (host,) = hosts
        return host


@pytest.fixture(scope="module")
def door() -> Iterator[Behind]:
    with scratch() as directory, live_redis(directory) as server:
        env = {"REDIS_URL": server.url, "INGEST_API_KEY": KEY, "TRUSTED_PROXIES": "127.0.0.1, 10.0.0.0/8"}
        with served("ingest", env, directory, "--threads", "1") as (port, _):
            yield Behind(port, server.url)


@pytest.mark.parametrize(
    ("headers", "host"),
    [
        ((), "127.0.0.1"),
        (("X-Forwarded-For: 192.0.2.7",), "192.0.2.7"),
        (("x-forwarded-for: evil, 192.0.2.7,10.1.1.1", "X-Forwarded-Proto: https"), "192.0.2.7"),
        (("X-Forwarded-For: 2001:db8::7", "X-Forwarded-Host: mutt.example.net"), "2001:db8::7"),
        (("X-Forwarded-For: 192.0.2.7, <b>",), "127.0.0.1"),
        (("Forwarded: for=192.0.2.7",), "127.0.0.1"),
        # gunicorn itself took these for a contradiction, when their peer was on this machine.
        (("X-Forwarded-Proto: https", "X-Forwarded-Ssl: off"), "127.0.0.1"),
    ],
)
def test_the_sender_behind_a_trusted_proxy_is_the_same_on_both_ways(
    door: Behind, headers: tuple[str, ...], host: str
) -> None:
    assert door.host_of(*headers) == host


def test_without_the_setting_nobody_is_believed(redis_url: str) -> None:
    ingest = Ingest(redis_url)
    assert ingest.post(LINE, X_Forwarded_For="192.0.2.7", Forwarded="for=192.0.2.7").status_code == 202
    assert [event.hostname for event in ingest.events()] == ["127.0.0.1"]
