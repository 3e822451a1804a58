"""Noise control's model by example; tests/integration/test_noise_model.py holds the settle to it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from mutt.event import Event, State
from mutt.rules.evaluate import Ruleset, evaluate
from mutt.rules.noise import Replay, limits
from mutt.rules.rule import Rule, StormPolicy

START = datetime(2026, 3, 4, 9, 15, tzinfo=UTC)


def ruleset(*storms: StormPolicy, **bounds: Any) -> Ruleset:
    rule = Rule(id=1, name="link", match_string="LINK", **bounds)
    return Ruleset.compile(1, [rule], [], {}, storms=storms)


def storm(number: int = 1, **values: Any) -> StormPolicy:
    told = {"name": "s", "group_by": "host", "alert_count": 2, "alert_window": 10}
    return StormPolicy(id=number, **(told | values))


def decided(rules: Ruleset, *told: float | tuple[float, str], held: str = "") -> list[str]:
    """What is decided of raises at these seconds, or ("clear", a host's) of others."""
    replay, found = Replay(rules), []
    for one in told:
        second, what = one if isinstance(one, tuple) else (one, "a")
        at = START + timedelta(seconds=second)
        state = State.CLEAR if what == "clear" else State.RAISE
        host = "a" if what in ("clear", "held") else what
        event = Event(
            event_id=uuid4(),
            received_at=at,
            occurred_at=at,
            hostname=host,
            message="LINK",
            state=state,
            tags={"site": "north"},
        )
        verdict = evaluate(event, rules)
        if what == "held":
            verdict = msgspec.structs.replace(verdict, held=held)
        found.append(replay.decide(event, verdict, f"{host}::rule-1"))
    return found


def test_without_bounds_all_go_to_moog() -> None:
    """The usual case has no limits at all."""
    assert decided(ruleset(), 0, 0, 1) == ["", "", ""]
    assert limits(ruleset(), 1, "a", "NETO", "native", {}) is None


def test_repeats_are_held_from_the_first_that_was_let_through() -> None:
    """The window is fixed: repeats don't prolong it, and its end is no longer in it."""
    assert decided(ruleset(dedup_window=10), 0, 1, 9.999999, 10, 11) == ["", "dedup", "dedup", "", "dedup"]


def test_a_clear_ends_the_window_of_repeats() -> None:
    """A raise after the clear is sent."""
    assert decided(ruleset(dedup_window=10), 0, 1, (2, "clear"), 3, 4) == ["", "dedup", "", "", "dedup"]


def test_a_threshold_slides_and_begins_anew() -> None:
    """The third within ten seconds fires; those before it are used up by it."""
    rules = ruleset(threshold_count=3, threshold_window=10)
    assert decided(rules, 0, 9, 10, 11, 12, 13) == [
        "threshold",
        "threshold",
        "threshold",
        "",
        "threshold",
        "threshold",
    ]


def test_what_maintenance_holds_counts_for_nothing_else() -> None:
    """Neither for the threshold nor for a storm."""
    rules = ruleset(storm(), threshold_count=2, threshold_window=10)
    assert decided(rules, (0, "held"), 1, 2, held="maintenance:3") == ["maintenance:3", "threshold", ""]


def test_flapping_is_held_until_it_rests() -> None:
    """More than two changes within ten seconds hold all; ten seconds without a change end it."""
    rules = ruleset(flap_count=2, flap_window=10)
    told = (0, (1, "clear"), 2, (3, "clear"), 4, 13.999999, 14)
    assert decided(rules, *told) == ["", "", "", "flapping", "flapping", "flapping", ""]


@pytest.mark.parametrize(
    ("policy", "reasons"),
    [
        ({}, ["", "", "storm:1", ""]),
        ({"group_by": "rule"}, ["", "", "storm:1", "storm:1"]),
        ({"group_by": "team"}, ["", "", "storm:1", "storm:1"]),
        ({"group_by": "tags.site"}, ["", "", "storm:1", "storm:1"]),
        ({"group_by": "tags.none"}, ["", "", "", ""]),
        ({"group_by": "rule", "hostname": "b"}, ["", "", "", ""]),
        ({"is_active": False}, ["", "", "", ""]),
    ],
)
def test_over_the_count_of_a_key_it_is_a_storm(policy: dict[str, Any], reasons: list[str]) -> None:
    """The third of a key within the window is held; what has no key, or is outside the scope, is not counted."""
    assert decided(ruleset(storm(**policy)), 0, 1, 2, (3, "b")) == reasons


def test_a_storm_lasts_while_too_many_come() -> None:
    """Those that are held count, too; the first that has two within ten seconds before it no more is sent."""
    assert decided(ruleset(storm()), 0, 1, 5, 9, 14, 25, 26) == [
        "",
        "",
        "storm:1",
        "storm:1",
        "storm:1",
        "",
        "",
    ]


def test_of_several_policies_the_first_gives_the_reason() -> None:
    """Each counts the alert, by its id the first names it."""
    both = ruleset(storm(2, alert_count=2), storm(1, group_by="rule", alert_count=3))
    assert decided(both, 0, 1, 2, 3) == ["", "", "storm:2", "storm:1"]
