"""``mutt listen snmptrap``: traps and informs of SNMPv1, v2c and v3, each put as JSON of the format ``snmptrap``.

A datagram that can't be taken is counted and forgotten. An inform is answered when its event is on disk, and not
before; asked once more for the same one, the receiver answers again and puts nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import queue
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

import msgspec
from pyasn1.codec.ber import encoder

from mutt.errors import SettingsError
from mutt.listen.books import Trouble
from mutt.listen.relay import Relay
from mutt.listen.serve import serve
from mutt.listen.snmp import engine, users
from mutt.listen.snmp import pdu as pdus
from mutt.listen.snmp.pdu import V1, V2C, V3, Dropped, Json
from mutt.listen.snmp.usm import Reported, Usm
from mutt.listen.udp import UdpListener
from mutt.listen.wire import plain_address
from mutt.settings import Settings
from mutt.words import many

log = logging.getLogger("mutt.listen")

#: By the names that settings have for them.
VERSIONS = {"1": V1, "2c": V2C, "3": V3}

#: What a datagram came to, beside the reasons that reading it gives.
TAKEN, REPEATED, NO_ROOM, OTHER_VERSION = "taken", "repeated", "no room", "another version"

#: Informs that are remembered in case their answer was lost, and for how many seconds: a device that numbers them anew
#: after each start sends the same coldStart every time.
_MOST_INFORMS, _SAME = 10_000, 600.0

#: Datagrams read before others have their turn: each takes up to a millisecond.
TURN = 64

#: Seconds that an inform's event may take to the disk. Its sender has given up long before, and asks again.
_ON_DISK = 10.0

#: Seconds between two lines of the log about what was not taken.
_SELDOM = 60.0


class Sink(Protocol):
    """Where records go: :class:`mutt.listen.relay.Relay`."""

    def put(self, record: bytes, peer: str, at: float, /) -> bool:
        """Is there room for it? Never waits."""

    def flush(self, timeout: float, /) -> bool:
        """Is all that was put on disk, within ``timeout`` seconds?"""


class Reply(NamedTuple):
    """What is to be sent back: ``kept``, once all that was put is on disk; else at once."""

    data: bytes
    kept: bool


class SnmpTraps:
    """What becomes of each datagram. ``communities``: those that v1 and v2c must name one of; none: any is good."""

    def __init__(
        self,
        sink: Sink,
        usm: Usm,
        communities: Sequence[bytes] = (),
        versions: Collection[int] = tuple(VERSIONS.values()),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sink, self._usm, self._communities, self._versions = sink, usm, communities, versions
        self._clock = clock
        self._answered: OrderedDict[bytes, float] = OrderedDict()  # when: seconds of the clock
        self.counts = Counter[str]()  #: TAKEN, REPEATED, and each reason that one was not
        self.last_refused = ""  #: who sent the last that was not

    def who_may_send(self) -> str:
        """In words."""
        known = (
            many(len(self._communities), "community", "communities") if self._communities else "any community"
        )
        told = {
            V1: f"v1 with {known}",
            V2C: f"v2c with {known}",
            V3: f"v3 as {many(self._usm.users, 'user')}",
        }
        return ", ".join(told[number] for number in sorted(self._versions))

    def handle(self, data: bytes, peer: str) -> Reply | None:
        """Take one datagram of ``peer``, an address. What is to be sent back, if anything. Never raises."""
        try:
            document, inform, answer = self._read(data)
        except Dropped as refusal:
            self._count(refusal.reason, peer)
            return Reply(refusal.answer, kept=False) if isinstance(refusal, Reported) else None
        known = hashlib.sha256(f"{peer} ".encode() + inform).digest() if inform else b""
        if known and self._is_repeated(known):
            self._count(REPEATED, peer)
        elif not self._put(document, peer):
            return None
        elif known:
            self._remember(known)
        if not inform:
            return None
        return Reply(answer(), kept=True)

    def _read(self, data: bytes) -> tuple[Json, bytes, Callable[[], bytes]]:
        """(the trap, an inform's PDU as written, how to answer it)."""
        parts = pdus.parts(data)
        number = pdus.version(parts[0])
        if number not in self._versions:
            raise Dropped(OTHER_VERSION)
        if number == V3:
            return self._read_v3(data, parts)
        self._check(pdus.octets(parts[1]))
        pdu, message = pdus.message(data, number)
        if number == V1:
            return pdus.from_v1(pdu), b"", bytes
        return {"version": "2c", **pdus.from_v2(pdu)}, _inform(pdu), lambda: pdus.community_response(message)

    def _read_v3(self, data: bytes, parts: Sequence[bytes]) -> tuple[Json, bytes, Callable[[], bytes]]:
        found = self._usm.receive(data, parts)
        document = {"version": "3", "user": found.user.name, **pdus.from_v2(found.pdu)}
        if name := found.context[1]:
            document["context"] = name.decode(errors="backslashreplace")
        return document, _inform(found.pdu), lambda: self._usm.respond(found, pdus.response(found.pdu))

    def _check(self, community: bytes) -> None:
        """Each is compared, whatever the others said: how long it takes says nothing."""
        same = [hmac.compare_digest(community, known) for known in self._communities]
        if same and not any(same):
            raise Dropped(pdus.COMMUNITY)

    def _put(self, document: Json, peer: str) -> bool:
        at = self._clock()
        document |= {"source_ip": peer, "timestamp": datetime.fromtimestamp(at, UTC).isoformat()}
        room = self._sink.put(msgspec.json.encode(document), peer, at)
        self._count(TAKEN if room else NO_ROOM, peer)
        return room

    def _is_repeated(self, inform: bytes) -> bool:
        at = self._answered.get(inform)
        return at is not None and 0 <= self._clock() - at < _SAME

    def _remember(self, inform: bytes) -> None:
        self._answered[inform] = self._clock()
        self._answered.move_to_end(inform)
        if len(self._answered) > _MOST_INFORMS:
            self._answered.popitem(last=False)

    def _count(self, what: str, peer: str) -> None:
        self.counts[what] += 1
        if what not in (TAKEN, REPEATED):
            self.last_refused = peer

    def refused(self) -> Counter[str]:
        """How many datagrams were not taken, by reason. To ask for the engine id is how informs begin."""
        return Counter({why: n for why, n in self.counts.items() if why not in (TAKEN, REPEATED, pdus.ASKED)})


def _inform(pdu: Any) -> bytes:
    return bytes(encoder.encode(pdu)) if pdus.is_inform(pdu) else b""


class TrapListener(UdpListener):
    """Hears traps; informs are answered beside it, by a thread, when their events are on disk."""

    def __init__(self, host: str, port: int, relay: Relay, traps: SnmpTraps) -> None:
        super().__init__(host, port, relay, "LISTEN_SNMPTRAP_UDP")
        self._traps = traps
        self._answers = queue.SimpleQueue[tuple[bytes, Any] | None]()
        self._answering = threading.Thread(target=self._answer, name="answers", daemon=True)
        self._told, self._tell_at = Counter[str](), 0.0
        self._trouble = Trouble()

    async def start(self) -> None:
        """Begin to read."""
        await super().start()
        log.info("traps are taken of %s", self._traps.who_may_send())
        self._answering.start()

    async def stop(self) -> None:
        """Take what is here, answer it, and take nothing more."""
        self._take_what_is_here()
        self._answers.put(None)
        await asyncio.to_thread(self._answering.join, _ON_DISK)
        self.look()
        self._socket.close()

    def look(self) -> None:
        """See what the kernel has lost, and say now and then what was not taken."""
        super().look()
        now, refused = time.monotonic(), self._traps.refused()
        if refused != self._told and now >= self._tell_at:
            why = ", ".join(f"{n} {reason}" for reason, n in (refused - self._told).items())
            log.warning("datagrams were not taken: %s; the last was from %s", why, self._traps.last_refused)
            self._told, self._tell_at = refused, now + _SELDOM

    def _read(self) -> bool:
        """Read a turn's worth. Is there more?"""
        try:
            for _ in range(TURN):
                self._take()
            return True
        except BlockingIOError:
            return False
        finally:
            self._account()

    def _take(self) -> None:
        """One datagram. Raises ``BlockingIOError`` where there is none."""
        try:
            size, address = self._socket.recvfrom_into(self._buffer)
        except (
            ConnectionError
        ) as error:  # what the kernel says of an earlier answer: nobody was there to hear it
            log.debug("receiving: %s", error)
            return
        reply = self._heard(bytes(self._buffer[:size]), plain_address(address[0]))
        if reply and reply.kept:
            self._answers.put((reply.data, address))
        elif reply:
            self._send(reply.data, address)

    def _heard(self, data: bytes, peer: str) -> Reply | None:
        try:
            return self._traps.handle(data, peer)
        except Exception as error:  # noqa: BLE001 a stranger's bytes: what they find must cost nobody else's traps
            self._trouble.say("broken", "a datagram from %s could not be read: %r", peer, error)
            self._traps.counts[pdus.UNREADABLE] += 1
            return None

    def _account(self) -> None:
        seen = self._traps.counts
        self.counts.received = seen.total()
        self.counts.no_room = seen[NO_ROOM]
        self.counts.dropped = self._traps.refused().total() - seen[NO_ROOM]

    def _answer(self) -> None:
        """All informs that wait are answered together."""
        ending = False
        while not ending:
            waiting = [self._answers.get()]
            while not self._answers.empty():
                waiting.append(self._answers.get())
            ending = None in waiting
            if self._relay.flush(_ON_DISK):
                for answer in filter(None, waiting):
                    self._send(*answer)

    def _send(self, answer: bytes, address: Any) -> None:
        try:
            self._socket.sendto(answer, address)
        except OSError as error:  # its sender will ask again
            log.debug("answering: %s", error)


def listen(settings: Settings) -> None:
    """Hear traps until told to stop. Raises :class:`~mutt.errors.SettingsError`."""
    relay = Relay.of(settings, "snmptrap")
    try:
        listener = listener_of(settings, relay)
    except SettingsError:
        relay.close()
        raise
    serve(settings, relay, {"snmptrap": listener})


def listener_of(settings: Settings, relay: Relay) -> TrapListener:
    """What the settings ask for. Raises :class:`~mutt.errors.SettingsError`."""
    s, clock = settings, time.monotonic
    known, versions = users.read(s.listen_snmptrap_users), _versions(s.listen_snmptrap_versions)
    communities = [word.encode() for word in s.listen_snmptrap_communities.split()]
    usm = Usm(known, engine.started(s.listen_buffer, clock()), clock)
    return TrapListener(
        s.listen_host, s.listen_snmptrap_udp, relay, SnmpTraps(relay, usm, communities, versions)
    )


def _versions(text: str) -> list[int]:
    named = text.replace(",", " ").lower().split()
    if not named or not VERSIONS.keys() >= set(named):
        raise SettingsError("LISTEN_SNMPTRAP_VERSIONS", text, "some of 1, 2c and 3")
    return [VERSIONS[name] for name in named]
