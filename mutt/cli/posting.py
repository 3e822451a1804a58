"""Posting batches to ingest: at a rate, over several connections, each batch until it is answered for good.

A batch keeps its ``Idempotency-Key`` over all its attempts, so that one whose answer was lost is not taken twice.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import requests

from mutt.cli.traffic import Batch
from mutt.client.post import cause

#: What says "not now" (RFC 9110, RFC 6585); anything else but a 202 will not become better.
LATER = frozenset({408, 425, 429, 500, 502, 503, 504})

#: What no batch can get past: the key or the address is wrong.
HOPELESS = frozenset({401, 403, 404, 405})

#: Seconds to wait where ingest names none, doubled with each attempt up to the most.
FIRST_WAIT, MOST_WAIT = 0.1, 2.0

#: A rate that fell behind (an outage) is not made up for by more than so many seconds' worth.
BURST = 1.0


@dataclass
class Tally:
    """What came of it all."""

    events: int = 0  #: in batches that were begun
    accepted: int = 0
    rejected: int = 0
    duplicates: int = 0
    batches: int = 0  #: answered by a 202
    retries: int = 0
    errors: int = 0  #: batches that were given up
    seconds: float = 0.0
    paced: float = 0.0  #: seconds that a rate gives to these events, the last batch's among them
    reasons: Counter[str] = field(default_factory=Counter)  #: of rejected items and given up batches

    @property
    def whole(self) -> bool:
        """Was everything accepted?"""
        return not self.errors and not self.rejected

    @property
    def eps(self) -> float:
        """Accepted events a second. The last batch has its time too: else ten at a rate pass for eleven."""
        seconds = max(self.seconds, self.paced)
        return self.accepted / seconds if seconds else 0.0


class Target(NamedTuple):
    """Where to, as whom, and how stubbornly."""

    url: str
    key: str
    retry: bool
    patience: float  #: seconds after which a batch is given up
    timeout: float  #: seconds that one attempt may take


class Pace:
    """Says when the next ``n`` events are due."""

    def __init__(self, rate: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._monotonic = rate, monotonic
        self._due = self._began = monotonic()

    def wait(self, n: int) -> float:
        """Seconds to wait before sending ``n`` more."""
        if not self._rate:
            return 0.0
        now = self._monotonic()
        due = max(self._due, now - BURST)
        self._due = due + n / self._rate
        return max(0.0, due - now)

    @property
    def span(self) -> float:
        """Seconds from the first event to the moment at which the next one is due."""
        return self._due - self._began


class Sender:
    """Posts batches from several threads until there are none, or it is told to stop."""

    def __init__(
        self,
        target: Target,
        batches: Iterator[Batch],
        pace: Pace,
        run: str,
        waiting: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        self._target, self._batches, self._pace, self._run = target, batches, pace, run
        self._waiting = waiting  # told why, the first time that a batch has to be sent again
        self.tally = Tally()
        self._stop, self._lock, self._source = threading.Event(), threading.Lock(), threading.Lock()
        self._told = False
        self._broken: Exception | None = None
        self._number = 0

    def run(self, connections: int, progress: Callable[[Tally], None]) -> Tally:
        """Send everything; Ctrl-C finishes what is under way and ends. Raises what reading the batches raised."""
        started = time.monotonic()
        threads = [
            threading.Thread(target=self._work, name=f"send-{i}", daemon=True) for i in range(connections)
        ]
        for thread in threads:
            thread.start()
        try:
            self._watch(threads, progress)
        except KeyboardInterrupt:
            self._stop.set()
            self._watch(threads, progress)
        self.tally.seconds = time.monotonic() - started
        self.tally.paced = self._pace.span
        if self._broken:
            raise self._broken
        return self.tally

    def _watch(self, threads: list[threading.Thread], progress: Callable[[Tally], None]) -> None:
        while any(thread.is_alive() for thread in threads):
            # A wait without a limit would not hear Ctrl-C on every platform.
            next(thread for thread in threads if thread.is_alive()).join(0.1)
            progress(self.tally)

    def _work(self) -> None:
        with requests.Session() as session:
            session.headers["X-API-KEY"] = self._target.key
            # No .netrc puts another login beside the key.
            session.trust_env = False
            while found := self._next():
                batch, key, wait = found
                if wait and self._stop.wait(wait):
                    return
                with self._lock:
                    self.tally.events += batch.events
                self._send(session, batch, key)

    def _next(self) -> tuple[Batch, str, float] | None:
        with self._source:
            if self._stop.is_set():
                return None
            try:
                batch = next(self._batches, None)
            except Exception as error:  # noqa: BLE001 a thread's edge: raised again in the one that waits for it
                self._broken, batch = error, None
                self._stop.set()
            if batch is None:
                return None
            self._number += 1
            return batch, f"{self._run}-{self._number}", self._pace.wait(batch.events)

    def _send(self, session: requests.Session, batch: Batch, key: str) -> None:
        give_up, wait = time.monotonic() + self._target.patience, FIRST_WAIT
        while True:
            reason, asked = self._post(session, batch, key)
            if reason is None:
                return
            retry = asked is not None and self._target.retry and time.monotonic() < give_up
            if retry:
                self._say_once(reason)
            if not retry or self._stop.wait(max(asked or 0.0, wait)):
                with self._lock:
                    self.tally.errors += 1
                    self.tally.reasons[reason] += 1
                return
            with self._lock:
                self.tally.retries += 1
            wait = min(wait * 2, MOST_WAIT)

    def _say_once(self, reason: str) -> None:
        with self._lock:
            told, self._told = self._told, True
        if not told:
            self._waiting(reason)

    def _post(self, session: requests.Session, batch: Batch, key: str) -> tuple[str | None, float | None]:
        """One attempt: what stood against it (None: it is accepted), and in how many seconds to ask again, if ever."""
        headers = {"Content-Type": batch.content_type, "Idempotency-Key": key}
        try:
            answer = session.post(
                self._target.url,
                batch.body,
                headers=headers,
                timeout=self._target.timeout,
                allow_redirects=False,
            )
            body = answer.json() if answer.status_code == 202 else {}
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            return f"no answer from {self._target.url}: {cause(error)}", 0.0
        except requests.RequestException as error:
            return f"{type(error).__name__}: {error}", None
        if answer.status_code == 202:
            self._accepted(body)
            return None, None
        if answer.status_code in HOPELESS:
            self._stop.set()
        later = _seconds(answer.headers.get("Retry-After", "")) if answer.status_code in LATER else None
        return _says(answer), later

    def _accepted(self, body: dict[str, object]) -> None:
        rejected = body.get("rejected")
        listed = rejected if isinstance(rejected, list) else []
        with self._lock:
            self.tally.batches += 1
            self.tally.accepted += int(str(body.get("accepted", 0)))
            self.tally.duplicates += int(str(body.get("duplicates", 0)))
            self.tally.rejected += len(listed)
            self.tally.reasons.update(f"{item['field']}: {item['reason']}" for item in listed)


def _seconds(retry_after: str) -> float:
    # A date is allowed too; whoever sends one means "some time later".
    return float(retry_after) if retry_after.isascii() and retry_after.isdecimal() else 0.0


def _says(answer: requests.Response) -> str:
    try:
        body = answer.json()
    except requests.JSONDecodeError:
        body = {}
    told = body.get("detail") or body.get("title") if isinstance(body, dict) else None
    return f"{answer.status_code} {told or answer.reason}"
