"""The whole audit: what stands in PostgreSQL, and what is older and stands in archives, as one list.

Archives are asked only for a time that reaches into them. Where they can't be read the rest is shown, and a sentence
says what is missing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from mutt.errors import ArchiveUnreadable, StoreDown
from mutt.store import lookup
from mutt.store.archives import reading
from mutt.store.archives.duck import Duck
from mutt.store.archives.reading import NO_FILES, Line, Source
from mutt.store.lookup import AuditSearch, Rows

#: Has PostgreSQL asked, the primary or a replica, and gives the answer.
Read = Callable[[Callable[[Connection], Any]], Any]

#: What an export may be written as.
FORMATS = ("csv", "parquet")

#: Months that a sentence names.
NAMED = 4


class Found(NamedTuple):
    """A page of the audit, the newest first, whether there are others on either side, and what was read from files."""

    rows: Sequence[Line]
    older: bool
    newer: bool
    told: str = ""  #: a sentence about archives; empty: none were asked


class Numbered(NamedTuple):
    """A page by its number."""

    rows: Sequence[Line]
    total: int  #: counted up to the most that was asked for
    told: str


def search(read: Read, duck: Duck, asked: AuditSearch) -> Found:
    """The page that is asked for. Raises :class:`StoreDown` where PostgreSQL can't be asked."""

    def ask(conn: Connection) -> tuple[Rows, Source, str]:
        return lookup.search_audit(conn, asked), *_source(conn, duck, asked)

    page, source, trouble = read(ask)
    ours = [Line._make(row) for row in page.rows]
    back = asked.after is None
    if ours and (page.older if back else page.newer):
        # The page is full: what lies beyond its far edge belongs to another one.
        source = source.since(ours[-1].received_at) if back else source.until(ours[0].received_at)
    if not source.parts:
        return Found(ours, page.older, page.newer, trouble)
    archived, told = _archived(duck, source, asked, asked.limit + 1)
    merged = _merged(ours, archived)
    more = len(merged) > asked.limit
    if back:
        return Found(merged[: asked.limit], page.older or more, page.newer, told)
    return Found(merged[-asked.limit :], True, page.newer or more, told)


def numbered(read: Read, duck: Duck, asked: AuditSearch, *, limit: int, skip: int, most: int) -> Numbered:
    """The rows from the ``skip``-th on, for those who know pages by their number; counted up to ``most``."""

    def ask(conn: Connection) -> tuple[int, Sequence[Any], Source, str]:
        total = lookup.count_audit(conn, asked, most)
        source, told = _source(conn, duck, asked)
        first = skip if not source.parts else 0  # of two lists nobody knows where the skip-th stands
        rows = lookup.audit_page(conn, asked, limit=skip + limit - first, skip=first)
        return total, rows, source, told

    total, rows, source, told = read(ask)
    ours = [Line._make(row) for row in rows]
    if not source.parts:
        return Numbered(ours, total, told)
    archived, told = _archived(duck, source, asked, skip + limit)
    if len(archived) == skip + limit:
        with contextlib.suppress(ArchiveUnreadable, StoreDown):  # then those that are there are counted
            total += reading.count(duck, source.names, asked, lookup.PATIENCE, most)
    else:
        total += len(archived)
    return Numbered(_merged(ours, archived)[skip : skip + limit], min(total, most), told)


def _source(conn: Connection, duck: Duck, asked: AuditSearch) -> tuple[Source, str]:
    since = asked.after.at if asked.after and asked.since is None else asked.since
    until = asked.before.at if asked.before else asked.until
    try:
        return reading.source(conn, duck.directory, since, until), ""
    except ArchiveUnreadable as error:
        return NO_FILES, _missing(error)


def _archived(duck: Duck, source: Source, asked: AuditSearch, limit: int) -> tuple[list[Line], str]:
    try:
        return reading.search(duck, source.names, asked, lookup.PATIENCE, limit), says(source)
    except (ArchiveUnreadable, StoreDown) as error:
        return [], _missing(error)


def says(source: Source) -> str:
    """Which part comes from files, in a sentence."""
    months = source.months
    if not months:
        return ""
    shown = ", ".join(months[:NAMED]) + (f" and {len(months) - NAMED} more" if len(months) > NAMED else "")
    return f"What was received in {shown} is read from archives."


def _missing(error: Exception) -> str:
    return f"Only what stands in PostgreSQL is shown: {error}."


def _merged(ours: Sequence[Line], archived: Sequence[Line]) -> list[Line]:
    """Both, the newest first; a row that is in both once."""
    by_key = {(line.received_at, line.event_id): line for line in (*archived, *ours)}
    return [by_key[key] for key in sorted(by_key, reverse=True)]
