"""Connections to Redis: plain, TLS, Unix socket or through Sentinel; and the same address as kombu spells it."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from mutt.errors import SettingsError

#: redis-py types every answer as text, bytes or nothing, for both of its clients: of no use here.
Client = Any

#: The least version whose commands the scripts use.
FLOOR = (7, 0)

SENTINEL_PORT = 26379


def connect(url: str, *, timeout: float = 5.0, max_connections: int = 64) -> Client:
    """A client of the Redis at ``url``. Nothing is connected yet. ``timeout`` in seconds, for connect and answer.

    The client does not repeat commands by itself: what is safe to repeat is known where it is called.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        "health_check_interval": 15,
        "retry": Retry(NoBackoff(), 0),
    }
    parts = urlsplit(url)
    if parts.scheme == "sentinel":
        hosts, master, db, auth = _sentinel(url)
        return Sentinel(hosts, socket_timeout=1.0).master_for(master, db=db, **auth, **options)  # type: ignore[no-untyped-call]
    if parts.scheme == "unix":
        options.pop("socket_keepalive")
    return redis.Redis.from_url(url, max_connections=max_connections, **options)


def _sentinel(url: str) -> tuple[list[tuple[str, int]], str, int, dict[str, str]]:
    # sentinel://[user:password@]h:26379,h2:26379/0?master=mutt
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    master = parse_qs(parts.query).get("master", [""])[0]
    if not master:
        raise SettingsError("REDIS_URL", "sentinel://…", "?master=NAME at its end")
    pairs = [host.rpartition(":") for host in hosts.split(",")]
    found = [(h or last, int(last) if h else SENTINEL_PORT) for h, _, last in pairs]
    user, _, password = login.partition(":")
    auth = {"username": unquote(user)} if user else {}
    if password:
        auth["password"] = unquote(password)
    return found, master, int(parts.path.strip("/") or 0), auth


def kombu_url(url: str) -> tuple[str, dict[str, Any]]:
    """The address as kombu spells it, and the transport options that go with it."""
    if not url.startswith("sentinel://"):
        return url, {}
    hosts, master, db, auth = _sentinel(url)
    login = f"{auth.get('username', '')}:{auth.get('password', '')}@" if auth else ""
    return ";".join(f"sentinel://{login}{h}:{p}/{db}" for h, p in hosts), {"master_name": master}


def check_server(client: Client) -> None:
    """Refuse a Redis that MUTT can't work on. Raises SettingsError; ``redis.RedisError`` passes through."""
    info = client.info()
    version = str(info.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2]) < FLOOR:
        raise SettingsError("REDIS_URL", f"Redis {version}", "Redis 7.0 or newer, or Valkey")
    if info.get("cluster_enabled"):
        raise SettingsError(
            "REDIS_URL",
            "a Redis Cluster",
            "a single Redis or one behind Sentinel: Celery can't use a cluster",
        )
