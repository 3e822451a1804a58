"""Redacting: archived rows without what redactions take out. A file in which any is changed is written anew."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from mutt.errors import ArchiveUnreadable
from mutt.rules.redaction import Redactions
from mutt.store.archives import bulk, checking, keeping, manifest
from mutt.store.archives.duck import Duck
from mutt.store.archives.manifest import File, Manifest
from mutt.store.archives.parquet import Writer
from mutt.store.audit import AuditRow, context_of, event_of

_TEXTS = ("message", "raw", "source", "context")


class Redacted(NamedTuple):
    """What one file came to."""

    file: str
    rows: int  #: looked at
    changed: int


def redact(
    duck: Duck, made: Redactions, since: datetime, until: datetime, now: datetime, *, dry: bool
) -> Iterator[Redacted]:
    """Rewrite what was received from ``since`` up to, not including, ``until``; with ``dry`` it is only counted.

    The new file takes the old one's place in the manifest once it is read back, and then the old one is deleted. Only
    for who alone writes here. Raises :class:`ArchiveUnreadable`.
    """
    for month in manifest.listed(duck.directory):
        for file in month.files:
            if file.last >= since and file.first < until:
                yield _file(duck, month, file, made, (since, until), now, dry)


def _file(
    duck: Duck,
    month: Manifest,
    file: File,
    made: Redactions,
    time: tuple[datetime, datetime],
    now: datetime,
    dry: bool,
) -> Redacted:
    checking.demand_file(duck, duck.directory / file.name, file)
    looked = changed = 0

    def fill(out: Writer) -> None:
        nonlocal looked, changed
        for group in bulk.groups(duck.directory / file.name):
            table, seen, other = _redacted(group, made, time)
            looked, changed = looked + seen, changed + other
            out.write(table)

    with keeping.partial_file(duck.directory, month.month, "redacted") as partial:
        writer = keeping.written(partial, fill)
        if changed and not dry:
            found = keeping.read_back(duck, partial)
            new = writer.noted(manifest.free_name(duck.directory, month.month).name, found, now)
            checking.demand_file(duck, partial, new)
            if new.rows != file.rows:
                raise ArchiveUnreadable(
                    file.name, f"came out with {new.rows} rows of {file.rows}; it stays as it is"
                )
            _exchange(duck, month.month, file, msgspec.structs.replace(new, pending=file.pending), partial)
    return Redacted(file.name, looked, changed)


def _exchange(duck: Duck, month: str, old: File, new: File, partial: Any) -> None:
    manifest.settle(partial, duck.directory / new.name)
    manifest.change(
        duck.directory,
        month,
        lambda known: msgspec.structs.replace(
            known, files=tuple(new if file.name == old.name else file for file in known.files)
        ),
    )
    (duck.directory / old.name).unlink()


def _redacted(
    group: pa.Table, made: Redactions, time: tuple[datetime, datetime]
) -> tuple[pa.Table, int, int]:
    """A row group without what is taken out, how many rows were looked at, and how many changed."""
    columns = {name: group[name].to_pylist() for name in AuditRow._fields}
    looked = changed = 0
    for index, at in enumerate(columns["received_at"]):
        if not time[0] <= at < time[1]:
            continue
        looked += 1
        was = event_of(SimpleNamespace(**{name: values[index] for name, values in columns.items()}))
        event = made.redact(was)
        if event is not was:
            changed += 1
            new = (event.message, event.raw, event.source, context_of(event))
            for name, value in zip(_TEXTS, new, strict=True):
                columns[name][index] = value
    for name in _TEXTS if changed else ():
        place = group.schema.get_field_index(name)
        group = group.set_column(place, group.schema.field(name), pa.array(columns[name], pa.string()))
    return group, looked, changed
