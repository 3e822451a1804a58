"""The senders of a chaos run, and what they know: which events got a 2xx, which did not, and which may have.

Each event carries a mark of its own in its message. A sender behaves as real ones do: it sends one event or many, with
ids of its own, under an Idempotency-Key, or with neither; it tries again what was not taken. Where neither an id nor
a key makes a second try known, the events of that try get new marks: it is a new event to MUTT, and says so.

What is to become of each event is known when it is made: a line that a rule forwards, a trap, a raise, a clear of one
(of the same request, or of one that was accepted before), or one of those that no rule handles, which are counted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import random
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import requests

#: Events a request, and how often each is chosen.
SIZES = {1: 8, 7: 4, 40: 4, 150: 3, 400: 1}
#: How a request may be told from a new one when it comes again.
MANNERS = ("id", "key", "plain", "syslog")
HOSTS = 50

#: Of events that are no syslog lines: raises that a clear will end, and traps that a rule forwards by their OID.
RAISES, TRAPS = 0.01, 0.005

#: A host whose every line is one that no rule handles, and its share: so many in a day raise an alert of their own.
NOISY, NOISE = "noisy", 0.12

_LINK_DOWN, _LINK_UP, _CISCO = "1.3.6.1.6.3.1.1.5.3", "1.3.6.1.6.3.1.1.5.4", "1.3.6.1.4.1.9.9.41.2.0.1"
_TEXTS = (
    "%LINEPROTO-5-UPDOWN: Line protocol on Interface Gi0/{n}, changed state to up",
    "session {n} of user ops closed, 10.0.{n}.7",
    "fan {n} at 4200 rpm",
    "ERROR disk {n} is slow",
    "CRITICAL fan tray {n} failed",
)
_SHARES = (30, 30, 37, 1, 2)
_FORWARDED = _TEXTS[3:]


@dataclasses.dataclass(frozen=True)
class Pair:
    """What a raise and its clear have in common; each pair has a key of its own."""

    raised: str  #: the raise's mark
    hostname: str
    trap: bool  #: linkDown and linkUp; else an object that says its state and key
    number: int


@dataclasses.dataclass
class Sent:
    """What the senders know. Marks are unique."""

    accepted: set[str] = dataclasses.field(default_factory=set)  #: a 2xx came for it
    perhaps: set[str] = dataclasses.field(default_factory=set)  #: no 2xx came; it may have gone in
    refused: int = 0  #: answers other than 2xx, and requests without one
    statuses: Counter[int] = dataclasses.field(default_factory=Counter)  #: answers by status; 0: none came
    slowest: float = 0.0  #: seconds that a 503 took
    bare: int = 0  #: 503s without a Retry-After
    raises: set[str] = dataclasses.field(default_factory=set)  #: sent, and to have an alert if audited
    ends: dict[str, str] = dataclasses.field(
        default_factory=dict
    )  #: sent: a clear, and the raise that it ends
    unhandled: dict[str, tuple[str, str]] = dataclasses.field(
        default_factory=dict
    )  #: sent, and handled by no rule: (host, which text)


class Sender(random.Random):
    """One sender's dice, and the raises of its that were accepted and not cleared."""

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self.open: list[Pair] = []


