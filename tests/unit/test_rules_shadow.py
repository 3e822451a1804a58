"""Shadow: what a draft changes, how verdicts differ, and when it is not asked."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count, repeat
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutt.entry import Entry
from mutt.event import Event
from mutt.pipeline import shadow
from mutt.pipeline.shadow import compare
from mutt.pipeline.work import Item, Result
from mutt.rules.book import Book
from mutt.rules.change import HOSTS, REDACTIONS, RULES, STORMS, TEAMS, Change, fields_of
from mutt.rules.evaluate import Ruleset, evaluate
from mutt.rules.redaction import Redaction
from mutt.rules.rule import Example, Handling, Rule, StormPolicy, Verdict
from mutt.rules.shadow import Kind, Seen, called, drafted, hour_of, kind_of, overtaken

NOW = datetime(2026, 3, 4, 9, 15, tzinfo=UTC)
HOUR = NOW.replace(minute=0)
AT = int(NOW.timestamp() * 1000)


def rule(id: int, text: str = "x", **fields: Any) -> Rule:
    return Rule(id=id, name=f"R{id}", match_string=text, **fields)


def ruleset(*rules: Rule) -> Ruleset:
    return Ruleset.compile(1, rules, [], {})


def verdict(**fields: Any) -> Verdict:
    plain = {"rule_id": 1, "handling": "Page_only", "forward": True, "environment": "production", "team": "A"}
    return Verdict(**{**plain, "moog_severity": 4, "why": "so", **fields})


IGNORED = {"handling": "Ignore", "forward": False, "moog_severity": None}


@pytest.mark.parametrize(
    ("live", "draft", "kind"),
    [
        ({}, {}, Kind.SAME),
        ({}, {"why": "in other words"}, Kind.SAME),
        ({}, {"rule_id": 2}, Kind.OTHER_RULE),
        ({}, {"team": "B"}, Kind.OTHER_HANDLING),
        ({}, {"moog_severity": 5}, Kind.OTHER_HANDLING),
        ({}, {"rule_id": 2, "handling": "Ticket_only"}, Kind.OTHER_HANDLING),
        (IGNORED, {"rule_id": 2}, Kind.NEWLY_ALERTS),
        ({}, IGNORED, Kind.NO_LONGER_ALERTS),
        ({}, {"held": "maintenance:3"}, Kind.NO_LONGER_ALERTS),
        ({"held": "maintenance:3"}, {}, Kind.NEWLY_ALERTS),
        ({"held": "maintenance:3"}, {"held": "maintenance:4"}, Kind.OTHER_HANDLING),
        ({"held": "maintenance:3"}, IGNORED, Kind.OTHER_HANDLING),
    ],
)
def test_two_verdicts_differ_by_what_matters_most(
    live: dict[str, Any], draft: dict[str, Any], kind: Kind
) -> None:
    """Whether it alerts comes before how it is handled, and that before which rule it is."""
    assert kind_of(verdict(**live), verdict(**draft)) is kind


def changed(id: int, before: Rule | None, after: Rule | None) -> Change:
    was, becomes = (rule and fields_of(rule) for rule in (before, after))
    return Change(table=RULES, record_id=str(id), before=was, after=becomes)


STORM = StormPolicy(id=1, name="wild", group_by="host", alert_count=50, alert_window=60)
LAB, TEAM = {"hostname": "lab-*"}, {"hostname": "core-*", "team_assignment": "Backbone"}
CHANGES = [
    changed(2, rule(2), rule(2, "y", examples=(Example(message="y"),))),
    changed(3, rule(3), None),
    changed(9, None, rule(9)),
    Change(table=HOSTS, record_id="lab-*", after=LAB),
    Change(table=TEAMS, record_id="core-*", before=TEAM, after={**TEAM, "team_assignment": "Core"}),
    Change(table=STORMS, record_id="1", before=fields_of(STORM)),
]


def book(*rules: Rule, **more: Any) -> Book:
    return Book(rules=rules, **{"hosts": [], "teams": {"core-*": "Backbone"}, "storms": [STORM], **more})


def test_a_draft_has_its_way_with_its_own_rows_only() -> None:
    """Changed, deleted and new ones are as drafted, also where others changed them; all others stand."""
    standing = book(
        rule(1), rule(2, "by another"), rule(3), rule(4), hosts=["dev-*"], teams={"core-*": "X", "y": "Y"}
    )
    made = drafted(standing, CHANGES)
    assert {one.id: one for one in made.rules or ()} == {
        1: rule(1),
        2: rule(2, "y", examples=(Example(message="y"),)),
        4: rule(4),
        9: rule(9),
    }
    assert (made.hosts, made.teams, made.storms) == (["dev-*", "lab-*"], {"core-*": "Core", "y": "Y"}, [])


def test_what_others_did_to_its_rows_is_named() -> None:
    """Changed, deleted, or its reserved id taken; a row that is what it was stands in no one's way."""
    assert overtaken(book(rule(1), rule(2), rule(3)), CHANGES) == []
    others = book(rule(2, "by another"), rule(9), hosts=["lab-*"], teams={"core-*": "X"}, storms=[])
    assert overtaken(others, CHANGES) == CHANGES
    assert [called(change) for change in CHANGES[2:4]] == ["rule 9 “R9”", "development host lab-*"]


