"""Spread: rounds on several servers. A request goes to one of them, and no key of it is anybody's hot key.

One with an ``Idempotency-Key`` goes where the key belongs, so that a repeat is known; the others go round. A server
that is away or full is left out by those, as long as nothing was sent there that may be in.
"""

from __future__ import annotations

import itertools
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from mutt.errors import NoRoom, StreamAway, Unavailable
from mutt.pipeline.accept import Contribution, Reply, stamps_of

log = logging.getLogger("mutt.ingest")


class Rounds(Protocol):
    """The rounds of one server (``mutt.streams.rounds``)."""

    def submit_all(
        self, contributions: Sequence[Contribution], size: int, *, since: float | None = None
    ) -> Sequence[Reply]: ...


class Lookout(Protocol):
    """Who is away."""

    @property
    def any(self) -> bool: ...
    def is_away(self, name: str) -> bool: ...


class SpreadRounds:
    """Takes part in the rounds of several servers, by their names. ``place`` is where a key belongs."""

    def __init__(
        self, rounds: Mapping[str, Rounds], place: Callable[[str], str], lookout: Lookout, *, spills: bool
    ) -> None:
        """``spills``: rounds of a server that is away go elsewhere than to another server."""
        self._rounds, self._place, self._lookout, self._spills = rounds, place, lookout, spills
        self._turns = itertools.count()
        self._depths: dict[str, int] = {}

    def submit_all(
        self, contributions: Sequence[Contribution], size: int, *, since: float | None = None
    ) -> list[Reply | Exception]:
        """What came of each request; those that go to one server share one fate."""
        groups = defaultdict[str, list[int]](list)
        for i, one in enumerate(contributions):
            groups[self._needed(one)].append(i)
        found: dict[int, Reply | Exception] = {}
        for name, places in groups.items():
            theirs = [contributions[i] for i in places]
            share = max(1, size * len(theirs) // len(contributions))
            found.update(zip(places, self._submit(name, theirs, share, since), strict=True))
        return [found[i] for i in range(len(contributions))]

    def _needed(self, one: Contribution) -> str:
        """The server that a request can't do without; empty: any will do.

        That is also one which is away and knows repeats of its events: it waits for it, and keeps nobody else waiting.
        """
        if one.request.idempotency_key:
            return self._place(one.request.idempotency_key)
        if self._lookout.any:
            places = map(self._place, stamps_of(one))
            return next((name for name in places if self._lookout.is_away(name)), "")
        return ""

    def _submit(
        self, needed: str, contributions: Sequence[Contribution], size: int, since: float | None
    ) -> Sequence[Reply | Exception]:
        failed: Exception = StreamAway()
        for name in [needed] if needed else self._open():
            if needed and self._lookout.is_away(name) and not self._spills:
                break
            try:
                return self._told(name, self._rounds[name].submit_all(contributions, size, since=since))
            except (StreamAway, NoRoom) as error:
                failed = error
                if isinstance(error, StreamAway) and error.sent:
                    break
            except Unavailable as error:
                failed = error
                break
            except Exception as error:  # as in a round: it belongs to these requests, and to no one else
                log.exception("error in a round of %d requests", len(contributions))
                failed = error
                break
        return [failed] * len(contributions)

    def _open(self) -> Iterator[str]:
        """The servers in turn, those that are away last: where all are, one of them says so, or spills it."""
        names = list(self._rounds)
        first = next(self._turns) % len(names)
        turn = names[first:] + names[:first]
        up = [name for name in turn if not self._lookout.is_away(name)]
        yield from up or turn[:1]

    def _told(self, name: str, replies: Sequence[Reply]) -> list[Reply]:
        """Their depth is that of all servers, as they were last heard of."""
        for reply in replies:
            if reply.body.get("queue_depth") is not None:
                self._depths[name] = reply.body["queue_depth"]
                reply.body["queue_depth"] = sum(self._depths.copy().values())
        return list(replies)
