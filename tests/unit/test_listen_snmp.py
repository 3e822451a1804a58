"""SNMP's datagrams: what net-snmp 5.9.3 sent becomes traps, only from who may send, and no bytes break the receiver.

``snmp_datagrams.json`` holds what its snmptrap and snmpinform sent to an engine with ENGINE's id, boots and time.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyasn1.codec.ber import encoder
from pysnmp.proto import api

from mutt.errors import SettingsError
from mutt.formats import registry
from mutt.formats.base import Context
from mutt.listen.snmp import engine, users
from mutt.listen.snmp import pdu as pdus
from mutt.listen.snmp.engine import Engine
from mutt.listen.snmp.users import AUTH
from mutt.listen.snmp.usm import WINDOW, Header, Received, Usm, read_header
from mutt.listen.snmptrap import SnmpTraps

DATAGRAMS = {
    name: bytes.fromhex(data)
    for name, data in json.loads((Path(__file__).parent / "snmp_datagrams.json").read_text()).items()
}
USERS = users.read(
    """
    # as snmptrapd.conf has them
    createUser noc SHA-256 "authpass12" AES "privpass12"
    createUser noc256 SHA-512 authpass12 AES-256 privpass12
    legacy MD5 authpass12 DES privpass12
    signs SHA authpass12
    open
    createUser -e 0x8000000001020304 bound SHA "authpass12" AES "privpass12"
    """
)
ENGINE = Engine(bytes.fromhex("80001f8805") + b"0123456789ab", 7, 0.0)
PEER = "10.20.0.7"
AT = datetime(2026, 3, 4, 9, 30, tzinfo=UTC)

#: The datagrams of a link that goes down; each means the same.
LINKS = (
    "v1-link",
    "v2c",
    "v2c-inform",
    "v3",
    "v3-256",
    "v3-legacy",
    "v3-signs",
    "v3-open",
    "v3-bound",
    "v3-inform",
)


class Kept:
    """Has room for so many, and keeps them."""

    def __init__(self, room: int = 1_000_000) -> None:
        self.room, self.records = room, list[dict[str, Any]]()

    def put(self, record: bytes, _peer: str, _at: float) -> bool:
        if len(self.records) >= self.room:
            return False
        self.records.append(json.loads(record))
        return True

    def flush(self, _timeout: float) -> bool:
        return True


class Receiver(SnmpTraps):
    """One of the tests: what it kept, and a clock that is set by hand."""

    def __init__(self, kept: Kept | None = None, **options: Any) -> None:
        self.now, self.kept = 100.0, kept or Kept()
        usm = Usm(USERS, ENGINE, lambda: self.now)
        self.at = AT.timestamp()
        super().__init__(self.kept, usm, (b"other", b"public"), clock=lambda: self.at, **options)

    def hears(self, *names: str, peer: str = PEER) -> str:
        """What the last of these datagrams came to."""
        for name in names:
            before = dict(self.counts)
            self.reply = self.handle(DATAGRAMS[name], peer)
        return " ".join(what for what, n in self.counts.items() if n != before.get(what))


@pytest.mark.parametrize("name", LINKS)
def test_a_trap_is_the_same_event_in_every_version(name: str) -> None:
    receiver = Receiver()
    assert receiver.hears(name) == "taken"
    body = json.dumps(receiver.kept.records).encode()
    parsed = registry.parse(registry.FORMATS["snmptrap"], body, Context(AT, "key-1", 65536, "192.0.2.1"))
    (found,) = parsed.events
    assert (found.trap_oid, found.hostname, found.occurred_at) == ("1.3.6.1.6.3.1.1.5.3", PEER, AT)
    assert (found.instance, found.clear_key) == ("12", "link:12")
    assert found.message == "linkDown ifIndex.12=12 ifDescr.12=Te1/0/12"
    assert "public" not in body.decode()


def test_each_type_of_value_is_told_as_what_it_is() -> None:
    receiver = Receiver()
    receiver.hears("v2c-types")
    assert [(bind["type"], bind["value"]) for bind in receiver.kept.records[0]["varbinds"]] == [
        ("STRING", "disk full\nfree: 0 %"),
        ("Hex-STRING", "00 1B FF 41 42"),
        ("IpAddress", "10.9.8.7"),
        ("Counter32", 4294967295),
        ("OID", "1.3.6.1.4.1.9"),
        ("STRING", ""),
        ("NULL", None),
        ("Counter64", 18446744073709551615),
        ("Timeticks", 99),
        ("INTEGER", -5),
    ]


def test_a_v1_trap_of_an_enterprise_has_the_oid_that_rfc_3584_gives_it() -> None:
    receiver = Receiver()
    receiver.hears("v1-enterprise")
    (found,) = receiver.kept.records
    assert (found["trap_oid"], found["enterprise"]) == ("1.3.6.1.4.1.8072.4.0.2", "1.3.6.1.4.1.8072.4")
    assert (found["agent_address"], found["source_ip"], found["uptime"]) == (PEER, PEER, 5803)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("v2c-wrong", "unknown community"),
        ("get", "no trap"),
        ("v3-wrong", "wrong password"),
        ("v3-wrong-cipher", "undecipherable"),
        ("v3-unencrypted", "security level"),
        ("v3-unsigned", "security level"),
        ("v3-unknown", "unknown user"),
        ("v3-bound-elsewhere", "unknown user"),
    ],
)
def test_who_may_not_send_is_not_heard_and_not_answered(name: str, why: str) -> None:
    receiver = Receiver()
    assert receiver.hears(name) == why
    assert (receiver.kept.records, receiver.reply, receiver.last_refused) == ([], None, PEER)


def test_a_version_that_is_not_wanted_is_not_read() -> None:
    assert Receiver(versions=(3,)).hears("v2c") == "another version"


def test_it_says_who_may_send() -> None:
    assert Receiver().who_may_send() == "v1 with 2 communities, v2c with 2 communities, v3 as 6 users"


def test_who_asks_for_the_engine_id_is_told_at_once() -> None:
    receiver = Receiver()
    assert receiver.hears("discovery") == "asked for the engine id"
    assert receiver.reply and not receiver.reply.kept
    assert ENGINE.engine_id in receiver.reply.data
    assert not receiver.refused()


@pytest.mark.parametrize("name", ["v2c-inform", "v3-inform"])
def test_an_inform_is_answered_once_it_is_kept_and_again_if_its_answer_was_lost(name: str) -> None:
    receiver = Receiver(Kept(room=0))
    assert (receiver.hears(name), receiver.reply) == ("no room", None)
    receiver.kept.room = 1
    assert receiver.hears(name) == "taken"
    assert receiver.reply and receiver.reply.kept
    assert receiver.hears(name) == "repeated"
    assert receiver.reply and receiver.reply.kept
    assert len(receiver.kept.records) == 1
    receiver.kept.room = 2
    assert receiver.hears(name, peer="10.20.0.8") == "taken"


def test_a_device_that_numbers_its_informs_anew_after_a_start_is_heard_again() -> None:
    receiver = Receiver()
    assert receiver.hears("v2c-inform") == "taken"
    receiver.at += 599
    assert receiver.hears("v2c-inform") == "repeated"
    receiver.at += 1
    assert receiver.hears("v2c-inform") == "taken"
    receiver.at -= 3600  # somebody set the clock back
    assert receiver.hears("v2c-inform") == "taken"
    assert receiver.hears("v2c-inform") == "repeated"


@pytest.mark.parametrize(("seconds", "what"), [(WINDOW, "taken"), (WINDOW + 1, "outside the time window")])
def test_an_inform_that_is_recorded_and_sent_again_later_is_too_late(seconds: int, what: str) -> None:
    receiver = Receiver()
    receiver.now += seconds
    assert receiver.hears("v3-inform") == what


def test_who_is_late_is_told_the_time_and_can_be_sure_who_says_so() -> None:
    """So that a sender goes on by itself after a restart of the receiver."""
    receiver = Receiver()
    receiver.now += WINDOW + 1
    receiver.hears("v3-inform")
    assert receiver.reply and not receiver.reply.kept
    told = receiver.reply.data
    header = read_header(*_head(told))
    assert (header.level, header.boots, header.time) == (AUTH, ENGINE.boots, int(receiver.now))
    # Had it no good signature, that would be told first.
    assert receiver.handle(told, PEER) is None
    assert receiver.refused()["security level"] == 1
    receiver.handle(told[:-1] + bytes([told[-1] ^ 1]), PEER)
    assert receiver.refused()["wrong password"] == 1


def _head(data: bytes) -> tuple[bytes, bytes]:
    _, head, security, _ = pdus.parts(data)
    return head, pdus.octets(security)


def test_a_trap_that_is_recorded_and_sent_again_later_is_too_late() -> None:
    receiver = Receiver()
    assert receiver.hears("v3", "v3-256", "v3") == "taken"
    assert receiver.hears("v3-later") == "taken"
    assert receiver.hears("v3") == "outside the time window"


def test_the_boots_and_the_time_of_a_sender_do_not_go_back() -> None:
    receiver = Receiver()
    sent = [(5, 1000), (5, 1000 - WINDOW), (5, 999 - WINDOW), (4, 9999), (6, 1), (5, 9999), (6, 2)]
    for boots, time in sent:
        receiver.handle(trap(boots, time), PEER)
    assert receiver.counts == {"taken": 4, "outside the time window": 3}


def test_no_user_silences_another_and_nobody_is_silenced_for_ever() -> None:
    """One who may sign can write any engine's id; with other users' boots his have nothing to do."""
    receiver = Receiver()
    receiver.handle(trap(2**31 - 2, 9, b"signs"), PEER)
    receiver.handle(trap(5, 1000), PEER)
    assert receiver.counts == {"taken": 2}
    receiver.handle(trap(2**31 - 1, 9), PEER)  # RFC 3414 3.2, 7: no boots are more
    assert receiver.counts == {"taken": 2, "outside the time window": 1}
    receiver.handle(trap(5, 1001), PEER)
    assert receiver.counts["taken"] == 3


def trap(boots: int, time: float, name: bytes = b"noc", pdu: Any = None) -> bytes:
    """A trap of a user, by an engine that has been started so often and runs for so long."""
    device, user = Usm(USERS, Engine(b"\x80\0\x1f\x88\x05a device", boots, 0.0), lambda: time), USERS[name]
    header = Header(1, user.level, b"", 0, 0, name, b"", b"")
    pdu = pdu or pdus.message(DATAGRAMS["v2c"], pdus.V2C)[0]
    return device.respond(Received(header, user, (b"", b""), pdu), pdu)


def written(tag: int, content: bytes) -> bytes:
    """A value of BER."""
    return bytes([tag, 0x84]) + len(content).to_bytes(4, "big") + content


def crowded(*binds: bytes) -> bytes:
    """A trap of v2c with these varbinds, behind its own."""
    pdu, _ = pdus.message(DATAGRAMS["v2c"], pdus.V2C)
    own = bytes(encoder.encode(pdu[3]))
    content = own[slice(*pdus.within(own))] + b"".join(binds)
    head = written(2, b"\1") + written(2, b"\0") * 2
    message = written(2, b"\1") + written(4, b"public") + written(0xA7, head + written(0x30, content))
    return written(0x30, message)


@pytest.mark.parametrize(
    ("datagram", "what"),
    [
        (crowded(*[b"\x30\x05\x06\x01\x2b\x05\x00"] * 150), "taken"),
        (crowded(*[b"\x30\x05\x06\x01\x2b\x05\x00"] * 170), "too many values"),
        (crowded(written(0x30, b"\x06\x01\x2b" + written(0x24, b"\x04\x00" * 500))), "too many values"),
        (crowded(written(0x30, b"\x06\x01\x2b" + written(4, b"x" * 7800))), "taken"),
        (crowded(written(0x30, b"\x06\x01\x2b" + written(4, b"x" * 8192))), "too large"),
    ],
    ids=["150 varbinds", "170 varbinds", "500 parts of a text", "a long text", "a longer one"],
)
def test_a_strangers_datagram_is_decoded_only_if_that_takes_little_time(datagram: bytes, what: str) -> None:
    """A value takes some 10 us: 6,000 varbinds in one datagram took a third of a second."""
    receiver = Receiver()
    receiver.handle(datagram, PEER)
    assert receiver.counts == {what: 1}


def test_what_a_signed_trap_holds_is_bounded_too() -> None:
    many = api.v2c.SNMPv2TrapPDU()
    api.v2c.apiPDU.set_defaults(many)
    api.v2c.apiPDU.set_varbinds(many, [(api.v2c.ObjectIdentifier("1.3"), api.v2c.Null(""))] * 200)
    receiver = Receiver()
    receiver.handle(trap(5, 1000, pdu=many), PEER)
    receiver.handle(trap(5, 1000, b"signs", pdu=many), PEER)
    assert receiver.counts == {"too many values": 2}


def damaged() -> Iterator[bytes]:
    chance = random.Random(0)
    for data in DATAGRAMS.values():
        for _ in range(8):
            changed = bytearray(data)
            for _ in range(chance.choice((1, 1, 2, 4))):
                changed[chance.randrange(len(changed))] = chance.choice(
                    (0, 1, 0x7F, 0x80, 0x84, 0xFF, chance.randrange(256))
                )
            yield bytes(changed)
            yield data[: chance.randrange(len(data))]
    yield b"\x30" * 5000
    yield b"\x30\x80" * 2000
    yield b"\x30\x84\x7f\xff\xff\xff\x02\x01\x01"
    yield b""


def test_no_damaged_datagram_breaks_the_receiver_or_is_taken_where_it_was_signed() -> None:
    receiver = Receiver()
    for data in damaged():
        receiver.handle(data, PEER)
    assert receiver.hears("v2c", "v3-inform") in ("taken", "repeated")
    signed = [found for found in receiver.kept.records if found.get("user", "open") != "open"]
    whole = Receiver()
    whole.hears("v3", "v3-256", "v3-legacy", "v3-signs", "v3-bound", "v3-inform")
    assert all(found in whole.kept.records for found in signed)


@given(
    st.sampled_from([b"", b"\x30\x82\x01\x00\x02\x01\x01", DATAGRAMS["v2c"][:30], DATAGRAMS["v3"][:60]]),
    st.binary(max_size=300),
)
def test_no_bytes_break_the_receiver(begin: bytes, data: bytes) -> None:
    Receiver().handle(begin + data, PEER)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("noc SHA", 'name, protocol, "password", protocol, "password"'),
        ("noc ROT13 password12", "one of MD5, SHA"),
        ("noc SHA short", "passwords of at least 8 characters"),
        ("noc SHA 'password12", "closed quotes"),
        ("createUser -e 0x12 noc SHA password12", "an engine id of 5 to 32 octets"),
    ],
)
def test_a_user_that_cant_be_read_is_told_by_its_line_and_without_its_password(
    line: str, expected: str
) -> None:
    with pytest.raises(SettingsError) as told:
        users.read(f"# first\n{line}\n")
    assert expected in str(told.value)
    assert "line 2" in str(told.value)
    assert "password12" not in str(told.value)


def test_no_password_or_key_is_in_what_a_user_shows() -> None:
    assert repr(USERS[b"noc"]) == "User(name='noc', engine_id=b'')"


def test_the_engine_keeps_its_id_and_counts_its_boots(tmp_path: Path) -> None:
    first, second = engine.started(tmp_path, 10.0), engine.started(tmp_path, 20.0)
    assert (second.engine_id, first.boots, second.boots) == (first.engine_id, 1, 2)
    assert second.time(25.9) == 5
    (tmp_path / "snmp-engine.json").write_bytes(b"{")
    third = engine.started(tmp_path, 30.0)
    assert third.engine_id != first.engine_id
    assert third.boots == 1
