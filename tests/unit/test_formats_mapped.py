"""Mapped: what an admin's expressions make of a sender's own JSON, and what of them is refused when they are saved."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mutt.errors import Refused, RejectedBody
from mutt.event import State
from mutt.formats import mapped, mapping, registry
from mutt.formats.base import Context, Parsed
from mutt.source import Source

CONTEXT = Context(datetime(2026, 3, 4, 9, 30, tzinfo=UTC), "key-1", 65536, "192.0.2.1")

PAGE = (Path(__file__).parents[2] / "docs" / "formats" / "mapped.md").read_text()

#: The example of its page, and one of what it is for.
EXAMPLE = PAGE.partition("```yaml\n")[2].partition("```")[0]
CHECK: dict[str, Any] = {
    "host": {"name": "web-1", "ip": "10.0.0.1"},
    "title": "HTTP",
    "text": "timeout",
    "priority": "p1",
    "type": "recovery",
    "id": 7,
    "gone": None,
}


def read(text: str, item: Any, **known: Any) -> Parsed:
    context = msgspec.structs.replace(CONTEXT, source=Source(mapping=text, **known))
    body = item if isinstance(item, bytes) else json.dumps(item).encode()
    return registry.parse(registry.choose("", body, "", context), body, context)


def test_the_example_of_its_page() -> None:
    parsed = read(EXAMPLE, {"checks": [CHECK, CHECK | {"type": "PROBLEM", "priority": "P9"}], "site": "x"})
    first, second = parsed.events
    assert (first.hostname, first.message, first.severity) == ("web-1", "HTTP timeout", 2)
    assert (first.state, first.clear_key, first.source) == (State.CLEAR, "7", "mapped")
    assert first.tags == {"host.ip": "10.0.0.1", "title": "HTTP", "text": "timeout", "id": "7"}
    assert json.loads(first.raw) == CHECK
    assert (second.severity, second.state, second.tags["priority"]) == (None, State.RAISE, "P9")
    assert parsed.format == "mapped"


@pytest.mark.parametrize(
    ("text", "item", "fields"),
    [
        ("message: a", {"a": "x"}, {"hostname": "192.0.2.1", "message": "x"}),
        ("{message: a.b, hostname: '`\"h\"`'}", {"a": {"b": "x"}}, {"hostname": "h", "message": "x"}),
        ("message: a\nstate: up", {"a": "x", "up": True}, {"state": State.RAISE}),
        ("message: a\nstate: up\nwords: {state: {true: clear}}", {"a": "x", "up": True}, {"state": State.CLEAR}),
        ("message: a\nstate: s\nwords: {state: {ON: clear}}", {"a": "x", "s": "on"}, {"state": State.CLEAR}),
        ("message: a\nseverity: s", {"a": "x", "s": "5"}, {"severity": 5, "tags": {}}),
        ("message: a\nseverity: s", {"a": "x", "s": "hot"}, {"severity": None, "tags": {"s": "hot"}}),
        ("message: a\nsource: \"'billing'\"", {"a": "x"}, {"source": "billing"}),
        ("message: a\ntime: t", {"a": "x", "t": 1767225600}, {"occurred_at": datetime(2026, 1, 1, tzinfo=UTC)}),
        ("each: l\nmessage: a", {"a": "x"}, {"message": "x"}),
        ("message: a\ninstance: i", {"a": "x", "i": [1]}, {"instance": "[1]"}),
    ],
)  # fmt: skip
def test_what_an_expression_finds(text: str, item: Any, fields: dict[str, Any]) -> None:
    (event,) = read(text, item).events
    assert {name: getattr(event, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("text", "item", "field"),
    [
        ("message: a", {"b": 1}, "message"),
        ("message: a", {"a": 1}, "message"),
        ("message: a\nhostname: h", {"a": "x"}, "hostname"),
        ("message: \"join(' ', [a, b])\"", {"a": "x"}, "message"),
        ("message: a\nseverity: abs(s)", {"a": "x", "s": "y"}, "severity"),
        ("message: a\nevent_id: i", {"a": "x", "i": {}}, "event_id"),
        ("each: abs(l)\nmessage: a", {"a": "x", "l": []}, "each"),
        ("message: a\nprogram: floor(n)", b'{"a": "x", "n": 1e999}', "program"),
    ],
)  # fmt: skip
def test_what_costs_an_item_names_its_field(text: str, item: Any, field: str) -> None:
    parsed = read(text, item)
    assert ([one.field for one in parsed.rejected], parsed.events) == ([field], [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a", "is no list of fields"),
        ("- a", "is no list of fields"),
        ("hostname: x", "message is missing"),
        ("message: a.b.", "message can't be read at character 5"),
        ("message: a b", "message can't be read at character 3: 'b'"),
        ("message: x\nhostname: '#'", "hostname can't be read at character 1"),
        ("message: 'a[?b==`{]'", "message can't be read at character 7"),
        ("message: @", "in line 1, at character 10"),
        ("message: mesage(a)", "there is no function mesage()"),
        ("message: join(a)", "join() takes 2 values"),
        ("message: '&a'", "& stands only in"),
        ("message: 'not_null(&a)'", "& stands only in"),
        ("message: 'a[::0]'", "step is 0"),
        ("message: '`\"\\u0000\"`'", "no event may have"),
        ("message: [x]", "message is no expression"),
        ("message: ''", "message is no expression"),
        (f"message: {'a.' * 300}a", "at most 500"),
        (f"message: {'(' * 60}a{')' * 60}.{'b.' * 100}c", "more than 100 parts"),
        ("message: '" + "!" * 30 + "a'", "in one another"),
        ("message: '" + "(" * 490 + "'", "message can't be read"),
        ("message: '" + "[@,@]|" * 7 + "@'", "puts together more than 12"),
        ("messag: x", "'messag' is none of each"),
        ("message: x\nwords: {severity: {P1: hoch}}", "P1 means 'hoch'"),
        ("message: x\nwords: {state: {off: unknown}}", "off means 'unknown'"),
        ("message: x\nwords: {team: {}}", "words is no table"),
        ("message: x\nwords: {state: [a]}", "words.state is no table"),
        ("message: " + "x" * 20_000, "16384 characters"),
        ("[" * 5000, "is no YAML"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(Refused) as caught:
        mapping.compiled(text)
    assert caught.value.field == "mapping"
    assert said in caught.value.reason


def test_only_what_nobody_else_takes_is_mapped() -> None:
    """Native events and what other formats claim stay theirs; named, every object is mapped."""
    items = [
        {"hostname": "h", "message": "native", "a": "mapped"},
        {"trap_oid": "1.3.6.1", "hostname": "h", "a": "mapped"},
        {"a": "mapped"},
    ]
    parsed = read("message: a", items)
    assert [event.message.partition(" ")[0] for event in parsed.events[::2]] == ["native", "mapped"]
    assert [event.source for event in parsed.events] == ["native", "snmptrap", "mapped"]
    assert {event.source for event in read("message: a", items, format="mapped").events} == {"mapped"}


def test_elements_keep_their_text_where_they_stand_on_a_path() -> None:
    spaced = b'{"d": {"l": [ {"a":  "x", "n": 1.50} , {"a": "y"}]}}'
    raw = [event.raw for event in read("{each: d.l, message: a}", spaced).events]
    assert raw == ['{"a":  "x", "n": 1.50}', '{"a": "y"}']
    raw = [event.raw for event in read("{each: 'd.l[?n]', message: a}", spaced).events]
    assert raw == ['{"a":"x","n":1.5}']


#: Of every kind of thing that an expression can do.
EXPRESSIONS = (
    "a", "a.b", "@", "a[*].b", "a[]", "a[?b > `1`].c", "*", "*.*", "[a, b]", "{x: a, y: @}", "a || b", "a && !b",
    "not_null(a, b, 'x')", "to_string(@)", "join(',', a)", "sort_by(a, &b)[0]", "max(a)", "keys(@) | [0]", "a[1:-1:2]",
    "merge(@, {a: 'x'})", "map(&to_string(@), a)", "to_number(a)", "reverse(a)", "sum(a)", "floor(a)", "length(@)",
)  # fmt: skip

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from("abcx") | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=60)
@given(
    st.dictionaries(st.sampled_from("abc"), VALUES, min_size=1, max_size=3),
    st.dictionaries(st.sampled_from(("each", *mapping.FIELDS)), st.sampled_from(EXPRESSIONS), max_size=6),
)
def test_no_json_and_no_expression_raise_more_than_refusals(
    item: dict[str, Any], expressions: dict[str, str]
) -> None:
    """Each event or refusal is one of this item; and all can be stored: they become JSON."""
    text = json.dumps({"message": "to_string(@)", "hostname": "'h'"} | expressions)
    try:
        parsed = read(text, item, format="mapped", severity=3)
    except RejectedBody as refusal:
        assert refusal.field == "body"  # an array without an event
        return
    assert parsed.format == "mapped"
    for event in parsed.events:
        assert "\0" not in msgspec.json.encode(event).decode()
        assert event.severity is not None


def test_a_costly_expression_is_stopped_and_its_neighbours_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "message: a\nprogram: 'to_string(length(map(&[@], l)))'"
    many = {"a": "x", "l": list(range(9_000))}
    parsed = read(text, [{"a": "x", "l": []}, many, {"a": "y", "l": [1]}])
    assert [event.item for event in parsed.events] == [0, 2]
    assert "too costly" in parsed.rejected[0].reason
    monkeypatch.setattr(mapping, "REQUEST_STEPS", 50)
    parsed = read(text, [{"a": "x", "l": []}] * 40)
    assert (len(parsed.events) + len(parsed.rejected), parsed.rejected[-1].field) == (40, "program")
    assert 5 < len(parsed.events) < 40


def test_the_costliest_expression_that_is_taken_ends_soon() -> None:
    """Doubling again and again: as wide as it may, over the largest event that is taken."""
    text = "message: a\nprogram: 'map(&[@,@,@,@][], l) | [@,@,@,@][] | [@,@,@,@][] | to_string(@)'"
    began = time.process_time()
    read(text, {"a": "x", "l": ["y" * 30_000, *range(2_000)]})
    assert time.process_time() - began < 0.5


def test_a_mapping_of_another_version_costs_items_only(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = read("message: gone(a)", [{"a": "x"}, {"hostname": "h", "message": "m"}])
    assert ([event.message for event in parsed.events], parsed.rejected[0].field) == (["m"], "mapping")
    assert mapped.FORMAT.name == "mapped"


@pytest.mark.parametrize(
    "common",
    [{"date": "2026-03-04"}, {"source_type": "monitor", "host": "x"}, {"host": "x", "severity": "high"}],
    ids=["as Fluent Bit's", "as Vector's", "as rsyslog's"],
)
def test_what_has_names_of_a_shippers_record_and_no_message_is_the_mapping_s(common: dict[str, str]) -> None:
    (event,) = read("message: text", {"text": "disk full", **common}).events
    assert (event.source, event.message) == ("mapped", "disk full")
