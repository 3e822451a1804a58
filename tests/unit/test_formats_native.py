"""Native JSON and traps: the contract that senders rely on, field by field."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutt.errors import RejectedBody
from mutt.event import Event, State, Varbind
from mutt.formats import registry, times
from mutt.formats.base import MESSAGE_MAX, NAME_MAX, Context, Fields, JsonObject, Rejected
from mutt.formats.objects import JsonFormat
from mutt.formats.values import FACILITIES
from mutt.source import Source

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CONTEXT = Context(NOW, "key-1", 1000, "192.0.2.1")
VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "events.json").read_text())["vectors"]


def parse(body: Any, context: Context = CONTEXT):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return registry.parse(registry.sniff(data, "application/json"), data, context)


def event(**fields: Any) -> Event:
    parsed = parse({"hostname": "h", "message": "m", **fields})
    assert parsed.rejected == []
    return parsed.events[0]


def refusal(item: Any) -> Rejected:
    parsed = parse([item])
    assert parsed.events == []
    return parsed.rejected[0]


VECTOR_FIELDS: dict[str, list[dict[str, Any]]] = {
    "T01": [{"severity": 3, "facility": "local7", "source": "cisco-ios", "hostname": "core-rtr-01.lab"}],
    "T02": [{"occurred_at": datetime(2026, 3, 4, 8, 15, 3, tzinfo=UTC)}],
    "T03": [{"severity": 2, "program": "kernel", "tags": {"source_ip": "10.20.0.17", "mutt_type": "syslog"}}],
    "T04": [{"severity": 2}],
    "T05": [{"severity": 4}],
    "T07": [{
        "trap_oid": "1.3.6.1.4.1.9.9.41.2.0.1",
        "varbinds": (Varbind("1.3.6.1.4.1.9.9.41.1.2.3.1.5", "LINEPROTO down Gi0/1"),),
        "instance": None,
    }],
    "T08": [{"trap_oid": "1.3.6.1.4.1.9.9.41.2.0.1"}],
    "T10": [{"trap_oid": "1.3.6.1.6.3.1.1.5.3", "instance": "12", "clear_key": "link:12", "state": State.RAISE}],
    "T11": [{"severity": 1, "source": "haproxy"}],
    "T13": [],
    "T14": [{"occurred_at": NOW, "received_at": NOW, "occurred_text": None}],
    "T17": [{"tags": {"_retry_count": "99", "_correlation_id": "spoof"}, "template": None}],
    "T20": [{"message": "CRITICAL a", "item": 0}, {"message": "ok b", "item": 1}],
}  # fmt: skip


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_the_vectors_are_read_as_agreed(vector: dict[str, Any]) -> None:
    parsed = parse(vector["event"])
    expected = VECTOR_FIELDS[vector["id"]]
    assert len(parsed.events) == len(expected)
    for found, fields in zip(parsed.events, expected, strict=True):
        assert {name: getattr(found, name) for name in fields} == fields
    assert [item.field for item in parsed.rejected] == (["message"] if vector["id"] == "T13" else [])


@pytest.mark.parametrize(
    ("item", "field", "reason"),
    [
        ({"message": "m"}, "hostname", "missing"),
        ({"hostname": None, "message": "m"}, "hostname", "missing"),
        ({"hostname": " ", "message": "m"}, "hostname", "empty"),
        ({"hostname": 5, "message": "m"}, "hostname", "text"),
        ({"hostname": "h" * 256, "message": "m"}, "hostname", "255"),
        ({"hostname": "h"}, "message", "missing"),
        ({"hostname": "h", "message": ""}, "message", "empty"),
        ({"hostname": "h", "message": " \n"}, "message", "empty"),
        ({"hostname": "h", "message": ["m"]}, "message", "text"),
        ({"hostname": "h", "message": "m" * 1000}, "event", "at most 1000"),
        ({"hostname": "h", "message": "m", "event_id": {}}, "event_id", "text"),
        ([{"hostname": "h", "message": "m"}], "event", "object"),
        ("text", "event", "object"),
        (None, "event", "object"),
        (7, "event", "object"),
    ],
)
def test_an_item_is_refused_by_field_and_reason(item: Any, field: str, reason: str) -> None:
    found = refusal(item)
    assert (found.index, found.field) == (0, field)
    assert reason in found.reason
    assert found.raw == json.dumps(item)[:1000]


@pytest.mark.parametrize(
    ("fields", "severity", "kept"),
    [
        ({"syslog_severity": 3}, 3, {}),
        ({"syslog_severity": "3"}, 3, {}),
        ({"syslog_severity": 3.0}, 3, {}),
        ({"severity": "WARNING"}, 4, {}),
        ({"severity": "major"}, 3, {}),
        ({"syslog_severity": 2, "severity": "info"}, 2, {"severity": "info"}),
        ({"syslog_severity": "?", "severity": "info"}, 6, {"syslog_severity": "?"}),
        ({"severity": "purple"}, None, {"severity": "purple"}),
        ({"severity": 8}, None, {"severity": "8"}),
        ({"severity": -1}, None, {"severity": "-1"}),
        ({"severity": True}, None, {"severity": "true"}),
        ({"severity": 2.5}, None, {"severity": "2.5"}),
        ({"severity": None}, None, {}),
    ],
)
def test_severities(fields: dict[str, Any], severity: int | None, kept: dict[str, str]) -> None:
    found = event(**fields)
    assert (found.severity, found.tags) == (severity, kept)


@pytest.mark.parametrize(
    ("value", "time"),
    [
        ("2026-01-02T03:04:05Z", NOW),
        ("2026-01-02t03:04:05z", NOW),
        ("2026-01-02T05:04:05+02:00", NOW),
        ("2026-01-02 03:04:05", NOW),  # no zone: UTC
        ("2026-01-02 03:04:05 UTC", NOW),
        ("2026-01-02 05:04:05 +0200", NOW),
        ("2026-01-02T03:04:05.123456789Z", NOW.replace(microsecond=123456)),
        (1767323045, NOW),
        (1767323045.25, NOW.replace(microsecond=250000)),
        (1767323045123, NOW.replace(microsecond=123000)),
        (1767323045123456, NOW.replace(microsecond=123456)),
        (1767323045123456789, NOW.replace(microsecond=123456)),
        ("1767323045", NOW),
        ("1767323045123", NOW.replace(microsecond=123000)),
        ("Jan  2 03:04:05", NOW),
        ("Dec 31 23:59:59", datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("Jan 12 2025 03:04:05.5", datetime(2025, 1, 12, 3, 4, 5, 500000, tzinfo=UTC)),
        ("Jan  2 05:04:05 +02:00", NOW),
        ("Jan  2 04:04:05 CET", NOW),
        ("Jan  1 22:04:05 EST 2026", NOW),
        ("Jan  2 03:04:05 2026", NOW),
        ("Feb 29 01:00:00", None),  # neither 2025, 2026 nor 2027 has one
        ("yesterday", None),
        ("2026-13-01T00:00:00Z", None),
        ("2026", None),
        (2026, None),
        (True, None),
        (-5, None),
        (10**30, None),
        ("0001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+05:00", None),
        ([], None),
    ],
)
def test_times(value: Any, time: datetime | None) -> None:
    """One that can't be read is received_at, and stays as the sender wrote it."""
    found = event(timestamp=value)
    assert found.occurred_at == (time or NOW)
    assert found.occurred_text == (None if time else value if isinstance(value, str) else json.dumps(value))


