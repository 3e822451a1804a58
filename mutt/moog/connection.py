"""Connections that ask the permit last: after connect(), before the first byte of the request.

An :class:`Exchange` is one request, from opening the connection to the last byte of the answer. It is found
through a context variable, because urllib3 makes the connections: outside an exchange nothing can be sent.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple

import requests
import requests.adapters
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.response import BaseHTTPResponse

from mutt.budget.permit import Permit
from mutt.deadline import DEADLINES
from mutt.errors import PermitExpired

#: Where clouds tell a machine about itself, its credentials too, apart from the link-local addresses.
_METADATA = frozenset(
    map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"))
)


def is_metadata(address: str) -> bool:
    """Is this IP address one at which a cloud, and nobody's Moog, answers?"""
    found = ipaddress.ip_address(address.partition("%")[0])
    found = getattr(found, "ipv4_mapped", None) or found
    return found.is_link_local or found in _METADATA


def _check_peer(address: str) -> None:
    if is_metadata(address):
        raise PermissionError(errno.EACCES, "this address is a cloud's metadata, not Moog: MOOG_URL is wrong")


class Exchange:
    """One request: its permit, its deadline (monotonic), when its first byte went out.

    A connection that was idle for more than ``idle`` seconds is not used: a firewall may have forgotten it.
    """

    def __init__(self, permit: Permit, deadline: float, idle: float) -> None:
        self.permit, self.deadline, self.idle = permit, deadline, idle
        self.started_at: float | None = None
        self.timed_out = False
        self.connection: GatedConnection | None = None
        self._handle: socket.socket | None = None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Whatever this thread sends in here belongs to this exchange, and ends at its deadline."""
        alarm = DEADLINES.at(self.deadline, self._expire)
        token = CURRENT.set(self)
        try:
            yield
        finally:
            CURRENT.reset(token)
            alarm.cancel()
            self.watch(None)

    def left(self) -> float:
        """Seconds until the deadline. Raises ``TimeoutError`` where none are left."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            self.timed_out = True
            raise TimeoutError
        return left

    def watch(self, sock: socket.socket | None) -> None:
        """The deadline shuts ``sock`` down; None: nothing any more."""
        # A handle of our own: TLS takes the socket out of its object, and its shutdown isn't safe from outside.
        handle = socket.socket(sock.family, sock.type, fileno=socket.dup(sock.fileno())) if sock else None
        with self._lock:
            old, self._handle = self._handle, handle
            if self.timed_out:
                self._shut()
        if old:
            old.close()

    def check(self) -> None:
        """Raises :class:`PermitExpired`."""
        if not self.permit.holds(time.monotonic()):
            raise PermitExpired

    def start(self) -> None:
        """The first byte goes out now. Raises :class:`PermitExpired`."""
        now = time.monotonic()
        if not self.permit.holds(now):
            raise PermitExpired
        self.started_at = now

    def _expire(self) -> None:
        with self._lock:
            self.timed_out = True
            self._shut()

    def _shut(self) -> None:
        if self._handle:
            with contextlib.suppress(OSError):
                self._handle.shutdown(socket.SHUT_RDWR)


CURRENT: ContextVar[Exchange] = ContextVar("exchange")


class GatedConnection(HTTPConnection):
    """A connection that sends only what the current exchange may send."""

    used_at = 0.0  #: monotonic
    _waiting = False  #: a request is written, its first byte is not out yet

    def _new_conn(self) -> socket.socket:
        exchange = CURRENT.get()
        # Each address of a name gets the whole timeout: share what is left among them.
        addresses = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        for *_, address in addresses:
            _check_peer(str(address[0]))
        self.timeout = exchange.left() / len(addresses)
        sock = super()._new_conn()
        try:
            _check_peer(str(sock.getpeername()[0]))  # the name was looked up once more
        except BaseException:
            sock.close()
            raise
        self.timeout = exchange.left()
        sock.settimeout(self.timeout)
        exchange.watch(sock)
        self.used_at = time.monotonic()
        return sock

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is None:
            self.connect()
        self.used_at = time.monotonic()
        self._waiting = True
        super().request(*args, **kwargs)

    def send(self, data: Any) -> None:
        # Here and not in request(): between that and the first byte another thread may get its turn.
        if self._waiting:
            self._waiting = False
            CURRENT.get().start()
        super().send(data)


