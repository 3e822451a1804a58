"""Preview: what a draft of a rule would make of events, beside what stands. Pure; nothing is saved.

The draft is not compiled among ten thousand others: it is looked for by itself, and put in its place among those that
match.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from mutt.event import Event
from mutt.rules.evaluate import Ruleset, evaluate, text_of
from mutt.rules.redaction import Taken
from mutt.rules.rule import Rule, Verdict
from mutt.rules.trace import Trace, Tried, trace

#: Seconds that a preview takes at most; the events behind are not tried.
PATIENCE = 2.0

#: Rules that are told of each event beside the draft and the one that decides. To look for those that came near takes
#: too long where there are many.
MATCHING, NEAR = 6, 0

#: Characters of a text that are shown around what matched.
AROUND, SHOWN = 120, 600


class Piece(NamedTuple):
    """A part of a text, and whether the rule matched it."""

    text: str
    marked: bool


class Tested(msgspec.Struct, frozen=True, kw_only=True):
    """One event, and what becomes of it without and with the draft."""

    event: Event  #: as it would be kept
    before: Verdict
    after: Verdict
    rule_before: str  #: the name of the rule that decides
    rule_after: str
    trace: Trace  #: with the draft in place
    draft: Tried | None  #: the draft's part of it
    field: str  #: whose text the pieces are
    pieces: list[Piece]
    taken: list[Taken] = []  #: what would be taken out of it

    @property
    def changes(self) -> list[tuple[str, str, str]]:
        """What the draft changes: (what, before, after)."""
        rows = (
            ("rule", self.rule_before, self.rule_after),
            ("handling", self.before.handling, self.after.handling),
            ("team", self.before.team or "none", self.after.team or "none"),
            ("Moog severity", _severity(self.before), _severity(self.after)),
            ("held", self.before.held or "no", self.after.held or "no"),
        )
        return [row for row in rows if row[1] != row[2]]


def preview(
    events: Sequence[Event],
    ruleset: Ruleset,
    draft: Rule | None,
    *,
    monotonic: Callable[[], float] = time.monotonic,
) -> list[Tested]:
    """What becomes of ``events``, as many as can be tried in :data:`PATIENCE` seconds."""
    until = monotonic() + PATIENCE
    found: list[Tested] = []
    for event in events:
        if found and monotonic() > until:
            break
        found.append(_tested(event, ruleset, draft))
    return found


def _tested(whole: Event, ruleset: Ruleset, draft: Rule | None) -> Tested:
    event = ruleset.redactions.redact(whole)
    before, told = evaluate(event, ruleset), trace(event, ruleset, draft=draft, most=MATCHING, near=NEAR)
    own = next((one for one in told.tried if one.draft), None)
    shown = own or told.deciding
    field = shown.field if shown and shown.spans else "message"
    return Tested(
        event=event,
        before=before,
        after=told.verdict,
        rule_before=_named(before, ruleset, None),
        rule_after=_named(told.verdict, ruleset, draft),
        trace=told,
        draft=own,
        field=field,
        pieces=pieces(text_of(field)(event) or "", shown.spans if shown else ()),
        taken=[] if event is whole else ruleset.redactions.taken(whole),
    )


def _named(verdict: Verdict, ruleset: Ruleset, draft: Rule | None) -> str:
    if verdict.rule_id is None:
        return "none"
    if draft is not None and verdict.rule_id == draft.id:
        return "this one"
    return f"{verdict.rule_id} {ruleset.rule_name(verdict.rule_id)}"


def _severity(verdict: Verdict) -> str:
    return "not sent" if verdict.moog_severity is None else str(verdict.moog_severity)


def pieces(text: str, spans: Iterable[tuple[int, int]]) -> list[Piece]:
    """``text`` in pieces, those within ``spans`` marked. Of a long one, what is around the first that matched."""
    kept = list(spans)
    start = max(0, kept[0][0] - AROUND) if kept and len(text) > SHOWN else 0
    end = min(len(text), max(start + SHOWN, kept[0][1] + AROUND if kept else 0))
    found = [Piece("…", False)] if start else []
    at = start
    for begin, close in kept:
        if begin >= end:
            break
        found += [Piece(text[at:begin], False), Piece(text[begin : min(close, end)], True)]
        at = min(close, end)
    found.append(Piece(text[at:end] + ("…" if end < len(text) else ""), False))
    return [piece for piece in found if piece.text]