def test_a_draft_is_read_back_as_it_was_written() -> None:
    """What the database keeps of it is all of it, and means the same."""
    kept = msgspec.json.decode(msgspec.json.encode(CHANGES), type=list[Change])
    assert overtaken(book(rule(1), rule(2), rule(3)), kept) == []
    assert drafted(book(rule(2)), kept) == drafted(book(rule(2)), CHANGES)


TEXTS = st.sampled_from(("a", "b", "ab", "ba"))
ANY_RULE = st.builds(
    Rule,
    id=st.integers(1, 6),
    name=st.just("R"),
    match_string=TEXTS,
    priority=st.integers(1, 2),
    prod_handling=st.sampled_from(Handling),
    is_active=st.booleans(),
)


@given(
    st.lists(ANY_RULE, unique_by=lambda one: one.id),
    st.lists(ANY_RULE, unique_by=lambda one: one.id),
    st.sets(st.integers(1, 6)),
    st.lists(st.text("abc", max_size=5), max_size=6),
)
def test_what_is_counted_is_what_the_promoted_rules_would_say(
    standing: list[Rule], wanted: list[Rule], deleted: set[int], messages: list[str]
) -> None:
    """For whatever rules and draft: each event's kind is that of the verdicts of the two whole rulesets."""
    before = {one.id: one for one in standing}
    changes = [changed(one.id, before.get(one.id), one) for one in wanted]
    taken = {one.id for one in wanted}
    changes += [changed(id_, one, None) for id_, one in before.items() if id_ in deleted - taken]
    promoted = ruleset(
        *(one for id_, one in before.items() if id_ not in deleted | taken),
        *wanted,
    )
    live, draft = ruleset(*standing), ruleset(*(drafted(book(*standing), changes).rules or ()))
    items = [item(message, live) for message in messages]
    seen = compare(items, draft, NOW.timestamp(), lambda: 0.0)
    pairs = [(evaluate(one.event, live), evaluate(one.event, promoted)) for one in items]
    assert [(one.live, one.draft) for one in seen.differences] == [
        pair for pair in pairs if kind_of(*pair).differs
    ]
    assert sum(seen.counts.values()) == len(messages)


def item(message: str, live: Ruleset, *, attempts: int = 1, at: int = AT) -> Item:
    event = Event(event_id=UUID(int=7), received_at=NOW, occurred_at=NOW, hostname="core-1", message=message)
    entry = Entry("mutt:ingest_queue", f"{at}-0", attempts, {})
    return Item(Result(entry), 0, event, "b", "c", verdict=evaluate(event, live))


def kinds(seen: Seen) -> dict[str, int]:
    assert {hour for hour, _ in seen.counts} == {HOUR}
    return {str(kind): n for (_, kind), n in seen.counts.items()}


BOTH = ruleset(rule(1)), ruleset(rule(1, "y"))


def test_the_draft_is_not_asked_of_what_waited_or_comes_again() -> None:
    """A worker that is behind catches up first; an event that may have ended a worker is left alone."""
    live, draft = BOTH
    late = AT - int(shadow.LAG * 1000)
    items = [item("x", live), item("x", live, at=late), item("x", live, at=AT + 1, attempts=2)]
    assert kinds(compare(items, draft, NOW.timestamp(), lambda: 0.0)) == {"no_longer_alerts": 1, "skipped": 2}


def test_the_draft_sees_what_its_own_redactions_leave() -> None:
    """A draft that redacts judges the event as it came, without what the draft takes out."""
    made = Redaction(id=1, name="r", pattern="secret", replacement="x")
    change = Change(table=REDACTIONS, record_id="1", after=fields_of(made))
    wanted = drafted(book(rule(1, "secret")), [change])
    assert wanted.redactions == [made]
    live = ruleset(rule(1, "secret"))
    draft = Ruleset.compile(1, wanted.rules or (), [], {}, redactions=wanted.redactions or ())
    told = item("a secret", live)
    seen = compare([told], draft, NOW.timestamp(), lambda: 0.0)
    assert kinds(seen) == {"no_longer_alerts": 1}
    told.redact(draft.redactions)
    assert (told.event.message, told.whole.message) == ("a x", "a secret")
    seen = compare([told], live, NOW.timestamp(), lambda: 0.0)
    assert kinds(seen) == {"same": 1}


def test_its_time_is_bounded() -> None:
    """Once the budget of a share is spent, the rest of it is skipped, and counted as that."""
    live, draft = BOTH
    ticking = count(step=shadow.BUDGET / 2)
    seen = compare([item("y", live)] * 5, draft, NOW.timestamp(), lambda: next(ticking))
    assert kinds(seen) == {"newly_alerts": 1, "skipped": 4}


def test_while_it_is_compiled_all_is_skipped() -> None:
    """Without a ruleset nothing is judged, and nothing is lost from the count."""
    never = repeat(0.0)
    seen = compare([item("x", BOTH[0])] * 3, None, NOW.timestamp(), lambda: next(never))
    assert (kinds(seen), seen.differences) == ({"skipped": 3}, [])


def test_events_are_counted_in_the_hour_in_which_they_came() -> None:
    """However late they are judged."""
    assert hour_of(item("x", BOTH[0]).event) == HOUR
