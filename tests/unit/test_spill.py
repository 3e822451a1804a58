"""A spilled round keeps what the append would have been given, and the times that its safety hangs on fit."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from mutt import codec
from mutt.entry import Part
from mutt.errors import UndecodableEntry
from mutt.event import Envelope, Event, Segment
from mutt.pipeline import spill
from mutt.settings import Settings
from mutt.store.spill import HELD, REMEMBERED
from mutt.streams.stream import ROUND_MS

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def test_a_round_is_read_as_it_was_written() -> None:
    event = Event(
        event_id=uuid4(), received_at=AT, occurred_at=AT, hostname="h", message="m" * 2000, raw="x\xff"
    )
    fields, size = codec.encode(Envelope([Segment("batch", "corr", [event])]), n=1)
    seen = spill.Seen(0, "mutt:seen:x", event.event_id, AT)
    found = spill.unpack(spill.pack([Part([(1, fields, size)], "key", "{}", "batch")], [seen]))
    assert found.seen == [seen]
    (part,) = found.parts
    ((n, kept, length),) = part.entries
    assert (part.key, part.reply, part.batch_id, n, length) == ("key", "{}", "batch", 1, size)
    assert codec.decode(Envelope, codec.pairs(kept)).segments[0].events == [event]


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"damaged", spill._encode(spill.SpilledRound(spill.VERSION + 1, [], []))]
)
def test_what_cannot_be_read_is_undecodable(data: bytes) -> None:
    with pytest.raises(UndecodableEntry):
        spill.unpack(data)


def test_a_mark_is_too_old_before_redis_forgets_the_round() -> None:
    """An append comes up to so long after its mark, and a socket's time may go by on top."""
    latest = spill.MARKS_HOLD + spill.PATIENCE + 2 * 5.0
    assert REMEMBERED + latest < ROUND_MS / 1000
    assert latest + spill.SLICE < HELD


def test_no_request_holds_so_many_items_that_two_generations_could_meet() -> None:
    largest = Settings.from_env({}).ingest_max_body
    assert largest / len('{"hostname":"h","message":"m"}') < spill.LATE
