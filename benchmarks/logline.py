"""What its line in the log costs ingest: processor time a post, with it and without, alternating.

``python -m benchmarks.logline``; posts that are there together share an answer, as in the lane.
"""

from __future__ import annotations

import logging
import os
import statistics
import sys
import time
from pathlib import Path

from mutt.logs import configure
from mutt.services import Services
from mutt.settings import Settings
from mutt.web.intake import Intake
from mutt.web.post import Post
from tests.servers import live_redis, scratch

KEY = "a key of this benchmark alone"
BODY = b'{"hostname": "core-1", "message": "a line of some length about an interface that went down"}'

#: Posts that are there together, and how often.
SHAPES = ((1, 1500), (5, 400), (20, 150), (100, 40))
ROUNDS = 10


def cost(intake: Intake, together: int, times: int) -> float:
    """Microseconds of processor time a post."""
    began = time.process_time()
    for _ in range(times):
        posts = [(Post({"X-API-KEY": KEY}, "192.0.2.1"), BODY) for _ in range(together)]
        intake.answer_all(posts, time.monotonic())
    return (time.process_time() - began) / times / together * 1e6


def main() -> None:
    log = logging.getLogger("mutt.ingest")
    with Path(os.devnull).open("w") as sys.stderr, scratch() as directory, live_redis(directory) as server:
        settings = Settings.from_env({}, redis_url=server.url, ingest_api_key=KEY)
        configure(settings, "ingest")
        intake = Intake(Services(settings, lambda *_, **__: None, role="ingest", web=True))
        cost(intake, 1, 200)
        for together, times in SHAPES:
            found: dict[int, list[float]] = {logging.INFO: [], logging.WARNING: []}
            for turn in range(ROUNDS):
                for level in sorted(found, reverse=bool(turn % 2)):
                    log.setLevel(level)
                    found[level].append(cost(intake, together, times))
            with_it, without = (statistics.median(found[level]) for level in sorted(found))
            print(
                f"{together} together: {with_it:.1f} us a post with it, {without:.1f} without:"
                f" {with_it / without - 1:+.1%}"
            )


if __name__ == "__main__":
    main()
