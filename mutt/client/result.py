"""What became of the events that were sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .post import Answer


class Full(Exception):
    """There was no room for this event within the time that ``send`` may wait."""


@dataclass(frozen=True)
class Rejection:
    """One event that ingest will never take as it is."""

    event: str  #: as it was written; empty where that can't be told
    field: str  #: what is wrong with it; empty where the whole request was refused
    reason: str
    status: int  #: of the answer: 202 where its neighbours were taken


@dataclass(frozen=True)
class Counts:
    """What became of the events so far: ``put`` is the sum of the next five, ``waiting`` those under way included."""

    put: int = 0  #: taken from who sends
    delivered: int = 0  #: taken by ingest
    rejected: int = 0  #: never taken by ingest; ``on_rejected`` had them
    dropped: int = 0  #: the oldest, while there was no room
    lost: int = 0  #: unsent when the client was closed
    waiting: int = 0
    full: int = 0  #: not put, for there was no room
    retries: int = 0  #: requests that were sent again
    trouble: str = ""  #: what stands against the request that is tried now; empty: nothing


def rejections(batch: Sequence[bytes], answer: Answer) -> list[Rejection]:
    """Which events of a batch will never be taken. Ingest names items; a format may make several of one event, then
    it can't be told which one it was."""
    if answer.final:
        reasons = {refusal.item: refusal for refusal in answer.refused}
        named = [reasons.get(index) for index in range(len(batch))]
        return [
            Rejection(
                _text(data), said.field if said else "", said.reason if said else answer.reason, answer.status
            )
            for data, said in zip(batch, named, strict=True)
        ]
    one_each = answer.accepted + len(answer.refused) == len(batch)
    known = range(len(batch) if one_each else 0)
    return [
        Rejection(
            _text(batch[said.item]) if said.item in known else "", said.field, said.reason, answer.status
        )
        for said in answer.refused
    ]


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
