"""Servers: which Redis servers hold the ingest queue (STREAM_URLS), and which of them does not answer now.

Home is STREAM_URL: everything but the ingest queue stands there, and an ingest queue too, for what MUTT itself appends.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from mutt.errors import SettingsError
from mutt.settings import Settings
from mutt.streams.connect import OVER_TLS, SENTINEL, Client, Login, Tls, connect, login_of, redis_of

#: Behind an address: nothing new goes in there, and what stands there is worked.
DRAIN = "drain=on"


class Server(NamedTuple):
    """One Redis server. ``name`` is where it is, without a login."""

    name: str
    url: str
    drains: bool = False


def servers(settings: Settings) -> tuple[Server, ...]:
    """Every server that may hold entries of the ingest queue, home first. Raises SettingsError."""
    home = _server(settings.stream_url)
    listed = [_server(url) for url in settings.stream_urls.split()]
    known = [one.name for one in listed]
    twice = next((name for name in known if known.count(name) > 1), None)
    if twice is not None:
        raise SettingsError("STREAM_URLS", f"{twice}, a second time", "each server once")
    here = next((one for one in listed if one.name == home.name), home._replace(drains=True))
    return (home._replace(drains=here.drains), *(one for one in listed if one.name != home.name))


def client_of(settings: Settings, server: Server, *, timeout: float, max_connections: int = 64) -> Client:
    """A client of one of :func:`servers`, as :func:`~mutt.streams.connect.redis_of`. Raises SettingsError."""
    if server.name == name_of(settings.stream_url):
        return redis_of(settings, timeout=timeout, max_connections=max_connections)
    login = Login(partial(_current, settings, server)) if any(login_of(server.url)) else None
    tls = Tls.of(settings) if urlsplit(server.url).scheme in OVER_TLS else Tls()
    return connect(server.url, timeout=timeout, max_connections=max_connections, tls=tls, login=login)


def _current(settings: Settings, server: Server) -> str:
    """Its address as the file says it now."""
    told = (_server(url) for url in settings.current("stream_urls", at_once=True).split())
    return next((one.url for one in told if one.name == server.name), server.url)


def _server(url: str) -> Server:
    address, _, query = url.partition("?")
    left = [one for one in query.split("&") if one not in ("", DRAIN)]
    bare = address + ("?" + "&".join(left) if left else "")
    return Server(name_of(bare), bare, DRAIN in query.split("&"))


def name_of(url: str) -> str:
    """Where an address leads to, without a login: ``host:port``, with ``/db`` where that is not the first."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    db = query.get("db", [""])[0]  # redis-py believes it more than the path
    if parts.scheme == "unix":
        where = parts.path
    else:
        db, where = db or parts.path.strip("/"), parts.netloc.rpartition("@")[2].lower()
    if parts.scheme in SENTINEL:
        where = f"{query.get('master', [''])[0]}@{where}"
    elif parts.scheme != "unix" and parts.port is None:
        where = f"{where.removesuffix(':')}:6379"
    return where if db in ("", "0") else f"{where}/{db}"


def place_of(key: str, names: Iterable[str]) -> str:
    """Which server a key belongs to. Another list moves as few keys as can be: those of what came or went."""
    return max(names, key=lambda name: hashlib.blake2b(f"{name} {key}".encode(), digest_size=8).digest())


class Rests:
    """Servers that did not answer, and are left alone for a while: the longer, the longer they kept us waiting."""

    LEAST, TIMES, MOST = 1.0, 10.0, 30.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}
        self._errors: dict[str, Exception] = {}

    def met(self, name: str, error: Exception, took: float) -> bool:
        """It did not answer after ``took`` seconds. Is that news?"""
        news = name not in self._errors
        self._errors[name] = error
        self._until[name] = self._clock() + min(self.MOST, max(self.LEAST, took * self.TIMES))
        return news

    def over(self, name: str) -> bool:
        """It answered. Is that news?"""
        self._until.pop(name, None)
        return self._errors.pop(name, None) is not None

    def due(self, name: str) -> bool:
        """Is it to be left alone now?"""
        return self._until.get(name, 0.0) > self._clock()

    def error(self, name: str) -> Exception | None:
        """What it failed with, if it has not answered since."""
        return self._errors.get(name)


def shares(total: int, servers: Sequence[Server]) -> int:
    """Each server's part of a limit, rounded up."""
    return -(-total // max(1, sum(not one.drains for one in servers)))
