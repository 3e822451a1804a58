"""The Moog client: one POST under one permit, inside one deadline; its answer says what must happen next."""

from __future__ import annotations

import base64
import logging
import math
import ssl
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
import orjson
import requests
import urllib3.exceptions
from urllib3.response import BaseHTTPResponse

from mutt.alert import Alert
from mutt.budget.permit import Permit
from mutt.errors import PermitExpired, SettingsError
from mutt.moog.connection import Exchange, GatedAdapter, Headers, Way
from mutt.moog.dialects import DIALECTS, Dialect
from mutt.moog.outcome import Answer, Kind, Reason, judge
from mutt.settings import Settings
from mutt.span import under
from mutt.tls import check_ca

log = logging.getLogger("mutt.moog")

#: As much of an answer is read, in bytes.
ANSWER_MAX = 64 * 1024
#: Characters of a traceback that are kept with an alert.
TRACE_MAX = 2000
#: Connections kept open; the most recently used is taken first, so that a quiet time keeps few.
CONNECTIONS = 32

#: The permit of a request that is never sent.
EXPIRED = Permit("", 0, -math.inf)

# A host name that can't be written in DNS is a UnicodeError.
_BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError, OSError, UnicodeError)


class MoogClient:
    """Sends alerts to Moog. Threads may share one: they share its connections.

    ``timeout`` bounds the whole exchange in seconds, from opening the connection to the last byte of the answer;
    only the look-up of a name can't be cut short, and nothing was sent then. ``idle`` is how many seconds a
    connection may have been unused. ``interrupts`` are exceptions that end a worker's work from outside (a time limit).
    ``secret`` may be a function of whether to look at once: the key may change while the client is used. ``ca`` is a
    file with the CAs that vouch for Moog; empty: the system's, or those that REQUESTS_CA_BUNDLE names.
    Raises :class:`SettingsError` for an address that holds a user or a key, or a key that no header can carry.
    """

    def __init__(
        self,
        url: str,
        dialect: Dialect,
        secret: str | Callable[[bool], str],
        user: str = "",
        timeout: float = 10.0,
        *,
        ca: str = "",
        idle: float = 30.0,
        interrupts: tuple[type[Exception], ...] = (),
    ) -> None:
        parts = urlsplit(url)
        self._shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        if "@" in parts.netloc:
            raise SettingsError(
                "MOOG_URL", self._shown, "an address alone: MOOG_USER and MOOG_API_KEY hold the rest"
            )
        self._url, self._dialect = url, dialect
        self._timeout, self._idle, self._interrupts = timeout, idle, interrupts
        self._ask_key: Callable[[bool], str] = secret if callable(secret) else lambda _at_once: secret
        self._user, self._key, self._hidden = user, self._ask_key(True), tuple[str, ...]()
        self._headers = self._headers_of(self._key)
        self._made: Way | None = None
        self._adapter = GatedAdapter(pool_connections=1, pool_maxsize=CONNECTIONS, max_retries=0)
        self._environment = _environment(url)
        if check_ca("MOOG_CA", ca):
            self._environment["verify"] = ca

    @classmethod
    def from_settings(cls, settings: Settings, *, interrupts: tuple[type[Exception], ...] = ()) -> MoogClient:
        """The client that the settings describe. Raises :class:`SettingsError`."""
        settings.need("moog_url")
        return cls(
            settings.moog_url,
            DIALECTS[settings.moog_dialect],
            lambda at_once: str(settings.current("moog_api_key", at_once=at_once)),
            settings.moog_user,
            settings.moog_timeout,
            ca=settings.moog_ca,
            interrupts=interrupts,
        )

    def __repr__(self) -> str:
        return f"MoogClient({self._shown}, {self._dialect.name})"

    def send(self, alerts: Sequence[Alert], permit: Permit) -> Answer:
        """POST ``alerts`` as one request, if ``permit`` still holds when its first byte would go out.

        Never raises for what the network or Moog does, nor for an alert that MUTT itself fails on: ``broken``, with the
        traceback. Where opening the connection took longer than the permit
        lived, nothing is sent and the connection is kept for the next permit.
        """
        try:
            body = self._dialect.body(alerts)
        except Exception as error:
            # Whatever it is, it is about these alerts: raised, they would stay in their lane without a reason.
            if isinstance(error, self._interrupts):
                raise
            return self._broken(None)
        traced = next((alert.trace for alert in alerts if alert.trace), "")
        return self._exchange(body, permit, under(traced, permit.token) if traced else "")

    def warm(self) -> Answer:
        """Open a connection if none is kept, and send nothing.

        Called before a permit is asked for, so that its short life isn't spent on a handshake. Answers ``unsent``
        where a connection stands open, else what stood against it.
        """
        return self._exchange(b"", EXPIRED)

    def close(self) -> None:
        """Close the connections that are not in use; the next request opens one."""
        self._made = None  # it holds on to the pool that the adapter lets go
        self._adapter.close()

    def _exchange(self, body: bytes, permit: Permit, trace: str = "") -> Answer:
        way: Way | None = None
        exchange = Exchange(permit, time.monotonic() + self._timeout, self._idle)
        said, error, text = b"", None, ""
        response: BaseHTTPResponse | None = None
        try:
            way = self._way()
            with exchange.running():
                response = self._post(way, body, trace)
                said = _read(response)
            error = Reason.TIMEOUT if exchange.timed_out else None
        except PermitExpired:
            error = Reason.EXPIRED
        except _BROKEN as broken:
            error = Reason.TIMEOUT if exchange.timed_out else classify(broken)
            text = describe(broken)
        except Exception as error:
            # As above; the request may have begun.
            if isinstance(error, self._interrupts):
                raise
            return self._broken(exchange.started_at)
        answer = judge(
            None if response is None else response.status,
            said,
            {} if response is None else response.headers,
            error,
            now=time.time(),
            text=text or self._hide(said),
            started_at=exchange.started_at,
        )
        if answer.kind is Kind.AUTH and way and self._has_another_key(way):
            # What Moog says of a key that was replaced meanwhile is said of nothing that will be sent.
            return msgspec.structs.replace(answer, kind=Kind.RETRY)
        return answer

    def _broken(self, started_at: float | None) -> Answer:
        """What to say while an exception is handled that nobody thought of."""
        said = self._hide(traceback.format_exc(limit=-5).encode(errors="replace"))
        log.error("forwarding failed: %s", said)
        return Answer(kind=Kind.BROKEN, reason=Reason.BROKEN, text=said[-TRACE_MAX:], started_at=started_at)

    def _post(self, way: Way, body: bytes, trace: str) -> BaseHTTPResponse:
        # Redirects are neither followed nor prepared: an alert and its key go to one address.
        return way.pool.urlopen(
            "POST",
            way.target,
            body=body,
            headers=Headers(way.headers, traceparent=trace) if trace else way.headers,
            redirect=False,
            retries=False,
            assert_same_host=False,
            preload_content=False,
            decode_content=False,
            timeout=self._timeout,
        )

    def _way(self, *, at_once: bool = False) -> Way:
        """The way with the key as it is now. ``at_once``: however recently somebody looked."""
        self._renew(self._ask_key(at_once))
        headers, made = self._headers, self._made
        if made is None or made.asked is not headers:
            made = self._made = self._adapter.way(self._url, headers, self._environment)
        return made

    def _has_another_key(self, way: Way) -> bool:
        return self._way(at_once=True).asked is not way.asked

    def _renew(self, key: str) -> None:
        if key == self._key:
            return
        self._key = key
        try:
            self._headers = self._headers_of(key)
        except SettingsError as error:
            log.warning("the new MOOG_API_KEY can't be used, the old one stays: %s", error)

    def _headers_of(self, key: str) -> Headers:
        headers = Headers(self._dialect.headers(key, self._user))
        # An answer to the key before it may be on its way.
        self._hidden = (*(_spellings(key, self._user) if key else ()), *self._hidden[:3])
        return headers

    def _hide(self, said: bytes) -> str:
        """Moog's words without the key, should it echo it."""
        text = said.decode(errors="replace")
        for secret in self._hidden:
            text = text.replace(secret, "…")
        return text


