"""What a check answers."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

#: What is installed from, with hashes.
LOCKS = (
    "requirements.txt",
    "docker/requirements.txt",
    "tests/fuzz/requirements.txt",
    "tests/audit/requirements.txt",
)


class Findings(NamedTuple):
    """What one check looked at, what is wrong, and why it could not look."""

    about: str
    wrong: list[str]
    blind: str = ""
