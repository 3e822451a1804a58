"""What ingest fetches for a sender's sake, over https: few bytes, soon, and from nowhere but where it was told.

A thread that has a request waits for it; so nobody waits long, only few do at once, and who did not answer is not
asked again for a while.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import requests
import urllib3

from mutt.errors import Unavailable

log = logging.getLogger("mutt.ingest")

#: Seconds that one may take, bytes that it may have, and requests that may wait for one at once.
DEADLINE, MOST, WAITING = 2.0, 64 << 10, 4

#: Seconds that an address which did not give what was wanted is not asked again.
SILENT = 10.0

#: Addresses that did not, of which that is known.
_REMEMBERED = 64

_AWAY = "{} can't be asked ({}): is ingest let through to it?"

# Its debug lines hold whole addresses, and those hold tokens.
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)


class Fetch:
    """Fetches addresses that its caller has checked. ``ca`` is a PEM file; empty: public CAs."""

    def __init__(self, ca: str = "", deadline: float = DEADLINE) -> None:
        self._session = requests.Session()
        # Proxies may come from the environment; a login of .netrc goes nowhere that a sender's message names.
        self._session.trust_env = False
        self._verify, self._deadline = ca or True, deadline
        self._worker = ThreadPoolExecutor(1, "fetch")
        self._places = threading.BoundedSemaphore(WAITING)
        self._silent: dict[str, tuple[float, str]] = {}  # until when (monotonic), and why

    def get(self, url: str) -> bytes:
        """What stands at ``url``. Raises Unavailable, with a reason that does not hold the address."""
        host = urlsplit(url).netloc
        until, why = self._silent.get(url, (0.0, ""))
        if until > time.monotonic():
            raise Unavailable(_AWAY.format(host, why), round(SILENT))
        if not self._places.acquire(blocking=False):
            raise Unavailable(f"{host} is being asked for others", 1)
        try:
            return self._worker.submit(self._get, url, time.monotonic() + self._deadline).result(
                self._deadline
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            why = _said(error)
            log.warning("%s can't be asked: %s", host, why)
            self._remember(url, why)
            raise Unavailable(_AWAY.format(host, why), round(SILENT)) from None
        finally:
            self._places.release()

    def _get(self, url: str, deadline: float) -> bytes:
        if time.monotonic() >= deadline:
            raise TimeoutError  # it waited for another, and nobody waits for it
        # A redirect would lead to where nobody looked.
        with self._session.get(
            url,
            timeout=self._deadline,
            verify=self._verify,
            proxies=requests.utils.get_environ_proxies(url),
            allow_redirects=False,
            stream=True,
        ) as answer:
            if answer.status_code != requests.codes.ok:
                raise requests.HTTPError(f"status {answer.status_code}")
            found = b""
            while piece := answer.raw.read1(MOST, decode_content=True):
                found += piece
                if len(found) > MOST:
                    raise requests.HTTPError("too long")
                if time.monotonic() >= deadline:
                    raise TimeoutError
            return found

    def _remember(self, url: str, why: str) -> None:
        if len(self._silent) >= _REMEMBERED:
            self._silent.clear()
        self._silent[url] = time.monotonic() + SILENT, why


def _said(error: Exception) -> str:
    """Why, without the address: requests' own texts hold it."""
    if isinstance(error, requests.HTTPError):
        return str(error)
    return "too slow" if isinstance(error, TimeoutError) else type(error).__name__
