"""Trusted proxies: whose word on the sender counts, and how far back."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutt.errors import SettingsError
from mutt.settings import Settings
from mutt.web.proxies import Origin, Proxies, believing

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"), ip_network("127.0.0.1"))


def origin(peer: str, family: str = "x-forwarded", **headers: str) -> Origin:
    given = {name.upper().replace("_", "-"): value for name, value in headers.items()}
    return Proxies(PROXIES, family).origin(peer, lambda name: given.get(name, ""))


def claimed(sender: str, scheme: str = "", host: str = "") -> Any:
    """The headers of a proxy."""
    return {"x_forwarded_for": sender, "x_forwarded_proto": scheme, "x_forwarded_host": host}


@pytest.mark.parametrize(
    ("claims", "found"),
    [
        (claimed("192.0.2.7"), Origin("192.0.2.7")),
        (claimed("192.0.2.7", "https", "mutt.example.net"), Origin("192.0.2.7", "https", "mutt.example.net")),
        (claimed("192.0.2.7", "HTTPS", "x:8443"), Origin("192.0.2.7", "https", "x:8443")),
        (claimed("192.0.2.7", "http", "[2001:db8::1]:80"), Origin("192.0.2.7", "http", "[2001:db8::1]:80")),
        (claimed("192.0.2.7:4711"), Origin("192.0.2.7")),
        (claimed("[2001:DB8::7]:4711"), Origin("2001:db8::7")),
        (claimed("2001:db8::7"), Origin("2001:db8::7")),
        (claimed("::ffff:192.0.2.7"), Origin("192.0.2.7")),
        # What the sender wrote himself stands left.
        (claimed("198.51.100.1, 192.0.2.7"), Origin("192.0.2.7")),
        (claimed("10.1.1.1, 192.0.2.7"), Origin("192.0.2.7")),
        (claimed("198.51.100.1,192.0.2.7", "http,https", "evil,x"), Origin("192.0.2.7", "https", "x")),
        # Through two of them, each adding its part, or the last one writing its own.
        (claimed("192.0.2.7, 10.2.2.2"), Origin("192.0.2.7")),
        (claimed("evil, 192.0.2.7, fd00::2", "ftp, https, http"), Origin("192.0.2.7", "https")),
        (claimed("192.0.2.7, 10.2.2.2", "https", "x"), Origin("192.0.2.7", "https", "x")),
        # All are ours: the farthest.
        (claimed("10.3.3.3, 10.2.2.2"), Origin("10.3.3.3")),
        # Malformed, and what stands before it.
        (claimed("192.0.2.7, unknown"), Origin("10.0.0.1")),
        (claimed("192.0.2.7, unknown, 10.2.2.2"), Origin("10.2.2.2")),
        (claimed("192.0.2.7, "), Origin("10.0.0.1")),
        (claimed("fe80::1%<script>"), Origin("10.0.0.1")),
        (claimed("1.2.3"), Origin("10.0.0.1")),
        (claimed("192.0.2.007"), Origin("10.0.0.1")),
        (claimed("192.0.2.7:port"), Origin("10.0.0.1")),
        (claimed("192.0.2.7", "gopher", "evil/path"), Origin("192.0.2.7")),
        (claimed("192.0.2.7", "", "user@evil"), Origin("192.0.2.7")),
        (claimed("192.0.2.7", "", "x\r\ny"), Origin("192.0.2.7")),
        ({"x_forwarded_proto": "https"}, Origin("10.0.0.1", "https")),
        ({}, Origin("10.0.0.1")),
        # The other family is whoever's.
        ({"forwarded": "for=192.0.2.7;proto=https"}, Origin("10.0.0.1")),
    ],
)
def test_a_trusted_proxy_is_believed_as_far_as_its_like_follow(claims: dict[str, str], found: Origin) -> None:
    assert origin("10.0.0.1", **claims) == found


@pytest.mark.parametrize(
    ("forwarded", "found"),
    [
        ("for=192.0.2.7", Origin("192.0.2.7")),
        ('For="[2001:db8::7]:4711";Proto=https;host="x:8443"', Origin("2001:db8::7", "https", "x:8443")),
        ("for=192.0.2.7;proto=https;by=10.0.0.1, for=10.2.2.2", Origin("192.0.2.7", "https")),
        ('for="evil, for=192.0.2.7', Origin("192.0.2.7")),
        ("for=198.51.100.1;host=evil, for=192.0.2.7;host=x", Origin("192.0.2.7", "", "x")),
        ("for=_hidden", Origin("10.0.0.1")),
        ("for=192.0.2.7, for=unknown", Origin("10.0.0.1")),
        ("192.0.2.7", Origin("10.0.0.1")),
        ("", Origin("10.0.0.1")),
    ],
)
def test_a_proxy_that_writes_rfc_7239_is_read_so(forwarded: str, found: Origin) -> None:
    assert origin("10.0.0.1", "forwarded", forwarded=forwarded, x_forwarded_for="203.0.113.9") == found


headers = st.text(st.sampled_from('0123456789abcdf.:,;=[]"%_ \t-forhstp/@\xe9'), max_size=60)


@given(headers, headers, headers)
def test_who_is_not_trusted_is_not_believed(sender: str, scheme: str, host: str) -> None:
    for family in ("x-forwarded", "forwarded"):
        assert origin("192.0.2.1", family, forwarded=sender, **claimed(sender, scheme, host)) == Origin(
            "192.0.2.1"
        )


@given(headers, headers, headers)
def test_whatever_is_sent_an_address_a_scheme_and_a_host_come_of_it(
    sender: str, scheme: str, host: str
) -> None:
    for family in ("x-forwarded", "forwarded"):
        found = origin("10.0.0.1", family, forwarded=sender, **claimed(sender, scheme, host))
        assert str(ip_address(found.address)) == found.address
        assert found.scheme in ("", "http", "https")
        assert not set(found.host) & set(' /@"\\?#,;%')


@given(
    headers, st.sampled_from(["192.0.2.7", "2001:db8::7"]), st.lists(st.sampled_from(["10.2.2.2", "fd00::2"]))
)
def test_whatever_the_sender_writes_the_address_that_the_first_proxy_saw_is_found(
    written: str, sender: str, between: list[str]
) -> None:
    row = ", ".join([written, sender, *between])
    assert origin("10.0.0.1", **claimed(row)).address == sender
    row = ", ".join([written, *(f'for="{address}"' for address in [sender, *between])])
    assert origin("10.0.0.1", "forwarded", forwarded=row).address == sender


@pytest.mark.parametrize(
    ("peer", "trusted"), [("::ffff:10.0.0.1", True), ("", False), ("unix:", False), ("fd00::1", True)]
)
def test_a_peer_is_known_however_its_socket_shows_it(peer: str, trusted: bool) -> None:
    assert origin(peer, **claimed("192.0.2.7")).address == ("192.0.2.7" if trusted else peer)


@pytest.mark.parametrize(
    "value", ["10.0.0.1/8", "proxy.example.net", "10.0.0.0/33", "0.0.0.0/0", "::/0", "*", ","]
)
def test_a_setting_that_names_no_networks_or_everybody_stops_the_start(value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({"TRUSTED_PROXIES": value})
    assert refused.value.name == "TRUSTED_PROXIES"


def test_networks_and_single_addresses_are_named_alike() -> None:
    found = Settings.from_env({"TRUSTED_PROXIES": "10.0.0.7, fd00::/8,"}).trusted_proxies
    assert found == (ip_network("10.0.0.7/32"), ip_network("fd00::/8"))
    assert not Proxies(Settings.from_env({}).trusted_proxies)


def test_an_application_sees_the_sender_the_scheme_and_the_host() -> None:
    seen: dict[str, Any] = {}
    app = believing(lambda environ, _start: seen.update(environ) or [], Proxies(PROXIES))
    environ = {
        "REMOTE_ADDR": "127.0.0.1", "wsgi.url_scheme": "http", "HTTP_HOST": "inside",
        "HTTP_X_FORWARDED_FOR": "192.0.2.7", "HTTP_X_FORWARDED_PROTO": "https", "HTTP_X_FORWARDED_HOST": "outside",
    }  # fmt: skip
    app(environ, lambda *_: lambda _: None)
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"], seen["HTTP_HOST"]) == (
        "192.0.2.7",
        "https",
        "outside",
    )
