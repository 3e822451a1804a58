"""Where an HTTP/1.1 request ends, told from its bytes as they come; chunks are joined on the way (RFC 9112, 7.1.3).

It judges only what keeps it from telling: all else goes to gunicorn's parser as it came, which refuses it or not.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from mutt.errors import RejectedBody

#: Bytes of a request line and headers together, and of trailers.
HEAD_MAX = 64 << 10

#: Bytes of a chunk's size line, its extensions included.
_LINE_MAX = 8190

_LINE, _BLANK_LINE = b"\r\n", b"\r\n\r\n"
_MODERN = re.compile(
    rb".* HTTP/1\.[1-9]", re.DOTALL
)  # a request line that may have chunks, and wait for a 100
_SIZE = re.compile(rb"[0-9a-fA-F]{1,16}")
_FRAMING = (b"content-length", b"transfer-encoding", b"expect")


class Framing:
    """One request: bytes are fed to it until it is whole.

    ``most`` is how many bytes a body may have. Of a larger one that says so, and of one whose end can't be told, the
    head is given on alone: no application may read such a body.
    """

    def __init__(self, most: int) -> None:
        self.headed = False  #: its head is here
        self.continues = False  #: its sender waits for a 100 before it sends the body
        self.hopeless = False  #: its body is not here, and what follows it on the connection is no request
        self.too_large = False  #: hopeless, since it says that its body is larger than may be
        self.whole = False
        self._most = most
        self._data = bytearray()  # not understood yet
        self._at = 0  # of it, so much was looked at
        self._chunked = False
        self._head = b""  # of one in chunks, without its blank line
        self._body = bytearray()  # of one in chunks
        self._left = 0  # bytes of this chunk, or of the body, that are still to come
        self._step: Callable[[], bool] = self._read_head

    def __len__(self) -> int:
        """Bytes that it holds."""
        return len(self._data) + len(self._body)

    def feed(self, data: bytes) -> bool:
        """Is it whole with these bytes? Raises :class:`RejectedBody`: it can't be framed, or not be held."""
        self._data += data
        while not self.whole and self._step():
            pass
        if self._chunked:
            del self._data[: self._at]
            self._at = 0
        return self.whole

    def taken(self) -> tuple[bytes, bytes]:
        """The whole request as a parser may read it, and what came behind it: the beginning of the next one.
        Nothing of it is held any longer."""
        data, body = self._data, self._body
        self._data, self._body = bytearray(), bytearray()
        request, rest = bytes(data[: self._at]), bytes(data[self._at :])
        if self._chunked:
            request = b"%s\r\nContent-Length: %d\r\n\r\n" % (self._head, len(body)) + body
        return request, b"" if self.hopeless else rest

    def _read_head(self) -> bool:
        found = self._data.find(_BLANK_LINE, max(0, self._at - len(_BLANK_LINE)))
        self._at = len(self._data)
        if (self._at if found < 0 else found) > HEAD_MAX:
            raise RejectedBody("headers", f"are larger than {HEAD_MAX} bytes together: send fewer", 431)
        if found < 0:
            return False
        self._at = found + len(_BLANK_LINE)
        self._begin_body(bytes(self._data[:found]).split(_LINE))
        return True

    def _begin_body(self, lines: list[bytes]) -> None:
        self.headed = True
        if not lines[0]:  # the parser overlooks one empty line before a request, too
            del lines[:1]
        named = [(line.partition(b":")[0].lower(), line) for line in lines[1:]]
        lengths, codings, expects = (
            [_value(line) for name, line in named if name == wanted] for wanted in _FRAMING
        )
        modern = bool(lines and _MODERN.fullmatch(lines[0]))
        self.continues = modern and expects == [b"100-continue"]
        # " Content-Length" is none to one, and is to another
        if any(name != name.strip() for name, _ in named):
            self.whole = self.hopeless = True
        elif codings not in ([], [b"chunked"]):
            raise RejectedBody("Transfer-Encoding", "only chunked is known: use Content-Encoding to compress")
        elif codings and modern and not lengths:
            kept = [line for name, line in named if name != _FRAMING[1]]
            self._chunked, self._head = True, _LINE.join([lines[0], *kept])
            self._step = self._read_size
        elif codings or len(lengths) > 1 or (lengths and not lengths[0].isdigit()):
            self.whole = self.hopeless = True
        else:
            self._begin_length(lengths[0] if lengths else b"")

    def _begin_length(self, digits: bytes) -> None:
        # Zeros before a number say nothing, and the first 19 digits are enough to be too many.
        self._left, self._step = int(digits.lstrip(b"0")[:19] or b"0"), self._read_body
        self.too_large = self.hopeless = self._left > self._most
        self.whole = self.too_large or not self._left

    def _read_body(self) -> bool:
        here = min(self._left, len(self._data) - self._at)
        self._at, self._left = self._at + here, self._left - here
        self.whole = not self._left
        return False

    def _read_size(self) -> bool:
        ends = self._data.find(_LINE, self._at)
        if (len(self._data) if ends < 0 else ends) - self._at > _LINE_MAX:
            raise _chunked_wrongly(f"a size has more than {_LINE_MAX} characters")
        if ends < 0:
            return False
        size = bytes(self._data[self._at : ends]).partition(b";")[0].rstrip(b" \t")
        if not _SIZE.fullmatch(size):
            raise _chunked_wrongly("a chunk's size is no hexadecimal number")
        self._left = int(size, 16)
        if len(self._body) + self._left > self._most:
            raise RejectedBody("body", f"is larger than {self._most} bytes: send it in parts", 413)
        # Behind the last size stand trailers, or the blank line that is their end too.
        self._at, self._step = (ends + 2, self._read_chunk) if self._left else (ends, self._read_trailers)
        return True

    def _read_chunk(self) -> bool:
        piece = self._data[self._at : self._at + self._left]
        self._body += piece
        self._at, self._left = self._at + len(piece), self._left - len(piece)
        if self._left or len(self._data) < self._at + len(_LINE):
            return False
        if self._data[self._at : self._at + len(_LINE)] != _LINE:
            raise _chunked_wrongly("a chunk is longer than its size")
        self._at, self._step = self._at + len(_LINE), self._read_size
        return True

    def _read_trailers(self) -> bool:
        found = self._data.find(_BLANK_LINE, self._at)
        if (len(self._data) if found < 0 else found) - self._at > HEAD_MAX:
            raise RejectedBody("trailers", f"are larger than {HEAD_MAX} bytes together: send fewer", 431)
        self.whole = found >= 0
        if self.whole:
            self._at = found + len(_BLANK_LINE)
        return False


def _value(line: bytes) -> bytes:
    return line.partition(b":")[2].strip(b" \t").lower()


def _chunked_wrongly(why: str) -> RejectedBody:
    return RejectedBody("body", f"is chunked wrongly: {why}; send it with a Content-Length")
