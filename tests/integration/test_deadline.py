"""Deadlines: each alarm goes off at its time, whatever was set or cancelled before it."""

from __future__ import annotations

import threading
import time

from mutt.deadline import Deadlines


def test_an_earlier_alarm_goes_off_before_a_later_one_that_was_set_first() -> None:
    deadlines, went = Deadlines(), threading.Event()
    deadlines.at(time.monotonic() + 60, lambda: None)
    deadlines.at(time.monotonic() + 0.05, went.set)
    assert went.wait(10)


def test_a_cancelled_alarm_stays_silent_and_keeps_no_other_from_going_off() -> None:
    deadlines, said, went = Deadlines(), [], threading.Event()
    with deadlines._changed:  # nobody looks for what is due between an alarm and its end
        for n in range(1000):
            deadlines.at(time.monotonic() + 0.05, lambda n=n: said.append(n)).cancel()
    deadlines.at(time.monotonic() + 0.1, went.set)
    assert went.wait(10)
    assert said == []
    assert len(deadlines._heap) == 0, "nothing is kept of them"


def test_an_alarm_that_is_set_while_nobody_waits_goes_off() -> None:
    deadlines = Deadlines()
    for _ in range(3):
        went = threading.Event()
        deadlines.at(time.monotonic() + 0.01, went.set)
        assert went.wait(10)


def test_an_action_that_raises_takes_no_other_alarm_with_it() -> None:
    """The thread is one for the process."""
    deadlines, went = Deadlines(), threading.Event()
    deadlines.at(time.monotonic(), lambda: [][0])
    deadlines.at(time.monotonic() + 0.01, went.set)
    assert went.wait(10)
