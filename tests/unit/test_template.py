"""Templates: messages that differ in numbers, addresses and ids are one message."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutt.rules.template import template_of


@pytest.mark.parametrize(
    ("message", "template"),
    [
        ("", ""),
        ("backend api has no server available!", "backend api has no server available!"),
        ("haproxy[1912]: backend", "haproxy[<*>]: backend"),
        ("after 1234 ms, 0.5 s, 12ms", "after <*> ms, <*> s, <*>"),
        ("temp=-5 offset +3", "temp=<*> offset <*>"),  # a sign belongs to its number
        (
            "%LINK-3-UPDOWN: Interface Te0/0/1, down",
            "%LINK-<*>-UPDOWN: Interface <*>, down",
        ),  # a mnemonic stays
        ("at 2026-03-04T09:15:02.123Z on", "at <*> on"),
        ("from 10.20.0.17:8080 to 192.0.2.0/24", "from <*> to <*>"),
        ("peer 2001:db8::1 fe80::ab:cd%eth0", "peer <*> <*>%<*>"),
        ("mac aa:bb:cc:00:11:22 and aabb.ccdd.0011", "mac <*> and <*>"),
        ("session 7f3a9c21-aaaa-4bbb-8ccc-abcdefabcdef", "session <*>"),
        ("reg 0xDEADBEEF id ab12cd34", "reg <*> id <*>"),
        ("ports 22,80,443 open", "ports <*> open"),  # a list, however long
        ("two  spaces\tand\nlines", "two spaces and lines"),
        ("température 21°C", "température <*>°C"),
        ("id 7f3a9c21, (7f3a9c21) k=7f3a9c21; end", "id <*>, (<*>) k=<*>; end"),
        ("key G8zO+ppZ2/mE1w==", "key <*>+<*>=="),
        ("blanks\x1cof\u00a0Unicode 1\u2003é 2", "blanks of Unicode <*> é <*>"),
    ],
)
def test_a_template_keeps_the_words(message: str, template: str) -> None:
    assert template_of(message) == template


ADDRESSES = st.one_of(
    st.integers(0).map(str),
    st.ip_addresses(v=4).map(str),
    st.uuids().map(str),
    st.ip_addresses(v=6).map(str).filter(lambda text: any(map(str.isdigit, text))),
    st.binary(min_size=6, max_size=6)
    .map(lambda mac: mac.hex(":"))
    .filter(lambda text: any(map(str.isdigit, text))),
)


@given(ADDRESSES, ADDRESSES)
def test_what_differs_in_numbers_and_addresses_shares_a_template(one: str, other: str) -> None:
    assert (
        template_of(f"neighbor {one} is down")
        == template_of(f"neighbor {other} is down")
        == "neighbor <*> is down"
    )


def test_the_addresses_of_the_property_are_addresses() -> None:
    assert template_of(str(ipaddress.ip_address("::1"))) == "<*>"


@given(st.text(st.characters(exclude_categories=()), max_size=300))
def test_a_template_is_its_own_template(message: str) -> None:
    once = template_of(message)
    assert template_of(once) == once


@given(st.text(alphabet="a1 -:.<*>\n", max_size=1500))
def test_a_template_of_a_long_message_is_bounded_and_its_own(message: str) -> None:
    once = template_of(message)
    assert len(once) <= 512
    assert template_of(once) == once
    assert not any(map(str.isdigit, once))


def test_long_messages_that_differ_in_the_width_of_their_numbers_share_a_template() -> None:
    def message(number: int) -> str:
        return " ".join(f"interface {number} is down" for _ in range(25))

    assert template_of(message(7)) == template_of(message(123456))


def test_a_hostile_word_is_no_slow_word() -> None:
    assert template_of("a" * 1_000_000 + "1") == "a" * 512
    assert template_of("0:" * 500_000).startswith("<*>")
