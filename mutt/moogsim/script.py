"""Script: how the simulator answers, step by step."""

from __future__ import annotations

import enum
import threading
from collections import deque
from collections.abc import Iterable

import msgspec

#: An event whose description holds this is the bad one of the behaviours that end in ``_marked``.
MARKER = "MOOG-REFUSES"


class Behaviour(enum.StrEnum):
    """What becomes of one request."""

    OK = "ok"
    SUCCESS_FALSE = "success_false"  #: 200, and a body that says it failed
    ACCEPTED = "202"
    BAD_MARKED = "bad_marked"  #: 400 if an event holds the marker, else ok
    FAIL_MARKED = "fail_marked"  #: likewise, 500
    FORBID_MARKED = "forbid_marked"  #: likewise, 403, as a firewall in front of Moog would
    FALSE_MARKED = "false_marked"  #: likewise, 200 and a body that says it failed
    UNAUTHORIZED = "401"
    FORBIDDEN = "403"
    NOT_FOUND = "404"
    REDIRECT = "redirect"
    TOO_LARGE = "413"  #: if it holds more than ``max_events``, else ok
    THROTTLED = "429"
    ERROR = "500"
    UNAVAILABLE = "503"
    DRIP = "drip"  #: one byte each ``delay`` seconds, from the status line on
    DRIP_BODY = "drip_body"  #: the head at once, the body byte by byte
    HANGUP_BEFORE = "hangup_before"  #: taken, but the answer never comes
    HANGUP_AFTER = "hangup_after"  #: the connection ends after the answer, unannounced
    DELAY = "delay"  #: ok after ``delay`` seconds


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One behaviour, and for how many requests; the next step follows, and ``ok`` after the last."""

    behaviour: Behaviour = Behaviour.OK
    times: int | None = None  #: None: until told otherwise
    retry_after: float | str | None = None  #: sent as it is: seconds, or a date
    delay: float = 0.0  #: seconds before the answer; between two bytes of a drip
    max_events: int = 0  #: for 413


class Script:
    """The steps that are left. Threads may share one."""

    def __init__(self, steps: Iterable[Step] = ()) -> None:
        self._lock = threading.Lock()
        self.set(*steps)

    def set(self, *steps: Step) -> None:
        """Answer like this from now on."""
        with self._lock:
            self._steps = deque((step, step.times) for step in steps)

    def next(self) -> Step:
        """The step for the request that is here."""
        with self._lock:
            while self._steps:
                step, left = self._steps[0]
                if left is None:
                    return step
                if left > 0:
                    self._steps[0] = (step, left - 1)
                    return step
                self._steps.popleft()
            return Step()

    @property
    def now(self) -> Step:
        """The step that the next request meets."""
        with self._lock:
            return next((step for step, left in self._steps if left is None or left > 0), Step())
