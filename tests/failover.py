"""How long writes fail over a failover of a Redis behind Sentinel: ``python -m tests.failover [TIMES]``.

A client of ours writes each 20 ms. Of each kind, planned and killed, so many failovers are done one after another, each
on servers that are whole again; printed are the seconds from the first write that failed to the next that was taken.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time

import redis

from mutt.streams.connect import Client, connect
from tests.sentinels import Watched, watched_redis
from tests.servers import memory, scratch
from tests.waiting import wait_until

#: Seconds between two writes, and after a failover until the writer is believed to be over it.
EVERY, CALM = 0.02, 2.0


class Writer(threading.Thread):
    """Writes, and notes when that failed."""

    def __init__(self, client: Client) -> None:
        super().__init__(daemon=True)
        self._client, self._done = client, threading.Event()
        self.told: list[tuple[float, bool]] = []

    def run(self) -> None:
        while not self._done.wait(EVERY):
            began, taken = time.monotonic(), False
            with contextlib.suppress(redis.RedisError):
                taken = bool(self._client.set("mutt:probe", "1"))
            self.told.append((began, taken))

    def end(self) -> None:
        self._done.set()
        self.join()

    def calm(self) -> bool:
        """Has every write of the last seconds been taken?"""
        last = [taken for began, taken in self.told if time.monotonic() - began < CALM]
        return len(last) > CALM / EVERY / 4 and all(last)

    def failed(self) -> float:
        """Seconds from the first write that failed to the next one that was taken after the last that did."""
        at = [index for index, (_, taken) in enumerate(self.told) if not taken]
        return self.told[at[-1] + 1][0] - self.told[at[0]][0] if at else 0.0


def measured(watched: Watched, kind: str) -> float:
    """One failover; the servers are whole when it returns."""
    writer = Writer(connect(watched.url, timeout=0.45))
    writer.start()
    wait_until(writer.calm, 30, "writes that are taken")
    old, _ = watched.fail_over() if kind == "planned" else watched.kill_primary()
    wait_until(writer.calm, 60, "writes that are taken again")
    writer.end()
    if kind == "killed":
        watched.servers[old].start()
    wait_until(watched.whole, 60, "the old primary to follow the new one", every=0.1)
    return writer.failed()


def main(times: int) -> None:
    with scratch(memory()) as directory, watched_redis(directory) as watched:
        for kind in ("planned", "killed"):
            seconds = sorted(measured(watched, kind) for _ in range(times))
            sys.stdout.write(f"{kind}: {', '.join(f'{one:.1f}' for one in seconds)} s\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
