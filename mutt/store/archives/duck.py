"""Duck: questions to the files of the archives. What is asked can reach nothing but them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mutt.deadline import DEADLINES
from mutt.errors import ArchiveUnreadable, StoreDown
from mutt.settings import Settings

if TYPE_CHECKING:
    import duckdb

#: Rows that are handed on together.
CHUNK = 8_192

#: Questions of people that a process asks at once: each may take AUDIT_ARCHIVE_MEMORY.
AT_ONCE = 2

_turns = threading.BoundedSemaphore(AT_ONCE)
_CANCELED = "57014"  # as PostgreSQL says of a question that takes too long: it is the question, and no outage


class Duck(NamedTuple):
    """Where the files are, and what a question may take."""

    directory: Path
    memory: int  #: bytes
    threads: int

    @classmethod
    def of(cls, settings: Settings) -> Duck:
        """As the settings have it."""
        return cls(settings.audit_archive_dir, settings.audit_archive_memory, settings.audit_archive_threads)

    @contextlib.contextmanager
    def asking(self, seconds: float = 0) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection for one question, which has ``seconds``, if any; of those that have, :data:`AT_ONCE` at a time.

        No extension is loaded, no other file is read, none is written. Raises :class:`StoreDown` for one that takes too
        long or too much memory, :class:`ArchiveUnreadable` for a file that is damaged or gone.
        """
        with _turn(seconds), self._connected(seconds) as conn:
            yield conn

    @contextlib.contextmanager
    def _connected(self, seconds: float) -> Iterator[duckdb.DuckDBPyConnection]:
        import duckdb  # noqa: PLC0415 thirty megabytes and a tenth of a second, for those who ask

        conn = duckdb.connect(
            ":memory:",
            config={
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "allow_community_extensions": "false",
                "memory_limit": f"{self.memory}B",
                "threads": str(self.threads),
                "temp_directory": "",
                "preserve_insertion_order": "false",
            },
        )
        alarm = None
        try:
            place = str(self.directory.absolute()).replace("'", "''")
            conn.execute(f"SET allowed_directories = ['{place}/']")
            conn.execute("SET enable_external_access = false")
            conn.execute("SET lock_configuration = true")
            if seconds:
                alarm = DEADLINES.at(time.monotonic() + seconds, _interrupt(conn))
            yield conn
        except duckdb.InterruptException as error:
            raise StoreDown(
                f"the archives were searched for {seconds:g} s, and not to the end: ask for a shorter time",
                _CANCELED,
            ) from error
        except duckdb.OutOfMemoryException as error:
            raise StoreDown(
                "the question takes more than AUDIT_ARCHIVE_MEMORY: ask for a shorter time", _CANCELED
            ) from error
        except Exception as error:  # pyarrow's, which is not imported for their names alone; others go on
            if not isinstance(error, duckdb.Error) and not type(error).__module__.startswith("pyarrow"):
                raise
            raise ArchiveUnreadable("", _first_line(error)) from error
        finally:
            if alarm is not None:
                alarm.cancel()
            conn.close()


@contextlib.contextmanager
def _turn(seconds: float) -> Iterator[None]:
    if not seconds:
        yield
        return
    if not _turns.acquire(timeout=seconds):
        raise StoreDown("the archives are being searched for others: try again in a moment", _CANCELED)
    try:
        yield
    finally:
        _turns.release()


def _interrupt(conn: duckdb.DuckDBPyConnection) -> Callable[[], None]:
    def interrupt() -> None:
        # One that was closed in this moment says so by an error: then there is nothing to interrupt.
        with contextlib.suppress(Exception):
            conn.interrupt()

    return interrupt


def named(directory: Path, files: Sequence[str]) -> list[str]:
    """Files as DuckDB is given them."""
    return [str(directory.absolute() / name) for name in files]


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]