def test_a_time_in_a_zone_that_nobody_can_know_is_taken_for_utc_and_kept_as_written() -> None:
    found = event(timestamp="Jan  2 03:04:05 CST")
    assert (found.occurred_at, found.occurred_text) == (NOW, "Jan  2 03:04:05 CST")


def test_a_line_of_the_new_year_received_in_the_old_one_is_of_the_new() -> None:
    last_night = datetime(2025, 12, 31, 23, 59, 58, tzinfo=UTC)
    assert times.read("Jan  1 00:00:01", last_night) == datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("raise", "raise"),
        ("FIRING", "raise"),
        ("down", "raise"),
        ("resolved", "clear"),
        ("Clear", "clear"),
        ("ok", "clear"),
        ("up", "clear"),
    ],
)
def test_states(word: str, state: str) -> None:
    found = event(state=word, clear_key=7)
    assert (found.state, found.tags, found.clear_key) == (state, {}, "7")


def test_what_says_nothing_to_mutt_is_kept_as_text() -> None:
    found = event(
        state="flapping", facility=99, source=5, source_type="x", mutt_type="syslog", n=1.5, flag=False, nothing=None,
        nested={"a": [1, "ü"]}, metadata={"site": "dc2", "n": "other", "deep": {"er": {}}}, _retry_count=99,
    )  # fmt: skip
    assert found.source == "x"
    assert found.tags == {
        "state": "flapping", "facility": "99", "source": "5", "mutt_type": "syslog", "n": "1.5", "flag": "false",
        "nested": '{"a":[1,"ü"]}', "site": "dc2", "metadata.n": "other", "deep.er": "{}", "_retry_count": "99",
    }  # fmt: skip


