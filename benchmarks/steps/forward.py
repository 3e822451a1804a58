"""Requests to Moog: how many one worker makes a second, and the budget kept at a Moog that answers slowly."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import redis
import requests

from benchmarks import lanes, subjects
from benchmarks.bench import Bench, Step
from benchmarks.figures import MUTT, Figure
from benchmarks.runs import Alive, alive
from benchmarks.site import Failed
from benchmarks.usage import busy, used
from mutt import names
from mutt.streams import books

#: So many that the budget never holds anything up.
LIFTED = {"MOOG_RATE_LIMIT": "1000000", "MOOG_TURN": "50"}

#: What Moog takes to answer, in seconds, and what a second may bring it.
SLOW, LIMIT = 0.5, 50

#: What share of the alerts is the start: doorbells bring the other threads in.
START = 0.1

#: Seconds after which alerts that are not delivered never will be.
AT_MOST = 120.0


@dataclass(frozen=True)
class Sent:
    """What became of some alerts: requests a second, microseconds of CPU a request by role, strangers' cores."""

    rate: float
    cpu: dict[str, float]
    others: float
    most: int  #: requests that came in one second


def run(bench: Bench) -> None:
    """With the limit lifted, then with the usual one and a slow Moog. Nobody records what became of the alerts."""
    with _worker(bench, LIFTED) as running:
        count = round(bench.plan.seconds * 1000)
        sent = [_deliver(running, count, round(count * START)) for _ in range(bench.plan.times + 1)][1:]
    note = f"{count:,} alerts each, MOOG_TURN=50, 32 threads; the simulator and Redis share the cores"
    bench.report.add(_figure("forward, limit lifted", sent, note, "1,000/s from one worker"))
    with _worker(bench, {"MOOG_RATE_LIMIT": str(LIMIT)}) as running:
        _script(running, behaviour="ok", delay=SLOW)
        # The budget lets them go a window's worth at a time: from the end of one to the end of another.
        count = LIMIT * (1 + round(2 * bench.plan.seconds))
        sent = [_deliver(running, count, LIMIT) for _ in range(bench.plan.times)]
    most = max(one.most for one in sent)
    if most > LIMIT:
        raise Failed(f"{most} requests came within a second, {LIMIT} may")
    note = (
        f"MOOG_TURN=1, 32 threads; at most {most} within any second; windows of 1.025 s make 48.8/s the most"
    )
    bench.report.add(_figure(f"forward, Moog takes {SLOW:g} s", sent, note, f"{LIMIT}/s, never more"))


def _figure(name: str, sent: list[Sent], note: str, goal: str) -> Figure:
    middle = sorted(sent, key=lambda one: one.rate)[len(sent) // 2]
    rates, others = [one.rate for one in sent], max(one.others for one in sent)
    return Figure(name, MUTT, "requests/s", rates, cpu=middle.cpu, note=note, others=others, goal=goal)


@contextmanager
def _worker(bench: Bench, told: Mapping[str, str]) -> Iterator[Alive]:
    """One forwarding worker and the simulator, as ``mutt up`` starts them, and nothing else."""
    subject = subjects.mutt_itself(bench.site, alerts=0, moog=1, told=told)
    wanted = tuple(one for one in subject.processes if one.name.rstrip("1") in ("moog", "moogsim"))
    with alive(bench.site, bench.loader, dataclasses.replace(subject, processes=wanted)) as running:
        yield running


def _deliver(running: Alive, count: int, start: int) -> Sent:
    """Fill the lanes while Moog is paused, let go, wait until Moog has them all. The first ``start`` don't count."""
    running.site.reset()
    requests.delete(f"{running.subject.moogsim}/received", timeout=10)
    with redis.Redis.from_url(running.site.redis_url) as client:
        client.hset(names.BREAKER, "pause_until", round((time.time() + 300) * 1e6))
        lanes.fill(running.site, count)
        client.hdel(names.BREAKER, "pause_until")
        first = _delivered(client, start)
        began, before, busy_before = time.monotonic(), used(running.roles), busy()
        done = _delivered(client, count) - first
    seconds = time.monotonic() - began
    cpu = {role: spent - before[role] for role, spent in used(running.roles).items()}
    others = max(0.0, (busy() - busy_before - sum(cpu.values())) / seconds)
    told = requests.get(f"{running.subject.moogsim}/stats", timeout=10).json()
    if told["taken"] < count:
        raise Failed(f"Moog took {told['taken']} of {count} alerts")
    each = {role: spent / done * 1e6 for role, spent in cpu.items()}
    return Sent(done / seconds, each, others, int(told["max_in_window"]))


def _delivered(client: redis.Redis, wanted: int) -> int:
    """Wait until so many are delivered; how many there are."""
    deadline = time.monotonic() + AT_MOST
    while (found := books.read(client).alerts["delivered"]) < wanted:
        if time.monotonic() > deadline:
            raise Failed(f"{found} of {wanted} alerts are delivered after {AT_MOST:g} s")
        time.sleep(0.02)
    return found


def _script(running: Alive, **behaviour: object) -> None:
    requests.post(f"{running.subject.moogsim}/script", json=behaviour, timeout=10).raise_for_status()


STEP = Step(run, order=60)
