"""Minutes at a fixed rate with everything at work: memory, Redis and the depth of the queue stay flat, or don't."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import redis

from benchmarks import subjects
from benchmarks.bench import Bench, Step
from benchmarks.figures import MUTT, Figure
from benchmarks.load import Sent
from benchmarks.runs import Alive, alive, order_of
from benchmarks.site import Failed
from benchmarks.usage import Roles
from mutt.streams import books

#: Events a request, and events a second: a tenth of what two cores take of them, for hours.
SIZE, RATE = 100, 3_000

#: Alerts go on to the simulator as fast as they come.
TOLD = {"MOOG_RATE_LIMIT": "100000", "MOOG_TURN": "50"}

#: Seconds between two looks.
EVERY = 1.0

#: What still counts as flat: MiB a minute of a role's memory, events a minute of depth; over the second half, for in
#: the first one caches fill. PostgreSQL's is its shared buffers, which fill for as long as rows come.
FLAT_MIB, FLAT_EVENTS = 1.0, 100.0

DEPTH = "depth"

_MIB = 1 << 20


@dataclass(frozen=True)
class Look:
    """What was seen at one moment."""

    at: float
    values: dict[str, float]  #: MiB by role, of Redis' data, and the events that wait


def run(bench: Bench) -> None:
    """Ingest, evaluating workers, a forwarder, housekeeping and the simulator, as ``mutt up`` has them."""
    subject = subjects.mutt_itself(
        bench.site, alerts=bench.plan.alerts, moog=1, pool=bench.plan.pool, told=TOLD
    )
    with alive(bench.site, bench.loader, subject) as running:
        bench.site.reset()
        looks, sent = _watched(running, bench.plan.soak_seconds)
    if set(sent.statuses) != {"202"}:
        raise Failed(f"requests got {sent.statuses}")
    settled = looks[len(looks) // 2 :]
    note = f"{RATE:,} events/s x{SIZE} for {bench.plan.soak_seconds:.0f} s; the second half counts"
    for name in settled[0].values:
        bench.report.add(_figure(name, settled, note))
    latency = Figure("soak, p99 from POST to 202", MUTT, "ms", [sent.p99], note=note)
    bench.report.add(latency)


def _figure(name: str, looks: Sequence[Look], note: str) -> Figure:
    """The slope over these looks; the note says whether it is flat, and between what it was."""
    values = [look.values[name] for look in looks]
    slope = statistics.linear_regression([look.at / 60 for look in looks], values).slope
    unit, flat = ("events", FLAT_EVENTS) if name == DEPTH else ("MiB", FLAT_MIB)
    verdict = "flat" if abs(slope) <= flat else "not flat" if slope > 0 else "falling"
    print(f"{name}: {verdict}, {min(values):,.1f} to {max(values):,.1f} {unit}")
    said = f"{verdict}: {min(values):,.1f} to {max(values):,.1f} {unit}; {note}"
    goal = f"flat: within {flat:g}"
    return Figure(f"soak, {name}", MUTT, f"{unit} a minute", [slope], goal=goal, note=said)


def _watched(running: Alive, seconds: float) -> tuple[list[Look], Sent]:
    order = order_of(running.subject, SIZE, round(RATE * seconds / SIZE), RATE / SIZE)
    answered: list[Sent] = []
    sender = threading.Thread(target=lambda: answered.append(running.loader.send(order)))
    looks: list[Look] = []
    began = time.monotonic()
    with redis.Redis.from_url(running.site.redis_url) as client:
        sender.start()
        while sender.is_alive():
            looks.append(Look(time.monotonic() - began, _seen(running.roles, client)))
            sender.join(EVERY)
    if not answered:
        raise Failed("the load generator ended")
    return looks, answered[0]


def _seen(roles: Roles, client: redis.Redis) -> dict[str, float]:
    memory = {f"memory of {role}": _resident(pids) for role, pids in roles.items()}
    return {
        **memory,
        "Redis' data": client.info("memory")["used_memory"] / _MIB,
        DEPTH: float(books.read(client).events["queued"]),
    }


def _resident(pids: Sequence[int]) -> float:
    trees = [psutil.Process(pid) for pid in pids]
    trees += [child for head in trees for child in head.children(recursive=True)]
    return sum(process.memory_info().rss for process in trees) / _MIB


STEP = Step(run, order=95, only_named=True)
