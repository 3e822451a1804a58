"""One request to ingest, and what its answer means; who sends says when to ask again."""

from __future__ import annotations

import gzip
import json
import math
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests

#: The 4xx that say "not now"; every other one is final.
NOT_NOW = frozenset({408, 425, 429})

#: No ``Retry-After`` is obeyed for longer than this, in seconds.
RETRY_AFTER_MAX = 3600.0

#: A shorter body is not worth compressing, in bytes.
WORTH_IT = 512

#: How ingest refuses (RFC 9457); each refusal of what was read of a request has its ``correlation_id``.
PROBLEM = "application/problem+json"

JSON_LINES = "application/x-ndjson"
TEXT_LINES = "text/plain; charset=utf-8"

#: Of messages of syslog that may hold line ends, each in an object: {"line", "peer", "at"}.
SYSLOG_OBJECTS = "application/vnd.mutt.syslog+json"


class Refusal(NamedTuple):
    """One item that ingest did not take."""

    item: int  #: its place in the request
    field: str
    reason: str


class Answer(NamedTuple):
    """What became of one request. ``status`` 0: no answer came, so its items may be in all the same."""

    status: int
    reason: str = ""  #: why it was not taken, for people
    after: float = 0.0  #: seconds that the server asks to be left alone; 0: it names none
    accepted: int = 0
    duplicates: int = 0
    refused: tuple[Refusal, ...] = ()
    is_ours: bool = False  #: ingest said so of a request that it read, and nobody on the way there

    @property
    def taken(self) -> bool:
        """Is the request done, but for the items in ``refused``?"""
        return self.status == 202

    @property
    def final(self) -> bool:
        """Would the same request be refused again?"""
        return 400 <= self.status < 500 and self.status not in NOT_NOW

    @property
    def too_large(self) -> bool:
        """May it be taken in parts?"""
        return self.status == 413


def judge(status: int, headers: Mapping[str, str], body: bytes, now: float) -> Answer:
    """Say what an answer means; ``now`` in epoch seconds. A 2xx that ingest did not write (a portal's page, say) is no
    success: whoever would take it for one lost the events."""
    told = _object(body)
    if status == 202 and "accepted" in told:
        taken, again = _whole(told["accepted"]), _whole(told.get("duplicates"))
        return Answer(202, accepted=taken, duplicates=again, refused=_refused(told))
    reason = f"{status} {told.get('detail') or told.get('title') or ''}".strip()
    if status == 202 or not 400 <= status < 600:
        return Answer(
            -1, f"{status}: this is no answer of ingest; is the address right?", retry_after(headers, now)
        )
    return Answer(
        status, reason, retry_after(headers, now), refused=_refused(told), is_ours=_is_ours(headers, told)
    )


def _is_ours(headers: Mapping[str, str], told: Mapping[str, Any]) -> bool:
    """Is it a refusal of ingest's, and not of something before it? A proxy may write a problem document, too."""
    return (
        headers.get("Content-Type", "").startswith(PROBLEM) and "detail" in told and "correlation_id" in told
    )


def retry_after(headers: Mapping[str, str], now: float) -> float:
    """Seconds that ``Retry-After`` asks for, from a number or a date; 0 where it says nothing readable."""
    given = headers.get("Retry-After", "").strip()
    try:
        seconds = float(given)
    except ValueError:
        seconds = _until(given, now)
    return min(max(seconds, 0.0), RETRY_AFTER_MAX) if math.isfinite(seconds) else 0.0


def _until(date: str, now: float) -> float:
    try:
        return parsedate_to_datetime(date).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _refused(told: Mapping[str, Any]) -> tuple[Refusal, ...]:
    listed = told.get("rejected")
    return tuple(
        Refusal(_whole(item.get("index")), str(item.get("field", "")), str(item.get("reason", "")))
        for item in (listed if isinstance(listed, list) else ())
        if isinstance(item, dict)
    )


class Poster:
    """Sends requests over one kept connection; for one thread. Make it anew after a fork.

    ``url`` is ingest's address, with or without ``/ingest``. ``key`` may be a function: it is asked before each
    request, so the key may change. ``ca`` is a PEM file of the CAs that are trusted, and no others are; ``cert`` a PEM
    file, or a pair of them (certificate, key), for a server that asks. ``timeout`` in seconds bounds opening the
    connection, and each wait for bytes.
    """

    def __init__(
        self,
        url: str,
        key: str | Callable[[], str],
        *,
        timeout: float = 10.0,
        compress: bool = True,
        ca: str = "",
        cert: str | tuple[str, str] = "",
    ) -> None:
        self._base, self._key = address(url), key
        self._shown = _without_login(self._base)
        self._timeout, self._compress = timeout, compress
        self._session = session = requests.Session()
        # Proxies may come from the environment; a login of .netrc beside the key may not.
        session.trust_env = False
        session.proxies.update(requests.utils.get_environ_proxies(self._base))
        session.verify, session.cert = ca or True, cert or None

    def post(
        self, body: bytes, kind: str, idempotency_key: str, format_: str = "", coding: str = ""
    ) -> Answer:
        """One attempt with ``body``, whose Content-Type is ``kind``, and which has this ``coding`` already, if any.

        Never raises for what the network does, nor for a key that can't be had.
        """
        headers = {"Content-Type": kind, "Idempotency-Key": idempotency_key}
        if not coding and self._compress and len(body) >= WORTH_IT:
            coding, body = "gzip", gzip.compress(body, 1, mtime=0)
        if coding:
            headers["Content-Encoding"] = coding
        where = f"{self._base}/{format_}" if format_ else self._base
        try:
            headers["X-API-KEY"] = self._key() if callable(self._key) else self._key
        except Exception as error:  # noqa: BLE001 the caller's own code: its error must not end the thread that sends
            return Answer(0, f"the API key can't be had: {type(error).__name__}")
        try:
            answer = self._session.post(
                where, body, headers=headers, timeout=self._timeout, allow_redirects=False
            )
        except (requests.exceptions.InvalidHeader, UnicodeEncodeError):
            return Answer(
                0, "the API key can't stand in a header: look for line ends and odd characters in it"
            )
        # What urllib3 says of an odd address is a ValueError.
        except (requests.RequestException, OSError, ValueError) as error:
            return Answer(0, f"no answer from {self._shown}: {cause(error)}")
        return judge(answer.status_code, answer.headers, answer.content, time.time())

    def close(self) -> None:
        """Close the connection; the next request opens one."""
        self._session.close()


def address(url: str) -> str:
    """Where events are posted. Raises ``ValueError`` for what is no address, without the password that it may hold."""
    if not url.lower().startswith(("http://", "https://")) or "?" in url or "#" in url or not _has_host(url):
        raise ValueError("url: write http://HOST:PORT or https://HOST:PORT, without ? and #")
    found = url.rstrip("/")
    return found if found.count("/") > 2 else found + "/ingest"


def _has_host(url: str) -> bool:
    try:
        found = urlsplit(url)
        return bool(found.hostname) and (found.port is None or found.port > 0)
    except ValueError:
        return False


def _without_login(address_: str) -> str:
    found = urlsplit(address_)
    return f"{found.scheme}://{found.netloc.rpartition('@')[2]}{found.path}"


def cause(error: BaseException) -> str:
    """What the system said (refused, unknown name), or what kind of error it is. Never the request: it has the key."""
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, OSError) and at.strerror:
            return at.strerror
        if type(at) is OSError:  # requests' about a file that is not there
            return str(at)
        at = at.__cause__ or at.__context__
    return "none in time" if isinstance(error, requests.Timeout) else type(error).__name__
