"""What an entry looks like: ``v`` (version), ``n`` (events), ``id`` (what it is about) and ``d`` (the data).

Version 1 is MessagePack, version 2 the same compressed by zstd. The small fields stay readable when the data
isn't, so an entry that can't be decoded can still be counted and parked.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
import zstandard

from mutt.alert import Alert, Outcome
from mutt.errors import NewerEntry, UndecodableEntry
from mutt.event import Envelope

T = TypeVar("T")

PLAIN, PACKED = b"1", b"2"

#: Below this many bytes zstd saves less than it costs.
PACK_FROM = 512

#: An entry never unpacks to more than this: a damaged header must not eat the memory.
UNPACKED_MAX = 64 << 20

# zstd's objects crash when threads share them.
_local = threading.local()

_encode = msgspec.msgpack.Encoder(uuid_format="bytes").encode
_decoders: dict[Any, Any] = {kind: msgspec.msgpack.Decoder(kind) for kind in (Envelope, Alert, Outcome)}


def _compress(data: bytes) -> bytes:
    if not hasattr(_local, "compressor"):
        _local.compressor = zstandard.ZstdCompressor(level=1)
    return _local.compressor.compress(data)


def _decompress(data: bytes) -> bytes:
    if not hasattr(_local, "decompressor"):
        _local.decompressor = zstandard.ZstdDecompressor()
    # The library heeds max_output_size only where the frame does not say its size (then -1).
    if zstandard.frame_content_size(data) > UNPACKED_MAX:
        raise UndecodableEntry(f"an entry unpacks to more than {UNPACKED_MAX} bytes")
    return _local.decompressor.decompress(data, max_output_size=UNPACKED_MAX)


def encode(
    value: Envelope | Alert | Outcome, *, n: int = 1, about: str = ""
) -> tuple[list[str | bytes | int], int]:
    """One entry's fields, as XADD takes them, and the size of its data in bytes."""
    data = _encode(value)
    version = PLAIN
    if len(data) >= PACK_FROM:
        data, version = _compress(data), PACKED
    return ["v", version, "n", n, "id", about, "d", data], len(data)


def decode(kind: type[T], fields: dict[bytes, bytes]) -> T:
    """The value of an entry. Raises :class:`UndecodableEntry`, :class:`NewerEntry`; ``MemoryError`` passes through."""
    version, data = fields.get(b"v"), fields.get(b"d", b"")
    try:
        if version == PACKED:
            data = _decompress(data)
        elif version != PLAIN:
            raise _unknown(version or b"")
        return _decoders[kind].decode(data)
    except (zstandard.ZstdError, msgspec.MsgspecError, ValueError) as error:
        raise UndecodableEntry(f"an entry can't be decoded: {error}") from error


def _unknown(version: bytes) -> UndecodableEntry:
    if version.isdigit() and int(version) > int(PACKED):
        return NewerEntry(
            f"version {version.decode()} of an entry: a newer MUTT wrote it, this one knows {int(PACKED)}"
        )
    return UndecodableEntry(f"version {version!r} of an entry is unknown to this MUTT")


def pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """Redis' flat list of names and values as a dict."""
    return dict(zip(flat[::2], flat[1::2], strict=False))
