"""What the pulse costs, on a running ``mutt up``: ``python -m benchmarks.pulse``.

Processor time, not time by the clock: what it takes of a busy machine is what matters. The commands are those that
Redis counts, the calls of scripts included.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from mutt.cli.common import services, table
from mutt.meter import Meter
from mutt.pulse import collect
from mutt.pulse.collect import Collector
from mutt.pulse.judge import judge
from mutt.pulse.report import Reporter

TIMES = 50


def used(what: Callable[[], object], times: int = TIMES) -> float:
    """Milliseconds of this process' time, each."""
    began = time.process_time()
    for _ in range(times):
        what()
    return (time.process_time() - began) / times * 1000


def main() -> None:
    of = services()
    collector, meter = Collector(of), Meter()
    reporter = Reporter(of.redis, "benchmark:1", {"backtests": meter}, slots=1)
    for _ in range(3):  # connections are made, scripts known
        collector.once()
        reporter.once()
    samples, points = collect.latest(of.redis), collect.hour(of.redis)

    def worked() -> None:
        with meter.busy:
            meter.did(500, (0.1,))

    rows = [
        ("a process reports, every 2 s", used(reporter.once)),
        ("everything is read and kept, every 5 s, by one", used(collector.once)),
        ("a viewer reads what is kept", used(lambda: (collect.latest(of.redis), collect.hour(of.redis)))),
        (f"{len(samples)} samples are judged", used(lambda: judge(samples, points))),
        ("a batch is counted", used(worked, 100_000)),
    ]
    reporter.gone()
    table("", ["what", "ms of processor"], [(what, f"{ms:.4f}") for what, ms in rows], numbers=(1,))


if __name__ == "__main__":
    main()
