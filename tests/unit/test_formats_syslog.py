"""Syslog: one event a line, in the dialects that gear speaks; and no body of any format raises by surprise."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutt.errors import RejectedBody
from mutt.event import Event
from mutt.formats import registry
from mutt.formats.base import Context, Parsed

NOW = datetime(2026, 3, 4, 9, 30, tzinfo=UTC)
CONTEXT = Context(NOW, "key-1", 2000, "192.0.2.1")
LARGE = msgspec.structs.replace(CONTEXT, max_event=1 << 20)
SYSLOG = registry.FORMATS["syslog"]


def line(data: bytes, context: Context = CONTEXT) -> Event:
    (found,) = registry.parse(SYSLOG, data, context).events
    return found


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        (b"<34>Oct 11 22:14:15 mymachine su: failed", ("mymachine", "su", "failed", 2, "auth")),
        (b"<0>Mar 4 09:00:00 fe80::1 a/b[7]: x", ("fe80::1", "a/b", "x", 0, "kern")),
        (b"<13>Mar  4 09:00:00 sshd[1]: no host", (None, "sshd", "no host", 5, "user")),
        (b"<13>app: no time", (None, "app", "no time", 5, "user")),
        (b"<13>Mar  4 09:00:00 h su:", ("h", None, "su:", 5, "user")),
        (b"Mar  4 09:00:00 h su: x", ("h", "su", "x", None, None)),
        (b"note: no syslog", (None, None, "note: no syslog", None, None)),
        (b"<192>x", (None, None, "<192>x", None, None)),
        (b"[12.5] kernel", (None, None, "[12.5] kernel", None, None)),
        (b"<189>7: r1: *Mar  4 09:00:00.123 UTC: %L-3-U: x", ("r1", "%L-3-U", "%L-3-U: x", 5, "local7")),
        (b"%LINK-3-UPDOWN: x", (None, "%LINK-3-UPDOWN", "%LINK-3-UPDOWN: x", 3, None)),
        (b"<187>Mar  4 09:00:00 r1: %A-1-B: x", ("r1", "%A-1-B", "%A-1-B: x", 3, "local7")),
        (b"<165>1 2026-03-04T09:00:00Z h app 1 ID - \xef\xbb\xbftext", ("h", "app", "text", 5, "local4")),
        (b"<165>1 - - - - ID -", (None, None, "ID", 5, "local4")),
        (b"<165>1 - h app - - [broken text", ("h", "app", "[broken text", 5, "local4")),
        (b'<165>1 2026-03-04T09:00:00Z h app - - [ex@1 a="b"]', ("h", "app", '[ex@1 a="b"]', 5, "local4")),
        (b'<165>1 - h app - ID [ex@1 a="b"]  ', ("h", "app", "ID", 5, "local4")),
        # Prose that begins with a number is no RFC 5424.
        (b"<13>1 of 3 disks failed: CRITICAL", (None, None, "1 of 3 disks failed: CRITICAL", 5, "user")),
        (b"<13>2 fans - speed is low, sir: x", (None, None, "2 fans - speed is low, sir: x", 5, "user")),
        # What stands before a colon is a program only where it looks like one.
        (b"<11>Mar  4 09:15:02 host1 ERROR: disk full", ("host1", None, "ERROR: disk full", 3, "user")),
        (b"<11>Mar  4 09:15:02 host1 LINK-DOWN: Te0/0/1", ("host1", None, "LINK-DOWN: Te0/0/1", 3, "user")),
        (b"<11>ERROR: disk full", (None, None, "ERROR: disk full", 3, "user")),
        (b"<78>Mar  4 09:15:02 host1 CRON[7]: x", ("host1", "CRON", "x", 6, "cron")),
        (b"<11>Mar  4 09:15:02 host1 10.0.0.1:8080 refused", ("host1", None, "10.0.0.1:8080 refused", 3, "user")),
        (b"<11>Mar  4 09:15:02 host1 http://x", ("host1", None, "http://x", 3, "user")),
        (b"<11>Mar  4 09:15:02 host1 a:b: c", ("host1", None, "a:b: c", 3, "user")),
        (b"<13>Mar  4 09:15:02 host1 sshd[1]:close", ("host1", "sshd", "close", 5, "user")),
        # A word with a colon right behind the time is no host: a program, or in capitals a zone or text.
        (b"<13>Mar  4 09:15:02 kernel: Out of memory", (None, "kernel", "Out of memory", 5, "user")),
        (b"<11>Mar  4 09:15:02 ERROR: disk full", (None, None, "ERROR: disk full", 3, "user")),
        (b"<189>1: *Mar  4 09:00:00.123 EST: %L-3-U: x", (None, "%L-3-U", "%L-3-U: x", 5, "local7")),
        (b"<189>1: *Mar  4 09:00:00.123 XYZ: %L-3-U: x", (None, "%L-3-U", "%L-3-U: x", 5, "local7")),
        (b"<189>1: r1: Mar  4 09:00:00 CST: %L-3-U: x", ("r1", "%L-3-U", "%L-3-U: x", 5, "local7")),
        (b"<189>1: Mar  4 09:00:00 CST: ifmgr[2]: x", (None, "ifmgr", "x", 5, "local7")),
        # Cisco's other heads: two running numbers, a card, an uptime, a colon alone.
        (b"<189>1: r1: 2: Mar  4 09:00:00: %L-3-U: x", ("r1", "%L-3-U", "%L-3-U: x", 5, "local7")),
        (b"<189>1: r1 RP/0/0/CPU0:Mar  4 09:00:00 : a[7]: %L-3-U : x", ("r1", "a", "%L-3-U : x", 5, "local7")),
        (b"<189>1: RP/0/0/CPU0:Mar  4 09:00:00 UTC: a[7]: x", (None, "a", "x", 5, "local7")),
        (b"<189>Mar  4 09:00:00 r1 7: r: *Mar  4 08:59:58 UTC: %L-3-U: x", ("r1", "%L-3-U", "%L-3-U: x", 5, "local7")),
        (b"<189>Mar  4 09:00:00 r1 7: Mar  4 fans", ("r1", None, "7: Mar  4 fans", 5, "local7")),
        (b"<189>1: 00:01:40: %L-3-U: x", (None, "%L-3-U", "%L-3-U: x", 5, "local7")),
        (b"<189>:Mar  4 09:00:00: %L-3-U: x", (None, "%L-3-U", "%L-3-U: x", 5, "local7")),
        (b"<166>2026-03-04T09:00:00Z : %A-1-B: x", (None, "%A-1-B", "%A-1-B: x", 6, "local4")),
        (b"<13>Mar  4 09:00:00 ::1 su: x", ("::1", "su", "x", 5, "user")),
        (b"<13>Mar  4 09:00:00 2003:db8::1 su: x", ("2003:db8::1", "su", "x", 5, "user")),
        (b"<13>1: no syslog", (None, None, "1: no syslog", 5, "user")),
        # An application's line names no host, however much its level looks like one.
        (b"<14>2026-03-04 09:00:00,123 ERROR x", (None, None, "2026-03-04 09:00:00,123 ERROR x", 6, "user")),
        (b"<13>Mar  4 09:00:00 CET r1 su: x", ("r1", "su", "x", 5, "user")),
        (b"<13>Mar  4 09:00:00 EST-r1 su: x", ("EST-r1", "su", "x", 5, "user")),
        (b"<166>Mar  4 2026 09:00:00 fw-9 : %A-1-B: x", ("fw-9", "%A-1-B", "%A-1-B: x", 6, "local4")),
        (b"Mar  4 09:15:02 2026 router1 su: x", ("router1", "su", "x", None, None)),
        (b"Mar  4 09:15:02 2026-rack su: x", ("2026-rack", "su", "x", None, None)),
        (b"\xef\xbb\xbf<13>app: bom\r\n\r\n \n", (None, "app", "bom", 5, "user")),
        (b"<13>app: caf\xe9 \x01\0\n", (None, "app", "caf\\xe9 \x01", 5, "user")),
    ],
)  # fmt: skip
def test_lines(data: bytes, fields: tuple[str | None, str | None, str, int | None, str | None]) -> None:
    found = line(data)
    host = fields[0] or "192.0.2.1"
    assert (found.hostname, found.program, found.message, found.severity, found.facility) == (
        host,
        *fields[1:],
    )


@pytest.mark.parametrize(
    ("written", "time", "kept"),
    [
        ("Mar  4 09:00:00", NOW.replace(minute=0), None),
        ("*Mar  4 09:00:00.123 UTC", NOW.replace(minute=0, microsecond=123000), None),
        ("Mar  4 09:00:00 EST", NOW.replace(hour=14, minute=0), None),
        ("Mar  4 09:00:00 CEST", NOW.replace(hour=7, minute=0), None),
        ("Mar  4 09:00:00 2025", NOW.replace(year=2025, minute=0), None),
        ("2025 Mar  4 09:00:00 CET", NOW.replace(year=2025, hour=8, minute=0), None),
        ("3w2d", NOW, "3w2d"),
        ("Mar  4 09:00:00 CET 2025", NOW.replace(year=2025, hour=8, minute=0), None),
        # UTC is a guess then, so the text is kept.
        ("*Mar  4 09:00:00.123 XYZ", NOW.replace(minute=0, microsecond=123000), "*Mar  4 09:00:00.123 XYZ"),
        ("Mar  4 2025 09:00:00 CST", NOW.replace(year=2025, minute=0), "Mar  4 2025 09:00:00 CST"),
        ("Feb 30 09:00:00 CST", NOW, "Feb 30 09:00:00 CST"),
    ],
)
def test_a_zone_and_a_year_belong_to_the_time(written: str, time: datetime, kept: str | None) -> None:
    found = line(f"<189>12: {written}: %SYS-5-CONFIG_I: x".encode())
    assert (found.occurred_at, found.occurred_text) == (time, kept)
    assert (found.hostname, found.message) == ("192.0.2.1", "%SYS-5-CONFIG_I: x")


def test_structured_data_becomes_tags() -> None:
    found = line(rb'<165>1 - h app 81 ID [a@1 x="1" y="\"\\\]"][b z=""] [not data]')
    assert found.tags == {"procid": "81", "msgid": "ID", "a@1.x": "1", "a@1.y": '"\\]', "b.z": ""}
    assert found.message == "[not data]"


def test_structured_data_that_would_grow_too_much_by_its_id_is_one_tag() -> None:
    params = " ".join(f'{n}="1"' for n in range(300))
    found = line(f'<165>1 - h app - - [a b="1"][{"p" * 90} {params}][c d="2"] m'.encode(), LARGE)
    assert found.tags == {"a.b": "1", "p" * 90: params, "c.d": "2"}
    assert found.message == "m"


@given(st.integers(1, 900), st.integers(0, 300), st.integers(1, 5))
def test_tags_of_a_line_are_never_much_larger_than_the_line(id_: int, params: int, elements: int) -> None:
    written = "".join(f' {name}=""' for name in range(params))
    data = "".join(f"[{n}{'i' * id_}{written}]" for n in range(elements))
    (found,) = registry.parse(SYSLOG, f"<165>1 - h app - - {data} m".encode(), LARGE).events
    assert found.message == "m"
    assert sum(len(text) for tag in found.tags.items() for text in tag) < 1100 + 2 * len(data)


def test_events_do_not_share_their_tags() -> None:
    first, second = registry.parse(SYSLOG, b"a\nb", CONTEXT).events
    assert first.tags == second.tags == {}
    assert first.tags is not second.tags


def test_raw_is_the_line_and_a_long_one_is_refused_alone() -> None:
    parsed = registry.parse(SYSLOG, b"<13>a: b \r\n" + b"x" * 2001 + b"\nlast", CONTEXT)
    assert [(found.item, found.raw) for found in parsed.events] == [(0, "<13>a: b "), (2, "last")]
    assert [(found.index, found.field, len(found.raw)) for found in parsed.rejected] == [(1, "event", 2000)]


@pytest.mark.parametrize(
    ("body", "content_type", "name"),
    [
        (b'{"a":1}', "application/x-www-form-urlencoded", "json"),
        (b' [{"a":1}]', "text/plain", "json"),
        (b"[]", "", "json"),
        (b"<13>x", "application/json", "syslog"),
        (b"[12] kernel", "text/plain", "syslog"),
        (b"null", "text/plain", "json"),  # a program had no event to send
        (b"null pointer", "text/plain", "syslog"),
        (b"[1,2]", "application/json; charset=utf-8", "json"),
        (
            b"hello",
            "application/json",
            "json",
        ),  # said to be JSON, so it is refused rather than taken as a line
        (b"hello", "text/plain", "syslog"),
    ],
)
def test_the_body_is_sniffed_and_the_content_type_is_a_hint(
    body: bytes, content_type: str, name: str
) -> None:
    assert registry.sniff(body, content_type).name == name


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)
KEYS = [
    "hostname", "message", "timestamp", "event_id", "severity", "syslog_severity", "facility", "source",
    "program", "state", "trap_oid",
    "variables", "varbinds", "metadata", "oid", "source_ip", "generic_trap", "specific_trap", "enterprise", "clear_key",
]  # fmt: skip
items = st.dictionaries(st.sampled_from(KEYS), json_values, max_size=8) | json_values
likely = st.fixed_dictionaries(
    {"hostname": st.text(min_size=1), "message": st.text(min_size=1)},
    optional=dict.fromkeys(KEYS[2:], json_values),
)


def texts(value: Any) -> Iterator[str]:
    """Every text in a value, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for inner in [*value.keys(), *value.values()] if isinstance(value, dict) else value:
            yield from texts(inner)


