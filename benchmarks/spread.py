"""What a settle in two steps, on two Redis servers, costs against the one step on one: ``python -m benchmarks.spread``.

Streams alone: entries of 500 events are appended, taken and settled, half of them with a raise of two alerts and one in
ten with unhandled events; no PostgreSQL, no workers. Rounds of the two take turns, so that both meet the same machine.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from benchmarks import corpus
from benchmarks.lanes import alerts
from mutt import codec
from mutt.embedded.ports import free_port
from mutt.embedded.process import Running
from mutt.embedded.redis import RedisServer, find_redis
from mutt.entry import Move, Part, Unhandled, raise_alert
from mutt.event import Envelope, Segment
from mutt.services import Services
from mutt.settings import Settings

#: Entries that are taken and settled in one round; a drain takes one of these at a time.
ENTRIES, EVENTS, ROUNDS = 40, 500, 15

HOME, AWAY = "on one server", "on two servers"


class Cost(NamedTuple):
    """Of one entry: seconds, and commands and seconds of CPU on home and on the other server."""

    seconds: float
    home: float
    away: float
    home_cpu: float
    away_cpu: float


@contextmanager
def _servers(directory: Path) -> Iterator[list[str]]:
    with ExitStack() as stack:
        urls = []
        for name in ("home", "away"):
            server = RedisServer(find_redis(), directory / name, free_port(0))
            running = Running(server.process(directory / f"{name}.log"))
            stack.callback(running.stop)
            while not running.is_ready():
                time.sleep(0.05)
            urls.append(server.url)
        yield urls


class Rounds:
    """Rounds of take and settle, at home and away."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.alone, self.services = (
            Services(Settings.from_env({}, redis_url=urls[0], stream_urls=listed), lambda *_, **__: None)
            for listed in (urls[0], "\n".join(urls))
        )
        self.clients = [stream.client for stream in self.services.ingest_servers.values()]
        events = list(corpus.parsed(list(corpus.events(EVENTS))))
        self.fields, self.size = codec.encode(Envelope([Segment("bench", "bench", events)]), n=EVENTS)
        self.made = alerts(10**7)

    def fill(self, server: str) -> None:
        part = Part([(EVENTS, list(self.fields), self.size)])
        for _ in range(ENTRIES):
            self.services.ingest_servers[server].append(
                str(uuid4()), [part], max_events=10**9, max_bytes=1 << 40
            )

    def work(self, services: Services) -> Cost:
        held = services.held("ingest_queue")
        moves = [self._move(n) for n in range(ENTRIES)]
        before, began = self._used(), time.perf_counter()
        for counts, follow, unhandled in moves:
            (entry,) = held.take(1).entries
            assert held.settle([Move(entry, counts, follow, unhandled)]) == [True]
        took = time.perf_counter() - began
        (h, hc), (a, ac) = [
            (now[0] - was[0], now[1] - was[1]) for was, now in zip(before, self._used(), strict=True)
        ]
        held.quiet_bell()
        return Cost(*(one / ENTRIES for one in (took, h, a, hc, ac)))

    def _move(self, n: int) -> tuple[dict[str, int], list[Any], Unhandled | None]:
        raised = [next(self.made) for _ in range(2 * (n % 2))]
        counts = {
            "events.queued": -EVENTS,
            "events.settled": EVENTS,
            "ingest.bytes": -self.size,
            "alerts.raised": len(raised),
            "alerts.waiting": len(raised),
        }
        kinds = {(f"host-{k}", "template"): 3 for k in range(50)}
        unhandled = Unhandled(kinds, _never, 10**9, 3600.0) if n % 10 == 0 else None
        return counts, [raise_alert(alert, 10**6) for alert in raised], unhandled

    def _used(self) -> list[tuple[float, float]]:
        """Commands that clients sent, and seconds of CPU."""
        found = []
        for client in self.clients:
            info = client.info()
            found.append((info["total_commands_processed"], info["used_cpu_user"] + info["used_cpu_sys"]))
        return found


def _never(_kind: Any) -> Any:
    raise AssertionError("no kind crosses this threshold")


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as directory, _servers(Path(directory)) as urls:
        rounds = Rounds(urls)
        home, away = rounds.services.ingest_servers
        found: dict[str, list[Cost]] = {HOME: [], AWAY: []}
        for _ in range(ROUNDS):
            for what, server, services in ((HOME, home, rounds.alone), (AWAY, away, rounds.services)):
                rounds.fill(server)
                found[what].append(rounds.work(services))
    medians = {
        what: [statistics.median(column) for column in zip(*costs, strict=True)]
        for what, costs in found.items()
    }
    for what, (seconds, at_home, at_away, home_cpu, away_cpu) in medians.items():
        print(
            f"{what}: {seconds * 1e3:.2f} ms an entry of {EVENTS} events ({seconds / EVENTS * 1e6:.2f} us an event); "
            f"commands {at_home:.1f} at home, {at_away:.1f} away; "
            f"CPU {home_cpu * 1e6:.0f} us at home, {away_cpu * 1e6:.0f} us away"
        )
    print(f"ratio: {medians[AWAY][0] / medians[HOME][0]:.2f}")


if __name__ == "__main__":
    main()
