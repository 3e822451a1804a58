"""What is remembered of senders' keys: not what would fill the memory."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from mutt.formats import registry, remembered
from mutt.formats.base import Context
from mutt.formats.fluent_bit import FORMAT as FLUENT_BIT

CONTEXT = Context(datetime(2026, 3, 4, 9, 30, tzinfo=UTC), "key-1", 1 << 20, "192.0.2.1")


def read(more: dict[str, int]) -> None:
    body = json.dumps({"date": 1772616600.5, "log": "fan failed"} | more).encode()
    parsed = registry.parse(registry.MIXED, body, CONTEXT)
    assert [(event.source, event.message) for event in parsed.events] == [("fluent-bit", "fan failed")]


@pytest.mark.parametrize(
    "more",
    [{"x" * 5000: 1}, {f"x{number}": 1 for number in range(200)}],
    ids=["long", "many"],
)
def test_keys_that_are_long_or_many_are_read_and_not_remembered(more: dict[str, int]) -> None:
    read({"seen": 1})
    before = len(registry._fitting), len(FLUENT_BIT._places)
    read(more)
    assert (len(registry._fitting), len(FLUENT_BIT._places)) == before
    assert not any(key in kept for kept in (*registry._fitting, *FLUENT_BIT._places) for key in more)


def test_of_a_sender_that_makes_up_keys_only_some_are_remembered() -> None:
    known: dict[tuple[str, ...], int] = {}
    for number in range(3 * remembered.MOST):
        assert remembered.remember(known, (str(number),), number) == number
        assert known[str(number),] == number
    assert len(known) <= remembered.MOST
