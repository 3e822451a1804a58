"""What a process says of itself, every two seconds: a thread with a connection of its own, and one small write.

It never disturbs the work: what it says was counted anyway (``mutt.meter``), and an outage is a line in the log, once.
Each child of a prefork pool says it itself, under its parent's name: the reading adds them up. Why so: decision 41.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import resource
import socket
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path

import msgspec
import redis

from mutt import names, saying
from mutt.errors import SettingsError
from mutt.meter import Meter
from mutt.pulse.sample import GONE_AFTER, REPORT_EVERY, Process
from mutt.settings import Settings
from mutt.store.patience import COMMITS, WAITED
from mutt.streams.connect import Client, redis_of

log = logging.getLogger("mutt.pulse")

#: A report is about so many times ``REPORT_EVERY``: longer than ``EVERY``, so that no reading misses what went on.
SPAN = 3

#: Written also where Redis is out of memory: that is when somebody looks. Gives Redis' clock back, which all reports
#: go by. ARGV: the process' name, milliseconds, then a key and what is said under it, again and again: as KEYS Redis
#: would want that they may be read, too.
_TELL = """#!lua flags=allow-oom
for i = 3, #ARGV, 2 do
  redis.call('HSET', ARGV[i], ARGV[1], ARGV[i + 1])
  redis.call('PEXPIRE', ARGV[i], ARGV[2])
end
return redis.call('TIME')
"""

_THREADS = Path("/proc/self/task")


def name_of(pid: int, child: int = 0) -> str:
    """A process' name in the reports: ``host:pid``, and ``host:pid/child`` for what is a part of it."""
    return f"{socket.gethostname()}:{pid}" + (f"/{child}" if child else "")


@dataclasses.dataclass(frozen=True)
class Totals:
    """What a process has used since it began: seconds, but for ``done`` and ``refused``."""

    at: float  #: monotonic
    cpu: float
    starved: float
    waited: float  #: for PostgreSQL
    busy: Mapping[str, float]  #: by role
    done: Mapping[str, int]
    refused: Mapping[str, int]


class Reporter:
    """One process' reports. ``meters`` are its roles' (the first one's report has the process' own figures, too)."""

    def __init__(
        self,
        client: Client,
        name: str,
        meters: Mapping[str, Meter],
        *,
        slots: int,
        queued: Callable[[], int] = lambda: 0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._name, self._meters, self._slots = client, name, meters, slots
        self._queued, self._monotonic = queued, monotonic
        self._starving = Starving()
        self._skew = 0.0  # seconds that Redis' clock is ahead of ours
        self._totals = deque([self._now()], maxlen=SPAN + 1)
        self._took: dict[str, deque[list[float]]] = {role: deque(maxlen=SPAN) for role in meters}
        self._commits: deque[list[float]] = deque(maxlen=SPAN)

    def once(self) -> None:
        """Say it. ``redis.RedisError`` passes through."""
        said: list[str | bytes] = []
        for process in self.processes(time.time() + self._skew):
            said += [names.PULSE_OF + process.role, msgspec.msgpack.encode(process)]
        kept = round(GONE_AFTER * 6 * 1000)
        seconds, micros = self._client.eval(_TELL, 0, self._name, kept, *said)
        self._skew = int(seconds) + int(micros) / 1e6 - time.time()

    def gone(self) -> None:
        """The process ends: nobody is to wait for its next report."""
        with contextlib.suppress(redis.RedisError, OSError):
            for role in self._meters:
                self._client.hdel(names.PULSE_OF + role, self._name)

    def processes(self, at: float) -> list[Process]:
        """How it is, a role at a time."""
        self._totals.append(self._now())
        self._commits.append(_drained(COMMITS))
        for role, meter in self._meters.items():
            self._took[role].append(meter.took())
        return [self._of(role, at, first=place == 0) for place, role in enumerate(self._meters)]

    def _of(self, role: str, at: float, *, first: bool) -> Process:
        before, now = self._totals[0], self._totals[-1]
        span = max(now.at - before.at, 1e-3)
        busy = max(0.0, now.busy[role] - before.busy[role])
        took = sorted(chain(*self._took[role]))
        commits = [*chain(*self._commits)]
        return Process(
            name=self._name,
            role=role,
            at=at,
            cpu=(now.cpu - before.cpu) / span if first else 0.0,
            rss=resident() if first else 0,
            busy=min(1.0, busy / (span * self._slots)) if self._slots else 0.0,
            slots=self._slots,
            events=max(0, now.done[role] - before.done[role]) / span,
            p50_ms=_percentile(took, 0.5),
            p99_ms=_percentile(took, 0.99),
            store_share=min(1.0, max(0.0, now.waited - before.waited) / busy) if busy > 0 else 0.0,
            commit_ms=statistics.median(commits) * 1000 if commits else None,
            starved=(now.starved - before.starved) / span if first else 0.0,
            refused=max(0, now.refused[role] - before.refused[role]) / span,
            queued=self._queued() if first else 0,
        )

    def _now(self) -> Totals:
        now = self._monotonic()
        used = resource.getrusage(resource.RUSAGE_SELF)
        return Totals(
            at=now,
            cpu=used.ru_utime + used.ru_stime,
            starved=self._starving.total(),
            waited=WAITED.total(now),
            busy={role: meter.busy.total(now) for role, meter in self._meters.items()},
            done={role: meter.done for role, meter in self._meters.items()},
            refused={role: meter.refused for role, meter in self._meters.items()},
        )


class Starving:
    """Seconds in which this process' threads could have run and others had the cores. 0 where the system tells not."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        self._total = 0

    def total(self) -> float:
        seen = {}
        for thread in _threads():
            with contextlib.suppress(OSError, ValueError, IndexError):  # it ended meanwhile
                seen[thread.name] = int((thread / "schedstat").read_text().split()[1])
        self._total += sum(max(0, waited - self._seen.get(name, 0)) for name, waited in seen.items())
        self._seen = seen
        return self._total / 1e9


def _threads() -> list[Path]:
    try:
        return list(_THREADS.iterdir())
    except OSError:
        return []


def resident() -> int:
    """Bytes of memory that this process has."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):  # not Linux: the most that it ever had
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def _drained(what: deque[float]) -> list[float]:
    return [what.popleft() for _ in range(len(what))]


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    """In milliseconds; None: there is nothing."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else None


def start(
    settings: Settings,
    name: str,
    meters: Mapping[str, Meter],
    *,
    slots: int,
    queued: Callable[[], int] = lambda: 0,
) -> Callable[[], None]:
    """Report from a thread of its own. What is given back ends that, and takes a second at the most."""
    try:
        client = redis_of(settings, timeout=2.0, max_connections=2)
    except SettingsError:
        return lambda: None  # nobody said where Redis is: there is nothing to end
    reporter = Reporter(client, name, meters, slots=slots, queued=queued)
    return saying.start(
        reporter.once,
        every=REPORT_EVERY,
        last=reporter.gone,
        name="report",
        log=log,
        what="what this process does",
    )
