"""A copy of a dead letter: what is not changed stays, and what can't be is named."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutt.alert import Alert
from mutt.errors import Refused
from mutt.event import Event, State, Varbind
from mutt.letters import copies

AT = datetime(2026, 11, 25, 3, 0, tzinfo=UTC)

# Text as it may stand in an event: neither NUL nor lone surrogates; line ends of every kind, quotes, equals signs.
texts = st.text(
    st.one_of(
        st.sampled_from('\n\r\t="\\ '), st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    ),
    max_size=30,
)
maybe = st.none() | texts.filter(bool)

events = st.builds(
    Event,
    event_id=st.uuids(),
    received_at=st.just(AT),
    occurred_at=st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    hostname=texts,
    message=texts,
    severity=st.none() | st.integers(0, 7),
    state=st.sampled_from(State),
    source=texts,
    facility=maybe,
    program=maybe,
    trap_oid=st.none() | st.just("1.3.6.1"),
    varbinds=st.lists(st.builds(Varbind, texts, texts), max_size=3).map(tuple),
    tags=st.dictionaries(texts, texts, max_size=4),
    raw=texts,
    clear_key=maybe,
    instance=maybe,
)


def an_event(**fields: Any) -> Event:
    plain = {"event_id": uuid4(), "received_at": AT, "occurred_at": AT, "hostname": "r1", "message": "down"}
    return Event(**plain | fields)


def an_alert(**fields: Any) -> Alert:
    texts_ = ("hostname", "handling", "environment", "team", "signature", "description", "source", "type")
    plain: dict[str, Any] = dict.fromkeys(texts_, "x")
    ids = {"alert_id": uuid4(), "event_id": uuid4(), "received_at": AT, "occurred_at": AT}
    plain |= {"rule_id": 1, "lane": "minor", "severity": 3, "state": State.RAISE, "correlation_id": "c"}
    return Alert(**plain | ids | fields)


def as_a_browser_sends(name: str, text: str) -> str:
    """A text area comes back with CR LF at each line end, a field of one line without any."""
    if name in copies.OF_LINES:
        return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")
    return text.replace("\r", "").replace("\n", "")


#: What these fields take; the others take any text.
OTHERWISE = {
    "occurred_at": "2026-11-25T03:00:00+00:00",
    "severity": "5",
    "trap_oid": "1.2",
    "state": "clear",
}


@given(events, st.sampled_from(sorted(copies.OF_EVENT)))
def test_a_copy_has_all_that_was_not_changed(event: Event, field: str) -> None:
    value = OTHERWISE.get(field, "a=b")
    copy = copies.of_event(event, {field: value})
    others = [name for name in event.__struct_fields__ if name != field]
    assert [getattr(copy, name) for name in others] == [getattr(event, name) for name in others]


@given(events)
def test_a_form_that_was_not_touched_changes_nothing(event: Event) -> None:
    sent = {name: as_a_browser_sends(name, text) for name, text in copies.as_text(event).items()}
    assert copies.of_event(event, copies.changes_of(event, sent)) == event


@given(events)
def test_a_file_that_was_not_touched_changes_nothing(event: Event) -> None:
    assert copies.as_json(copies.of_event(event, {})) == copies.as_json(event)
    kept = ("tags", "varbinds", "occurred_at")
    read = copies.of_event(event, {name: copies.as_json(event)[name] for name in kept if name != "varbinds"})
    assert [getattr(read, name) for name in kept] == [getattr(event, name) for name in kept]


@given(st.lists(st.tuples(texts, texts), max_size=5))
def test_pairs_are_read_as_they_were_written(pairs: list[tuple[str, str]]) -> None:
    written = copies.write_pairs(pairs)
    assert copies.read_pairs("tags", written) == pairs
    assert copies.read_pairs("tags", written.replace("\n", "\r\n")) == pairs


@given(st.text(max_size=60))
def test_any_text_of_pairs_is_read_or_refused_with_its_line(text: str) -> None:
    try:
        copies.read_pairs("tags", text)
    except Refused as error:
        assert error.field == "tags" and "line" in error.reason


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("severity", "9", "write 0 (emergency) to 7"),
        ("severity", [], "write 0 (emergency) to 7"),
        ("hostname", " ", "is empty"),
        ("hostname", "x" * 256, "at most 255"),
        ("hostname", 7, "must be text"),
        ("message", "", "is empty"),
        ("state", "purple", "write raise or clear"),
        ("state", None, "write raise or clear"),
        ("occurred_at", "yesterday", "write it as"),
        ("trap_oid", "1.x", "numbers with dots"),
        ("tags", "site", "line 1"),
        ("tags", "a=1\na=2", "a second time"),
        ("tags", {"a": 1}, "object of texts"),
        ("varbinds", [1], "must be a list"),
        ("varbinds", 5, "must be a list"),
        ("clear_key", "ä" * 200, "at most 255"),
        ("event_id", "x", "there are: hostname"),
        ("template", "x", "there are: hostname"),
    ],
)
def test_what_an_event_cannot_have_is_refused_with_its_field_and_the_fix(
    field: str, value: Any, says: str
) -> None:
    with pytest.raises(Refused) as refused:
        copies.of_event(an_event(), {field: value})
    assert refused.value.field == field
    assert says in refused.value.reason


@pytest.mark.parametrize("value", ["0", "6", "", "x"])
def test_an_alerts_severity_is_moogs(value: str) -> None:
    with pytest.raises(Refused) as refused:
        copies.of_alert(an_alert(), {"severity": value})
    assert refused.value.field == "severity"


def test_an_alerts_lane_follows_its_severity_and_its_signature_stays() -> None:
    alert = an_alert()
    copy = copies.of_alert(alert, {"severity": "5", "description": "short"})
    assert (copy.severity, copy.lane, copy.signature) == (5, "critical", alert.signature)
    assert copies.changed(alert, copy) == ["lane", "severity", "description"]


def test_a_clear_stays_a_clear() -> None:
    with pytest.raises(Refused):
        copies.of_alert(an_alert(state=State.CLEAR, severity=0), {"severity": "5"})


@given(events)
def test_what_was_changed_is_told_by_name(event: Event) -> None:
    other = msgspec.structs.replace(event, message=event.message + "!", tags={**event.tags, "new": "1"})
    assert copies.changed(event, other) == ["message", "tags"]
