"""Connections to Redis: plain, TLS, Unix socket or through Sentinel; and the same address as kombu spells it.

Over TLS the server's certificate and its host name are checked before anything is sent, and nothing turns that off.
A login may change while the process runs: each new connection asks for it anew.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection

from mutt.errors import SettingsError
from mutt.settings import RABBITMQ, Settings
from mutt.tls import FLOOR as TLS_FLOOR
from mutt.tls import check_ca, check_pair, client_context

#: redis-py types every answer as text, bytes or nothing, for both of its clients: of no use here.
Client = Any

#: The least version whose commands the scripts use.
FLOOR = (7, 0)

SENTINEL_PORT = 26379

#: The schemes of an address that mean TLS, those that mean Sentinel, and all that mean a Redis.
OVER_TLS = ("rediss", "sentinels")
AMQPS = "amqps"
SENTINEL = ("sentinel", "sentinels")
REDIS = ("redis", "rediss", "unix", *SENTINEL)


class Tls(NamedTuple):
    """PEM files: the CA that vouches for the server (empty: the system's), and what we show to one that asks."""

    ca: str = ""
    cert: str = ""
    key: str = ""

    @classmethod
    def of(cls, settings: Settings) -> Tls:
        """What the settings say. Raises :class:`SettingsError`."""
        pair = check_pair("REDIS_CERT", settings.redis_cert, "REDIS_KEY", settings.redis_key)
        return cls(check_ca("REDIS_CA", settings.redis_ca), *pair)

    @classmethod
    def of_rabbitmq(cls, settings: Settings) -> Tls:
        """Likewise of a broker that is a RabbitMQ. Raises :class:`SettingsError`."""
        pair = check_pair("BROKER_CERT", settings.broker_cert, "BROKER_KEY", settings.broker_key)
        return cls(check_ca("BROKER_CA", settings.broker_ca), *pair)

    @property
    def amqp_options(self) -> dict[str, Any]:
        """As py-amqp takes them. The host name is each connection's own (mutt/rabbit)."""
        files = {"ca_certs": self.ca, "certfile": self.cert, "keyfile": self.key}
        return {
            "cert_reqs": ssl.CERT_REQUIRED,
            "tls_minimum_version": TLS_FLOOR,
            **{name: file for name, file in files.items() if file},
        }

    @property
    def options(self) -> dict[str, Any]:
        """As redis-py, kombu and Flower take them."""
        files = {"ssl_ca_certs": self.ca, "ssl_certfile": self.cert, "ssl_keyfile": self.key}
        return {
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
            "ssl_min_version": TLS_FLOOR,
            **{name: file for name, file in files.items() if file},
        }


class TlsConnection(redis.SSLConnection):
    """redis-py's, but REDIS_CA stands in for the system's CAs and is not one more of them."""

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> ssl.SSLSocket:
        context = client_context(self.ca_certs or "", self.certfile or "", self.keyfile or "")
        try:
            return context.wrap_socket(sock, server_hostname=self.host)
        except ssl.SSLError as error:
            if error.reason != "WRONG_VERSION_NUMBER":
                raise
            raise OSError(error.errno, "it does not speak TLS: is this its port for that?") from error


class MasterConnection(SentinelManagedConnection):
    """To the master that Sentinel names; asked for anew after a refusal: it may be the master no longer.

    redis-py does so where a server says that it is a replica. One that is being replaced says first that it lacks
    replicas, and may say so for seconds.
    """

    _refused = False

    def connect(self) -> None:
        if self._refused:
            self.disconnect()  # type: ignore[no-untyped-call]
        super().connect()  # type: ignore[no-untyped-call]
        # What an older server says of redis-py's greeting is no refusal.
        self._refused = False

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().read_response(*args, **kwargs)
        except redis.ResponseError as error:
            # Those with a class of their own say something of the command, and nothing of the server.
            self._refused = type(error) is redis.ResponseError
            raise


class TlsMasterConnection(MasterConnection, TlsConnection):
    """The same over TLS."""


def doubt_master(client: Client) -> None:
    """Have Sentinel asked for the master before the next command. Without Sentinel there is no other."""
    if isinstance(client.connection_pool, SentinelConnectionPool):
        client.connection_pool.disconnect(inuse_connections=False)


class Login(CredentialProvider):
    """The user and password of an address that is asked for again at each new connection."""

    def __init__(self, address: Callable[[], str]) -> None:
        self._address = address

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        user, password = login_of(self._address())
        return (user, password) if user else (password,)


def redis_of(
    settings: Settings, which: str = "stream_url", *, timeout: float = 5.0, max_connections: int = 64
) -> Client:
    """A client of the Redis that the setting ``which`` names; as :func:`connect`. Raises :class:`SettingsError`."""
    settings.need(which)
    url: str = getattr(settings, which)
    tls = Tls.of(settings) if urlsplit(url).scheme in OVER_TLS else Tls()
    return connect(
        url, timeout=timeout, max_connections=max_connections, tls=tls, login=login(settings, which)
    )


def is_redis(url: str) -> bool:
    """Is there an address, and is it one of a Redis?"""
    return urlsplit(url).scheme in REDIS


def login(settings: Settings, which: str) -> Login | None:
    """The login of the address that the setting ``which`` names. None: it has none."""
    if not any(login_of(getattr(settings, which))):
        return None
    return Login(partial(settings.current, which, at_once=True))


def login_of(url: str) -> tuple[str, str]:
    """The user and the password of an address, both empty where it has none."""
    user, _, password = urlsplit(url).netloc.rpartition("@")[0].partition(":")
    return unquote(user), unquote(password)


def connect(
    url: str,
    *,
    timeout: float = 5.0,
    max_connections: int = 64,
    tls: Tls = Tls(),  # noqa: B008 it is a value
    login: Login | None = None,
) -> Client:
    """A client of the Redis at ``url``. Nothing is connected yet. ``timeout`` in seconds, for connect and answer.

    The client does not repeat commands by itself: what is safe to repeat is known where it is called. ``login`` stands
    in for the address' own.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        "health_check_interval": 15,
        "max_connections": max_connections,
        "retry": Retry(NoBackoff(), 0),
    }
    parts = urlsplit(url)
    if login:
        options["credential_provider"] = login
        url = url.replace(f"//{parts.netloc}", f"//{parts.netloc.rpartition('@')[2]}", 1)
    secure = parts.scheme in OVER_TLS
    if secure:
        options |= {"connection_class": TlsConnection, **tls.options}
    if parts.scheme in SENTINEL:
        found = _sentinel(url)
        options["connection_class"] = TlsMasterConnection if secure else MasterConnection
        # One that is away is not asked again, but the next one.
        asking = {**_to_sentinels(tls if secure else None), "retry": Retry(NoBackoff(), 0)}
        watch = Sentinel(found.hosts, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
        return watch.master_for(found.master, db=found.db, **found.auth, **options)  # type: ignore[no-untyped-call]
    if parts.scheme == "unix":
        options.pop("socket_keepalive")
    return redis.Redis.from_url(url, **options)


def _to_sentinels(tls: Tls | None) -> dict[str, Any]:
    return {"socket_timeout": 1.0, **({"ssl": True, **tls.options} if tls else {})}


class _Watched(NamedTuple):
    """What Sentinels are asked, and where they are."""

    hosts: list[tuple[str, int]]
    master: str
    db: int
    auth: dict[str, str]


def _sentinel(url: str) -> _Watched:
    # sentinel://[user:password@]h:26379,h2:26379/0?master=mutt
    parts = urlsplit(url)
    master = parse_qs(parts.query).get("master", [""])[0]
    if not master:
        raise SettingsError("REDIS_URL", f"{parts.scheme}://…", "?master=NAME at its end")
    pairs = [host.rpartition(":") for host in parts.netloc.rpartition("@")[2].split(",")]
    found = [(h or last, int(last) if h else SENTINEL_PORT) for h, _, last in pairs]
    user, password = login_of(url)
    auth = {name: value for name, value in (("username", user), ("password", password)) if value}
    return _Watched(found, master, int(parts.path.strip("/") or 0), auth)


class Broker(NamedTuple):
    """An address as kombu spells it, its transport options, and how TLS is spoken (None: it is not)."""

    url: str
    options: dict[str, Any]
    ssl: dict[str, Any] | None


def broker(settings: Settings) -> Broker:
    """Where doorbells go. Raises :class:`SettingsError`."""
    url = settings.broker_url or "redis://127.0.0.1:6379/0"
    scheme = urlsplit(url).scheme
    if scheme in RABBITMQ:
        tls_to_it = Tls.of_rabbitmq(settings).amqp_options if scheme == AMQPS else None
        return Broker(_each_host(url), {}, tls_to_it)
    tls = Tls.of(settings) if scheme in OVER_TLS else None
    options = tls.options if tls else None
    if scheme == "unix":
        # Without a login: kombu takes that of BrokerConnection, or one in the address, and not both.
        parts = urlsplit(url)
        db = parse_qs(parts.query).get("db", ["0"])[0]
        return Broker(f"redis+socket://{parts.path}?virtual_host={db}", {}, None)
    if scheme not in SENTINEL:
        return Broker(url, {}, options)
    found = _sentinel(url)
    address = urlsplit(url).netloc.rpartition("@")[0]
    hosts = (f"sentinel://{address}{'@' if address else ''}{h}:{p}/{found.db}" for h, p in found.hosts)
    return Broker(
        ";".join(hosts), {"master_name": found.master, "sentinel_kwargs": _to_sentinels(tls)}, options
    )


def _each_host(url: str) -> str:
    # amqp://user:password@h:5672,h2:5672/vhost: kombu wants an address for each.
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    return ";".join(parts._replace(netloc=f"{login}{at}{host}").geturl() for host in hosts.split(","))


def check_server(client: Client, which: str = "REDIS_URL") -> None:
    """Refuse a Redis that MUTT's data can't stand on. Raises SettingsError; ``redis.RedisError`` passes through."""
    info = client.info()
    version = str(info.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2]) < FLOOR:
        raise SettingsError(which, f"Redis {version}", "Redis 7.0 or newer, or Valkey")
    if info.get("cluster_enabled"):
        raise SettingsError(
            which,
            "a Redis Cluster",
            "a single Redis or one behind Sentinel: Celery can't use a cluster",
        )
