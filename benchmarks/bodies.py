"""Bodies of requests: the same events as a JSON array, as NDJSON, or the array compressed."""

from __future__ import annotations

import gzip
from collections.abc import Sequence

import zstandard

#: Forms of a body, with the headers that go with each.
FORMS = {
    "array": "Content-Type: application/json\r\n",
    "NDJSON": "Content-Type: application/x-ndjson\r\n",
    "gzip": "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
    "zstd": "Content-Type: application/json\r\nContent-Encoding: zstd\r\n",
}

#: What senders use if nobody tells them otherwise.
_GZIP, _ZSTD = 6, 3


def body(events: Sequence[bytes], form: str) -> bytes:
    """One request's body; a single event is no array but itself."""
    if form == "NDJSON":
        return b"\n".join(events) + b"\n"
    array = events[0] if len(events) == 1 else b"[" + b",".join(events) + b"]"
    if form == "gzip":
        return gzip.compress(array, _GZIP)
    return zstandard.ZstdCompressor(_ZSTD).compress(array) if form == "zstd" else array