class GatedTLSConnection(GatedConnection, HTTPSConnection):
    """The same over TLS."""

    @property
    def is_connected(self) -> bool:
        if self.sock is None or super().is_connected:
            return self.sock is not None
        # Something came unasked. After TLS 1.3's handshake that is a session ticket, which reading swallows.
        timeout = self.sock.gettimeout()
        self.sock.settimeout(0)
        try:
            self.sock.recv(1)
        except ssl.SSLWantReadError:
            return True
        except OSError:
            return False
        finally:
            self.sock.settimeout(timeout)
        return False


class GatedPool(HTTPConnectionPool):
    """Opens the connection first, and keeps it if the permit ran out meanwhile: the next permit finds it open."""

    ConnectionCls = GatedConnection

    def urlopen(self, *args: Any, **kwargs: Any) -> BaseHTTPResponse:
        exchange = CURRENT.get()
        connection = self._get_conn()
        try:
            self._open(connection, exchange)
            exchange.check()
        except BaseException:
            self._put_conn(connection)
            raise
        exchange.connection = connection
        return super().urlopen(*args, **kwargs)

    def _get_conn(self, timeout: float | None = None) -> Any:
        exchange = CURRENT.get()
        opened, exchange.connection = exchange.connection, None
        return opened or super()._get_conn(timeout)

    def _open(self, connection: Any, exchange: Exchange) -> None:
        if not connection.is_closed and time.monotonic() - connection.used_at > exchange.idle:
            connection.close()
        if not connection.is_closed:
            exchange.watch(connection.sock)
            return
        try:
            if self.proxy is not None and self.scheme == "https":
                self._prepare_proxy(connection)
            else:
                connection.connect()
        except BaseException:
            connection.close()
            raise


class GatedTLSPool(GatedPool, HTTPSConnectionPool):
    """The same over TLS."""

    ConnectionCls = GatedTLSConnection


POOLS = {"http": GatedPool, "https": GatedTLSPool}


class Headers(dict[str, str]):
    """A request's headers; no repr shows what they hold."""

    def __repr__(self) -> str:
        return f"Headers({', '.join(self)})"


class Way(NamedTuple):
    """How one address is asked: all that is the same for each request."""

    pool: HTTPConnectionPool
    target: str  #: as the first line of a request names it
    headers: Headers
    asked: Mapping[str, str]  #: those that it was made for


class GatedAdapter(requests.adapters.HTTPAdapter):
    """Requests' adapter, each of whose connections is gated; never retries. Threads may share one."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = POOLS
        return manager

    def way(self, url: str, headers: Mapping[str, str], environment: Mapping[str, Any]) -> Way:
        """What requests works out for each POST, worked out once: half of what one costs.

        ``environment`` has proxies, verify and cert. Raises ``requests.RequestException``, ``OSError``.
        """
        with requests.Session() as session:
            session.trust_env = False  # no .netrc puts another key in
            asked = session.prepare_request(requests.Request("POST", url, headers=headers))
        del asked.headers["Content-Length"]  # of a body that is not there yet
        proxies, verify, cert = (environment[name] for name in ("proxies", "verify", "cert"))
        pool = self.get_connection_with_tls_context(asked, verify, proxies=proxies, cert=cert)
        self.cert_verify(pool, asked.url, verify, cert)  # type: ignore[no-untyped-call]
        assert isinstance(pool, HTTPConnectionPool)
        return Way(pool, self.request_url(asked, proxies), Headers(asked.headers), headers)
