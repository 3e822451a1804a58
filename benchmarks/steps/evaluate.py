"""``evaluate`` alone, on one core, with more and more rules; every verdict is checked."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks import corpus
from benchmarks.bench import Bench, Step
from benchmarks.figures import MUTT, Figure
from benchmarks.site import Failed
from mutt.event import Event
from mutt.rules.check import check_rule
from mutt.rules.evaluate import Ruleset, evaluate


def run(bench: Bench) -> None:
    """100, 1,000 and 10,000 rules."""
    for count in (100, 1_000, 10_000):
        given = [check_rule(rule, rule_id=number) for number, rule in enumerate(corpus.rules(count))]
        ruleset = Ruleset.compile(1, given, (), {})
        sent = list(corpus.events(5_000, rules=count))
        events = corpus.parsed(sent)
        for event, one in zip(events, sent, strict=True):
            if evaluate(event, ruleset).rule_id != one.rule:
                raise Failed(
                    f"rule {one.rule} was to match, not {evaluate(event, ruleset).rule_id}: {event.message}"
                )
        runs = [_evaluated(events, ruleset, bench.plan.seconds / 2) for _ in range(bench.plan.times)]
        bench.report.add(Figure(f"evaluate, {count:,} rules", MUTT, "events/s a core", runs))


def _evaluated(events: Sequence[Event], ruleset: Ruleset, seconds: float) -> float:
    started, rounds = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        for event in events:
            evaluate(event, ruleset)
        rounds += 1
    return rounds * len(events) / (time.perf_counter() - started)


STEP = Step(run, order=20)