class Load:
    """Senders on threads of their own, at about ``rate`` events a second together.

    When ``enough`` were accepted only a tenth of it trickles: what is still to come wants to meet traffic, no more.
    """

    def __init__(
        self,
        url: str,
        keys: Sequence[str],
        scenario: int,
        seed: int,
        rate: float,
        *,
        enough: int = sys.maxsize,
        threads: int = 4,
    ) -> None:
        self.sent, self.enough = Sent(), enough
        self.step = timedelta()  #: how far the senders' clocks are off
        self._url, self._keys, self._scenario, self._rate = url, keys, scenario, rate / threads
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._marks = itertools.count()
        self._failed: list[Exception] = []
        self._threads = [
            threading.Thread(target=self._run, args=(Sender(f"{seed}-{scenario}-{n}"),), daemon=True)
            for n in range(threads)
        ]

    def start(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> Sent:
        """Stop, each sender after the request that it is at. What ended a sender before is raised here."""
        self._ended.set()
        for thread in self._threads:
            thread.join(60)
        if self._failed:
            raise self._failed[0]
        return self.sent

    @property
    def hosts(self) -> str:
        """How the names of this load's hosts begin, and of no other's."""
        return f"chaos-{self._scenario}-"

    @property
    def accepted(self) -> int:
        with self._lock:
            return len(self.sent.accepted)

    def answered(self, status: int) -> int:
        """How many answers of this status came."""
        with self._lock:
            return self.sent.statuses[status]

    def _run(self, dice: Sender) -> None:
        try:
            self._send(dice)
        except Exception as error:  # noqa: BLE001 this thread's edge: whoever stops the load is told
            self._failed.append(error)

    def _send(self, dice: Sender) -> None:
        due = time.monotonic()
        with requests.Session() as session:
            while not self._ended.is_set():
                size = dice.choices(list(SIZES), list(SIZES.values()))[0]
                self._request(session, dice, size)
                rate = self._rate if self.accepted < self.enough else self._rate / 10
                due = max(due, time.monotonic() - 1) + size / rate
                self._ended.wait(max(0.0, due - time.monotonic()))

    def _request(self, session: requests.Session, dice: Sender, size: int) -> None:
        """Send one request until it is taken, or given up."""
        manner = dice.choice(MANNERS)
        headers = {"X-API-KEY": dice.choice(self._keys)}
        if manner == "key":
            headers["Idempotency-Key"] = str(uuid.UUID(int=dice.getrandbits(128), version=4))
        body, marks, raised = self._made(dice, size, manner)
        for _ in range(40):
            taken = self._post(session, body, headers, marks)
            if taken or self._ended.is_set():
                break
            if manner in ("plain", "syslog"):
                # Tried again it is a new event: the one before may stand, or not.
                self._note_perhaps(marks)
                body, marks, raised = self._made(dice, size, manner)
            self._ended.wait(dice.uniform(0.05, 0.3))
        if taken:
            dice.open += raised
        else:
            self._note_perhaps(marks)

    def _made(self, dice: Sender, size: int, manner: str) -> tuple[bytes, list[str], list[Pair]]:
        """A request: its body, its marks, and its raises that a clear may follow once they are accepted."""
        marks = [f"c{self._scenario}.{next(self._marks)}" for _ in range(size)]
        raised: list[Pair] = []
        events = [self._event(dice, mark, manner, raised) for mark in marks]
        if manner == "syslog":
            body = b"\n".join(
                f"<{dice.choice((11, 14))}>1 {e['timestamp']} {e['hostname']} chaos - - - {e['message']}".encode()
                for e in events
            )
        else:
            body = orjson.dumps(events[0] if size == 1 else events)
        return body, marks, raised

    def _event(self, dice: Sender, mark: str, manner: str, raised: list[Pair]) -> dict[str, Any]:
        at = datetime.now(UTC) + self.step
        event: dict[str, Any] = {
            "hostname": f"{self.hosts}{dice.randrange(HOSTS)}",
            "timestamp": at.isoformat(timespec="milliseconds"),
            "severity": dice.randrange(8),
        }
        chance = dice.random() if manner != "syslog" else 1.0
        if chance < RAISES:
            self._raise(dice, mark, event, raised)
        elif chance < 2 * RAISES and (raised or dice.open):
            self._clear(dice, mark, event, raised)
        elif chance > 1 - TRAPS and manner != "syslog":
            self.sent.raises.add(mark)
            event |= {"message": "a Cisco says something", "trap_oid": _CISCO}
        else:
            self._line(dice, mark, event)
        event["message"] += f" [{mark}]"
        if manner == "id":
            event["event_id"] = str(uuid.UUID(int=dice.getrandbits(128), version=4))
        return event

    def _line(self, dice: Sender, mark: str, event: dict[str, Any]) -> None:
        if dice.random() < NOISE:
            event["hostname"] = self.hosts + NOISY
            text = _TEXTS[0]
        else:
            text = dice.choices(_TEXTS, _SHARES)[0]
        if text in _FORWARDED:
            self.sent.raises.add(mark)
        else:
            self.sent.unhandled[mark] = event["hostname"], text
        event["message"] = text.format(n=dice.randrange(40))

    def _raise(self, dice: Sender, mark: str, event: dict[str, Any], raised: list[Pair]) -> None:
        pair = Pair(mark, event["hostname"], dice.random() < 0.5, int(mark.rpartition(".")[2]) + 1)
        raised.append(pair)
        self.sent.raises.add(mark)
        if pair.trap:
            event |= {"message": f"LINK-DOWN ifIndex={pair.number}", "trap_oid": _LINK_DOWN}
        else:
            event |= {"message": f"LINK-DOWN {pair.number}", "state": "raise", "clear_key": f"{pair.number}"}

    def _clear(self, dice: Sender, mark: str, event: dict[str, Any], raised: list[Pair]) -> None:
        """The clear of a raise of this request, or of one that was accepted before.

        A clear whose own request is given up, or sent again as a new event, is not sent once more for its raise.
        """
        pairs = raised if raised and (not dice.open or dice.random() < 0.5) else dice.open
        pair = pairs.pop(dice.randrange(len(pairs)))
        event["hostname"] = pair.hostname
        self.sent.ends[mark] = pair.raised
        if pair.trap:
            event |= {"message": f"link is up, ifIndex={pair.number}", "trap_oid": _LINK_UP}
        else:
            event |= {"message": f"port {pair.number} is up", "state": "clear", "clear_key": f"{pair.number}"}
        self.sent.unhandled[mark] = pair.hostname, event["message"].replace(f"{pair.number}", "")

    def _post(
        self, session: requests.Session, body: bytes, headers: dict[str, str], marks: list[str]
    ) -> bool:
        began = time.monotonic()
        reply = None
        with contextlib.suppress(requests.RequestException):
            reply = session.post(self._url, data=body, headers=headers, timeout=15)
        with self._lock:
            self.sent.statuses[reply.status_code if reply is not None else 0] += 1
            if reply is not None and reply.status_code == 503:
                self.sent.slowest = max(self.sent.slowest, time.monotonic() - began)
                self.sent.bare += "Retry-After" not in reply.headers
            if reply is None or not 200 <= reply.status_code < 300:
                self.sent.refused += 1
                return False
            if reply.json()["rejected"]:
                raise AssertionError(f"an event of the runner's was rejected: {reply.text[:500]}")
            self.sent.accepted.update(marks)
            self.sent.perhaps.difference_update(marks)
            return True

    def _note_perhaps(self, marks: list[str]) -> None:
        with self._lock:
            self.sent.perhaps.update(set(marks) - self.sent.accepted)
