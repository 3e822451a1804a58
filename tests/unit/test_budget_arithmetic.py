"""The budget's arithmetic: grants a window apart, each used within its slack, never crowd a period."""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mutt.budget.arithmetic import SLACK_LEAST, Budget, celery_rate, slack, window
from mutt.budget.permit import Patience, Permit

PERIODS = st.one_of(
    st.sampled_from([0.1, 1.0, 60.0, 3600.0]),
    st.floats(0.001, 86400.0, allow_nan=False, allow_infinity=False),
)


def grants(asked: list[int], limit: int, window_us: int) -> list[int]:
    """The sliding log of gate.lua in a line: granted while fewer than ``limit`` stand in the window."""
    log: list[int] = []
    for at in asked:
        if len(log) - bisect_left(log, at - window_us) < limit:
            log.append(at)
    return log


@st.composite
def starts(draw):
    """(limit, period, first bytes in us): any asking, any use of what was granted within its slack."""
    limit, period = draw(st.integers(1, 12)), draw(PERIODS)
    budget = Budget(limit=limit, period=period)
    window_us = budget.options["window_us"]
    gaps = draw(
        st.lists(st.one_of(st.just(0), st.integers(0, window_us), st.just(window_us + 1)), max_size=80)
    )
    asked, at = [], 1_700_000_000_000_000
    for gap in gaps:
        at += gap
        asked.append(at)
    most = int(budget.slack * 1e6)
    delays = st.one_of(st.just(0), st.just(most), st.integers(0, most))
    return limit, period, sorted(at + draw(delays) for at in grants(asked, limit, window_us))


@st.composite
def patient_starts(draw):
    """The same where each permit asked for a life of its own, and counts as given that much later."""
    limit, period = draw(st.integers(1, 12)), draw(PERIODS)
    budget = Budget(limit=limit, period=period)
    window_us, slack_us = budget.options["window_us"], int(budget.slack * 1e6)
    extra_most = budget.options["extra_most_us"]
    log, began, at = [], [], 1_700_000_000_000_000
    for gap in draw(st.lists(st.integers(0, 2 * window_us), max_size=80)):
        at += gap
        extra = draw(st.integers(0, extra_most))
        if sum(given >= at - window_us for given in log) < limit:
            log.append(at + extra)
            began.append(at + draw(st.integers(0, slack_us + extra)))
    return limit, period, sorted(began)


@settings(max_examples=2 * settings().max_examples)
@given(patient_starts())
def test_nor_does_it_where_permits_live_longer(case):
    limit, period, began = case
    for first, one_too_many in zip(began, began[limit:], strict=False):
        assert one_too_many - first >= period * 1e6


@given(st.lists(st.one_of(st.none(), st.floats(0, 3)), max_size=200), st.floats(0.025, 2.0))
def test_patience_stays_within_its_bounds_and_comes_back(told, most):
    """Nothing: a permit was used; a number: so much later one ran out."""
    patience, now = Patience(0.025, most), 0.0
    for later in told:
        now += later or 0.0
        patience.used() if later is None else patience.ran_out(now)
        assert 0.025 <= patience.seconds <= max(0.025, most)
        assert patience.now() == (patience.seconds, patience.seconds - 0.025)
    for _ in range(300):
        patience.used()
    assert patience.seconds == 0.025


def test_patience_grows_where_nothing_is_sent_and_not_for_some_that_run_out_among_others():
    patience = Patience(0.025, 1.0)
    for now in range(10):
        for _ in range(10):
            patience.ran_out(now)
        patience.used()
    assert patience.seconds == 0.025
    for now, life in ((20, 0.025), (20.9, 0.025), (21, 0.05), (21, 0.05), (21.9, 0.05), (22, 0.1)):
        patience.ran_out(now)
        assert patience.seconds == life


@settings(max_examples=3 * settings().max_examples)
@given(starts())
def test_no_window_of_a_period_holds_more_starts_than_the_limit(case):
    limit, period, began = case
    for first, one_too_many in zip(began, began[limit:], strict=False):
        assert one_too_many - first >= period * 1e6


@given(PERIODS)
def test_the_window_is_the_period_and_the_life_of_a_permit(period):
    assert slack(period) >= SLACK_LEAST
    assert window(period) == period + slack(period)
    assert Budget(period=period).options["window_us"] >= (period + slack(period)) * 1e6 - 0.5


@given(st.lists(st.floats(0, 10), min_size=2, max_size=20), PERIODS)
def test_a_permit_that_ran_out_never_holds_again(moments, period):
    permit = Permit("1", 0, moments[0] + slack(period))
    held = [permit.holds(now) for now in sorted(moments)]
    assert all(before or not after for before, after in pairwise(held))
    assert permit.holds(permit.expires_at)


def test_what_the_gate_is_told_are_whole_numbers_in_its_units():
    options = Budget(limit=50, period=1.0, threshold=10, timeout=300.0, deadline=10.0).options
    assert all(isinstance(value, int) for value in options.values())
    assert options["window_us"] == 1_025_000
    assert options["timeout_us"] == 300_000_000
    assert options["lock_ms"] > 10_000, "the lock outlives the request that it guards"


@pytest.mark.parametrize(
    ("limit", "period", "turn", "rate"),
    [(50, 1.0, 1, "75/s"), (50, 1.0, 10, "7.5/s"), (10, 60.0, 1, "15/m"), (1, 3600.0, 1, "1/m")],
)
def test_celerys_own_limit_is_one_and_a_half_times_the_budget(limit, period, turn, rate):
    assert celery_rate(limit, period, turn) == rate


class Shrinking(Patience):
    """One that another thread shortens between any two looks at it."""

    _next = 0.2

    @property
    def seconds(self) -> float:
        self._next -= 0.01
        return self._next

    @seconds.setter
    def seconds(self, _value: float) -> None:
        pass


class Interrupted(Patience):
    """One of which another thread used a permit between any two looks at it."""

    _noted: float | None = None

    @property
    def _since(self) -> float | None:
        since, self._noted = self._noted, None
        return since

    @_since.setter
    def _since(self, value: float | None) -> None:
        self._noted = value


def test_a_permit_that_runs_out_while_another_thread_uses_one_is_counted_and_harms_nobody() -> None:
    patience = Interrupted(0.025, 0.25)
    for now in (1.0, 1.5, 9.0):
        patience.ran_out(now)
    assert patience.seconds in (0.025, 0.05)


def test_a_permit_never_outlives_what_the_log_counts_where_threads_share_one() -> None:
    patience = Shrinking(0.025, 0.25)
    for _ in range(3):
        life, extra = patience.now()
        assert life - extra == pytest.approx(0.025)
