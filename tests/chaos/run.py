"""The runner: load, a fault in the midst of it, no load, rest, balance; one scenario after the other."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import time
from collections.abc import Callable, Iterator, Sequence

from tests.chaos.balance import Found, NotAtRest, judge, rest, standing, weigh
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.load import Load, Sent
from tests.chaos.site import NotSeen, Site
from tests.waiting import wait_until

#: Events a second that the senders aim at.
RATE = 1500.0

#: Seconds in which the next fault of a pair follows the first.
APART = (0.0, 1.5)

Scenario = tuple[Fault, ...]


def chosen(words: str, dice: random.Random, *, spill: bool) -> list[Fault]:
    """The faults whose names hold one of ``words`` (separated by commas, in any case).

    Without words: all, but of what can happen to a link only two, of the dice's choice. ``spill``: may ingest do so?
    Raises ValueError.
    """
    wanted = [word.strip().lower() for word in words.split(",") if word.strip()]
    possible = [one for one in FAULTS.values() if spill or not one.spill]
    if wanted:
        found = [one for one in possible if any(word in one.name.lower() for word in wanted)]
        if not found:
            names = ", ".join(one.name for one in possible)
            raise ValueError(f"no fault is called like {words!r}; there are: {names}")
        return found
    links: dict[str, list[Fault]] = {}
    for one in possible:
        links.setdefault(one.link, []).append(one)
    alone = links.pop("")
    return alone + [one for happens in links.values() for one in dice.sample(happens, 2)]


def planned(faults: Sequence[Fault], pairs: int, dice: random.Random) -> list[Scenario]:
    """Each fault alone, and so many pairs of faults that can be had at once, in an order of the dice's."""
    scenarios: list[Scenario] = [(one,) for one in faults]
    possible = [
        (one, other)
        for n, one in enumerate(faults)
        for other in faults[n + 1 :]
        if not one.touches & other.touches
    ]
    both = dice.sample(possible, min(pairs, len(possible)))
    scenarios += [tuple(sorted(pair, key=_when)) for pair in both]
    dice.shuffle(scenarios)
    return scenarios


def _when(fault: Fault) -> tuple[bool, bool, int]:
    """Where two are had at once: what shows in the flow goes first, and of two links the one downstream."""
    place = list(FAULTS).index(fault.name)
    return not fault.flow, bool(fault.link), -place if fault.link else place


def run(
    site: Site, scenarios: Sequence[Scenario], events: int, seed: int, said: Callable[[Found], None]
) -> list[Found]:
    """Run them all, about ``events`` accepted events together. Stops where the site does not come to rest.

    At the end each is weighed once more: a later one must not have lost or doubled what was well.
    """
    done: list[tuple[int, Found, Sent]] = []
    for number, scenario in enumerate(scenarios):
        share = -(-events // len(scenarios))
        found, sent = _scenario(site, number, scenario, share, seed)
        done.append((number, found, sent))
        said(found)
        if found.why.startswith("not at rest"):
            return [found for _, found, _ in done]
    return weighed_again(site, done, said)


def weighed_again(
    site: Site, done: Sequence[tuple[int, Found, Sent]], said: Callable[[Found], None]
) -> list[Found]:
    """The finds as they are now; what has become worse is said."""
    received = site.moog_says("/received")
    found: list[Found] = []
    for number, before, sent in done:
        now = weigh(before.fault, sent, standing(site, f"chaos-{number}-", received))
        worse = {
            name: max(getattr(before, name), getattr(now, name)) for name in ("parked", "lost", "double")
        }
        last = dataclasses.replace(before, at_moog_again=now.at_moog_again, **worse)
        if last != dataclasses.replace(before, at_moog_again=now.at_moog_again) or now.why not in before.why:
            told = f"lost {now.lost}, double {now.double}, parked {now.parked} at the end of the run"
            last.why = ". ".join(filter(None, (before.why, told, now.why)))
            said(last)
        found.append(last)
    return found


def _scenario(site: Site, number: int, scenario: Scenario, events: int, seed: int) -> tuple[Found, Sent]:
    name = " + ".join(fault.name for fault in scenario)
    dice = random.Random(f"{seed}-{number}-{name}")
    began, why = time.monotonic(), ""
    load = Load(site.ingest, site.keys, number, seed, RATE, enough=events).start()
    with contextlib.ExitStack() as late:
        try:
            wait_until(lambda: load.accepted > 200, 30, "load to flow")
            with contextlib.ExitStack() as now:
                for n, fault in enumerate(scenario):
                    time.sleep(dice.uniform(*APART) if n else 0.0)
                    (late if fault.late else now).enter_context(fault(site, load))
                time.sleep(max(fault.hold for fault in scenario))
            mended = time.monotonic()
            wait_until(lambda: load.accepted >= events, 120, f"{events} events to be accepted")
        except (NotSeen, AssertionError) as error:
            why, mended = f"{type(error).__name__}: {error}", time.monotonic()
        sent, stopped = load.stop(), time.monotonic()
        try:
            rest(site, time.monotonic())
        except NotAtRest as error:
            return Found(name, accepted=len(sent.accepted), refused=sent.refused, why=str(error)), sent
    span = began, time.monotonic()
    found = judge(
        site,
        number,
        name,
        sent,
        span,
        way=any(fault.way for fault in scenario),
        slow=any(fault.slow for fault in scenario),
    )
    found.rest_s, found.why = span[1] - max(mended, stopped), ". ".join(filter(None, (why, found.why)))
    return found, sent


def rows(found: Sequence[Found]) -> Iterator[tuple[str, ...]]:
    """The table's rows, and their sum."""
    for one in found:
        yield _row(one)
    total = Found("all")
    for name in (
        "accepted",
        "audited",
        "parked",
        "lost",
        "double",
        "over",
        "alerts",
        "at_moog_again",
        "refused",
    ):
        setattr(total, name, sum(getattr(one, name) for one in found))
    total.rest_s = max((one.rest_s for one in found), default=0.0)
    yield _row(total)


COLUMNS = ("fault", "accepted", "audited", "alerts", "again at Moog", "refused", "parked", "lost", "double", "over",
           "rest after")  # fmt: skip


def _row(one: Found) -> tuple[str, ...]:
    counts = (
        one.accepted,
        one.audited,
        one.alerts,
        one.at_moog_again,
        one.refused,
        one.parked,
        one.lost,
        one.double,
        one.over,
    )
    return one.fault, *(f"{n:,}" for n in counts), f"{one.rest_s:.1f} s"
