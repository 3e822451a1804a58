"""What the processes of one machine count together: a directory with files of each (``PROMETHEUS_MULTIPROC_DIR``).

Each process has a file a kind of metric; together they are the sum. Files of processes that are gone are folded into
one a kind, so that counters never go back and the directory does not grow with each process that ends. Gauges of the
living go with their process. A directory is for processes that can see each other: one machine or container, one user.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

#: Stands where the process' number does in the name of a file: all that are gone.
GONE = "gone"

#: What adds up; a gauge of a process that is gone says nothing.
ADDED = ("counter", "histogram", "summary")

#: Seconds that a reader waits for another one: one that was stopped in the middle must not hang all others.
PATIENCE = 2.0

_LOCK, _JOURNAL = "lock", "folding.json"


def collect(directory: str, patience: float = PATIENCE) -> list[Any]:
    """What all processes counted, those that are gone included: Prometheus' families.

    Raises ``TimeoutError``: another reader has had the directory for ``patience`` seconds.
    """
    path = Path(directory)
    with _alone(path, patience):
        _fold(path)
        return list(MultiProcessCollector.merge([str(file) for file in path.glob("*.db")]))  # type: ignore[no-untyped-call]


def fold(directory: str) -> None:
    """Fold the files of those that are gone; not now, where somebody is at it."""
    path = Path(directory)
    with contextlib.suppress(TimeoutError), _alone(path, 0.0):
        _fold(path)


@contextlib.contextmanager
def _alone(path: Path, patience: float) -> Iterator[None]:
    """Nobody else reads or folds; counting goes on. What somebody died in the middle of is finished first."""
    handle = os.open(path / _LOCK, os.O_RDONLY | os.O_CREAT, 0o666)
    try:
        _lock(handle, time.monotonic() + patience)
        _finish(path)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, until: float) -> None:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= until:
                raise TimeoutError(
                    "another process reads the metrics, and does not come to an end"
                ) from error
            time.sleep(0.005)
        else:
            return


def _fold(path: Path) -> None:
    dead = [file for file in path.glob("*_*.db") if _is_gone(file)]
    if not dead:
        return
    made = []
    for kind in ADDED:
        files = [file for file in dead if file.name.startswith(f"{kind}_")]
        if files:
            made.append(_sum(path, kind, files).name)
    if not all(_is_gone(file) for file in dead):
        return  # its number is another process' by now, which counts on where the first one ended
    journal = path / f"{_JOURNAL}.new"
    journal.write_text(json.dumps({"made": made, "dead": [file.name for file in dead]}))
    journal.replace(path / _JOURNAL)
    _finish(path)


def _sum(path: Path, kind: str, files: Sequence[Path]) -> Path:
    """These files, and the one of all that went before, in a new file."""
    before = path / f"{kind}_{GONE}.db"
    sums: defaultdict[str, float] = defaultdict(float)
    for file in (*files, *([before] if before.exists() else [])):
        for key, value, _timestamp, _position in MmapedDict.read_all_values_from_file(str(file)):  # type: ignore[no-untyped-call]
            sums[key] += value
    made = path / f"{kind}_{GONE}.new"
    made.unlink(missing_ok=True)
    written = MmapedDict(str(made))  # type: ignore[no-untyped-call]
    for key, value in sums.items():
        written.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
    written.close()  # type: ignore[no-untyped-call]
    return made


def _finish(path: Path) -> None:
    """What the journal says is to be done, as often as it takes: from there on the new files are the sum."""
    journal = path / _JOURNAL
    try:
        todo = json.loads(journal.read_text())
    except FileNotFoundError:
        return
    for name in todo["made"]:
        with contextlib.suppress(FileNotFoundError):  # it took its place already
            (path / name).replace((path / name).with_suffix(".db"))
    for name in todo["dead"]:
        (path / name).unlink(missing_ok=True)
    journal.unlink()


def _is_gone(file: Path) -> bool:
    number = file.stem.rpartition("_")[2]
    if not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
