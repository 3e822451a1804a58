"""Events for ``mutt send`` to send: made up from a seed, or read out of a file, cut into batches."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import BinaryIO, NamedTuple

import orjson

from mutt.errors import MuttError, RejectedBody
from mutt.formats.body import Broken, split
from mutt.formats.objects import looks_like_json

JSON, NDJSON, TEXT = "application/json", "application/x-ndjson", "text/plain"

#: As much of a file is looked at to see what it holds.
PEEK = 1 << 16


class NotReadable(MuttError):
    """A file holds something that is no list of events."""


class Batch(NamedTuple):
    """The body of one request."""

    body: bytes
    content_type: str
    events: int


class Line(NamedTuple):
    """What one event says, before a format is chosen for it."""

    hostname: str
    program: str
    severity: int
    message: str


#: Draws one event. None but ``critical`` and some of ``mixed`` meet a rule that a new installation begins with.
Kind = Callable[[random.Random], Line]


def _critical(dice: random.Random) -> Line:
    host = f"core-rtr-{dice.randint(1, 400):03}.prod.example.net"
    what = dice.choice(("power supply 2 failed", "fan tray removed", "line card 3 reset", "over temperature"))
    # Severity 1 travels in Moog's critical lane.
    return Line(host, "chassisd", 1, f"CRITICAL {what}, slot {dice.randint(0, 15)}")


def _unmatched(dice: random.Random) -> Line:
    host = f"srv-{dice.randint(1, 2000):04}.prod.example.net"
    pid, peer = dice.randint(400, 32000), f"10.{dice.randint(0, 255)}.{dice.randint(0, 255)}.7"
    program, severity, message = dice.choice(
        (
            ("sshd", 6, f"Accepted publickey for deploy from {peer} port {pid}"),
            ("cron", 6, f"({pid}) CMD (run-parts /etc/cron.hourly)"),
            ("dhcpd", 6, f"DHCPACK on {peer} via eth{dice.randint(0, 3)}"),
            ("named", 5, f"zone example.net/IN: loaded serial {dice.randint(2026000000, 2026999999)}"),
            ("kernel", 5, f"eth{dice.randint(0, 3)}: link speed is {dice.choice((1, 10, 25))} Gbps"),
        )
    )
    return Line(host, program, severity, message)


def _storm(dice: random.Random) -> Line:
    queued, pid = dice.randint(1, 4000), dice.randint(1000, 9999)
    return Line(
        f"lb-{dice.randint(1, 3):02}",
        "haproxy",
        6,
        f"backend api has no server, {queued} requests queued ({pid})",
    )


def _matched(dice: random.Random) -> Line:
    switch, port = f"acc-sw-{dice.randint(1, 120):03}", f"GigabitEthernet1/0/{dice.randint(1, 48)}"
    return dice.choice(
        (
            Line(switch, "%LINK-3-UPDOWN", 3, f"LINK-DOWN Interface {port}, changed state to down"),
            Line(switch, "%DOT1X-5-FAIL", 5, f"DOT1X-FIRMWARE-RUNNING 17.09.04 on {port}"),
            Line(f"db-{dice.randint(1, 40):02}", "postgres", 3, "ERROR: could not extend file: disk full"),
            Line("dev-router1", "%LINK-3-UPDOWN", 3, f"LINK-DOWN Interface {port}, changed state to down"),
        )
    )  # fmt: skip


def _mixed(dice: random.Random) -> Line:
    drawn = dice.random()
    if drawn < 0.02:
        return _critical(dice)
    return _matched(dice) if drawn < 0.10 else _unmatched(dice)


KINDS: dict[str, Kind] = {
    "mixed": _mixed,
    "critical": _critical,
    "unmatched": _unmatched,
    "storm": _storm,
}


def _native(line: Line, at: str) -> bytes:
    told = line._asdict() | {"timestamp": at, "source_type": "mutt-send"}
    return orjson.dumps(told)


def _syslog(line: Line, at: str) -> bytes:
    pri = 16 * 8 + line.severity
    return f"<{pri}>1 {at} {line.hostname} {line.program} - - - {line.message}".encode()


def _snmptrap(line: Line, at: str) -> bytes:
    trap = {
        "version": "2c",
        "hostname": line.hostname,
        "timestamp": at,
        "severity": line.severity,
        "trap_oid": "1.3.6.1.4.1.8072.2.3.0.1",
        "varbinds": [{"oid": "1.3.6.1.4.1.8072.2.3.2.1.0", "type": "STRING", "value": line.message}],
    }
    return orjson.dumps(trap)


#: The formats that made-up events can be written in, and how their items become a body.
WRITERS = {"native": _native, "syslog": _syslog, "snmptrap": _snmptrap}


def made_up(
    kind: str, format_: str, *, count: int, batch: int, seed: int, clock: Callable[[], datetime]
) -> Iterator[Batch]:
    """``count`` events (0: without end) of one kind; the same ones for the same seed, but for their times."""
    dice, draw, write = random.Random(seed), KINDS[kind], WRITERS[format_]
    join, left = (_lines if format_ == "syslog" else _array), count
    while not count or left > 0:
        size = min(batch, left) if count else batch
        at = clock().astimezone(UTC).isoformat(timespec="milliseconds")
        yield join([write(draw(dice), at) for _ in range(size)])
        left -= size


def from_file(file: BinaryIO, *, count: int, batch: int) -> Iterator[Batch]:
    """The events of a JSON array, of NDJSON or of lines of syslog, at most ``count`` (0: all).

    Lines are read as they come, so that a pipe may go on for ever. Raises :class:`NotReadable`.
    """
    head = file.readline(PEEK)
    if not looks_like_json(head, ""):
        return _cut(_texts(itertools.chain([head], file)), _lines, count, batch)
    if _is_one_object(head):
        return _cut(_texts(itertools.chain([head], file)), _ndjson, count, batch)
    return _cut(_items(head + file.read()), _array, count, batch)


def _is_one_object(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def _texts(lines: Iterable[bytes]) -> Iterator[bytes]:
    return (stripped for line in lines if (stripped := line.rstrip(b"\r\n")).strip())


def _items(data: bytes) -> list[bytes]:
    try:
        pieces = split(data)
    except RejectedBody as error:
        raise NotReadable(f"the file {error.reason}") from None
    for number, piece in enumerate(pieces):
        if isinstance(piece, Broken):
            raise NotReadable(f"item {number} of the file is no JSON: {piece.reason}")
    return [bytes(piece) for piece in pieces if not isinstance(piece, Broken)]


def _cut(
    items: Iterable[bytes], join: Callable[[list[bytes]], Batch], count: int, batch: int
) -> Iterator[Batch]:
    left = itertools.islice(items, count or None)
    while chosen := list(itertools.islice(left, batch)):
        yield join(chosen)


def _array(items: list[bytes]) -> Batch:
    return Batch(b"[" + b",".join(items) + b"]", JSON, len(items))


def _ndjson(items: list[bytes]) -> Batch:
    return Batch(b"\n".join(items), NDJSON, len(items))


def _lines(items: list[bytes]) -> Batch:
    return Batch(b"\n".join(items), TEXT, len(items))
