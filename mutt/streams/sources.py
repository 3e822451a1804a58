"""What processes of ingest say of those who send, in Redis: a stream of reports, and how each source stands.

A process says it once in a few seconds, whatever its load, and also that it heard nobody: so a silence can be told from
an ingest that does not listen. Housekeeping reads on from where it left off. Nobody acknowledges: what is too old goes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from mutt import names
from mutt.sources.heard import REASONS, Counted, Heard, Looked, Report
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


Whole = Report[Heard[Looked]]
Brief = Report[Heard[Counted]]


class Came(NamedTuple):
    """A report, and when Redis took it, in seconds of its clock."""

    id: str
    at: float
    report: Whole


class Packed(NamedTuple):
    """The same before it is read."""

    id: str
    at: float
    data: bytes


class Now(msgspec.Struct, frozen=True, array_like=True):
    """How a source stands, for the pulse and for metrics."""

    event_at: float  #: of the last accepted event; 0: it was never heard
    silent_since: float = 0.0  #: 0: it is not silent


class Reports:
    """``redis.RedisError`` passes through."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def tell(self, heard: Mapping[str, Heard[Looked]], at: float, *, bootstrap: bool = True) -> None:
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
        What can't be read is left out."""
        return [Came(one.id, one.at, report) for one, report in _decoded(self.packed(last), _whole)]

    def packed(self, last: str) -> list[Packed]:
        """Likewise, for who reads it by one of the functions below.

        A clock that was set back in an emptied Redis gives ids that are older than those which were read.
        """
        newest = self._client.xrevrange(names.SOURCES, count=1)
        if not newest:
            return []
        begin = f"({last}" if _place(newest[0][0].decode()) >= _place(last) else "-"
        found: list[Packed] = []
        while more := self._client.xrange(names.SOURCES, begin, count=READ):
            found += [_packed(id_.decode(), fields) for id_, fields in more]
            begin = f"({found[-1].id}"
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
    told = [Packed(name.decode(), 0.0, data) for name, data in found.items()]
    return {one.id: now for one, now in _decoded(told, _now)}


def wholly(told: Sequence[Packed]) -> Iterator[tuple[float, Whole]]:
    """These reports, one after another, each with when it came. What can't be read is left out."""
    return ((one.at, report) for one, report in _decoded(told, _whole))


def briefly(told: Sequence[Packed]) -> Iterator[tuple[float, Brief]]:
    """The same without the fields of events."""
    return ((one.at, report) for one, report in _decoded(told, _brief))


def of_some(told: Sequence[Packed], wanted: Collection[str]) -> Iterator[tuple[float, Whole]]:
    """The same as :func:`wholly`, of the sources of these names alone."""

    def read(data: bytes) -> Whole:
        found = _raw(data)
        heard = {name: _heard(found.heard[name]) for name in wanted if name in found.heard}
        return Report(found.at, heard, found.bootstrap)

    return ((one.at, report) for one, report in _decoded(told, read))


_encode = msgspec.msgpack.Encoder().encode
_whole = msgspec.msgpack.Decoder(Whole).decode
_brief = msgspec.msgpack.Decoder(Brief).decode
_raw = msgspec.msgpack.Decoder(Report[msgspec.Raw]).decode
_heard = msgspec.msgpack.Decoder(Heard[Looked]).decode
_now = msgspec.msgpack.Decoder(Now).decode


def _short(heard: Heard[Looked], reasons: int) -> Heard[Looked]:
    formats = {name: Looked(one.events) for name, one in heard.formats.items()}
    return msgspec.structs.replace(heard, formats=formats, why=heard.why[:reasons])


def _packed(id_: str, fields: Mapping[bytes, bytes]) -> Packed:
    return Packed(id_, _place(id_)[0] / 1000, fields.get(b"d", b""))


def _decoded(told: Iterable[Packed], decode: Callable[[bytes], T]) -> Iterator[tuple[Packed, T]]:
    for one in told:
        try:
            yield one, decode(one.data)
        except msgspec.DecodeError:
            continue


def _place(id_: str) -> tuple[int, int]:
    ms, _, number = id_.partition("-")
    return int(ms), int(number)
