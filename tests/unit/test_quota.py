"""A key's quota: in no span of a minute more than it, and nobody waits in vain."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mutt.quota import WINDOW, Window

QUOTA = 100
ASKED = st.lists(st.tuples(st.floats(0, 20, allow_nan=False), st.integers(1, QUOTA)), min_size=1, max_size=60)


def granted(window: Window, asked: list[tuple[float, int]], now: float) -> list[tuple[float, int]]:
    """What of a series of requests (seconds since the one before, events) is granted, and when."""
    taken = []
    for pause, n in asked:
        now += pause
        if not window.take(n, QUOTA, now):
            taken.append((now, n))
    return taken


@given(ASKED, st.floats(1e9, 2e9))
def test_no_span_of_a_minute_has_more_than_the_quota(asked: list[tuple[float, int]], began: float) -> None:
    """Wherever the span begins: also between two seconds, and with any requests that were refused in it."""
    taken = granted(Window(), asked, began)
    for since, _ in taken:
        assert sum(n for at, n in taken if since <= at <= since + WINDOW) <= QUOTA


@given(ASKED, st.integers(1, QUOTA), st.floats(1e9, 2e9))
def test_who_comes_when_it_was_told_to_is_taken(asked: list[tuple[float, int]], n: int, began: float) -> None:
    """If nobody else came first; and a second sooner there was no room."""
    window = Window()
    taken = granted(window, asked, began)
    now = taken[-1][0]
    wait = window.take(n, QUOTA, now)
    if wait:
        assert 1 <= wait <= WINDOW + 1
        assert window.take(n, QUOTA, now + wait - 1.001) > 0
        assert window.take(n, QUOTA, now + wait) == 0


@given(ASKED)
def test_a_minute_after_the_last_all_of_it_is_free(asked: list[tuple[float, int]]) -> None:
    """And nothing is kept of what is long over."""
    window = Window()
    taken = granted(window, asked, 1e9)
    assert window.take(QUOTA, QUOTA, taken[-1][0] + WINDOW + 1) == 0
    assert len(window._counts) <= WINDOW + 1


@given(st.integers(1, QUOTA), st.integers(1, QUOTA))
def test_what_is_given_back_is_free_again(n: int, back: int) -> None:
    """More than was granted can't be: a quota never grows."""
    window = Window()
    assert window.take(n, QUOTA, 1e9) == 0
    window.add(-back, 1e9)
    left = QUOTA - max(0, n - back)
    assert left == 0 or window.take(left, QUOTA, 1e9) == 0
    assert window.take(1, QUOTA, 1e9) > 0


def test_a_clock_that_was_set_back_holds_up_nobody_for_as_long() -> None:
    window = Window()
    assert window.take(QUOTA, QUOTA, 1e9) == 0
    assert window.take(QUOTA, QUOTA, 1e9 - 3600) == 0