def check(parsed: Parsed, count: int) -> None:
    """All items are accounted for, and every event can be stored and sent on."""
    assert sorted([e.item for e in parsed.events] + [r.index for r in parsed.rejected]) == list(range(count))
    for text in texts(msgspec.to_builtins([parsed.events, parsed.rejected])):
        assert "\0" not in text
        assert text.encode().decode() == text
    assert all(
        e.received_at.tzinfo is not None and 0 < len(e.hostname) <= 255 and e.message.strip()
        for e in parsed.events
    )


@given(st.lists(items | likely, min_size=1, max_size=6), st.booleans())
def test_any_json_is_events_or_refused_items_and_the_count_adds_up(found: list[Any], lines: bool) -> None:
    texts = [json.dumps(item) for item in found]
    body = (
        "\n".join(texts) if lines and isinstance(found[0], dict) else "[" + ",".join(texts) + "]"
    ).encode()
    check(registry.parse(registry.sniff(body, "application/json"), body, CONTEXT), len(found))


@given(
    st.binary(max_size=300) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")),
    st.sampled_from(["", *registry.FORMATS]),
)
def test_any_bytes_are_read_or_refused_by_every_format(body: bytes, name: str) -> None:
    try:
        parsed = registry.parse(registry.get(name) or registry.sniff(body, ""), body, CONTEXT)
    except RejectedBody as refusal:
        assert refusal.status in (400, 413, 415)
    else:
        check(parsed, len(parsed.events) + len(parsed.rejected))


