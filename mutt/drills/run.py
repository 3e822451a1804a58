"""One drill: the books before, the fault until it is named, the mend, and the books once all is at rest."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import NamedTuple

import redis

from mutt.balance import Report, observe
from mutt.drills.faults import Fault
from mutt.drills.site import Site
from mutt.errors import MuttError
from mutt.pulse.sample import Trouble
from mutt.services import Services
from mutt.streams import books

#: Seconds between two looks.
EVERY = 0.5

#: Seconds in which a fault has to be named, and in which all has to come to rest once it is mended and Moog is asked
#: again: a breaker that opened meanwhile asks after MOOG_BREAKER_TIMEOUT.
NAMED_WITHIN, REST_WITHIN = 60.0, 300.0

#: What asks a drill to end. Ctrl-Z, too: what sleeps mends nothing.
ASKS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP)

#: Seconds in which the first event of the load has to come in.
FLOWS_WITHIN = 30.0

Look = Callable[[], Sequence[Trouble]]
Say = Callable[[str], None]


class NoFlow(MuttError):
    """The pipeline takes nothing, and nobody broke it yet."""


class Result(NamedTuple):
    """What came of a drill."""

    fault: str
    named: str  #: the trouble that was named first and is one of those that the fault should be; '': none
    named_after: float | None  #: seconds
    seen: tuple[str, ...]  #: every trouble that stood first, in the order in which they came up
    before: Report
    after: Report

    @property
    def good(self) -> bool:
        """Named right, and nothing lost, doubled or left over."""
        whole = not (self.after.lost or self.after.double)
        return bool(self.named) and self.after.at_rest and self.after.balanced and whole


def drill(fault: Fault, site: Site, services: Services, look: Look, *, hold: float, say: Say) -> Result:
    """Send, break, look until it is named, hold it for ``hold`` seconds more, mend, wait for rest."""
    with site.alone():
        before, _ = observe(services, deep=False)
        say(f"{fault.name}: {fault.does}")
        with asked_to_stop(), site.load(*fault.load(services.settings)):
            _flow(services, before)
            with fault.breaks(site):
                named, after, seen = _watch(fault, look, say)
                if named:
                    time.sleep(hold)
        say("mended; waiting until all is at rest")
        within = REST_WITHIN + services.settings.moog_breaker_timeout
        return Result(fault.name, named, after, tuple(seen), before, rest(services, within))


def _flow(services: Services, before: Report) -> None:
    """Wait until events come in: on an idle pipeline much of what can break is not seen. Raises :class:`NoFlow`."""
    deadline = time.monotonic() + FLOWS_WITHIN
    while books.read(services.redis, *services.elsewhere).events["accepted"] <= before.events["accepted"]:
        if time.monotonic() >= deadline:
            raise NoFlow(
                f"no event came in within {FLOWS_WITHIN:g} s, before anything was broken: see `mutt doctor`"
            )
        time.sleep(EVERY)


def _watch(fault: Fault, look: Look, say: Say) -> tuple[str, float | None, list[str]]:
    begun, seen = time.monotonic(), list[str]()
    while (took := time.monotonic() - begun) < NAMED_WITHIN:
        troubles = look()
        first = troubles[0] if troubles else None
        if first and first.name not in seen:
            seen.append(first.name)
            say(f"after {took:.1f} s: {first.title} ({first.name}). {first.why}")
        if first and first.name in fault.named:
            return first.name, took, seen
        time.sleep(EVERY)
    return "", None, seen


def rest(services: Services, within: float) -> Report:
    """The books once nothing moves and they balance, or as they are after ``within`` seconds."""
    deadline = time.monotonic() + within
    while True:
        late = time.monotonic() >= deadline
        # A server that was just broken may be coming up.
        with contextlib.ExitStack() as stack:
            if not late:
                stack.enter_context(contextlib.suppress(redis.RedisError))
            report, _ = observe(services, deep=False)
            settled = report.at_rest and report.postgres is not None and not report.alerts["waiting"]
            if late or settled:
                return report
        time.sleep(EVERY)


@contextlib.contextmanager
def asked_to_stop() -> Iterator[None]:
    """Whoever ends a drill ends its fault, too: each of :data:`ASKS` counts as Ctrl-C, the first time."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in ASKS:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in ASKS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
