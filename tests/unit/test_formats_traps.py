"""One trap means the same however it comes, and no text of a device is more than a text."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutt.event import Event
from mutt.formats import registry
from mutt.formats.base import Context, Parsed

CONTEXT = Context(datetime(2026, 3, 4, 9, 30, tzinfo=UTC), "key-1", 65536, "192.0.2.1")
DOWN, UP = "1.3.6.1.6.3.1.1.5.3", "1.3.6.1.6.3.1.1.5.4"
INDEX, DESCR = "1.3.6.1.2.1.2.2.1.1.12", "1.3.6.1.2.1.2.2.1.2.12"


def read(name: str, body: str) -> Parsed:
    return registry.parse(registry.FORMATS[name], body.encode(), CONTEXT)


def one(name: str, body: str) -> Event:
    (found,) = read(name, body).events
    return found


def snmptrap(trap_oid: str) -> str:
    varbinds = [{"oid": INDEX, "type": "INTEGER", "value": 12}, {"oid": DESCR, "value": "Te1/0/12"}]
    return json.dumps({"source_ip": "10.20.0.7", "trap_oid": trap_oid, "varbinds": varbinds})


def telegraf(trap_oid: str) -> str:
    tags = {"source": "10.20.0.7", "oid": f".{trap_oid}", "community": "public"}
    fields = {"ifIndex.12": 12, "ifDescr.12": "Te1/0/12", "sysUpTimeInstance": 7}
    return json.dumps({"name": "snmp_trap", "tags": tags, "fields": fields, "timestamp": 1772615700})


def snmptrapd(trap_oid: str) -> str:
    return (
        "<UNKNOWN>\nUDP: [10.20.0.7]:40000->[10.0.0.1]:162\n.1.3.6.1.2.1.1.3.0 0:0:00:00.07\n"
        f".1.3.6.1.6.3.1.1.4.1.0 .{trap_oid}\n.{INDEX} 12\n.{DESCR} Te1/0/12\n"
        '.1.3.6.1.6.3.18.1.4.0 "public"\n'
    )


def snmptt(trap_oid: str) -> str:
    word = "down" if trap_oid == DOWN else "up"
    return f'1772615700 .{trap_oid} Normal "Status Events" 10.20.0.7 - Link {word} on interface 12.'


WAYS = {made.__name__: made for made in (snmptrap, telegraf, snmptrapd, snmptt)}


@pytest.mark.parametrize("way", WAYS)
def test_a_link_that_goes_down_and_up_is_one_thing_however_its_traps_come(way: str) -> None:
    down, up = one(way, WAYS[way](DOWN)), one(way, WAYS[way](UP))
    for found, state, trap_oid in ((down, "raise", DOWN), (up, "clear", UP)):
        assert (found.hostname, found.trap_oid, found.state) == ("10.20.0.7", trap_oid, state)
        assert (found.instance, found.clear_key) == ("12", "link:12")
    if way != "snmptt":
        assert down.message == "linkDown ifIndex.12=12 ifDescr.12=Te1/0/12"


@pytest.mark.parametrize("way", ["telegraf", "snmptrapd"])
def test_a_community_is_neither_tag_nor_varbind_nor_text(way: str) -> None:
    found = one(way, WAYS[way](DOWN))
    assert "public" not in f"{found.tags}{found.varbinds}{found.message}"


def test_an_snmptrap_with_its_community_among_the_varbinds_keeps_it_to_itself() -> None:
    community = {"oid": "1.3.6.1.6.3.18.1.4.0", "value": "public"}
    found = one("snmptrap", json.dumps({"host": "r1", "trap_oid": DOWN, "varbinds": [community]}))
    assert (found.varbinds, found.tags, found.message) == ((), {}, "linkDown")


@pytest.mark.parametrize(
    ("address", "host"), [("10.9.9.9", "10.9.9.9"), ("0.0.0.0", "core-1"), ("10.20.0.7", "core-1")]
)
def test_snmptrapds_host_is_the_agent_unless_that_is_who_sent_it(address: str, host: str) -> None:
    body = snmptrapd(DOWN).replace("<UNKNOWN>", "core-1") + f".1.3.6.1.6.3.18.1.3.0 {address}\n"
    assert one("snmptrapd", body).hostname == host


def test_snmptrapds_traps_in_one_body_are_parted_by_nul_and_know_when_they_came() -> None:
    found = read("snmptrapd", f"1772615700\n{snmptrapd(DOWN)}\0nonsense\0{snmptrapd(UP)}\0")
    assert [event.trap_oid for event in found.events] == [DOWN, UP]
    assert found.events[0].occurred_at == datetime(2026, 3, 4, 9, 15, tzinfo=UTC)
    assert [(item.index, item.field) for item in found.rejected] == [(1, "trap_oid")]


@given(st.text(st.characters(exclude_characters="\0\ud800", exclude_categories=["Cs"])))
def test_no_text_of_a_device_makes_another_trap_of_snmptrapds(text: str) -> None:
    found = one("snmptrapd", snmptrapd(DOWN) + f".1.3.6.1.4.1.9.1 {text}\n")
    assert found.trap_oid == DOWN
    assert found.instance == "12"


@pytest.mark.parametrize(
    ("metric", "fields"),
    [
        (
            {"name": "cpu", "tags": {"host": "web-1", "cpu": "cpu0"}, "fields": {"idle": 98.5}},
            ("web-1", "cpu idle=98.5 (host=web-1, cpu=cpu0)", {"cpu": "cpu0", "idle": "98.5"}),
        ),
        (
            {"name": "ping", "tags": {"host": "poller", "url": "r1"}, "fields": {"url": 1}},
            ("r1", "ping url=1 (host=poller, url=r1)", {"host": "poller", "url": "1"}),
        ),
        (
            {"name": "tail", "tags": {"host": "web-1", "severity": "error"}, "fields": {"message": "no"}},
            ("web-1", "no", {"severity": "error"}),
        ),
        (
            {"name": "cpu", "tags": {"host": "web-1", "a": "1"}, "fields": {"a": 2}},
            ("web-1", "cpu a=2 (host=web-1, a=1)", {"a": "1", "fields.a": "2"}),
        ),
    ],
    ids=["cpu", "ping", "a message", "a field named as a tag"],
)
def test_a_metric_of_telegraf_is_a_text_to_read(
    metric: dict[str, object], fields: tuple[str, str, dict[str, str]]
) -> None:
    found = one("telegraf", json.dumps({"metrics": [{**metric, "timestamp": 1772615700}]}))
    assert (found.hostname, found.message, found.tags) == fields


def test_an_object_with_hostname_and_message_is_never_a_metric() -> None:
    native = {"hostname": "h", "message": "m", "name": "n", "tags": {}, "fields": {}, "timestamp": 1}
    assert registry.route(native).name == "native"