@given(st.from_regex(r"(<\d{1,3}>)?(1 )?[A-Za-z0-9:\[\]\"=%*. -]{0,120}", fullmatch=True))
def test_any_line_that_begins_like_syslog_is_one_item(text: str) -> None:
    try:
        check(registry.parse(SYSLOG, text.encode(), CONTEXT), 1)
    except RejectedBody:
        assert not text.strip()


# ---- vendors, by their rows in mutt/formats/quirks.py


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        (
            b'date=2026-03-04 time=09:00:00 devname="FW 1" devid="FG1" type="event" subtype="ha" level="warning"',
            ("FW 1", "ha", 4),
        ),
        (b"<13>Mar  4 09:00:00 h date=2026-03-04 time=09:00:00 devid=FG1 level=odd", ("h", None, 5)),
        (b"date=2026-03-04 time=09:00:00 devid=FG1 level=odd", (None, None, None)),
        (b"1,2026/03/04 09:00:00,007,SYSTEM,ha,0,2026/03/04 09:00:00,,ev,,0,0,ha,high,\"a, b\"", (None, "system", 3)),
        (b"1,2026/03/04 09:00:00,007,CONFIG,0", (None, "config", None)),
        (b'<12>Mar  4 09:00:00 pa 1,2026/03/04 09:00:00,007,THREAT,url,"open', ("pa", "threat", 4)),
        (b"interface,info ether1 link down", (None, "interface", 6)),
        (b"system,error,critical router was rebooted without proper shutdown", (None, "system", 3)),
        (b"<13>Mar  4 09:00:00 h app: devid=1 and 1,2026 are no vendor's,info", ("h", "app", 5)),
    ],
    ids=["quoted", "no name", "no name at all", "system", "another type", "an open quote", "topics", "two", "nobody's"],
)  # fmt: skip
def test_a_vendors_row_says_host_program_and_severity(data: bytes, fields: tuple[str | None, ...]) -> None:
    found = line(data)
    assert (found.hostname, found.program, found.severity) == (fields[0] or CONTEXT.default_host, *fields[1:])
    assert found.state == "raise"


