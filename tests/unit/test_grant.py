"""Grants: what a key allows travels through Redis unchanged; what a key's text and name are."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutt.errors import Refused
from mutt.formats import registry
from mutt.grant import (
    BOOTSTRAP,
    INGEST,
    SCOPES,
    Grant,
    Signing,
    check_source,
    digest_of,
    every_of,
    new_key,
    severity_of,
)
from mutt.rules.evaluate import DEVELOPMENT, PRODUCTION
from mutt.source import ENVIRONMENTS, Source

SIGNINGS = st.builds(Signing, header=st.text(), secret=st.text(), tolerance=st.integers(0, 10**6))
GRANTS = st.builds(
    Grant,
    name=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True),
    scopes=st.lists(st.sampled_from(SCOPES), unique=True).map(tuple),
    formats=st.lists(st.sampled_from(sorted(registry.FORMATS)), unique=True).map(tuple),
    quota=st.none() | st.integers(1, 10**8),
    expires=st.none() | st.floats(0, 4e9, allow_nan=False),
    signing=st.none() | SIGNINGS,
    source=st.builds(Source, team=st.text(max_size=9), severity=st.none() | st.integers(0, 7)),
)


@given(GRANTS)
def test_a_grant_is_what_it_was_before_it_was_packed(grant: Grant) -> None:
    assert Grant.unpack(grant.pack()) == grant


@given(GRANTS, st.dictionaries(st.from_regex(r"new_[a-z]+", fullmatch=True), st.integers(), max_size=3))
def test_a_newer_versions_grant_can_be_read(grant: Grant, more: dict[str, int]) -> None:
    """What it says beyond what is known here is left aside."""
    packed = msgspec.json.encode({**msgspec.json.decode(grant.pack()), **more})
    assert Grant.unpack(packed) == grant


@given(st.binary())
def test_whatever_stands_in_redis_is_a_grant_or_a_value_error(packed: bytes) -> None:
    try:
        grant = Grant.unpack(packed)
    except ValueError:
        return
    assert grant.allows(INGEST) or packed.startswith(b"{")


def test_a_signing_secret_stands_in_no_traceback() -> None:
    """Sealed as it is."""
    assert "sealed" not in repr(Grant("a", signing=Signing("X-Signature", "sealed")))


def test_a_plain_name_of_an_older_version_may_send() -> None:
    """And nothing else."""
    assert Grant.unpack(b"probe") == Grant("probe", (INGEST,))


@pytest.mark.parametrize(
    "damaged", [b"{", b'{"name": 1}', b"{}", b"\xff", b'{"name": "a", "scopes": "ingest"}']
)
def test_what_is_damaged_is_no_grant(damaged: bytes) -> None:
    with pytest.raises(ValueError):
        Grant.unpack(damaged)


def test_a_grant_ends_with_the_second_that_was_named() -> None:
    assert [Grant("a", expires=10.0).expired(now) for now in (9.9, 10.0, 11.0)] == [False, True, True]
    assert not Grant("a").expired(4e9)


def test_no_formats_are_all_formats() -> None:
    assert Grant("a").takes("syslog")
    assert [Grant("a", formats=("native",)).takes(name) for name in ("native", "syslog")] == [True, False]


def test_the_environments_key_may_send_and_no_more() -> None:
    assert BOOTSTRAP.scopes == (INGEST,)
    assert (BOOTSTRAP.formats, BOOTSTRAP.quota, BOOTSTRAP.expires) == ((), None, None)


def test_a_keys_text_is_256_random_bits_and_is_known_by_its_sha_256() -> None:
    texts = {new_key() for _ in range(1000)}
    assert len(texts) == 1000
    for text in texts:
        assert re.fullmatch(r"mutt_[A-Za-z0-9_-]{43}", text)
        assert len(base64.urlsafe_b64decode(text.removeprefix("mutt_") + "=")) == 32
    text = texts.pop().encode()
    assert digest_of(text) == hashlib.sha256(text).hexdigest()


@pytest.mark.parametrize(
    ("given", "formats", "field"),
    [
        ({"format": "pigeon"}, (), "format"),
        ({"format": "syslog"}, ("native",), "format"),
        ({"format": "mapped"}, (), "mapping"),
        ({"mapping": "message: a"}, ("native",), "mapping"),
        ({"mapping": "message: a b"}, (), "mapping"),
        ({"team": "x" * 256}, (), "team"),
        ({"team": "x\0"}, (), "team"),
        ({"environment": "staging"}, (), "environment"),
        ({"severity": 8}, (), "severity"),
        ({"severity": -1}, (), "severity"),
        ({"every": 1.0}, (), "every"),
        ({"every": 1e9}, (), "every"),
        ({"every": float("nan")}, (), "every"),
    ],
)
def test_what_a_source_cannot_be_is_refused_by_field(
    given: dict[str, Any], formats: tuple[str, ...], field: str
) -> None:
    with pytest.raises(Refused) as caught:
        check_source(Source(**given), formats)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("read", "field", "number"),
    [(every_of, "every", -3), (severity_of, "severity", -3), (severity_of, "severity", 8)],
    ids=["every", "below", "above"],
)
def test_what_is_refused_is_refused_in_the_same_words_as_text_and_as_a_number(
    read: Callable[[str], Any], field: str, number: int
) -> None:
    """The page and the shell write text, the API a number."""
    with pytest.raises(Refused) as typed:
        read(str(number))
    with pytest.raises(Refused) as sent:
        check_source(msgspec.structs.replace(Source(), **{field: number}))
    assert (typed.value.field, typed.value.reason) == (sent.value.field, sent.value.reason)


def test_a_source_is_kept_as_it_was_said_but_for_blanks() -> None:
    assert every_of(" 0 ") == every_of("0s") == check_source(Source(every=0.0)).every == 0.0
    said = Source(format="native", mapping="message: a\n", team=" Web ", severity=0, every=300.0)
    assert check_source(said, ("native", "mapped")) == msgspec.structs.replace(said, team="Web")
    assert check_source(Source(mapping=" \n", team=" ")) == Source()


def test_what_a_source_can_say_of_the_environment_is_what_rules_know() -> None:
    assert set(ENVIRONMENTS) == {PRODUCTION, DEVELOPMENT}