def test_an_object_of_tags_is_flattened_too() -> None:
    """So that a rule for site=lon1 matches. What stands on the event itself comes first, then tags, then metadata."""
    found = event(
        site="own", tags={"site": "lon1", "rack": {"row": 4}, "n": 1}, metadata={"n": 2, "site": "x"}
    )
    assert found.tags == {
        "site": "own", "tags.site": "lon1", "rack.row": "4", "n": "1", "metadata.n": "2", "metadata.site": "x",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "kept"), [(["a", "b"], '["a","b"]'), ("a", "a"), (7, "7"), (None, None), ({}, None)]
)
def test_tags_that_are_no_object_are_one_tag(value: Any, kept: str | None) -> None:
    for name in ("tags", "metadata"):
        assert event(**{name: value}).tags == ({} if kept is None else {name: kept})


LARGE = msgspec.structs.replace(CONTEXT, max_event=1 << 20)


def test_what_would_grow_too_much_by_its_names_is_one_tag_of_json() -> None:
    many = {str(n): 1 for n in range(9000)}
    item = {
        "hostname": "h",
        "message": "m",
        "metadata": {"site": {"row": 4}, "p" * 8000: many, "a": {"b": 1}},
    }
    (found,) = parse(item, LARGE).events
    whole = found.tags.pop("p" * 8000)
    assert json.loads(whole) == many
    assert found.tags == {"site.row": "4", "a.b": "1"}


def nested(name: int, depth: int, leaves: int) -> dict[str, Any]:
    """Long names above many short leaves."""
    value: dict[str, Any] = {str(n): n for n in range(leaves)}
    for level in range(depth):
        value = {f"{level}" * name: value, "x": level}
    return value


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
) | st.builds(nested, st.integers(1, 900), st.integers(0, 6), st.integers(0, 300))


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(["tags", "metadata", "oid", "x"], anything)))
def test_tags_are_never_much_larger_than_what_came(fields: dict[str, Any]) -> None:
    (found,) = parse({"hostname": "h", "message": "m", **fields}, LARGE).events
    size = sum(len(text.encode()) for tag in found.tags.items() for text in tag)
    assert size < 4096 + 3 * len(found.raw.encode())


@pytest.mark.parametrize(
    ("key", "kept"),
    [
        ("k" * 255, "k" * 255),
        ("ü" * 127, "ü" * 127),
        # PostgreSQL's index would refuse it, and with it the event.
        ("k" * 256, "sha256:" + sha256(b"k" * 256).hexdigest()),
        ("ü" * 128, "sha256:" + sha256("ü".encode() * 128).hexdigest()),
    ],
)
def test_a_long_clear_key_is_replaced_by_its_hash(key: str, kept: str) -> None:
    down, up = event(clear_key=key, state="down"), event(clear_key=key, state="up", n=2)
    assert down.clear_key == up.clear_key == kept
    assert event(clear_key=f"{key}x").clear_key != down.clear_key


def test_a_traps_clear_key_is_bounded_too() -> None:
    found = event(trap_oid="linkDown", message=f"ifIndex={'1' * 300}")
    assert found.clear_key == f"sha256:{sha256(b'link:' + b'1' * 300).hexdigest()}"


@pytest.mark.parametrize(
    ("value", "name"), [(0, "kern"), ("23", "local7"), ("local7", "local7"), (16, FACILITIES[16])]
)
def test_facilities(value: Any, name: str) -> None:
    assert event(facility=value).facility == name