@pytest.mark.parametrize(
    ("written", "time"),
    [
        (b'date=2026-03-04 time=09:00:00 devid=FG1 tz="-0730"', NOW.replace(hour=16)),
        (b"<13>Mar  4 09:00:00 fw date=2026-03-04 time=08:00:00 devid=FG1 tz=+0100", NOW.replace(minute=0)),
        (b"date=2026-03-04 time=09:00:00 devid=FG1", NOW),
        (b"date=2026-03-04 time=09:00:00 devid=FG1 tz={x}", NOW),
    ],
    ids=["its zone", "the head's", "no zone: when it came", "no zone that can be read"],
)
def test_when_a_fortigate_says_that_it_happened(written: bytes, time: datetime) -> None:
    assert line(written).occurred_at == time


def test_a_vendors_columns_and_pairs_are_tags_and_its_message_is_whole() -> None:
    text = '1,2026/03/04 09:00:00,007,SYSTEM,ha,0,2026/03/04 09:00:00,vs,ev,,0,0,ha,high,"a, b",1,0,0,0,0,0,,fw-7'
    found = line(f"<13>Mar  4 09:00:00 panorama {text}".encode())
    assert (found.hostname, found.message) == ("fw-7", text)
    assert found.tags == {
        "vendor": "paloalto", "serial": "007", "type": "SYSTEM", "subtype": "ha", "vsys": "vs", "eventid": "ev",
        "module": "ha", "severity": "high", "device_name": "fw-7",
    }  # fmt: skip


