"""A message without its numbers, addresses and ids: what repeats of one message have in common."""

from __future__ import annotations

import re
from functools import lru_cache

#: What stands for a number, an address or an id.
HOLE = "<*>"

#: Only so much of a message is looked at, and so long may a template be.
_CHARACTERS, _WORDS, _LENGTH = 2048, 64, 512

# Every digit becomes 0, so that the words of a thousand messages are a handful of shapes and the memo below holds.
_DIGITS = bytes.maketrans(b"123456789", b"000000000")

# Addresses whose groups may be letters alone: MAC, Cisco's MAC, UUID, IPv6.
_ADDRESS = re.compile(
    r"(?<!\w)(?:"
    r"[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}"
    r"|[0-9a-f]{4}(?:\.[0-9a-f]{4}){2}"
    r"|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}"
    r")(?!\w)",
    re.IGNORECASE,
)
_RUN = re.compile(r"\w+")
_HOLES = re.compile(r"(?:(?<![\w>])[-+])?<\*>(?:[-.,:/]+<\*>)*")


def template_of(message: str) -> str:
    """``message`` with each number, address and id as ``<*>``, one space between words, at most 512 characters.

    A run of letters and digits that holds a digit counts as an id; an id without any digit is a word. Applied
    to a template it gives the same template.
    """
    zeroed = message[:_CHARACTERS].encode("utf-8", "replace").translate(_DIGITS).decode()
    words = zeroed.split(None, _WORDS)[:_WORDS]
    return " ".join([_without_ids(word) if "0" in word else word for word in words])[:_LENGTH].rstrip()


# The size bounds what hostile words can take: 8192 of 2048 characters are 16 MB.
@lru_cache(8192)
def _without_ids(word: str) -> str:
    word = _ADDRESS.sub(HOLE, word)
    word = _RUN.sub(lambda run: HOLE if "0" in run[0] else run[0], word)
    return _HOLES.sub(HOLE, word)
