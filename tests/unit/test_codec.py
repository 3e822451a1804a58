"""What an entry looks like: it comes back as it went in, or says that it can't."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest
import zstandard

from mutt import codec
from mutt.alert import Alert, Outcome, Status
from mutt.entry import Entry
from mutt.errors import UndecodableEntry
from mutt.event import Envelope, Event, Segment, State, Varbind

NOW = datetime(2026, 3, 4, 9, 15, 2, 123456, tzinfo=UTC)
EVENT = Event(
    event_id=UUID(int=7), received_at=NOW, occurred_at=NOW, hostname="h", message="ü\n\t", item=3, severity=0,
    state=State.CLEAR, varbinds=(Varbind("1.3", "x"),), tags={"a": "b"}, raw="{}", clear_key="link:1",
)  # fmt: skip
ALERT = Alert(
    alert_id=UUID(int=8), event_id=UUID(int=7), received_at=NOW, occurred_at=NOW, hostname="h", rule_id=None,
    handling="Meta", environment="production", team="NETO", lane="minor", severity=3, signature="h::t",
    description="d", state=State.RAISE, source="mutt", correlation_id="c", type="unhandled",
)  # fmt: skip


def packed(value: object, **options: object) -> dict[bytes, bytes]:
    """The fields as Redis gives them back."""
    fields, size = codec.encode(value, **options)  # type: ignore[arg-type]
    found = codec.pairs([one if isinstance(one, bytes) else str(one).encode() for one in fields])
    assert size == len(found[b"d"])
    return found


@pytest.mark.parametrize(
    "value",
    [
        Envelope([Segment("b", "c", [EVENT])]),
        Envelope([Segment("b", "c", [EVENT] * 500), Segment("b2", "c2", [EVENT])]),
        ALERT,
        Outcome(alert=ALERT, status=Status.PARKED, attempts=5, at=NOW, moog_status=400, reason="refused"),
    ],
    ids=["small", "large", "alert", "outcome"],
)
def test_a_value_comes_back_as_it_went_in(value: object) -> None:
    assert codec.decode(type(value), packed(value)) == value


def test_only_what_is_large_is_compressed() -> None:
    assert packed(Envelope([]))[b"v"] == codec.PLAIN
    large = packed(Envelope([Segment("b", "c", [EVENT] * 100)]), n=100)
    assert (large[b"v"], large[b"n"]) == (codec.PACKED, b"100")
    assert len(large[b"d"]) < 2000


def test_an_entry_of_an_older_mutt_without_the_later_fields_is_read() -> None:
    old = msgspec.msgpack.encode([[["b", "c", [[EVENT.event_id.bytes, NOW, NOW, "h", "m"]]]]])
    (event,) = codec.decode(Envelope, {b"v": b"1", b"d": old}).segments[0].events
    assert (event.message, event.severity, event.tags) == ("m", None, {})


GOOD = packed(Envelope([Segment("b", "c", [EVENT] * 100)]))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {b"v": b"3", b"d": GOOD[b"d"]},
        {b"v": b"2"},
        {b"v": b"1", b"d": GOOD[b"d"]},
        {b"v": b"2", b"d": GOOD[b"d"][:-9]},
        {b"v": b"2", b"d": GOOD[b"d"][:20] + b"\0\0\0" + GOOD[b"d"][23:]},
        {b"v": b"1", b"d": b"\x91\x91\x93\xa1b\xa1c\x91\x95"},
        {
            b"v": b"1",
            b"d": msgspec.msgpack.encode([[["b", "c", [[EVENT.event_id.bytes, NOW, NOW, "h", 5]]]]]),
        },
        {b"v": b"1", b"d": b"\x91" * 100_000},
        {b"hello": b"world"},
    ],
)
def test_what_cannot_be_decoded_says_so(fields: dict[bytes, bytes]) -> None:
    with pytest.raises(UndecodableEntry):
        codec.decode(Envelope, fields)


def test_a_naive_time_is_no_event() -> None:
    naive = msgspec.msgpack.encode(
        [[["b", "c", [[EVENT.event_id.bytes, NOW.replace(tzinfo=None), NOW, "h", "m"]]]]]
    )
    with pytest.raises(UndecodableEntry, match="timezone"):
        codec.decode(Envelope, {b"v": b"1", b"d": naive})


@pytest.mark.parametrize("declared", [True, False], ids=["size declared", "size unknown"])
def test_a_bomb_is_not_unpacked(declared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "UNPACKED_MAX", 1 << 16)
    bomb = zstandard.ZstdCompressor(write_content_size=declared).compress(b"\xc0" * (1 << 20))
    with pytest.raises(UndecodableEntry, match=r"unpacks|full frame"):
        codec.decode(Envelope, {b"v": b"2", b"d": bomb})


def test_an_entry_counts_what_it_says_and_one_where_it_says_nothing() -> None:
    counts = [Entry("s", "1-1", 1, fields).n for fields in ({b"n": b"500"}, {}, {b"n": b"many"}, {b"n": b""})]
    assert counts == [500, 1, 1, 1]
