"""What waits in memory to be sent: first in, first out, of bounded size; threads share it."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import NamedTuple


class Item(NamedTuple):
    """One event as it will be written into a request."""

    data: bytes
    kind: str  #: its Content-Type: a request has one
    format: str
    since: float  #: monotonic seconds


class Size(NamedTuple):
    """Whichever is reached first."""

    events: int
    bytes: int


class Waiting:
    """At most ``most``, what is under way included; ``batch`` of it are taken at once, ``linger`` seconds old."""

    def __init__(self, most: Size, batch: Size, linger: float) -> None:
        self._most, self._batch, self._linger = most, batch, linger
        self._items, self._bytes, self._out = deque[Item](), 0, 0
        self._put = self._gone = self._hurry = 0
        self._changed = threading.Condition()
        self._closing = self._ended = False

    def __len__(self) -> int:
        return len(self._items) + self._out

    @property
    def ended(self) -> bool:
        """Is nothing to be sent any more?"""
        return self._ended

    def put(self, item: Item, patience: float) -> bool:
        """Is it in? Waits up to ``patience`` seconds for room."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._closing or self._fits(item), patience):
                return False
            return self._add(item)

    def push(self, item: Item) -> tuple[bool, int]:
        """(Is it in, how many of the oldest had to go): never waits. What is under way has its room for good."""
        with self._changed:
            dropped = 0
            while self._items and not self._fits(item):
                self._bytes -= len(self._items.popleft().data)
                dropped += 1
            self._count_gone(dropped)
            return self._fits(item) and self._add(item), dropped

    def take(self) -> list[Item]:
        """The oldest, all of one kind, as soon as they are a batch, or old enough, or somebody waits for them; none at
        the end."""
        with self._changed:
            while not self._ended and not self._due():
                left = self._items[0].since + self._linger - time.monotonic() if self._items else None
                self._changed.wait(left)
            return [] if self._ended else self._taken()

    def done(self, items: list[Item]) -> None:
        """These are sent, or never will be: there is room."""
        with self._changed:
            self._out -= len(items)
            self._bytes -= sum(len(item.data) for item in items)
            self._count_gone(len(items))

    def flush(self, timeout: float | None) -> bool:
        """Let nothing linger that is in now. Is it all gone, within ``timeout`` seconds?"""
        with self._changed:
            self._hurry = mark = self._put
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._gone >= mark or self._ended, timeout)

    def pause(self, seconds: float) -> None:
        """Wait, but for the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended, seconds)

    def close(self) -> None:
        """Take nothing in any more."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def end(self) -> int:
        """Send nothing any more; how many never were."""
        with self._changed:
            self._closing = self._ended = True
            left = len(self)
            self._changed.notify_all()
            return left

    def _fits(self, item: Item) -> bool:
        # One that is larger than all the room is taken where nothing else waits: ingest may say what is wrong with it.
        if not self._items and not self._out:
            return True
        return len(self) < self._most.events and self._bytes + len(item.data) <= self._most.bytes

    def _add(self, item: Item) -> bool:
        if self._closing:
            return False
        self._items.append(item)
        self._bytes += len(item.data)
        self._put += 1
        if len(self._items) == 1 or self._enough():  # else who takes would be woken for each, to wait on
            self._changed.notify_all()
        return True

    def _enough(self) -> bool:
        return len(self._items) >= self._batch.events or self._bytes >= self._batch.bytes

    def _due(self) -> bool:
        if not self._items:
            return False
        hurried = self._closing or self._gone < self._hurry
        return hurried or self._enough() or time.monotonic() >= self._items[0].since + self._linger

    def _taken(self) -> list[Item]:
        taken = [self._items.popleft()]
        size = len(taken[0].data)
        while self._items and len(taken) < self._batch.events:
            item = self._items[0]
            size += len(item.data) + 1
            if size > self._batch.bytes or (item.kind, item.format) != (taken[0].kind, taken[0].format):
                break
            taken.append(self._items.popleft())
        self._out += len(taken)
        return taken

    def _count_gone(self, n: int) -> None:
        self._gone += n
        self._changed.notify_all()
