"""Where a message of syslog ends in a stream of bytes (RFC 6587): told per connection, from its first bytes.

Digits, a blank and ``<`` open octet counting, in which a message may hold line ends. Anything else is text, whose
messages end with LF; or with NUL, once one is seen (Python's SysLogHandler), and then they may hold LF. Whatever comes
is in some message: a counted stream that lost its count goes on line by line until a count follows.
"""

from __future__ import annotations

import re

from mutt.formats.values import clean_text

#: Bytes that ingest may make of one: of one that is no UTF-8 it writes ``\\xNN``. And of NUL, which it can't keep.
GROWS, NUL_GROWS = 4, 3

#: Characters that are written at once.
_PIECE = 4096

_OPENS = re.compile(rb"[1-9]\d{0,9} <")
_MAY_OPEN = re.compile(rb"(?:[1-9]\d{0,9} ?)?")
_COUNT = re.compile(rb"([1-9]\d{0,9}) ")
_PART_OF_COUNT = re.compile(rb"[1-9]\d{0,9}")
_LINE_END = re.compile(rb"[\n\0]")

#: Where messages end that end with NUL. One NUL may have strayed into lines: a line that opens with a priority is a
#: message there, too.
_NUL_END = re.compile(rb"\0|\n(?=<\d{1,3}>)")
_MAY_BE_NUL_END = re.compile(rb"\n(?:<\d{0,3})?\Z")

#: What may stand between messages, and what is no message alone.
_BETWEEN = b"\r\n\0 "


def fitting(message: bytes, most: int) -> bytes:
    """The message; or as much of it as ingest makes ``most`` bytes of, as it writes them."""
    if len(message) * GROWS <= most:
        return message
    # Counted before anything is written, and no more written than is needed: strangers may send what is no text.
    text = message.decode("utf-8", "surrogateescape")
    odd = len(message) - len(text.encode("utf-8", "ignore"))
    if len(message) + odd * (GROWS - 1) + message.count(b"\0") * (NUL_GROWS - 1) <= most:
        return message
    written = bytearray()
    for at in range(0, len(text), _PIECE):
        written += clean_text(text[at : at + _PIECE]).encode()
        if len(written) >= most:
            break
    return written[:most].decode(errors="ignore").encode()


class Framer:
    """Bytes of one connection in, messages out; of one of which ingest would make more than ``most`` bytes the rest is
    left out."""

    def __init__(self, most: int) -> None:
        self._message = _Message(most)
        self._way: _Counted | _Text | None = None  #: None: it is not told yet
        self._held = b""  #: until then

    @property
    def cut(self) -> int:
        """Messages of which the rest was left out."""
        return self._message.cut

    @property
    def held(self) -> int:
        """Bytes of a message that is not whole."""
        return len(self._held) + self._message.held + (len(self._way.held) if self._way else 0)

    @property
    def is_partial(self) -> bool:
        """Is a message begun, and not whole?"""
        return bool(self._held or self._message.size or (self._way and self._way.held))

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that end in ``data``."""
        if self._way is None:
            self._held = data = self._held + data
            if _MAY_OPEN.fullmatch(data):
                return []
            self._way = _Counted(self._message) if _OPENS.match(data) else _Text(self._message)
            self._held = b""
        return self._way.feed(data)

    def rest(self) -> list[bytes]:
        """The message that was begun, once nothing more will come."""
        found: list[bytes] = []
        self._message.add(self._held + (self._way.held if self._way else b""))
        self._message.end(found)
        self._held = b""
        if self._way:
            self._way.held = b""
        return found


class _Message:
    """The one that is coming in."""

    def __init__(self, most: int) -> None:
        self._most, self._data = most, bytearray()
        self.size = self.cut = 0

    @property
    def held(self) -> int:
        return len(self._data)

    def add(self, part: bytes) -> None:
        room = self._most - len(self._data)
        self._data += part if len(part) <= room else part[:room]
        self.size += len(part)

    def end(self, found: list[bytes]) -> None:
        came = bytes(self._data).rstrip(b"\r\n")
        message = came if self.size * GROWS <= self._most else fitting(came, self._most)
        self.cut += self.size > self._most or message is not came
        if message.strip(_BETWEEN):
            found.append(message)
        self._data.clear()
        self.size = 0


class _Text:
    """Messages that end with LF, or with NUL."""

    def __init__(self, message: _Message) -> None:
        self._message, self._by_nul, self._first = message, False, True
        self.held = b""  #: what may be an end, or not

    def feed(self, data: bytes) -> list[bytes]:
        found: list[bytes] = []
        if not self._by_nul and b"\0" in data:
            # Of the first message it may be too late to know: what came of it before was taken for lines.
            self._by_nul = True
            if not self._first:
                lines, _, data = data.partition(b"\0")
                self._split(lines.split(b"\n"), found)
                self._message.end(found)
        if self._by_nul:
            self._nul(data, found)
        else:
            self._split(data.split(b"\n"), found)
        return found

    def _nul(self, data: bytes, found: list[bytes]) -> None:
        data = self.held + data
        open_end = _MAY_BE_NUL_END.search(data)
        self.held = data[open_end.start() :] if open_end else b""
        self._split(_NUL_END.split(data[: open_end.start()] if open_end else data), found)

    def _split(self, parts: list[bytes], found: list[bytes]) -> None:
        self._message.add(parts[0])
        for part in parts[1:]:
            self._message.end(found)
            self._message.add(part)
        self._first = self._first and len(parts) == 1


class _Counted:
    """Messages behind their length."""

    def __init__(self, message: _Message) -> None:
        self._message = message
        self._left = 0  #: bytes that the message still has
        self._in_line = False  #: the count is lost
        self.held = b""  #: of a count

    def feed(self, data: bytes) -> list[bytes]:
        data, self.held = self.held + data, b""
        found: list[bytes] = []
        at = 0
        while at < len(data):
            if self._left:
                at = self._counted(data, at, found)
            elif self._in_line:
                at = self._line(data, at, found)
            elif count := _COUNT.match(data, at):
                self._left, at = int(count[1]), count.end()
            elif _PART_OF_COUNT.fullmatch(data, at):
                self.held, at = data[at:], len(data)
            elif data[at] in _BETWEEN:
                at += 1
            else:
                self._in_line = True
        return found

    def _counted(self, data: bytes, at: int, found: list[bytes]) -> int:
        part = data[at : at + self._left]
        self._message.add(part)
        self._left -= len(part)
        if not self._left:
            self._message.end(found)
        return at + len(part)

    def _line(self, data: bytes, at: int, found: list[bytes]) -> int:
        end = _LINE_END.search(data, at)
        stop = end.start() if end else len(data)
        self._message.add(data[at:stop])
        if end is None:
            return stop
        self._in_line = False
        self._message.end(found)
        return end.end()
