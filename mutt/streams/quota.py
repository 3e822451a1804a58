"""Quotas in Redis: one count for all replicas; and in the process, for while Redis is away."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from typing import Any

import msgpack

from mutt import names
from mutt.quota import WINDOW, Ask, Counted, Window
from mutt.streams.connect import Client
from mutt.streams.scripts import call


class Quotas:
    """Counts the events of keys that have a quota. Threads may share it. ``redis.RedisError`` passes through."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.time) -> None:
        self._script = client.register_script((files(__package__) / "quota.lua").read_text())
        self._clock, self._lock = clock, threading.Lock()
        # What this process granted, so that an outage does not begin with an unused quota.
        self._windows: defaultdict[str, Window] = defaultdict(Window)

    def take(self, asks: Sequence[Ask]) -> list[Counted]:
        """Count what fits, in this order; for the rest, when it will. One command."""
        places: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
        for place, ask in enumerate(asks):
            places[ask.name, ask.quota].append(place)
        keys = [
            (names.QUOTA + name, quota, [asks[place].n for place in theirs])
            for (name, quota), theirs in places.items()
        ]
        second, told = self._ask(keys=keys, back=[])
        counted = [Counted(0)] * len(asks)
        for theirs, waits in zip(places.values(), told, strict=True):
            for place, wait in zip(theirs, waits, strict=True):
                counted[place] = Counted(wait) if wait else Counted(0, second)
        self._note((ask for ask, one in zip(asks, counted, strict=True) if not one.wait), 1)
        return counted

    def take_here(self, asks: Iterable[Ask]) -> list[Counted]:
        """The same, by what this process alone has granted: Redis is not asked, nor told."""
        with self._lock:
            now = self._clock()
            return [Counted(self._windows[ask.name].take(ask.n, ask.quota, now)) for ask in asks]

    def give_back(self, granted: Sequence[tuple[Ask, Counted]], *, here: bool = False) -> None:
        """Take off the count what was not accepted after all; ``here``: Redis is not told."""
        self._note((ask for ask, _ in granted), -1)
        back = [(names.QUOTA + ask.name, one.second, ask.n) for ask, one in granted if one.second]
        if back and not here:
            self._ask(keys=[], back=back)

    def _ask(self, **options: Any) -> Any:
        return call(self._script, msgpack.packb({"window": WINDOW, **options}, use_bin_type=False))

    def _note(self, asks: Iterable[Ask], sign: int) -> None:
        with self._lock:
            now = self._clock()
            for ask in asks:
                self._windows[ask.name].add(sign * ask.n, now)
