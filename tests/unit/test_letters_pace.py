"""How many letters may go: spare budget only, and never before what is fresh."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutt.letters.pace import EVENTS_STANDING, STEP, room, share, tick
from mutt.streams.spare import Load

loads = st.builds(
    Load,
    used=st.integers(0, 200),
    standing=st.integers(0, 200),
    queued=st.integers(0, 10_000),
    breaker=st.sampled_from(["closed", "closed", "open", "half_open"]),
    paused=st.booleans(),
)


@given(loads, st.integers(1, 200))
def test_alerts_take_no_more_than_what_the_budget_has_left(load: Load, limit: int) -> None:
    assert room("moog", load, limit).letters <= max(0, limit - load.used)


@given(loads, st.integers(1, 200))
def test_no_more_than_a_quarter_of_a_period_stands_before_a_fresh_alert(load: Load, limit: int) -> None:
    found = room("moog", load, limit)
    assert not found.letters or load.standing + found.letters <= share(limit) <= max(1, limit / 4)


@given(loads, st.sampled_from(["moog", "alerts"]))
def test_where_nothing_goes_it_says_why(load: Load, queue: str) -> None:
    found = room(queue, load, 50)
    assert 0 <= found.letters <= STEP
    assert bool(found.waits) is not bool(found.letters)


@pytest.mark.parametrize(
    ("load", "says"),
    [(Load(breaker="half_open"), "half open"), (Load(paused=True), "pause"), (Load(used=50), "budget")],
)
def test_alerts_wait_while_moog_takes_none(load: Load, says: str) -> None:
    found = room("moog", load, 50)
    assert (found.letters, says in found.waits) == (0, True)


def test_at_rest_alerts_go(limit: int = 50) -> None:
    assert room("moog", Load(), limit).letters == share(limit)
    assert room("moog", Load(), 1).letters == 1


@given(st.integers(0, 10_000))
def test_events_never_fill_the_ingest_queue(queued: int) -> None:
    found = room("alerts", Load(queued=queued), 50).letters
    assert not found or queued + found <= EVENTS_STANDING


@pytest.mark.parametrize(("period", "seconds"), [(0.01, 0.05), (1.0, 0.25), (60.0, 1.0)])
def test_a_step_comes_four_times_a_period_within_bounds(period: float, seconds: float) -> None:
    assert tick(period) == seconds
