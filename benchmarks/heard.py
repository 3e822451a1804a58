"""What it costs ingest to note whom it hears: processor time a post, with it and without, alternating.

``python -m benchmarks.heard``; posts that are there together share an answer, as in the lane.
"""

from __future__ import annotations

import logging
import os
import statistics
import sys
from pathlib import Path

from benchmarks.logline import KEY, ROUNDS, SHAPES, cost
from mutt.logs import configure
from mutt.services import Services
from mutt.settings import Settings
from mutt.sources.heard import Gathering
from mutt.web.intake import Intake
from tests.servers import live_redis, scratch


class Deaf(Gathering):
    """It notes nothing."""

    def took(self, taken: object) -> None:
        pass


def main() -> None:
    with Path(os.devnull).open("w") as sys.stderr, scratch() as directory, live_redis(directory) as server:
        settings = Settings.from_env({}, redis_url=server.url, ingest_api_key=KEY)
        configure(settings, "ingest")
        logging.getLogger("mutt.ingest").setLevel(logging.WARNING)
        intake = Intake(Services(settings, lambda *_, **__: None, role="ingest", web=True))
        ways = {"with": Gathering(), "without": Deaf()}
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
                f" {with_it / without - 1:+.1%}"
            )


if __name__ == "__main__":
    main()