@pytest.mark.parametrize(
    "variables",
    [
        [{"oid": ".1.2.3", "value": 7}, {"oid": "1.2.4", "value": "x; y}"}],
        ["@{oid=.1.2.3; value=7}", "@{oid=1.2.4; value=x; y}}"],
        "@{oid=.1.2.3; value=7} @{oid=1.2.4; value=x; y}}",
        {".1.2.3": 7, "1.2.4": "x; y}"},
    ],
)
def test_variables_in_every_spelling(variables: Any) -> None:
    found = event(trap_oid="..1.2", variables=variables)
    assert found.varbinds == (Varbind("1.2.3", "7"), Varbind("1.2.4", "x; y}"))
    assert (found.trap_oid, found.tags) == ("1.2", {})


@pytest.mark.parametrize("variables", ["what", [5], [{"value": 1}], 7, {"": 1}])
def test_variables_that_cannot_be_read_are_kept_as_a_tag(variables: Any) -> None:
    assert "variables" in event(trap_oid="1.2", variables=variables).tags


def test_a_link_is_known_by_its_ifindex_wherever_that_stands() -> None:
    down = event(trap_oid="1.3.6.1.6.3.1.1.5.3", variables=[{"oid": "1.3.6.1.2.1.2.2.1.8.12", "value": 2}])
    up = event(trap_oid="linkUp", variables=[{"oid": "IF-MIB::ifIndex.9", "value": "12"}], state="firing")
    assert (down.instance, down.clear_key, down.state) == ("12", "link:12", State.RAISE)
    assert (up.instance, up.clear_key, up.state) == ("12", "link:12", State.CLEAR)


def test_a_trap_of_no_interface_has_no_instance() -> None:
    """The last number of these OIDs is a running number: each trap would be an alert of its own."""
    history = [{"oid": f"1.3.6.1.4.1.9.9.41.1.2.3.1.{column}.77", "value": "x"} for column in (2, 3, 4)]
    found = event(trap_oid="1.3.6.1.4.1.9.9.41.2.0.1", variables=history)
    assert (found.instance, found.clear_key) == (None, None)


def test_a_community_reaches_no_tag() -> None:
    trap = {"source_ip": "10.0.0.1", "trap_oid": "1.3.6.1.6.3.1.1.5.1", "community": "hush", "version": "2c"}
    found = parse(trap).events[0]
    assert (found.source, found.message, found.tags) == ("snmptrap", "coldStart", {"version": "2c"})


CISCO, DOWN = "1.3.6.1.4.1.9.9.41.2.0.1", "1.3.6.1.6.3.1.1.5.3"
IF_INDEX = {"oid": "1.3.6.1.2.1.2.2.1.1.12", "value": 12}


@pytest.mark.parametrize(
    ("trap", "oid"),
    [
        ({"trap_oid": f".{CISCO}"}, CISCO),
        ({"snmp_trap_oid": f".{CISCO}"}, CISCO),
        ({"snmpTrapOID": CISCO}, CISCO),
        ({"trapOID": "IF-MIB::linkDown"}, DOWN),
        ({"oid": f".{CISCO}"}, CISCO),
        ({"oid": "iso.3.6.1.6.3.1.1.5.3"}, DOWN),
        ({"oid": "linkDown"}, DOWN),
        ({"oid": "SNMPv2-MIB::linkDown"}, DOWN),
        ({"oid": "order 7", "trapOID": CISCO}, CISCO),
        ({"generic_trap": "2"}, DOWN),
        ({"generic_trap": 6, "specific_trap": 1, "enterprise": ".1.3.6.1.4.1.9.9.41.2"}, CISCO),
        ({"varbinds": [{"oid": ".1.3.6.1.6.3.1.1.4.1.0", "value": f".{CISCO}"}]}, CISCO),
        ({"variables": {"SNMPv2-MIB::snmpTrapOID.0": "IF-MIB::linkDown"}}, DOWN),
        ({"variable_bindings": [{"name": "1.3.6.1.6.3.1.1.4.1.0", "value": CISCO}], "variables": []}, CISCO),
        ({"oid": "1.2"}, None),  # as likely a version
        ({"oid": 7}, None),
        ({"generic_trap": 9}, None),
        ({"variables": [{"oid": "1.2.3", "value": "x"}]}, None),
        ({}, None),
    ],
)
def test_a_trap_is_known_by_the_same_marks_in_every_json(trap: dict[str, Any], oid: str | None) -> None:
    assert event(**trap).trap_oid == oid
    bare = parse({"source_ip": "10.0.0.1", **trap})
    assert [found.trap_oid for found in bare.events] == ([oid] if oid else [])
    assert [found.field for found in bare.rejected] == ([] if oid else ["hostname"])


