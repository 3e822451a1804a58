"""What a million waiting events of 1 KB take of Redis: in batches of 500 and 100, and as singles."""

from __future__ import annotations

import redis

from benchmarks import subjects
from benchmarks.backlog import ROOM, fill
from benchmarks.bench import Bench, Step
from benchmarks.figures import MUTT, Figure
from benchmarks.runs import alive

MILLION = 1_000_000

#: Events that wait, by events a request. Singles take long to send, and what one takes does not depend on the others.
WAITING = {500: MILLION, 100: MILLION, 1: 50_000}
QUICK_SHARE = 0.1

#: Bytes of JSON an event.
LENGTH = 1000

GOAL = "at most 0.4 GB in batches of 100 or more; the old guide: 1.5 GB"


def run(bench: Bench) -> None:
    """Nobody is at work. What is measured of fewer than a million events is told for a million."""
    subject = subjects.mutt_itself(bench.site, alerts=0, told=ROOM)
    with (
        alive(bench.site, bench.loader, subject) as running,
        redis.Redis.from_url(bench.site.redis_url) as client,
    ):
        for size, most in WAITING.items():
            count = round(most * QUICK_SHARE) if bench.plan.quick else most
            running.site.reset()
            before = client.info("memory")["used_memory"]
            fill(running, count, size=size, length=LENGTH)
            taken = (client.info("memory")["used_memory"] - before) / count
            name = f"Redis for 1 M waiting events, {'singles' if size == 1 else f'x{size}'}"
            note = f"{count:,} events of about {LENGTH} bytes measured; {taken:.0f} bytes each"
            bench.report.add(Figure(name, MUTT, "GB", [taken * MILLION / 1e9], note=note, goal=GOAL))


STEP = Step(run, order=70)
