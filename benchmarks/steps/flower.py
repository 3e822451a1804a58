"""What Flower and Celery's task events cost: events a second without both, with task events, and with Flower."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import redis

from benchmarks import subjects
from benchmarks.bench import Bench, Step, throughput
from benchmarks.figures import MUTT, Figure
from benchmarks.runs import Alive, alive, order_of
from benchmarks.site import Failed
from benchmarks.subjects import ROOT
from benchmarks.usage import used
from mutt.embedded.process import Process

#: Events a request, and seconds of steady traffic with as many alerts as Moog's budget lets through.
SIZE, STEADY = 500, 15.0

#: Events a second of it, in requests of so many: 4 % of them alert.
RATE, FEW = 1_250, 50

#: Tasks that Flower keeps: by itself, and as MUTT sets it.
KEPT = (100_000, 10_000)


def run(bench: Bench) -> None:
    """The fleets one after the other in this very run, then what Flower itself takes."""
    base: Figure | None = None
    for name, app, flower in (
        ("no task events", "benchmarks.quiet", False),
        ("task events", "mutt", False),
        ("task events and Flower", "mutt", True),
    ):
        with _running(bench, app, flower=flower) as running:
            runs = bench.repeated(SIZE, lambda requests, at=running: at.end_to_end(SIZE, requests))  # type: ignore[misc]
        figure = throughput(f"end to end x{SIZE}, {name}", MUTT, runs)
        base = base or figure
        bench.report.add(figure if figure is base else figure.as_times(base, "no task events"))
    _steadily(bench)
    for kept in KEPT:
        _memory(bench, kept)


@contextmanager
def _running(bench: Bench, app: str, *, flower: bool, moog: int = 0) -> Iterator[Alive]:
    subject = subjects.mutt_itself(bench.site, alerts=2, moog=moog, pool=bench.plan.pool, flower=flower)
    made = tuple(_with_app(process, app) for process in subject.processes)
    with alive(bench.site, bench.loader, replace(subject, processes=made)) as running:
        yield running


def _with_app(process: Process, app: str) -> Process:
    argv = list(process.argv)
    if "celery" in argv and "worker" in argv:
        argv[argv.index("-A") + 1] = app
    return replace(process, argv=tuple(argv))


def _steadily(bench: Bench) -> None:
    """Traffic that fills Moog's budget: fifty turns a second are four events each for Flower."""
    for flower in (False, True):
        with (
            _running(bench, "mutt", flower=flower, moog=1) as running,
            redis.Redis.from_url(bench.site.redis_url) as client,
        ):
            bench.site.reset()
            before, sent = used(running.roles), int(client.info("stats")["total_net_output_bytes"])
            began = time.monotonic()
            order = order_of(running.subject, FEW, round(RATE * STEADY / FEW), RATE / FEW)
            if set(running.loader.send(order).statuses) != {"202"}:
                raise Failed("a request was refused")
            seconds, after = time.monotonic() - began, used(running.roles)
            output = (int(client.info("stats")["total_net_output_bytes"]) - sent) / seconds
        name = "with Flower" if flower else "without Flower"
        at = f"{RATE:,} events/s of which 4 % alert, {STEADY:.0f} s"
        bench.report.add(Figure(f"Redis' output, {name}", MUTT, "KB/s", [output / 1000], note=at))
        cores = {role: (after[role] - before[role]) / seconds for role in after}
        told = ", ".join(f"{role} {share * 100:.1f}" for role, share in sorted(cores.items()))
        bench.report.add(Figure(f"CPU, {name}", MUTT, "% of a core", [sum(cores.values()) * 100], note=told))


def _memory(bench: Bench, kept: int) -> None:
    argv = [sys.executable, "-m", "benchmarks.flower_state", str(kept)]
    said = json.loads(subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    note = (
        f"{said['bytes_a_task']:.0f} bytes a task, {said['us_an_event']:.0f} µs an event, "
        f"{said['us_an_event_when_full']:.0f} once it forgets old ones"
    )
    figure = Figure(f"Flower's memory, {kept:,} tasks kept", MUTT, "MiB", [said["mib"]], note=note)
    bench.report.add(figure)


STEP = Step(run, order=78, only_named=True)
