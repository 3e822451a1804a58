"""Sources in PostgreSQL: what outlives Redis: how far its reports are read, what they came to, who is silent.

One row for each source that was ever heard or waited for. Whoever reads reports holds the one row of ``source_reports``
until that is committed: so each report counts once, however many workers there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Row, null, select, update
from sqlalchemy.dialects.postgresql import insert

from mutt.event import Event
from mutt.sources.observed import Listening, Observed
from mutt.sources.silent import Silence
from mutt.store.tables import source_reports, sources

_row, _place = sources.c, source_reports.c

_encode = msgspec.msgpack.Encoder(uuid_format="bytes").encode
_observed = msgspec.msgpack.Decoder(Observed).decode
_event = msgspec.msgpack.Decoder(Event).decode


class Place(NamedTuple):
    """How far reports are read, and from when to when they tell that somebody listens."""

    last: str  #: the id of the last report
    listening: Listening


class Stored(NamedTuple):
    """One source's row."""

    observed: Observed
    silence: Silence | None = None  #: that was told of, and is not over
    owed: Event | None = None  #: MUTT's own event that may not be appended yet


def hold(conn: Connection) -> Place:
    """How far reports are read; nobody else reads on until this transaction ends."""
    return _place_of(conn.execute(select(source_reports).with_for_update()).one())


def place(conn: Connection) -> Place:
    """Likewise, for who reads and changes nothing."""
    return _place_of(conn.execute(select(source_reports)).one())


def note(conn: Connection, read: Place) -> None:
    """Reports are read so far."""
    since, until = read.listening
    conn.execute(update(source_reports).values(last=read.last, since=since, until=until))


def stored(conn: Connection, name: str | None = None) -> dict[str, Stored]:
    """Every source by name; or the one of this ``name``."""
    asked = select(sources).order_by(_row.name)
    found = conn.execute(asked if name is None else asked.where(_row.name == name))
    return {row.name: _stored(row) for row in found}


def keep(conn: Connection, changed: Mapping[str, Stored]) -> None:
    """These sources are so now."""
    if not changed:
        return
    write = insert(sources)
    told = ("observed", "silent_since", "silence", "owed")
    write = write.on_conflict_do_update(
        index_elements=[_row.name], set_={name: write.excluded[name] for name in told}
    )
    conn.execute(write, [_values(name, one) for name, one in sorted(changed.items())])


def appended(conn: Connection, name: str, event: Event) -> None:
    """``event`` of this source stands in the queue: it is owed no more."""
    owed = conn.scalar(select(_row.owed).where(_row.name == name).with_for_update())
    # By its id: a MUTT that knows more of an event writes the same one otherwise.
    if owed and _event(owed).event_id == event.event_id:
        conn.execute(update(sources).where(_row.name == name).values(owed=null()))


def _values(name: str, one: Stored) -> dict[str, Any]:
    silence = one.silence
    return {
        "name": name,
        "observed": _encode(one.observed),
        "silent_since": datetime.fromtimestamp(silence.since, UTC) if silence else None,
        "silence": silence.key if silence else None,
        "owed": _encode(one.owed) if one.owed else None,
    }


def _stored(row: Row[Any]) -> Stored:
    silence = Silence(row.silent_since.timestamp(), row.silence) if row.silence else None
    return Stored(_read(row.observed), silence, _event(row.owed) if row.owed else None)


def _read(packed: bytes) -> Observed:
    try:
        return _observed(packed)
    except msgspec.DecodeError:  # of a MUTT that kept it otherwise: it is learned anew
        return Observed()


def _place_of(row: Row[Any]) -> Place:
    return Place(row.last, Listening(row.since, row.until))
