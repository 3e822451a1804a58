"""Drain: how a doorbell becomes work, the same for every queue that is worked in batches.

Take about a batch's worth, work, settle, and go on until the stream is empty or the slice is up. The bell stays set
while somebody works. At most one successor is rung: before working, if the take left work; else when the slice
ends without an empty read. So one doorbell stands ahead of the running drains, and added workers join at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mutt.entry import Entry, Taken
from mutt.pipeline.ports import Queue

#: Events that a take aims at.
BATCH = 500

#: Seconds that one drain works before it lets others have the worker.
SLICE = 1.0

#: After a take of fewer events than this, a drain rests for so many seconds: what trickles in is worked in
#: batches, and the commits of ones and twos do not eat the processor that ingest needs. After a larger one it rests
#: where nothing is left, and looks again: a doorbell for each batch of steady traffic would cost more than the batch.
SMALL = 100
REST = 0.02


@dataclass
class Drained:
    """How a drain ended."""

    left: int = 0
    oldest_s: float = 0.0
    ended: str = "empty"  #: empty or slice


def drain(
    queue: Queue,
    work: Callable[[Sequence[Entry]], None],
    *,
    monotonic: Callable[[], float],
    now: Callable[[], float],
    sleep: Callable[[float], None],
    batch: int = BATCH,
    slice_: float = SLICE,
) -> Drained:
    """Work the queue until it is empty or the slice is up. What ``work`` raises passes through."""
    done, rung, ends = Drained(), False, monotonic() + slice_
    tidy, linger = True, False
    while True:
        taken = queue.take(batch, tidy=tidy)
        tidy = False
        if not taken.entries and linger:
            sleep(REST)
            taken = queue.take(batch)
        if not taken.entries:
            taken = _look_again(queue, batch)
            if not taken.entries:
                return done
        done.left = taken.left
        done.oldest_s = max(done.oldest_s, now() - min(entry.at for entry in taken.entries))
        if taken.left and not rung:
            queue.ring()
            rung = True
        work(taken.entries)
        if monotonic() >= ends:
            if not rung:
                queue.ring()
            done.ended = "slice"
            return done
        linger = sum(entry.n for entry in taken.entries) >= SMALL
        if not linger:
            sleep(REST)


def _look_again(queue: Queue, batch: int) -> Taken:
    # Between an empty read and a silent bell an append may have come and not rung: so look once more.
    queue.quiet_bell()
    return queue.take(batch)
