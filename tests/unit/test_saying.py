"""Saying: a thread that says something again and again outlives whatever goes wrong, and logs an outage once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest
import redis

from mutt import saying
from tests.waiting import wait_until

log = logging.getLogger("mutt.test")


def failing(errors: list[Exception | None], said: list[str]) -> Callable[[], None]:
    """Raises these one after another, None: nothing; then it says something each time."""

    def say() -> None:
        error = errors.pop(0) if errors else None
        said.append("said" if error is None else "tried")
        if error is not None:
            raise error

    return say


@pytest.mark.parametrize("error", [redis.ConnectionError("away"), OSError("away"), ZeroDivisionError("ours")])
def test_a_failure_is_logged_once_and_again_after_it_was_over(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    said: list[str] = []
    say = failing([error, error, error, None, error], said)
    end = saying.start(say, every=0.001, last=lambda: said.append("last"), name="it", log=log, what="it")
    wait_until(lambda: said.count("said") > 1, 5, "it is said again")
    end()
    assert said[:6] == ["tried", "tried", "tried", "said", "tried", "said"]
    assert said[-1] == "last"
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "it can't be told now"
    ] * 2
    assert [bool(record.exc_info) for record in caplog.records] == [isinstance(error, ZeroDivisionError)] * 2


def test_a_last_word_that_hangs_holds_up_the_end_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saying, "PATIENCE", 0.05)
    hung = threading.Event()
    end = saying.start(lambda: None, every=60, last=hung.wait, name="it", log=log, what="it")
    end()
    assert not hung.is_set()
    hung.set()
