"""Due: what noise control owes after a while, as it stands in Redis (due.lua)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgpack

from mutt import codec, names
from mutt.event import Envelope, Event, Segment
from mutt.rules.noise import StormState, at_micros
from mutt.streams.connect import Client
from mutt.streams.scripts import call, source
from mutt.streams.stream import Ring

#: Storms that are shown, at most.
SHOWN = 100


class Due:
    """What is due: storms (``storm:KEY``) and signatures that flapped (``flap:SIG``). ``redis.RedisError`` passes."""

    def __init__(self, client: Client, ring: Ring) -> None:
        self._client, self._ring = client, ring
        self._script = client.register_script(source("due"))

    def due(self, now_ms: int, limit: int) -> list[str]:
        """What is due now, the longest due first."""
        found = self._client.zrangebyscore(names.NOISE_DUE, 0, now_ms, start=0, num=limit)
        return [one.decode() for one in found]

    def later(self, member: str, at_ms: int) -> None:
        """Look at it again then."""
        self._client.zadd(names.NOISE_DUE, {member: at_ms}, xx=True)

    def forget(self, member: str) -> None:
        """There is nothing of it any more."""
        self._client.zrem(names.NOISE_DUE, member)

    def storm(self, key: str) -> StormState | None:
        """A storm as it stands; None: it is over, or forgotten."""
        name = names.STORM + key
        with self._client.pipeline(transaction=True) as pipe:
            pipe.hgetall(name)
            pipe.hgetall(f"{name}:members")
            found, members = pipe.execute()
        return _storm(key, {k.decode(): v.decode() for k, v in found.items()}, members) if found else None

    def storms(self) -> list[StormState]:
        """The storms that go on now."""
        keys = [one.decode() for one, _ in self._client.zscan_iter(names.NOISE_DUE, match="storm:*")]
        found = (self.storm(key.removeprefix("storm:")) for key in sorted(keys)[:SHOWN])
        return [storm for storm in found if storm]

    def tell(self, storm: StormState, event: Event | None, *, over: bool, next_ms: int) -> bool:
        """Append MUTT's event about the storm, unless it was told meanwhile; ``over``: it is forgotten then."""
        asked: dict[str, Any] = {
            "op": "tell",
            "key": storm.key,
            "told": str(storm.told or ""),
            "count": str(storm.count),
            "over": over,
            "next_ms": next_ms,
        }
        if event is not None:
            envelope = Envelope([Segment(str(event.event_id), str(event.event_id), [event])])
            fields, size = codec.encode(envelope, about=str(event.event_id))
            asked |= {"fields": fields, "size": size}
            asked |= {"stream": names.INGEST_STREAM, "queue": "ingest_queue"}
        return self._ask(asked) == "told"

    def rest(self, sig: str, now_ms: int) -> UUID | None:
        """The alert that Moog has to get now that this signature rests, if there is one."""
        found = self._ask({"op": "rest", "sig": sig, "now_ms": now_ms})
        return UUID(found) if found else None

    def rested(self, sig: str, alert_id: UUID) -> None:
        """It stands in its lane, or need not."""
        self._ask({"op": "rested", "sig": sig, "id": str(alert_id)})

    def _ask(self, asked: Mapping[str, Any]) -> str:
        answer, rung = call(self._script, msgpack.packb(asked, use_bin_type=False))
        for name in rung:
            self._ring(name.decode(), why="noise")
        return str(answer.decode())


def _storm(key: str, found: Mapping[str, str], members: Mapping[bytes, bytes]) -> StormState:
    counted = sorted(((int(n), who.decode(errors="replace")) for who, n in members.items()), reverse=True)
    return StormState(
        key=key,
        policy=int(found["policy"]),
        name=found["name"],
        group_by=found["by"],
        value=found["value"],
        team=found["team"],
        count=int(found["count"]),
        told=int(found.get("told") or 0),
        begun=at_micros(int(found["begun"])),
        first=at_micros(int(found["first"])),
        last=at_micros(int(found["last"])),
        worst=int(found["worst"]),
        window_ms=round(float(found["window_ms"])),
        touched_ms=int(found["touched"]),
        members=tuple((*who.partition("\0")[::2], n) for n, who in counted if who),
    )
