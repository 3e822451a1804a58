"""What it costs ingest to note whom it hears: processor time a post, with it and without, alternating; and by itself.

``python -m benchmarks.heard``; posts that are there together share an answer, as in the lane. With it and without are
nearer to each other than two runs are: the noting alone, of the same posts, is what can be compared.
"""

from __future__ import annotations

import logging
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.logline import KEY, ROUNDS, SHAPES, cost
from mutt.logs import configure
from mutt.services import Services
from mutt.settings import Settings
from mutt.sources.heard import Gathering, Taken
from mutt.web.intake import Intake
from tests.servers import live_redis, scratch


class Deaf(Gathering):
    """It notes nothing, and keeps what there was to be noted last."""

    taken: Sequence[Taken] = ()

    def took(self, taken: Sequence[Taken]) -> None:
        self.taken = taken


def alone(taken: Sequence[Taken], times: int) -> float:
    """Microseconds of processor time a post for noting it, and for nothing else."""
    heard, began = Gathering(), time.process_time()
    for _ in range(times):
        heard.took(taken)
    return (time.process_time() - began) / times / len(taken) * 1e6


def main() -> None:
    with Path(os.devnull).open("w") as sys.stderr, scratch() as directory, live_redis(directory) as server:
        settings = Settings.from_env({}, redis_url=server.url, ingest_api_key=KEY)
        configure(settings, "ingest")
        logging.getLogger("mutt.ingest").setLevel(logging.WARNING)
        intake = Intake(Services(settings, lambda *_, **__: None, role="ingest", web=True))
        deaf = Deaf()
        ways = {"with": Gathering(), "without": deaf}
        cost(intake, 1, 200)
        for together, times in SHAPES:
            found: dict[str, list[float]] = {way: [] for way in ways}
            for turn in range(2 * ROUNDS):
                for way in sorted(ways, reverse=bool(turn % 2)):
                    intake.heard = ways[way]
                    found[way].append(cost(intake, together, times))
            with_it, without = (statistics.median(found[way]) for way in ("with", "without"))
            print(
                f"{together} together: {with_it:.1f} us a post with it, {without:.1f} without:"
                f" {with_it / without - 1:+.1%}; noting alone:"
                f" {min(alone(deaf.taken, 10 * times) for _ in range(ROUNDS)):.2f} us"
            )


if __name__ == "__main__":
    main()