# ---- objects, as relays send them

OBJECTS = msgspec.structs.replace(CONTEXT, headers={"CONTENT-TYPE": "application/vnd.mutt.syslog+json"})


def objects(*sent: object) -> Parsed:
    return registry.parse(SYSLOG, "\n".join(map(json.dumps, sent)).encode(), OBJECTS)


def test_a_message_in_an_object_is_one_event_whatever_stands_in_it() -> None:
    text = "<34>Oct 11 22:14:15 mymachine su: first\n\tsecond\r\n\r\nlast"
    (event,) = objects({"line": text + "\r\n"}).events
    assert (event.message, event.raw) == ("first\n\tsecond\r\n\r\nlast", text)


def test_an_object_says_who_sent_it_and_when_it_came_where_its_message_does_not() -> None:
    silent, named = objects(
        {"line": "<13>app: no time", "peer": "198.51.100.7", "at": 1772616000.25},
        {"line": "<34>Mar  4 09:00:00 core-1 su: x", "peer": "198.51.100.7", "at": 1772616000.25},
    ).events
    assert (silent.hostname, named.hostname) == ("198.51.100.7", "core-1")
    assert silent.occurred_at == datetime.fromtimestamp(1772616000.25, UTC)
    assert named.occurred_at == datetime(2026, 3, 4, 9, tzinfo=UTC)
    assert silent.occurred_text is named.occurred_text is None


