"""What processes of ingest say of those who send, in Redis: a stream of reports, and how each source stands.

A process says it once in a few seconds, whatever its load, and also that it heard nobody: so a silence can be told from
an ingest that does not listen. Housekeeping reads on from where it left off. Nobody acknowledges: what is too old goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeVar

import msgspec

from mutt import names
from mutt.sources.heard import REASONS, Heard, Looked, Report
from mutt.streams.connect import Client

T = TypeVar("T")

#: Reports that are kept, about: where nobody reads them, those of a quarter of an hour of six processes.
KEPT = 1_000

#: Bytes of a report, above which it goes without the fields that events had, then with one reason of a source, then
#: with none: they come again. What is left of a source that fails is below 200 bytes.
LARGE = 64 << 10

#: Reports that are read at a time.
READ = 500

#: Before all reports.
NOWHERE = "0-0"


class Came(NamedTuple):
    """A report, and when Redis took it, in seconds of its clock."""

    id: str
    at: float
    report: Report


class Now(msgspec.Struct, frozen=True, array_like=True):
    """How a source stands, for the pulse and for metrics."""

    event_at: float  #: of the last accepted event; 0: it was never heard
    silent_since: float = 0.0  #: 0: it is not silent


class Reports:
    """``redis.RedisError`` passes through."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def tell(self, heard: Mapping[str, Heard], at: float, *, bootstrap: bool = True) -> None:
        """Say what this process heard until ``at``, by its clock; ``bootstrap``: is there a key of INGEST_API_KEY?
        One command."""
        told = _encode(Report(at, dict(heard), bootstrap))
        for reasons in (REASONS, 1, 0):
            if len(told) > LARGE:
                short = {name: _short(one, reasons) for name, one in heard.items()}
                told = _encode(Report(at, short, bootstrap))
        self._client.xadd(names.SOURCES, {"d": told}, maxlen=KEPT, approximate=True)

    def since(self, last: str) -> list[Came]:
        """What was said after the report ``last``, the oldest first; all that there is, where that is not known here.

        A clock that was set back in an emptied Redis gives ids that are older than those which were read.
        """
        newest = self._client.xrevrange(names.SOURCES, count=1)
        if not newest:
            return []
        begin = f"({last}" if _place(newest[0][0].decode()) >= _place(last) else "-"
        found: list[Came] = []
        while more := self._client.xrange(names.SOURCES, begin, count=READ):
            found += _read(more)
            begin = f"({more[-1][0].decode()}"
            if len(more) < READ:
                break
        return found

    def forget(self, last: str) -> None:
        """What was said until the report ``last`` is read."""
        seconds, _, number = last.partition("-")
        self._client.xtrim(names.SOURCES, minid=f"{seconds}-{int(number) + 1}", approximate=False)

    def clock(self) -> float:
        """Seconds of Redis' clock."""
        seconds, micros = self._client.time()
        return float(seconds + micros / 1e6)

    def stand(self, now: Mapping[str, Now]) -> None:
        """How every source stands."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.delete(names.SOURCES_NOW)
            if now:
                pipe.hset(
                    names.SOURCES_NOW,
                    mapping={name: msgspec.msgpack.encode(one) for name, one in now.items()},
                )
            pipe.execute()

    def standing(self) -> dict[str, Now]:
        """How they stood when that was last looked at; nothing, where it was not yet."""
        return stands(self._client.hgetall(names.SOURCES_NOW))


def stands(found: Mapping[bytes, bytes]) -> dict[str, Now]:
    """What :meth:`Reports.stand` wrote. What a newer MUTT wrote otherwise is left out."""
    return dict(_decoded(((name.decode(), packed) for name, packed in found.items()), _now))


_encode = msgspec.msgpack.Encoder().encode
_report = msgspec.msgpack.Decoder(Report).decode
_now = msgspec.msgpack.Decoder(Now).decode


def _short(heard: Heard, reasons: int) -> Heard:
    formats = {name: Looked(one.events) for name, one in heard.formats.items()}
    return msgspec.structs.replace(heard, formats=formats, why=heard.why[:reasons])


def _read(entries: Iterable[tuple[bytes, Mapping[bytes, bytes]]]) -> list[Came]:
    packed = ((id_.decode(), fields.get(b"d", b"")) for id_, fields in entries)
    return [Came(id_, _place(id_)[0] / 1000, report) for id_, report in _decoded(packed, _report)]


def _decoded(packed: Iterable[tuple[str, bytes]], decode: Callable[[bytes], T]) -> list[tuple[str, T]]:
    found: list[tuple[str, T]] = []
    for key, data in packed:
        try:
            found.append((key, decode(data)))
        except msgspec.DecodeError:
            continue
    return found


def _place(id_: str) -> tuple[int, int]:
    ms, _, number = id_.partition("-")
    return int(ms), int(number)