@pytest.mark.parametrize("key", ["snmp_trap_oid", "snmpTrapOID", "trapOID", "oid"])
def test_a_link_that_goes_down_means_the_same_under_every_key(key: str) -> None:
    found = event(**{key: f".{DOWN}", "varbinds": [IF_INDEX], "community": "hush", "source": "r"})
    assert (found.instance, found.clear_key, found.state) == ("12", "link:12", State.RAISE)
    assert (found.source, found.tags) == ("r", {})


def test_what_is_called_like_an_oid_and_is_none_is_a_tag() -> None:
    found = event(oid="order 7", message="see ifIndex=12", community="Bristol")
    assert (found.trap_oid, found.instance) == (None, None)
    assert found.tags == {"oid": "order 7", "community": "Bristol"}


def test_a_link_without_an_index_keeps_the_senders_clear_key() -> None:
    assert event(trap_oid="linkDown", clear_key="mine").clear_key == "mine"


def test_one_array_may_mix_traps_and_native_events() -> None:
    trap = {"agent_address": "10.0.0.1", "generic_trap": 2}
    parsed = parse(
        [{"hostname": "h", "message": "m"}, trap, {"hostname": "h", "message": "m", "trap_oid": "1.2"}]
    )
    assert [found.source for found in parsed.events] == ["native", "snmptrap", "native"]


def test_a_named_format_takes_every_item() -> None:
    parsed = registry.parse(registry.FORMATS["native"], b'{"source_ip":"10.0.0.1","trap_oid":"1.2"}', CONTEXT)
    assert [found.field for found in parsed.rejected] == ["hostname"]


def test_ids() -> None:
    """A UUID is unchanged, other text is the key's own, none gives UUIDv7s that sort as the items stood."""
    given = "0190F5C4-6F1E-7A1B-8D2E-3F4A5B6C7D8E"
    items = [
        {"hostname": "h", "message": "m", **own}
        for own in ({}, {"event_id": given}, {"event_id": "a-1"}, {"event_id": ""}, {})
    ]
    parsed, other = parse(items), parse(items, msgspec.structs.replace(CONTEXT, key_id="key-2"))
    assert parsed.identified == [1, 2]
    made = [parsed.events[position].event_id for position in (0, 3, 4)]
    assert made == sorted(made)
    assert {found.version for found in made} == {7}
    assert made[0] == UUID(str(made[0]))
    assert hash(made[0]) == hash(UUID(int=made[0].int))
    assert parsed.events[1].event_id == UUID(given) == other.events[1].event_id
    assert parsed.events[2].event_id == parse(items).events[2].event_id != other.events[2].event_id


def test_items_are_stamped_a_microsecond_apart_by_their_place_in_the_request() -> None:
    good = {"hostname": "h", "message": "m"}
    parsed = parse([good, {}, good])
    assert [(found.item, found.received_at.microsecond) for found in parsed.events] == [(0, 0), (2, 2)]
    assert [found.index for found in parsed.rejected] == [1]


def test_positions_of_identified_events_do_not_count_refused_ones() -> None:
    parsed = parse(
        [{}, {"hostname": "h", "message": "m", "event_id": "x"}, {"hostname": "h", "event_id": "y"}]
    )
    assert parsed.identified == [0]


