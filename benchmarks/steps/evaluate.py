"""Rules to verdict on one core: 100 to 10,000 rules, few and many matches, texts with and without templates."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from benchmarks import corpus
from benchmarks.bench import Bench, Step
from benchmarks.figures import MUTT, Figure
from benchmarks.site import Failed
from mutt.event import Event
from mutt.rules.check import check_rule
from mutt.rules.evaluate import Ruleset, evaluate
from mutt.rules.template import template_of

COUNTS = (100, 1_000, 10_000)
MATCHING = (corpus.MATCHING, 0.5)
TEXTS = {"": False, ", high-entropy text": True}

#: Distinct events; the rounds go over them again and again.
EVENTS = 5_000

GOAL = "150,000 a core at 10,000 rules, at most 5x slower than with 100"


def run(bench: Bench) -> None:
    """Every verdict is checked before it is timed. CPU time counts, so that others' work disturbs little."""
    rulesets = {count: compiled(count) for count in COUNTS}
    for text, noise in TEXTS.items():
        for matching in MATCHING:
            base: Figure | None = None
            for count, ruleset in rulesets.items():
                name = f"evaluate, {count:,} rules, {matching:.0%} match{text}"
                figure = _rate(bench, name, ruleset, checked(ruleset, count, matching, noise))
                base = base or figure
                bench.report.add(figure if figure is base else figure.as_times(base, "100 rules"))
    for text, noise in TEXTS.items():
        _templates(bench, text, noise)


def compiled(count: int) -> Ruleset:
    """The first ``count`` rules of the corpus."""
    given = [check_rule(rule, rule_id=number) for number, rule in enumerate(corpus.rules(count))]
    return Ruleset.compile(1, given, (), {})


def checked(ruleset: Ruleset, count: int, matching: float, noise: bool) -> list[Event]:
    """Events whose verdicts are the ones that the corpus says. Raises Failed."""
    sent = list(corpus.events(EVENTS, rules=count, matching=matching, noise=noise))
    events = corpus.parsed(sent)
    for event, one in zip(events, sent, strict=True):
        found = evaluate(event, ruleset).rule_id
        if found != one.rule:
            raise Failed(f"rule {one.rule} was to match, not {found}: {event.message}")
    return events


def _rate(bench: Bench, name: str, ruleset: Ruleset, events: Sequence[Event]) -> Figure:
    def once() -> None:
        for event in events:
            evaluate(event, ruleset)

    timed = [_timed(once, bench.plan.seconds / 4) for _ in range(bench.plan.times + 1)][1:]
    wall = sorted(len(events) / wall for _, wall in timed)[len(timed) // 2]
    rates = [len(events) / cpu for cpu, _ in timed]
    return Figure(
        name, MUTT, "events/s a core", rates, goal=GOAL, note=f"by CPU time; {wall:,.0f} by the clock"
    )


def _templates(bench: Bench, text: str, noise: bool) -> None:
    messages = [
        event.message for event in corpus.parsed(list(corpus.events(EVENTS, matching=0, noise=noise)))
    ]
    once = partial(_all, template_of, messages)
    timed = [_timed(once, bench.plan.seconds / 4) for _ in range(bench.plan.times + 1)][1:]
    costs = [cpu / len(messages) * 1e6 for cpu, _ in timed]
    note = f"CPU time; {sum(map(len, messages)) // len(messages)} characters on average"
    bench.report.add(
        Figure(f"template of an unmatched event{text}", MUTT, "µs", costs, goal="at most 3", note=note)
    )


def _all(work: Callable[[str], object], given: Sequence[str]) -> None:
    for one in given:
        work(one)


def _timed(once: Callable[[], None], seconds: float) -> tuple[float, float]:
    """Seconds of CPU and of the clock that ``once`` takes, over about ``seconds``."""
    cpu, started, rounds = time.process_time(), time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        once()
        rounds += 1
    return (time.process_time() - cpu) / rounds, (time.perf_counter() - started) / rounds


STEP = Step(run, order=20)
