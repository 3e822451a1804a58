"""Checking: are the files of a month what its manifest says?"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from mutt.errors import ArchiveUnreadable
from mutt.store.archives import parquet, sums
from mutt.store.archives.duck import Duck
from mutt.store.archives.manifest import File, Manifest
from mutt.store.archives.sums import Sums


class Damage(NamedTuple):
    """What is wrong with one file."""

    file: str
    what: str


def damages(duck: Duck, manifest: Manifest) -> list[Damage]:
    """What is wrong with the files of a month; each is read to its end."""
    return [
        Damage(file.name, wrong)
        for file in manifest.files
        if (wrong := wrong_with(duck, duck.directory / file.name, file))
    ]


def demand(duck: Duck, manifest: Manifest) -> None:
    """Raise :class:`ArchiveUnreadable` where a file of a month is damaged."""
    for file, what in damages(duck, manifest):
        raise ArchiveUnreadable(file, what)


def demand_file(duck: Duck, path: Path, file: File) -> None:
    """Raise :class:`ArchiveUnreadable` where what stands under ``path`` is not ``file``."""
    if wrong := wrong_with(duck, path, file):
        raise ArchiveUnreadable(path.name, wrong)


def wrong_with(duck: Duck, path: Path, file: File) -> str:
    """What is wrong with one file; empty: nothing."""
    try:
        size = path.stat().st_size
        if size != file.bytes:
            return f"has {size} bytes and should have {file.bytes}"
        if parquet.hash_of(path) != file.sha256:
            return "does not have the SHA-256 that was noted when it was written"
        if parquet.groups_of(path) != file.row_groups:
            return "has other row groups than were noted when it was written"
        with duck.asking() as conn:
            found = sums.of_query(conn, "SELECT * FROM read_parquet(?)", [str(path.absolute())])
    except FileNotFoundError:
        return "is not there"
    except (OSError, pa.ArrowException, ArchiveUnreadable) as error:
        return f"can't be read: {error}"
    if found != Sums(file.rows, int(file.checksum, 16)):
        return f"holds {found.rows} rows that are not the {file.rows} that were noted when it was written"
    return ""