def test_an_object_reads_as_its_message_alone() -> None:
    for text in (
        "<34>Oct 11 22:14:15 mymachine su: x",
        "<165>1 - h app 1 ID - y",
        "prose",
        "<189>7: r1: %A-1-B: x",
    ):
        (event,) = objects({"line": text, "peer": "192.0.2.1"}).events
        alone = line(text.encode())
        assert msgspec.structs.replace(event, event_id=alone.event_id) == alone


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({}, "line"),
        ({"line": 7}, "line"),
        (7, "event"),
        ({"line": " \n"}, "message"),
        ({"line": "x" * 3000}, "event"),
    ],
    ids=["no line", "a number", "no object", "blank", "too large"],
)
def test_an_object_without_a_message_costs_itself(sent: object, field: str) -> None:
    parsed = objects({"line": "<13>fine", "peer": 7, "at": "soon"}, sent)
    assert [event.message for event in parsed.events] == ["fine"]
    assert [refused.field for refused in parsed.rejected] == [field]
    assert parsed.events[0].hostname == CONTEXT.default_host


def test_bytes_that_are_no_utf8_are_shown_as_in_a_line() -> None:
    data = "<13>größer".encode("latin-1")
    (event,) = objects({"line": data.decode(errors="surrogateescape")}).events
    assert event.message == line(data).message == "gr\\xf6\\xdfer"


def test_a_byte_order_mark_before_the_priority_hides_nothing() -> None:
    text = "<34>Oct 11 22:14:15 core-1 su: x"
    (event,) = objects({"line": "\ufeff" + text}).events
    _, second = registry.parse(SYSLOG, f"first\n\ufeff{text}".encode(), CONTEXT).events
    for found in (event, second):
        assert (found.severity, found.hostname, found.program, found.message) == (2, "core-1", "su", "x")


def test_json_in_plain_lines_stays_text() -> None:
    assert line(b'{"line": "x", "peer": "y"}').message == '{"line": "x", "peer": "y"}'


@given(st.binary(max_size=200))
def test_no_bytes_raise_by_surprise_as_objects(data: bytes) -> None:
    with contextlib.suppress(RejectedBody):
        registry.parse(SYSLOG, data, OBJECTS)


INNER = json.dumps({"hostname": "h", "message": "a\0b", "k\0": "v"})
ZABBIX = {"event_id": "1", "event_value": "1", "host_host": "h", "event_name": "n"}
ENVELOPE = {
    "specversion": "1.0",
    "id": "1",
    "source": "s",
    "type": "t",
    "datacontenttype": "application/json",
}


@pytest.mark.parametrize(
    "item",
    [
        {"streams": [{"stream": {"host": "h"}, "values": [["1", INNER]]}]},
        ZABBIX | {"event_tags": json.dumps([{"tag": "k\0", "value": "v"}])},
        {"Type": "Notification", "MessageId": "m", "TopicArn": "t", "Message": INNER},
        ENVELOPE | {"data_base64": base64.b64encode(INNER.encode()).decode()},
    ],
    ids=["a line of Loki's", "Zabbix' tags", "SNS", "CloudEvents"],
)
def test_json_inside_a_text_brings_nothing_in_that_can_t_be_stored(item: dict[str, Any]) -> None:
    """Its escapes stand one deeper than the body's, which are undone first."""
    found = registry.parse(registry.MIXED, json.dumps(item).encode(), CONTEXT)
    assert any("k\ufffd" in key for key in found.events[0].tags)
    check(found, 1)


@pytest.mark.parametrize(("size", "taken"), [(700, True), (20_000, False)], ids=["labels", "too long labels"])
def test_labels_that_stand_beside_each_line_of_a_push_make_no_gigabytes_of_it(size: int, taken: bool) -> None:
    lines = [["1795430533000000000", f"line {number}"] for number in range(1000)]
    body = json.dumps({"streams": [{"stream": {"host": "core-1", "job": "x" * size}, "values": lines}]})
    parsed = registry.parse(registry.MIXED, body.encode(), CONTEXT)
    assert len(parsed.events) == (1000 if taken else 0)
    assert [bad.field for bad in parsed.rejected] == ([] if taken else ["streams"])
