"""Formats that hold somebody else's event: Splunk's envelopes, and CloudEvents. What samples don't reach."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mutt.errors import Kind, RejectedBody
from mutt.event import Event, State
from mutt.formats import collector, registry, within
from mutt.formats.base import Context, Fields, JsonObject, Parsed
from mutt.formats.objects import JsonFormat
from mutt.source import Source
from tests.fuzz.targets import check, check_refusal

CONTEXT = Context(datetime(2026, 3, 4, 9, 30, tzinfo=UTC), "key-1", 65536, "192.0.2.1")
ASA = "%ASA-4-106023: Deny tcp src outside:203.0.113.8"
TRAP = {
    "source_ip": "10.20.0.7",
    "trap_oid": "1.3.6.1.6.3.1.1.5.3",
    "varbinds": [{"oid": "1.3.6.1.2.1.2.2.1.1.12", "value": 12}],
}
SNS = {"Type": "Notification", "MessageId": "1", "TopicArn": "arn:aws:sns:us-west-2:1:MyTopic"}
CLOUD = {"specversion": "1.0", "id": "a-771", "source": "/noc/poller/3", "type": "net.linkdown.v1"}


def packed(data: bytes) -> str:
    return base64.b64encode(data).decode()


def parse(name: str, *items: Any, **headers: str) -> Parsed:
    context = msgspec.structs.replace(CONTEXT, headers={key.upper(): value for key, value in headers.items()})
    return registry.parse(
        registry.FORMATS[name], b"".join(json.dumps(one).encode() for one in items), context
    )


def one(name: str, item: Any) -> Event:
    """The event of ``item``; what is kept of it is that event again for the format that is its source."""
    parsed = parse(name, item)
    assert not parsed.rejected
    (event,) = parsed.events
    again = registry.parse(registry.FORMATS[event.source], event.raw.encode(), CONTEXT).events
    assert [msgspec.structs.replace(found, event_id=event.event_id) for found in again] == [event]
    return event


#: A header's value, as WSGI shows it; half of them say something.
written = st.sampled_from(["a", "core-1/Te1", "%E2%82%AC", "%C0", '"', '"a\\\\"', " "]) | st.text(
    st.characters(max_codepoint=255), max_size=20
)
CLOUDEVENTS = registry.FORMATS["cloudevents"]


# ---- Splunk


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"event": ASA, "sourcetype": "cisco:asa", "host": "fw-9"},
         {"hostname": "fw-9", "message": ASA, "severity": 4, "program": "%ASA-4-106023"}),
        ({"event": "<187>Mar  4 09:15:02 core-1 sshd[811]: Failed password", "host": "relay"},
         {"hostname": "relay", "message": "Failed password", "severity": 3, "facility": "local7", "program": "sshd"}),
        ({"event": "Mar  4 09:15:02 core-1 sshd[811]: Failed password"},
         {"hostname": "core-1", "message": "Failed password", "program": "sshd"}),
        ({"event": "2026-03-04T09:15:02Z ERROR pool exhausted", "host": "app-1"},
         {"hostname": "app-1", "message": "2026-03-04T09:15:02Z ERROR pool exhausted", "program": None}),
        ({"event": "2026-03-04T09:15:02Z core-1 rpd: BGP down", "sourcetype": "Syslog"},
         {"hostname": "core-1", "message": "BGP down", "program": "rpd"}),
        ({"event": 5, "host": "h"}, {"message": "5"}),
        ({"event": False, "host": " "}, {"hostname": "192.0.2.1", "message": "false"}),
        ({"event": {"odd": 1}, "host": "h"}, {"message": '{"odd":1}', "tags": {"odd": "1"}}),
        ({"event": {"line": "disk full", "level": "crit", "state": "resolved", "status": "open", "host": "inner"}},
         {"hostname": "inner", "message": "disk full", "severity": 2, "state": State.CLEAR}),
        ({"event": "x", "host": "h", "fields": {"severity": "warn", "site": {"id": "dc2"}}, "index": "net"},
         {"severity": 4, "tags": {"severity": "warn", "site.id": "dc2", "index": "net"}}),
        ({"event": "x", "host": "h", "fields": {"otel.log.severity.text": "Warning", "otel.log.severity.number": 17}},
         {"severity": 4}),
        ({"event": "x", "host": "h", "fields": {"otel.log.severity.number": 17}}, {"severity": 3}),
        ({"event": "x", "host": "h", "fields": ["a"]}, {"tags": {"fields": '["a"]'}}),
        ({"event": TRAP, "host": "collector"},
         {"hostname": "10.20.0.7", "trap_oid": TRAP["trap_oid"], "clear_key": "link:12"}),
        ({"event": {"hostname": "", "message": "native"}, "host": "h"},
         {"hostname": "h", "message": "native", "source": "splunk"}),
        ({"event": {"message": "m", "source_type": "file"}, "host": "h"}, {"hostname": "h", "message": "m"}),
        ({"event": {"MESSAGE": "m", "HOST": "h", "PRIORITY": "err"}}, {"hostname": "h", "message": "m", "severity": 3}),
        ({"event": {"host": "sw-1", "severity": "crit"}, "host": "h"}, {"hostname": "h", "severity": 2}),
        ({"event": {"log": "m", "date": 1772614800}}, {"hostname": "192.0.2.1", "message": "m"}),
    ],
    ids=["mnemonic", "pri", "rfc3164", "an application's line", "told by the sourcetype", "number", "false", "object",
         "object with words", "fields", "OpenTelemetry's", "OpenTelemetry's number",
         "fields that are none", "trap", "native", "a shipper's record",
         "syslog-ng's", "no message",
         "one without a host"],
)  # fmt: skip
def test_what_splunk_calls_an_event_is_read_as_what_it_is(item: Any, expected: dict[str, Any]) -> None:
    event = one("splunk", item)
    assert {key: getattr(event, key) for key in expected} == expected


@pytest.mark.parametrize("written", [1795430645.25, "1795430645.25", "1795430645.250"])
def test_the_time_of_the_envelope_is_the_events(written: Any) -> None:
    event = one("splunk", {"event": "<13>Mar  4 09:15:02 h p: x", "time": written})
    assert event.occurred_at == datetime.fromtimestamp(1795430645.25, UTC)


@pytest.mark.parametrize(
    ("item", "kind"),
    [({}, Kind.MISSING), ({"host": "h"}, Kind.MISSING), ({"event": None}, Kind.MISSING), ({"event": " "}, Kind.BLANK),
     ({"event": {}}, Kind.BLANK), ({"event": "<13>"}, Kind.BLANK), ({"event": "x" * 70_000}, Kind.TOO_LARGE),
     (5, Kind.OTHER)],
    ids=["empty", "no event", "null", "blank", "empty event", "only a priority", "too large", "no object"],
)  # fmt: skip
def test_a_bad_event_costs_no_neighbour_and_says_what_is_wrong_in_a_word(item: Any, kind: Kind) -> None:
    parsed = parse("splunk", {"event": "a", "host": "h"}, item, {"event": "b", "host": "h"})
    assert [event.message for event in parsed.events] == ["a", "b"]
    assert [(bad.index, bad.kind) for bad in parsed.rejected] == [(1, kind)]


@pytest.mark.parametrize("body", [b"", b" \n", b"[]"])
def test_a_body_without_an_event_says_so_in_a_word(body: bytes) -> None:
    with pytest.raises(RejectedBody) as refused:
        registry.parse(registry.FORMATS["splunk"], body, CONTEXT)
    assert refused.value.kind is Kind.NOTHING


def test_a_native_event_with_a_key_of_splunks_stays_native() -> None:
    for more in ({"event": "x"}, {"event": {"a": 1}, "host": "h"}):
        assert registry.route({"hostname": "h", "message": "m"} | more).name == "native"


class Listed(JsonFormat):
    """A format whose objects hold several events."""

    name = "listed"
    inside = "items"

    def read(self, item: JsonObject, context: Context) -> Fields:
        return {
            "hostname": item.get("host", context.default_host),
            "message": item["said"],
            "source": self.name,
        }


LISTED = Listed()


@pytest.fixture
def listed() -> Iterator[JsonObject]:
    """An object of such a format, which is known for as long."""
    within.ask(lambda item: LISTED if "items" in item else registry.route(item))
    yield {"items": [{"said": "m0", "host": "h"}, {"said": "m1"}, {"said": "m2"}]}
    within.ask(registry.route)


def test_each_of_several_events_in_an_envelope_is_kept_as_its_own_format_keeps_it(listed: JsonObject) -> None:
    envelope = {"event": listed, "host": "envelope", "time": 1795430645, "index": "net"}
    parsed = parse("splunk", {"event": "before"}, envelope, {"event": ""})
    assert [event.message for event in parsed.events] == ["before", "m0", "m1", "m2"]
    assert [event.hostname for event in parsed.events[1:]] == ["h", "envelope", "envelope"]
    assert [event.source for event in parsed.events[1:]] == ["listed"] * 3
    assert [json.loads(event.raw) for event in parsed.events[1:]] == listed["items"]
    assert {event.occurred_at.year for event in parsed.events[1:]} == {2026}
    assert [bad.index for bad in parsed.rejected] == [4]


def test_each_of_several_events_in_a_cloudevent_is_known_again(listed: JsonObject) -> None:
    first, again = (parse("cloudevents", CLOUD | {"data": listed}) for _ in range(2))
    assert [event.event_id for event in first.events] == [event.event_id for event in again.events]
    assert len({event.event_id for event in first.events}) == 3
    assert first.identified == [0, 1, 2]


def test_a_bad_event_among_several_in_an_envelope_costs_no_neighbour(listed: JsonObject) -> None:
    parsed = parse("cloudevents", CLOUD | {"data": {"items": [*listed["items"], 5, {"said": ""}]}})
    assert len(parsed.events) == 3
    assert [(bad.index, bad.field) for bad in parsed.rejected] == [(3, "event"), (4, "message")]


@pytest.mark.parametrize("envelope", [{"event": TRAP}, CLOUD | {"data": TRAP}], ids=["splunk", "cloudevents"])
def test_a_limited_key_brings_envelopes_by_their_own_name(envelope: JsonObject) -> None:
    name, body = registry.route(envelope).name, json.dumps(envelope).encode()
    allowed, refused = (msgspec.structs.replace(CONTEXT, formats=(one,)) for one in (name, "snmptrap"))
    assert len(registry.parse(registry.MIXED, body, allowed).events) == 1
    with pytest.raises(RejectedBody, match=f"format: is {name}") as refusal:
        registry.parse(registry.MIXED, body, refused)
    assert refusal.value.status == 403


@pytest.mark.parametrize(
    ("name", "envelope"),
    [
        ("splunk", lambda listed, long: {"event": listed, "source": long}),
        ("cloudevents", lambda listed, long: CLOUD | {"data": listed, "id": long}),
        ("sns", lambda listed, long: SNS | {"Message": json.dumps(listed), "Subject": long}),
    ],
    ids=["splunk", "cloudevents", "sns"],
)
def test_much_around_many_is_not_looked_at_for_each_of_them(
    name: str, envelope: Any, listed: JsonObject
) -> None:
    parsed = parse(name, envelope(listed, "x" * 1000))
    assert len(parsed.events) == 3
    assert not any("x" * 1000 in event.tags.values() for event in parsed.events)
    parsed = parse(name, envelope(listed, "x" * 9000))
    assert not parsed.events
    assert [bad.field for bad in parsed.rejected] == ["event"] * 3
    assert "shorten that" in parsed.rejected[0].reason


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("alertmanager", lambda many: {"groupKey": "x", "alerts": many}),
        ("splunk", lambda many: {"event": {"groupKey": "x", "alerts": many}}),
        ("rsyslog", lambda many: {"streams": [{"stream": {}, "values": many}]}),
        ("telegraf", lambda many: {"metrics": many}),
        ("mapped", lambda many: {"rows": many}),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_as_many_events_may_stand_in_lists_as_in_a_body(
    name: str, body: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "MAX_ITEMS", 5)
    context = msgspec.structs.replace(CONTEXT, source=Source(mapping="each: rows\nmessage: a"))

    def read(*counts: int) -> Parsed:
        written = b"\n".join(json.dumps(body([0] * count)).encode() for count in counts)
        return registry.parse(registry.FORMATS[name], written, context)

    assert len(read(2, 3).rejected) == 5
    for counts in ((6,), (5, 1)):
        with pytest.raises(RejectedBody, match="too many items") as refusal:
            read(*counts)
        assert refusal.value.status == 413


# ---- CloudEvents


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"data": {"severity": "major", "state": "cleared"}, "subject": "core-sw-07/Te1/0/12"},
         {"hostname": "core-sw-07", "severity": 3, "state": State.CLEAR, "instance": "Te1/0/12",
          "clear_key": "core-sw-07/Te1/0/12", "tags": {"ce.source": "/noc/poller/3", "ce.type": "net.linkdown.v1",
           "ce.subject": "core-sw-07/Te1/0/12"},
           "message": 'net.linkdown.v1 core-sw-07/Te1/0/12: {"severity":"major","state":"cleared"}'}),
        ({"data": {"host": "sw-1", "message": "fan failed"}, "subject": "sw-2"},
         {"hostname": "sw-1", "message": "fan failed"}),
        ({"data": {"host": {"name": "x"}}, "subject": "sw-2"}, {"hostname": "sw-2"}),
        ({"data": {"host": "sw-1", "severity": "crit"}}, {"hostname": "sw-1", "severity": 2}),
        ({"subject": "edge1:9342"}, {"hostname": "edge1", "instance": None}),
        ({"subject": "2001:db8::1"}, {"hostname": "2001:db8::1"}),
        ({"subject": "123", "source": "https://github.example/cloudevents/spec"}, {"hostname": "github.example"}),
        ({"subject": "1b4e28ba-2fa1-11d2-883f-0016d3cca427"}, {"hostname": "/noc/poller/3"}),
        ({"subject": "disk full", "source": "//poller:80/x"}, {"hostname": "poller"}),
        ({"source": "http://[::1/x"}, {"hostname": "http://[::1/x"}),
        ({"data": "it burns"}, {"message": "it burns"}),
        ({"data": 5}, {"message": "net.linkdown.v1: 5"}),
        ({"data": []}, {"message": "net.linkdown.v1"}),
        ({"severitynumber": 17}, {"severity": 3}),
        ({"severitytext": "WARN", "severitynumber": "21"}, {"severity": 4}),
        ({"severitynumber": "21"}, {"severity": 2}),
        ({"data": TRAP}, {"hostname": "10.20.0.7", "clear_key": "link:12", "instance": "12"}),
        ({"data": {"hostname": "h", "message": "m", "timestamp": 1772614800}, "time": "2026-03-04T08:00:00Z"},
         {"source": "cloudevents", "occurred_at": datetime(2026, 3, 4, 9, tzinfo=UTC)}),
        ({"data_base64": packed(b"it burns"), "datacontenttype": "text/plain"}, {"message": "it burns"}),
        ({"data_base64": packed(b'{"message": "m"}'), "datacontenttype": "application/x+json"}, {"message": "m"}),
        ({"data_base64": packed(b"\xff\xfe"), "datacontenttype": "image/x"},
         {"message": "net.linkdown.v1: 2 bytes of image/x"}),
        ({"data": {**CLOUD, "data": {"message": "m", "hostname": "h"}}}, {"source": "cloudevents"}),
    ],
    ids=["subject", "data before subject", "a host that is none", "no message", "port",
         "IPv6", "number", "UUID", "sentence", "no URI", "text", "a number",
         "nothing", "severity's number", "severity's text", "severity's number as text", "trap", "native", "base64",
         "base64 of JSON", "bytes", "one inside another"],
)  # fmt: skip
def test_a_cloudevent_is_read_by_who_knows_its_data_and_else_by_words(
    more: Any, expected: dict[str, Any]
) -> None:
    event = one("cloudevents", CLOUD | more)
    assert {key: getattr(event, key) for key in expected} == expected


def test_source_and_id_make_the_event_the_same_whatever_it_holds() -> None:
    items = [CLOUD, CLOUD | {"data": TRAP}, CLOUD | {"id": "a-772"}, CLOUD | {"source": "/other"}]
    ids = [event.event_id for event in parse("cloudevents", *items).events]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    assert parse("cloudevents", *items).identified == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("more", "field"),
    [({"id": ""}, "id"), ({"id": None}, "id"), ({"source": 5}, "source"), ({"type": " "}, "type"),
     ({"specversion": "0.3"}, "specversion"), ({"data_base64": "?"}, "data_base64"),
     ({"data_base64": 5}, "data_base64")],
)  # fmt: skip
def test_a_broken_cloudevent_is_an_item_that_names_the_field(more: Any, field: str) -> None:
    parsed = parse("cloudevents", CLOUD | more, CLOUD)
    assert [bad.field for bad in parsed.rejected] == [field]
    assert len(parsed.events) == 1


BINARY = {f"ce-{key}": value for key, value in CLOUD.items()}


def binary(body: bytes, **more: str) -> Event:
    headers = {key.upper(): value for key, value in (BINARY | more).items()}
    context = msgspec.structs.replace(CONTEXT, headers=headers)
    found = registry.sniff(body, headers.get("CONTENT-TYPE", ""), context.headers)
    (event,) = registry.parse(found, body, context).events
    return event


@pytest.mark.parametrize(
    ("written", "meant"),
    [("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro \N{EURO SIGN} \N{GRINNING FACE}"), ('"a \\"b\\" %25"', 'a "b" %'),
     ("a%2fb", "a/b"), ("%zz", "%zz")],
    ids=["of the specification", "quoted", "small letters", "no number"],
)  # fmt: skip
def test_headers_of_the_binary_mode_are_decoded_once(written: str, meant: str) -> None:
    assert binary(b"", **{"ce-word": written}).tags["ce.word"] == meant


def test_a_header_that_is_no_utf8_behind_its_percent_signs_is_refused() -> None:
    with pytest.raises(RejectedBody, match="UTF-8"):
        binary(b"", **{"ce-word": "%C0%A0"})


@pytest.mark.parametrize(
    ("body", "kind", "member"),
    [(b'{ "message": "m" }', "application/json", {"data": {"message": "m"}}), (b"m", "text/plain", {"data": "m"}),
     (b"{", "application/json", {"data": "{"}), (b"\xff", "image/x", {"data_base64": "/w=="}), (b"", "", {})],
    ids=["JSON", "text", "no JSON", "bytes", "nothing"],
)  # fmt: skip
def test_a_binary_event_is_kept_as_the_structured_one_that_it_is(
    body: bytes, kind: str, member: dict[str, Any]
) -> None:
    event = binary(body, **({"content-type": kind} if kind else {}))
    kept = json.loads(event.raw)
    assert kept == CLOUD | ({"datacontenttype": kind} if kind else {}) | member
    alone = registry.parse(registry.FORMATS["cloudevents"], event.raw.encode(), CONTEXT).events[0]
    assert msgspec.structs.replace(alone, received_at=event.received_at) == event


@pytest.mark.parametrize(
    "kind",
    ["application/cloudevents+avro", "application/cloudevents-batch+protobuf", "Application/CloudEvents"],
)
def test_a_serialization_that_is_not_known_is_a_415_wherever_it_is_posted(kind: str) -> None:
    found = registry.sniff(b"\x00\x01", kind)
    assert found.name == "cloudevents"
    context = msgspec.structs.replace(CONTEXT, headers={"CONTENT-TYPE": kind})
    with pytest.raises(RejectedBody) as refused:
        registry.parse(found, b"{}", context)
    assert refused.value.status == 415


def test_the_content_type_wins_over_the_headers_of_the_binary_mode() -> None:
    kind = "application/cloudevents+json; charset=utf-8"
    assert (
        binary(json.dumps(CLOUD | {"id": "inside"}).encode(), **{"content-type": kind}).raw.count("inside")
        == 1
    )


@given(
    st.dictionaries(
        st.sampled_from(["CE-ID", "CE-SOURCE", "CE-TYPE", "CE-SUBJECT", "CE-DATA", "CE-X"]), written
    ),
    st.sampled_from(["application/json", "text/plain", "image/x", "", "application/cloudevents+json"]),
    st.binary(max_size=60) | st.just(b"[" * 3_000) | st.just(b'{"host": {"a": "\\u0000\\ud800"}}'),
)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_whatever_a_binary_event_holds_it_is_taken_or_refused(
    headers: dict[str, str], kind: str, body: bytes
) -> None:
    told = {"CE-SPECVERSION": "1.0", **headers, "CONTENT-TYPE": kind}
    try:
        parsed = registry.parse(CLOUDEVENTS, body, msgspec.structs.replace(CONTEXT, headers=told))
    except RejectedBody as refusal:
        check_refusal(refusal)
    else:
        check(parsed)