@pytest.mark.parametrize(
    ("body", "message", "raw"),
    [
        (rb'{"hostname":"h","message":"a\u0000b"}', "a\ufffdb", r'{"hostname":"h","message":"a\u0000b"}'),
        (rb'{"hostname":"h","message":"a\ud83d"}', "a\ufffd", r'{"hostname":"h","message":"a\ud83d"}'),
        (b'{"hostname":"h","message":"caf\xe9"}', "caf\\xe9", '{"hostname":"h","message":"caf\\xe9"}'),
        (b'{"hostname":"h","message":"a\0b\n"}', "a\ufffdb\n", '{"hostname":"h","message":"a\ufffdb\n"}'),
        (b'{ "message" : "m", "hostname":"h" }', "m", '{ "message" : "m", "hostname":"h" }'),
    ],
)
def test_texts_can_be_stored_and_raw_is_the_text_as_it_came(body: bytes, message: str, raw: str) -> None:
    found = parse(body).events[0]
    assert (found.message, found.raw) == (message, raw)


def test_a_long_message_is_kept_whole_up_to_its_limit_and_beyond_it_says_where_it_was_cut() -> None:
    """``raw`` has all of it."""
    whole, long = "ü" * MESSAGE_MAX, "ü" * (MESSAGE_MAX + 1)
    kept, shortened = parse([{"hostname": "h", "message": text} for text in (whole, long)], LARGE).events
    assert kept.message == whole
    assert len(shortened.message) == MESSAGE_MAX
    assert shortened.message.endswith(f"ü [cut: {MESSAGE_MAX - 33} of {MESSAGE_MAX + 1} characters]")
    assert json.loads(shortened.raw)["message"] == long


@pytest.mark.parametrize("name", ["source", "program", "facility"])
def test_a_long_name_is_cut_likewise(name: str) -> None:
    (found,) = parse({"hostname": "h", "message": "m", name: "n" * 300}, LARGE).events
    assert len(getattr(found, name)) == NAME_MAX
    assert getattr(found, name).endswith("n [cut: 226 of 300 characters]")


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", ""])
@pytest.mark.parametrize("body", [b"null", b"\xef\xbb\xbf null\r\n", b"null" + b" " * 400])
def test_null_is_no_event_whatever_the_content_type(body: bytes, content_type: str) -> None:
    parsed = registry.parse(registry.sniff(body, content_type), body, CONTEXT)
    assert parsed.events == []
    assert [found.field for found in parsed.rejected] == ["event"]


@pytest.mark.parametrize("body", [b"[]", b"", b"\n\r\n", b'{"a"', b"\x1f\x8b\x08", b"(\xb5/\xfd"])
def test_a_body_without_an_event_is_refused_whole(body: bytes) -> None:
    with pytest.raises(RejectedBody):
        parse(body)


class Wrapped(JsonFormat):
    """As a newcomer would write one: an object that wraps several events."""

    name = "wrapped"
    inside = "alerts"

    def read(self, item: JsonObject, context: Context) -> Fields:
        return {"hostname": item.pop("host", context.default_host), "message": item.pop("what", None)}


def test_an_object_may_wrap_several_events() -> None:
    body = b'{"alerts":[{"what":"a"},{"host":"x", "what":"b"},{},{"what":"c","alerts":[]}],"version":"4"}{"what":"d"}'
    parsed = registry.parse(Wrapped(), body, CONTEXT)
    assert [(found.item, found.hostname, found.message) for found in parsed.events] == [
        (0, "192.0.2.1", "a"), (1, "x", "b"), (3, "192.0.2.1", "c"), (4, "192.0.2.1", "d"),
    ]  # fmt: skip
    assert [found.index for found in parsed.rejected] == [2]
    assert parsed.events[1].raw == '{"host":"x", "what":"b"}'


def test_what_is_known_of_the_sender_fills_up_its_events_and_no_field_of_theirs_reaches_it() -> None:
    item = {
        "hostname": "h",
        "message": "m",
        "default_team": "Evil",
        "environment": "development",
        "team": "x",
    }
    items = [item, item | {"severity": 0}]
    assert [(one.severity, one.default_team, one.environment) for one in parse(items).events] == [
        (None, None, None),
        (0, None, None),
    ]
    source = Source(severity=5, team="Web", environment="production")
    found = parse(items, msgspec.structs.replace(CONTEXT, source=source)).events
    assert [one.severity for one in found] == [5, 0]
    assert {(one.default_team, one.environment, one.team) for one in found} == {("Web", "production", None)}
    assert found[0].tags["default_team"] == "Evil"
