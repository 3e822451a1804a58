"""Records become batches: what a request's body is made of."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from uuid import uuid4

import msgspec

from mutt.client.post import JSON_LINES, SYSLOG_OBJECTS
from mutt.listen.buffer import BATCH, BATCH_BYTES, Batch

#: (record, peer, at): a tuple, since one is made for each.
Record = tuple[bytes, str, float]

#: Writes (record, peer, epoch seconds) as one line of a body.
Write = Callable[[bytes, str, float], bytes]


def plain(record: bytes, _peer: str, _at: float) -> bytes:
    """A record that is a JSON object already, in one line."""
    return record


def syslog_object(record: bytes, peer: str, at: float) -> bytes:
    """A message of syslog, whatever stands in it, with who sent it and when it came."""
    record = record.rstrip(b"\r\n\0")  # some senders end a message with them
    try:
        return msgspec.json.encode({"line": record.decode(), "peer": peer, "at": at})
    except UnicodeDecodeError:
        # JSON's halves of characters stand for the bytes that are no UTF-8; ingest writes them as \xNN.
        return json.dumps({"line": record.decode(errors="surrogateescape"), "peer": peer, "at": at}).encode()


#: How records of a format are written, and as which Content-Type; other formats' as they are.
_WRITTEN: dict[str, tuple[Write, str]] = {"syslog": (syslog_object, SYSLOG_OBJECTS)}


def written_as(format_: str) -> tuple[Write, str]:
    """How records of this format are written, and their Content-Type."""
    return _WRITTEN.get(format_, (plain, JSON_LINES))


def batches(records: Sequence[Record], write: Write) -> Iterator[Batch]:
    """All of them, in their order."""
    lines, size, began = list[bytes](), 0, 0.0
    for record in records:
        line = write(*record)
        if lines and (len(lines) == BATCH or size + len(line) >= BATCH_BYTES):
            yield packed(lines, began)
            lines, size = [], 0
        began = began if lines else record[2]
        lines.append(line)
        size += len(line) + 1
    yield packed(lines, began)


def packed(lines: Sequence[bytes], at: float) -> Batch:
    """A batch of these lines, of which the first came at ``at``, under a key of its own."""
    body = b"\n".join(lines)
    return Batch(uuid4().hex, len(lines), at, gzip.compress(body, 1, mtime=0), size=len(body))


def halves(batch: Batch) -> tuple[Batch, Batch] | None:
    """Of one with two records or more; None: it is damaged. Their keys follow from its own."""
    try:
        lines = gzip.decompress(batch.body).split(b"\n")
    except (OSError, EOFError, zlib.error):
        return None
    middle = len(lines) // 2
    first, second = packed(lines[:middle], batch.at), packed(lines[middle:], batch.at)
    return (
        first._replace(idempotency=batch.idempotency + "a"),
        second._replace(idempotency=batch.idempotency + "b"),
    )
