"""Manifest: what the archive of one month is made of, and what must be found in it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from mutt.errors import ArchiveUnreadable

SCHEMA = 1

PREFIX = "event_audit_log_"
_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")
_MANIFEST = re.compile(PREFIX + r"(\d{4})_(\d{2})\.json")
_OLD = re.compile(PREFIX + r"(\d{4})_(\d{2})(?:\.\d+)?\.csv\.gz")


class File(msgspec.Struct, frozen=True, kw_only=True):
    """One Parquet file. The first of a month is what stood when it was retired; others came later."""

    name: str
    rows: int
    bytes: int
    sha256: str
    checksum: str  #: of the rows, in any order: see sums
    first: datetime  #: the lowest received_at, and the highest
    last: datetime
    row_groups: tuple[int, ...]  #: rows of each
    written_at: datetime
    mutt: str  #: the version that wrote it
    pending: bool = False  #: its month may still be in PostgreSQL, too


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The archive of one month."""

    month: str  #: 2026-05
    files: tuple[File, ...] = ()
    schema: int = SCHEMA
    verified_at: datetime | None = None

    @property
    def table(self) -> str:
        """The partition that it was."""
        return table_of(self.month)

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def start(self) -> datetime:
        return datetime(int(self.month[:4]), int(self.month[5:]), 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        return (self.start + timedelta(days=32)).replace(day=1)

    @property
    def span(self) -> tuple[datetime, datetime] | None:
        """The lowest and the highest received_at; None: it holds no row."""
        if not self.files:
            return None
        return min(file.first for file in self.files), max(file.last for file in self.files)


_decode = msgspec.json.Decoder(Manifest).decode


def table_of(month: str) -> str:
    return PREFIX + month.replace("-", "_")


def month_of(table: str) -> str:
    """``2026-05`` of ``event_audit_log_2026_05``."""
    return table.removeprefix(PREFIX).replace("_", "-")


def check_month(text: str) -> str:
    """A month as people write it. Raises ``ValueError``."""
    if not _MONTH.fullmatch(text):
        raise ValueError(text)
    return text


def read(directory: Path, month: str) -> Manifest | None:
    """The manifest of a month; None: it has none. Raises :class:`ArchiveUnreadable`."""
    return _read(directory / f"{table_of(month)}.json")


def _read(file: Path) -> Manifest | None:
    try:
        found = _decode(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise ArchiveUnreadable(file.name, str(error)) from error
    if found.schema > SCHEMA:
        raise ArchiveUnreadable(file.name, f"is of schema {found.schema}: a newer MUTT wrote it")
    return found


def listed(directory: Path) -> list[Manifest]:
    """All manifests, the oldest month first. Raises :class:`ArchiveUnreadable`."""
    files = sorted(file for file in _files(directory) if _MANIFEST.fullmatch(file.name))
    return [found for file in files if (found := _read(file))]


def months(directory: Path) -> list[str]:
    """The months that have a manifest, readable or not."""
    return sorted(f"{m[1]}-{m[2]}" for file in _files(directory) if (m := _MANIFEST.fullmatch(file.name)))


def old_files(directory: Path, month: str | None = None) -> list[Path]:
    """Archives as older versions wrote them (CSV with gzip), of one month or of all."""
    found = sorted(file for file in _files(directory) if _OLD.fullmatch(file.name))
    return [file for file in found if month is None or file.name.startswith(table_of(month))]


def old_month(file: Path) -> str:
    """The month of one of :func:`old_files`."""
    found = _OLD.fullmatch(file.name)
    assert found is not None
    return f"{found[1]}-{found[2]}"


def unknown_files(directory: Path) -> list[Path]:
    """Parquet files that no manifest names: what was being written when somebody pulled the plug."""
    known = {file.name for manifest in listed(directory) for file in manifest.files}
    return [file for file in _files(directory) if file.suffix == ".parquet" and file.name not in known]


def _files(directory: Path) -> list[Path]:
    try:
        return sorted(directory.glob(f"{PREFIX}*"))
    except OSError:
        return []


def change(directory: Path, month: str, made: Callable[[Manifest], Manifest]) -> Manifest:
    """Put what ``made`` makes of a month's manifest in its place: whole, on disk, one change after another."""
    with _alone(directory):
        manifest = made(read(directory, month) or Manifest(month=month))
        text = msgspec.json.format(msgspec.json.encode(manifest))
        write(directory / f"{manifest.table}.json", text)
    return manifest


def verified(directory: Path, month: str, now: datetime) -> None:
    """Note that a month was read to its end, and is whole."""
    change(directory, month, lambda found: msgspec.structs.replace(found, verified_at=now))


def write(target: Path, body: bytes) -> None:
    """A file that is there whole, or not at all."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("xb") as disk:
            disk.write(body)
            disk.flush()
            os.fsync(disk.fileno())
        settle(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def settle(partial: Path, target: Path) -> None:
    """Give a synced file its name, for good."""
    partial.rename(target)
    handle = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def free_name(directory: Path, month: str) -> Path:
    """The next file of a month: no other ever had its name."""
    taken = [int(file.name.split(".")[1]) for file in directory.glob(f"{table_of(month)}.*.parquet")]
    return directory / f"{table_of(month)}.{max(taken, default=0) + 1}.parquet"


def expire(directory: Path, now: datetime, years: int) -> list[str]:
    """Delete the archives of months more than ``years`` years ago, each manifest last. Names what went."""
    gone = []
    for month in sorted({*months(directory), *map(old_month, old_files(directory))}):
        year, number = (int(part) for part in month.split("-"))
        if (year + years, number) >= (now.year, now.month):
            continue
        table = table_of(month)
        files: Sequence[Path] = [
            *directory.glob(f"{table}.*.parquet"),
            *old_files(directory, month),
            directory / f"{table}.json",
        ]
        for file in files:
            with contextlib.suppress(FileNotFoundError):
                file.unlink()
                gone.append(file.name)
    return gone


def sweep(directory: Path) -> None:
    """Take away what was half written when a process was killed. Only for who alone writes here."""
    for file in directory.glob(f".{PREFIX}*.partial"):
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
