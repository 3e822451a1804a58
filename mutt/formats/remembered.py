"""What was found out of an object's keys, kept for the next object with the same ones: a sender's mostly have."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")

#: Sets of keys that are remembered; after so many others it begins anew.
MOST = 1024

#: Of a set that is: its keys, and their characters. What a sender makes up fills no memory.
KEYS_MOST, CHARACTERS_MOST = 128, 4096


def remember(known: dict[tuple[str, ...], T], keys: tuple[str, ...], found: T) -> T:
    """``found``, which ``known`` holds from now on, unless ``keys`` are too many or too long."""
    if len(keys) <= KEYS_MOST and sum(map(len, keys)) <= CHARACTERS_MOST:
        if len(known) >= MOST:
            known.clear()
        known[keys] = found
    return found
