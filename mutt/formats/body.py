"""A request's body: inflated within a limit, then split into its JSON items."""

from __future__ import annotations

import json
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import msgspec
import zstandard
from msgspec import Raw

from mutt.errors import RejectedBody

#: No honest sender puts more into one request; each item costs memory before its first check.
MAX_ITEMS = 200_000

#: RFC 9659: what a receiver must be able to hold for zstd over HTTP, and all that it needs to.
_ZSTD_WINDOW = 8 << 20

#: Codings one on top of another: each may cost as much time as the largest body takes.
MOST_CODINGS = 4

#: A body may be compressed in parts, one behind the other; each costs some time even if it is empty.
_MOST_MEMBERS = 10_000
_BITE = 16 << 10

#: Of a value with too many others inside one another.
TOO_DEEP = "is nested too deeply: flatten it"

_BOM = b"\xef\xbb\xbf"
_BLANK = " \t\r\n"

_array = msgspec.json.Decoder(list[Raw])
_stream = msgspec.json.Decoder(Raw)  # decode_lines also reads objects that stand back to back
_lenient = json.JSONDecoder(strict=False)

#: What parts a broken array: brackets, braces and commas, none of them inside a text. A quote begins a text only
#: after one of {[,: and ends it only before one of ,:]} so that one which nobody escaped does not turn the rest
#: inside out. Each character is looked at once: what ends a text always matches where its inside stops. Possessive, so
#: that nothing is kept to go back to (2 GiB for a hostile body); before Python 3.11.5 that matched wrongly.
_ALL = "*+" if sys.version_info >= (3, 11, 5) else "*"
_MARKS = re.compile(
    r'([\[{,:])(?:[ \t\r\n]*"(?:[^"\\]+|\\.?|"(?![ \t\r\n]*(?:[,:\]}]|\Z)))' + _ALL + r'(?:"|\Z))?|[\]}]',
    re.S,
)
_MOST_MARKS = 2_000_000

_BETWEEN_OBJECTS = re.compile(r"(?<=\})[ \t\r\n]*,[ \t\r\n]*(?=\{)")
_MOST_COMMAS = 20


class Broken(msgspec.Struct, frozen=True):
    """A stretch of a body that is no JSON value; its neighbours could be read."""

    raw: bytes
    reason: str


def decompress(data: bytes, encoding: str, limit: int) -> bytes:
    """``data`` without the codings that ``encoding`` (a Content-Encoding) lists, last one first.

    Never holds more than ``limit`` bytes of the result of a coding. Raises :class:`RejectedBody`: 413 past the
    limit, 400 for damaged data, 415 for an unknown coding, or too many.
    """
    words = (word.strip().lower() for word in encoding.split(","))
    named = [word for word in words if word not in ("", "identity")]
    if len(named) > MOST_CODINGS:
        raise RejectedBody("Content-Encoding", f"names too many codings; send at most {MOST_CODINGS}", 415)
    for coding in reversed(named):
        if coding not in _CODINGS:
            known = ", ".join(sorted(_CODINGS))
            # Not quoted: the reason is kept for the page Sources, and it may be a key in the wrong header.
            raise RejectedBody(
                "Content-Encoding", f"names a coding that is not known; send one of {known}", 415
            )
        try:
            data = _CODINGS[coding](data, limit)
        except (zlib.error, zstandard.ZstdError) as error:
            raise RejectedBody(
                "body", f"is not {coding}: {error}; send it whole, or without Content-Encoding"
            ) from None
    if len(data) > limit:
        raise _too_large(limit)
    return data


def _too_large(limit: int) -> RejectedBody:
    return RejectedBody("body", f"is larger than {limit} bytes: send it in parts", 413)


def _identity(data: bytes, _limit: int) -> bytes:
    return data


def _gzip(data: bytes, limit: int) -> bytes:
    return _inflate(data, limit, 16 + zlib.MAX_WBITS)


def _deflate(data: bytes, limit: int) -> bytes:
    # RFC 9110 means zlib's wrapper; many senders leave it out.
    wrapped = len(data) > 1 and data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
    return _inflate(data, limit, zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)


def _inflate(data: bytes, limit: int, wbits: int) -> bytes:
    return _members(data, limit, lambda: zlib.decompressobj(wbits))


def _members(data: bytes, limit: int, begin: Callable[[], Any]) -> bytes:
    """All members of ``data``. In bites, since each member copies what it leaves over."""
    out: list[bytes] = []
    room, at = limit + 1, 0
    for _ in range(_MOST_MEMBERS + 1):  # the last turn only looks whether more follows
        if at == len(data):
            return b"".join(out)
        member = begin()
        while not member.eof:
            if at == len(data):
                raise zlib.error("it ends too early")
            bite = data[at : at + _BITE]
            out.append(member.decompress(bite, room))
            at += len(bite) - len(member.unused_data)
            room -= len(out[-1])
            if room <= 0:
                raise _too_large(limit)
    raise zlib.error(f"it has more than {_MOST_MEMBERS} parts; compress all events together")


def _zstd(data: bytes, limit: int) -> bytes:
    if not data:
        return b""
    said = zstandard.frame_content_size(data)
    if said > limit:
        raise _too_large(limit)
    if said <= 0:  # unknown; or the first frame is empty, and nobody would look behind it
        return _zstd_frames(data, limit)
    try:
        return _zstd_reader().decompress(data, max_output_size=limit, allow_extra_data=False)
    except zstandard.ZstdError:
        return _zstd_frames(data, limit)


def _zstd_frames(data: bytes, limit: int) -> bytes:
    """Several frames, or one that does not say its size: the first, bounded pass makes the second one safe."""
    with _zstd_reader().stream_reader(data, read_across_frames=True) as reader:
        if len(reader.read(limit + 1)) > limit:
            raise _too_large(limit)
    return _members(data, limit, _Frame)


