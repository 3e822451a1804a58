"""Every answer that MUTT gives is one that each kind of sender survives: nothing is lost, nothing comes for ever.

What a sender does after a status stands in ``tests/senders/profiles.py``; what MUTT answers is asked over HTTP here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mutt.grant import INGEST, Grant, digest_of
from mutt.quota import Ask
from mutt.settings import Settings
from mutt.streams.keys import KeysCopy
from mutt.streams.quota import Quotas
from tests.integration.test_ingest import KEY, Ingest
from tests.sampled import SAMPLES, headers_of
from tests.senders.profiles import AGAIN, DONE, GONE, PROFILES, STATE, STATUSES, Profile, Then
from tests.servers import Live

PAGE = Path(__file__).parents[2] / "docs" / "senders.md"

#: Events a minute of the key that has sent them all.
QUOTA = 100


class Case(NamedTuple):
    """Something that a sender may meet."""

    name: str
    survived: frozenset[Then]  #: what it may do then


OVERLOAD = Case("overload", frozenset({AGAIN, STATE}))
SOME_BAD = Case("a bad item among good ones", frozenset({DONE}))
ALL_BAD = Case("nothing that can be taken", frozenset({DONE, GONE, STATE}))  # MUTT keeps it: `mutt dlq`
BAD_KEY = Case("a wrong key", frozenset({AGAIN, STATE}))
QUOTA_USED = Case("the quota is used up", frozenset({AGAIN, STATE}))

#: What no answer can mend. ``docs/senders.md`` says so of each.
LOST = {
    ("LibreNMS", OVERLOAD), ("LibreNMS", BAD_KEY), ("LibreNMS", QUOTA_USED),  # it tries once, whatever it hears
    ("SolarWinds", OVERLOAD), ("SolarWinds", BAD_KEY), ("SolarWinds", QUOTA_USED),  # likewise
    ("Zabbix", OVERLOAD), ("Zabbix", BAD_KEY), ("Zabbix", QUOTA_USED),  # after 100 minutes
    ("Amazon SNS", OVERLOAD), ("Amazon SNS", QUOTA_USED),  # after an hour at most
    ("Azure Monitor", OVERLOAD), ("Azure Monitor", QUOTA_USED),  # after a minute and a quarter
    ("Amazon SNS", BAD_KEY), ("Azure Monitor", BAD_KEY),
    ("Fluent Bit", BAD_KEY), ("Vector", BAD_KEY), ("Splunk HEC clients", BAD_KEY), ("CloudEvents SDK", BAD_KEY),
    ("mutt.client", BAD_KEY),  # its program is told of each event
}  # fmt: skip

each = pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)


@pytest.fixture(scope="module")
def ingest(redis_server: Live) -> Ingest:
    made = Ingest(redis_server.url)
    made.redis.flushall()
    grant = Grant("few", (INGEST,), quota=QUOTA)
    KeysCopy(made.redis).publish({digest_of(b"few"): grant})
    return made


@pytest.fixture(scope="module")
def full(redis_server: Live) -> Ingest:
    """Its queue has no room."""
    return Ingest(redis_server.url, ingest_max_depth=0)


def posted(to: Ingest, profile: Profile, body: bytes, key: str | None = KEY) -> Any:
    headers = {name.replace("-", "_"): value for name, value in headers_of(SAMPLES / profile.sample).items()}
    return to.post(body, profile.path, key, **headers)


def sample(profile: Profile) -> bytes:
    return (SAMPLES / profile.sample).read_bytes()


def survives(profile: Profile, case: Case, status: int) -> None:
    then = profile.then(status)
    known = (profile.name, case) in LOST
    assert (then in case.survived) is not known, f"{profile.name} is answered {status} and {then}"


@each
def test_a_sample_is_taken_and_is_over_with_that(ingest: Ingest, profile: Profile) -> None:
    answer = posted(ingest, profile, sample(profile))
    assert profile.then(answer.status_code) is DONE, answer.data
    assert answer.status_code in (200, 202)


@each
def test_overload_is_a_503_that_each_sender_outlasts(full: Ingest, profile: Profile) -> None:
    answer = posted(full, profile, sample(profile))
    assert (answer.status_code, int(answer.headers["Retry-After"]) > 0) == (503, True)
    survives(profile, OVERLOAD, answer.status_code)


@each
def test_one_bad_item_costs_its_neighbours_nothing(ingest: Ingest, profile: Profile) -> None:
    before = ingest.accepted
    answer = posted(ingest, profile, profile.joined(sample(profile), profile.bad))
    survives(profile, SOME_BAD, answer.status_code)
    assert ingest.accepted > before


@each
def test_what_can_never_be_taken_does_not_come_for_ever(ingest: Ingest, profile: Profile) -> None:
    before = ingest.accepted
    answer = posted(ingest, profile, profile.bad)
    survives(profile, ALL_BAD, answer.status_code)
    assert ingest.accepted == before


@each
def test_a_wrong_key_is_a_401_or_403(ingest: Ingest, profile: Profile) -> None:
    answer = posted(ingest, profile, sample(profile), "another")
    assert answer.status_code in (401, 403)
    survives(profile, BAD_KEY, answer.status_code)


@each
def test_a_used_up_quota_loses_nothing(ingest: Ingest, profile: Profile) -> None:
    Quotas(ingest.redis).take([Ask("few", QUOTA, QUOTA)])
    answer = posted(ingest, profile, sample(profile), "few")
    assert answer.status_code in (429, 503)
    assert int(answer.headers["Retry-After"]) > 0
    survives(profile, QUOTA_USED, answer.status_code)


@each
def test_no_body_that_a_sender_makes_is_too_big(profile: Profile) -> None:
    assert profile.largest < Settings.from_env({}).ingest_max_body


def test_the_page_shows_what_each_sender_does_after_each_answer() -> None:
    said = PAGE.read_text().splitlines()
    for profile in PROFILES:
        cells = [str(profile.then(status)) for status in STATUSES]
        assert f"| {profile.name} | " + " | ".join(cells) + " |" in said