def classify(error: BaseException) -> Reason:
    """Which of the closed set of reasons an error of the network is."""
    chain = list(_causes(error))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in chain):
        return Reason.CERTIFICATE
    if any(isinstance(cause, PermissionError) for cause in chain):
        return Reason.CONFIG  # an address that MUTT does not ask, or may not
    # The libraries' own timeouts won't do: urllib3 counts a refused connection among them.
    return Reason.TIMEOUT if any(isinstance(cause, TimeoutError) for cause in chain) else Reason.CONNECTION


def describe(error: BaseException) -> str:
    """An error of the network for people: its first cause, without addresses, headers or bodies."""
    cause = list(_causes(error))[-1]
    told = getattr(cause, "verify_message", "") or getattr(cause, "strerror", "") or ""
    return f"{type(cause).__name__}: {told}".removesuffix(": ")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _spellings(secret: str, user: str) -> tuple[str, ...]:
    """The ways in which an answer might show the secret."""
    basic = base64.b64encode(f"{user}:{secret}".encode()).decode()
    return secret, orjson.dumps(secret).decode()[1:-1], basic


def _environment(url: str) -> dict[str, Any]:
    """The environment's proxy and certificate bundle for ``url``."""
    found = requests.Session().merge_environment_settings(url, {}, None, None, None)
    if any(str(proxy).startswith("socks") for proxy in found["proxies"].values()):
        raise SettingsError("ALL_PROXY", "socks…", "an HTTP proxy, or Moog's host in NO_PROXY")
    return {name: found[name] for name in ("proxies", "verify", "cert")}


def _read(response: BaseHTTPResponse) -> bytes:
    try:
        return bytes(response.read(ANSWER_MAX + 1, decode_content=True)[:ANSWER_MAX])
    finally:
        # A connection whose answer was read to its end is back in the pool by now: this ends any other.
        response.close()
        response.release_conn()