class _Frame:
    """A decompressor of one zstd frame that is called as zlib's are; it does not mind the room."""

    def __init__(self) -> None:
        self._inner = _zstd_reader().decompressobj()

    def decompress(self, data: bytes, _room: int) -> bytes:
        return self._inner.decompress(data)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data


def _zstd_reader() -> zstandard.ZstdDecompressor:
    return zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)


_CODINGS: dict[str, Callable[[bytes, int], bytes]] = {
    "identity": _identity,
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "zstd": _zstd,
}


def codings() -> frozenset[str]:
    """The names of a Content-Encoding that are understood."""
    return frozenset(_CODINGS)


def without_bom(body: bytes) -> bytes:
    """``body`` without a UTF-8 byte order mark."""
    return body.removeprefix(_BOM)


def split(body: bytes) -> list[Raw | Broken]:
    """The JSON values of ``body``: the items of its array, or its objects (lines, or back to back).

    A line or an element that can't be read is a :class:`Broken` where another can. Raises :class:`RejectedBody`
    naming the position where nothing can be read.
    """
    body = without_bom(body).strip()
    if body.startswith(b"["):
        return _limited(_items_of(body))
    try:
        return _limited(_stream.decode_lines(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _limited(_readable(_salvaged(body), "JSON", error))


def _items_of(body: bytes) -> list[Raw] | list[Raw | Broken]:
    try:
        return _array.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        # One more than may be, so that the limit speaks.
        found = list(islice(_elements(_text(body)), MAX_ITEMS + 1))
        return _readable(found, "JSON array", error)


def _readable(pieces: list[Raw | Broken], wanted: str, error: Exception) -> list[Raw | Broken]:
    if not any(isinstance(piece, Raw) for piece in pieces):
        raise RejectedBody("body", no_json(error, wanted)) from None
    return pieces


def no_json(error: Exception, wanted: str = "JSON") -> str:
    """What is wrong with a text that is no JSON, and where."""
    return TOO_DEEP if isinstance(error, RecursionError) else f"is no {wanted}: {error}; mend it there"


def _limited(pieces: list[Raw] | list[Raw | Broken]) -> list[Raw | Broken]:
    if len(pieces) > MAX_ITEMS:
        raise RejectedBody("body", f"holds too many items; send at most {MAX_ITEMS} at once", 413)
    return pieces  # type: ignore[return-value]  # list is invariant; nobody adds to it


def _salvaged(body: bytes) -> list[Raw | Broken]:
    """What a forgiving decoder finds: in the whole text, else line by line. Each pass is linear."""
    text = _text(body)
    whole = list(_values(text))
    if not isinstance(whole[-1], Broken):
        return whole
    if text.count("\n") > MAX_ITEMS:
        raise RejectedBody(
            "body", f"holds broken JSON in more than {MAX_ITEMS} lines; send at most so many at once", 413
        )
    return [piece for line in text.split("\n") if not line.isspace() for piece in _values(line)]


def _values(text: str) -> Iterator[Raw | Broken]:
    """The values that stand in ``text`` one after another; what follows the first fault is one Broken."""
    at = 0
    while (at := _after_blanks(text, at)) < len(text):
        try:
            _, end = _lenient.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            yield Broken(_bytes(text[at:]), no_json(error))
            return
        yield Raw(_bytes(text[at:end]))
        at = end


def _after_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANK:
        at += 1
    return at


def _elements(text: str) -> Iterator[Raw | Broken]:
    """The elements of the array ``text``, of which something is broken. Linear; a comma before ``]`` is forgiven."""
    depth, at = 0, 1
    for mark in islice(_MARKS.finditer(text), _MOST_MARKS):
        sign = text[mark.start()]
        if sign in "[{":
            depth += 1
        elif depth > 1:
            depth -= sign in "]}"
        elif sign in ",]":
            element = text[at : mark.start()].strip(_BLANK)
            if element or sign == ",":
                yield from _element(element)
            at = mark.start() + 1
            if sign == "]":
                if behind := text[at:].strip(_BLANK):
                    yield Broken(
                        _bytes(behind),
                        "stands behind the end of the array: send one array, or one object a line",
                    )
                return
    yield from _unended(text[at:].strip(_BLANK))


def _element(text: str) -> Iterator[Raw | Broken]:
    """One element; and those behind it, where a text without an end hides them: objects up to its very end."""
    found = _value(text)
    if isinstance(found, Broken):
        for comma in islice(_BETWEEN_OBJECTS.finditer(text), _MOST_COMMAS):
            if hidden := _hidden(text[comma.end() :]):
                yield _value(text[: comma.start()])
                yield from hidden
                return
    yield found


def _hidden(text: str) -> list[Raw]:
    try:
        return _array.decode(f"[{text}]".encode("utf-8", "surrogateescape"))
    except (msgspec.DecodeError, RecursionError):
        return []


def _unended(text: str) -> Iterator[Raw | Broken]:
    """The last stretch of an array that does not end, or of which that can't be told."""
    last = _value(text)
    if isinstance(last, Raw):
        yield last
    if isinstance(last, Raw) or not text:
        yield Broken(b"", "the array has no end: write ] after its last item, or send all of it")
    else:
        yield Broken(last.raw, f"{last.reason}; where it ends can't be told, so what follows was not read")


def _value(text: str) -> Raw | Broken:
    """``text`` as one JSON value."""
    try:
        _lenient.decode(text)
    except (ValueError, RecursionError) as error:
        return Broken(_bytes(text), no_json(error))
    return Raw(_bytes(text))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
