"""``mutt listen snmptrap``: traps and informs of SNMPv1, v2c and v3, each put as JSON of the format ``snmptrap``.

A datagram that can't be taken is counted and forgotten. An inform is answered when its event is on disk, and not
before; asked once more for the same one, the receiver answers again and puts nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import queue
import selectors
import socket
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

import msgspec
from pyasn1.codec.ber import encoder

from mutt.errors import SettingsError
from mutt.listen.relay import Relay
from mutt.listen.snmp import engine, users
from mutt.listen.snmp import pdu as pdus
from mutt.listen.snmp.pdu import V1, V2C, V3, Dropped, Json
from mutt.listen.snmp.usm import Reported, Usm
from mutt.settings import Settings

log = logging.getLogger("mutt.listen")

#: By the names that settings have for them.
VERSIONS = {"1": V1, "2c": V2C, "3": V3}

#: What a datagram came to, beside the reasons that reading it gives.
TAKEN, REPEATED, NO_ROOM, OTHER_VERSION = "taken", "repeated", "no room", "another version"

#: Informs that are remembered in case their answer was lost.
_MOST_INFORMS = 10_000

#: Asked of the kernel: what may wait while this process does something else. It gives what net.core.rmem_max allows.
_RECEIVE_BUFFER = 8 << 20
_LARGEST = 65_535

#: Datagrams that are read from one socket before the others get a look.
_IN_A_ROW = 100

#: Seconds that an inform's event may take to the disk. Its sender has given up long before, and asks again.
_ON_DISK = 10.0

#: Seconds between two lines of the log about what was not taken.
_SELDOM = 60.0


def run(settings: Settings, stop: threading.Event) -> None:
    """``mutt listen snmptrap``, until ``stop`` is set. Raises :class:`SettingsError`."""
    directory, host, port = settings.listen_buffer, settings.listen_host, settings.listen_snmptrap_udp
    known = users.read(settings.listen_snmptrap_users)
    communities = [word.encode() for word in settings.listen_snmptrap_communities.split()]
    versions = _versions(settings.listen_snmptrap_versions)
    relay = Relay.of(settings, "snmptrap")
    try:
        usm = Usm(known, engine.started(directory, time.monotonic()), time.monotonic)
        receiver = Receiver([_listening(host, port)], SnmpTraps(relay, usm, communities, versions), relay)
        relay.start()
        log.info("listening for traps on %s, port %d; they go to %s", host, port, settings.ingest_url)
        receiver.run(stop)
    finally:
        relay.close()


def _versions(text: str) -> list[int]:
    named = text.replace(",", " ").lower().split()
    if not named or not VERSIONS.keys() >= set(named):
        raise SettingsError("LISTEN_SNMPTRAP_VERSIONS", text, "some of 1, 2c and 3")
    return [VERSIONS[name] for name in named]


def _listening(host: str, port: int) -> socket.socket:
    try:
        return bound(host, port)
    except OSError as error:
        expected = f"a port that is free, and that this user may listen on ({error.strerror})"
        raise SettingsError("LISTEN_SNMPTRAP_UDP", str(port), expected) from None


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
        self._answered: OrderedDict[bytes, None] = OrderedDict()
        self.counts = Counter[str]()  #: TAKEN, REPEATED, and each reason that one was not
        self.last_refused = ""  #: who sent the last that was not

    def handle(self, data: bytes, peer: str) -> Reply | None:
        """Take one datagram of ``peer``, an address. What is to be sent back, if anything. Never raises."""
        try:
            document, inform, answer = self._read(data)
        except Dropped as refusal:
            self._count(refusal.reason, peer)
            return Reply(refusal.answer, kept=False) if isinstance(refusal, Reported) else None
        known = hashlib.sha256(f"{peer} ".encode() + inform).digest() if inform else b""
        if known in self._answered:
            self._count(REPEATED, peer)
        elif not self._put(document, peer):
            return None
        if not inform:
            return None
        self._remember(known)
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

    def _remember(self, inform: bytes) -> None:
        self._answered[inform] = None
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


def bound(host: str, port: int) -> socket.socket:
    """A socket for datagrams at this address; ``::`` takes those of IPv4, too. Raises :class:`OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        made.setblocking(False)
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made


class Receiver:
    """Reads ``sockets`` until it is told to stop; informs are answered beside it, when their events are on disk."""

    def __init__(self, sockets: Sequence[socket.socket], traps: SnmpTraps, sink: Sink) -> None:
        self._sockets, self._traps, self._sink = sockets, traps, sink
        self._answers = queue.SimpleQueue[tuple[socket.socket, bytes, Any] | None]()
        self._told, self._tell_at = Counter[str](), 0.0

    def run(self, stop: threading.Event) -> None:
        """Until ``stop`` is set, looked at twice a second; then what the kernel already holds is taken, too."""
        answering = threading.Thread(target=self._answer, name="answers", daemon=True)
        answering.start()
        with selectors.DefaultSelector() as selector:
            for each in self._sockets:
                selector.register(each, selectors.EVENT_READ)
            while not stop.is_set():
                for key, _ in selector.select(0.5):
                    self._take(key.fileobj)  # type: ignore[arg-type]  # nothing but sockets was registered
                self._tell()
        for each in self._sockets:
            while self._take(each):
                pass
        self._answers.put(None)
        answering.join(_ON_DISK)

    def _take(self, each: socket.socket) -> int:
        """How many datagrams were there, up to some."""
        for taken in range(_IN_A_ROW):
            try:
                data, address = each.recvfrom(_LARGEST)
            except BlockingIOError:
                return taken
            except OSError as error:  # what the kernel says of an earlier answer: nobody was there to hear it
                log.debug("receiving: %s", error)
                continue
            reply = self._traps.handle(data, address[0].removeprefix("::ffff:").partition("%")[0])
            if reply and reply.kept:
                self._answers.put((each, reply.data, address))
            elif reply:
                _send(each, reply.data, address)
        return _IN_A_ROW

    def _answer(self) -> None:
        """All informs that wait are answered together."""
        ending = False
        while not ending:
            waiting = [self._answers.get()]
            while not self._answers.empty():
                waiting.append(self._answers.get())
            ending = None in waiting
            if self._sink.flush(_ON_DISK):
                for answer in filter(None, waiting):
                    _send(*answer)

    def _tell(self) -> None:
        now, refused = time.monotonic(), self._traps.refused()
        if refused != self._told and now >= self._tell_at:
            why = ", ".join(f"{n} {reason}" for reason, n in (refused - self._told).items())
            log.warning("datagrams were not taken: %s; the last was from %s", why, self._traps.last_refused)
            self._told, self._tell_at = refused, now + _SELDOM


def _send(each: socket.socket, answer: bytes, address: Any) -> None:
    try:
        each.sendto(answer, address)
    except OSError as error:  # its sender will ask again
        log.debug("answering: %s", error)
