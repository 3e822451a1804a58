"""A message without its numbers, addresses and ids: what repeats of one message have in common."""

from __future__ import annotations

import re

#: What stands for a number, an address or an id.
HOLE = "<*>"
_HOLE = HOLE.encode()

#: Only so much of a message is looked at, and so long may a template be.
_CHARACTERS, _WORDS, _LENGTH = 2048, 64, 512

# Every digit becomes 0, so that the words of a thousand messages are a handful of shapes and the memo below holds. And
# what Unicode counts as blank, and bytes don't, becomes blank.
_ZEROED = bytes.maketrans(b"123456789\x1c\x1d\x1e\x1f", b"000000000    ")
_ZERO, _LOW_LINE, _COLON, _HYPHEN, _DOT = b"0_:-."

# Addresses whose groups may be letters alone: MAC, Cisco's MAC, UUID, IPv6.
_ADDRESS = (
    r"(?<!\w)(?:"
    r"[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}"
    r"|[0-9a-f]{4}(?:\.[0-9a-f]{4}){2}"
    r"|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}"
    r")(?!\w)"
)
# A run of letters and digits that holds a digit; with its sign; and all that are joined to it.
_ID = r"(?:<\*>|(?<!\w)[^\W0]*0\w*)"
_IDS = rf"(?:(?<![\w>])[-+])?{_ID}(?:[-.,:/]+{_ID})*"

_address, _ids = re.compile(_ADDRESS, re.IGNORECASE), re.compile(_IDS)
# Twice, for bytes are quicker, and only ASCII is the same in both.
_ascii_address, _ascii_ids = re.compile(_ADDRESS.encode(), re.IGNORECASE), re.compile(_IDS.encode())


def template_of(message: str) -> str:
    """``message`` with each number, address and id as ``<*>``, one space between words, at most 512 characters.

    A run of letters and digits that holds a digit counts as an id; an id without any digit is a word. Applied
    to a template it gives the same template.
    """
    begin = message[:_CHARACTERS]
    plain = begin.encode() if begin.isascii() else " ".join(begin.split()).encode("utf-8", "replace")
    words = plain.translate(_ZEROED).split(None, _WORDS)
    if len(words) > _WORDS:
        words.pop()
    kept = b" ".join(
        [word if _ZERO not in word else _HOLE if word.isalnum() else _without_ids[word] for word in words]
    ).decode()
    return kept if len(kept) <= _LENGTH else kept[:_LENGTH].rstrip()


class _Memo(dict[bytes, bytes]):
    """Words with a digit and what is left of them. Long ones hardly ever come back: they are not kept."""

    LONGEST, MOST = 24, 8192

    def __missing__(self, word: bytes) -> bytes:
        if word[:-1].isalnum() and word[-1] != _LOW_LINE:
            return _HOLE + word[-1:]  # "7f3a9c21,": many, and not worth a place
        found = _sub(word)
        if len(word) <= self.LONGEST:
            if len(self) >= self.MOST:
                self.clear()
            self[word] = found
        return found


_without_ids = _Memo()


def _sub(word: bytes) -> bytes:
    if not word.isascii():
        return _ids.sub(HOLE, _address.sub(HOLE, word.decode())).encode()
    if _COLON in word or _HYPHEN in word or _DOT in word:
        word = _ascii_address.sub(_HOLE, word)
    return _ascii_ids.sub(_HOLE, word)
