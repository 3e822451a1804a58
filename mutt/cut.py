"""Long texts, cut so that whoever reads them sees where, and how long they were. ``most`` leaves room for that: 64."""

from __future__ import annotations


def _mark(kept: int, whole: int) -> str:
    return f" [cut: {kept} of {whole} characters]"


def to_characters(text: str, most: int) -> str:
    """``text`` in at most ``most`` characters, mark included."""
    if len(text) <= most:
        return text
    kept = most - len(_mark(len(text), len(text)))
    return text[:kept] + _mark(kept, len(text))


def to_bytes(text: str, most: int) -> str:
    """``text`` in at most ``most`` bytes of UTF-8, mark included, no character broken."""
    # A character has at most four bytes: what is short enough needs no encoding to be sure.
    if len(text) * 4 <= most or len(written := text.encode()) <= most:
        return text
    begun = written[: most - len(_mark(len(text), len(text)))].decode(errors="ignore")
    return begun + _mark(len(begun), len(text))
