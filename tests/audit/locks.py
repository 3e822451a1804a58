"""Locks: each names one version of each package, each with the sums of its files, and no place to get it from."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.audit.finding import LOCKS, ROOT, Findings

_PINNED = re.compile(r"[a-z0-9][a-z0-9._-]*(\[[a-z0-9,._-]+\])?==[^\s;]+( ; [^\\]+)?", re.IGNORECASE)
_SUM = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def check() -> Findings:
    """Every line of every lock."""
    told, wrong = 0, []
    for lock in LOCKS:
        for line in lines(lock):
            told += 1
            pinned, *sums = [part.strip() for part in line.split(" \\\n")]
            if not _PINNED.fullmatch(pinned) or not sums or not all(map(_SUM.fullmatch, sums)):
                wrong.append(f"{lock}: {pinned}: is no version with sums")
    return Findings(f"{told} lines of {len(LOCKS)} locks", wrong)


def lines(lock: str) -> Iterator[str]:
    """The lines of a lock, those that go on joined by what they go on with."""
    text = (ROOT / lock).read_text()
    for line in re.split(r"(?<!\\)\n", text):
        if line.strip():
            yield line.rstrip()
