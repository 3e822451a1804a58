"""The throttle of logins: how long somebody waits before a password of theirs is looked at.

Three counts, each forgotten after a while, each with a wait that doubles from a number of failures on:

========  =======================================  ============  =====  ========  =========
count     of                                       free          first  at most   forgotten
========  =======================================  ============  =====  ========  =========
PAIR      one name from one address                5 failures    1 s    15 min    1 h
NAME      one name, wherever from                  20            1 s    1 min     1 h
ADDRESS   one address, whatever names              50            1 s    5 min     15 min
========  =======================================  ============  =====  ========  =========

NAME's wait is no lock, or whoever fails often enough could keep its owner out: each address that asks for the name
waits that long once, by itself, and then has its try. From where the owner logged in within the last 30 days only
PAIR counts, and nothing else is touched: nobody's own login takes a wait from who guesses beside them. A try is
counted before the password is looked at, so that many at once count as many; the right password gives it back. A try
that came too early is not looked at and not counted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import msgspec
import redis

from mutt import names
from mutt.errors import SettingsError
from mutt.services import Services

log = logging.getLogger("mutt.admin")


@dataclasses.dataclass(frozen=True)
class Limit:
    """After ``free`` failures the wait is ``first`` seconds, and doubles up to ``most``; forgotten after ``kept``."""

    free: int
    first: float
    most: float
    kept: float

    def wait(self, failures: int) -> float:
        """Seconds, after so many failures."""
        beyond = failures - self.free
        # Beyond 2**40 s nothing is to be doubled.
        return 0.0 if beyond <= 0 else min(self.most, self.first * 2.0 ** min(beyond - 1, 40))


PAIR = Limit(free=5, first=1, most=900, kept=3600)
NAME = Limit(free=20, first=1, most=60, kept=3600)
ADDRESS = Limit(free=50, first=1, most=300, kept=900)

LIMITS = (PAIR, NAME, ADDRESS)

#: Seconds for which it is known from where somebody logged in.
KNOWN = 30 * 86400.0

#: Counts that a process keeps while Redis is away: the newest.
OWN_MOST = 10_000

#: Others may change the counts between our look and our write: so often it is looked again.
LOOKS = 8


class Count(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of one name, address or pair."""

    failures: int = 0
    until: float = 0.0  #: seconds since the epoch: no try before that
    known: bool = False  #: of a pair: the right password came from there


class Counts(NamedTuple):
    """What is known where somebody tries; ``pair`` None: this name was not yet asked for from there."""

    pair: Count | None = None
    name: Count = Count()
    address: Count = Count()


class Said(NamedTuple):
    """What a try comes to: the seconds to wait (0: it may be looked at), and the counts from now on."""

    wait: float
    counts: Counts


def tried(counts: Counts, now: float) -> Said:
    """Somebody tries: may they? Then it counts as a failure until :func:`passed` says otherwise."""
    pair, name, address = counts
    known = pair is not None and pair.known
    if pair and now > pair.until + PAIR.kept:
        pair = Count(known=pair.known)
    closed = max(pair.until if pair else 0.0, 0.0 if known else address.until)
    if closed > now:
        return Said(closed - now, counts)
    failures = (pair.failures if pair else 0) + 1
    if known:
        return Said(0.0, counts._replace(pair=Count(failures, now + PAIR.wait(failures), known)))
    slow = NAME.wait(name.failures)
    if pair is None and slow:
        return Said(slow, counts._replace(pair=Count(until=now + slow)))
    of_name, of_address = name.failures + 1, address.failures + 1
    wait = max(PAIR.wait(failures), NAME.wait(of_name))
    return Said(
        0.0,
        Counts(
            Count(failures, now + wait), Count(of_name), Count(of_address, now + ADDRESS.wait(of_address))
        ),
    )


def given_back(counts: Counts) -> Counts:
    """Nobody could tell whether the password was right: it was no try."""
    if counts.pair and counts.pair.known:
        return counts._replace(pair=Count(max(0, counts.pair.failures - 1), known=True))
    found = (counts.pair or Count(), counts.name, counts.address)
    return Counts(*(Count(max(0, count.failures - 1)) for count in found))


def passed(counts: Counts) -> Counts:
    """The password was right: the try is given back, and the place is known from now on."""
    return given_back(counts)._replace(pair=Count(known=True))


_Change = Callable[[Counts, float], Said]
_Keys = tuple[str, str, str]
_Key = TypeVar("_Key")


class Throttle:
    """The counts of all admin processes, in Redis; while it is away each process counts by itself."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._own: OrderedDict[str, tuple[Count, float]] = OrderedDict()  #: with when it is forgotten
        self._lock = threading.Lock()

    def tried(self, name: str, address: str) -> float:
        """Seconds to wait before this name can be tried from there; 0: now, and it is counted."""
        return self._change(name, address, tried)

    def passed(self, name: str, address: str) -> None:
        """Its password was right."""
        self._change(name, address, lambda counts, _now: Said(0.0, passed(counts)))

    def give_back(self, name: str, address: str) -> None:
        """It could not be looked at."""
        self._change(name, address, lambda counts, _now: Said(0.0, given_back(counts)))

    def _change(self, name: str, address: str, change: _Change) -> float:
        keys = _keys(name, address)
        try:
            return self._in_redis(keys, change)
        except SettingsError:
            return self._in_process(keys, change)
        except redis.RedisError as error:
            log.warning(
                "logins are counted by each process: Redis does not answer (%s)", type(error).__name__
            )
            return self._in_process(keys, change)

    def _in_redis(self, keys: _Keys, change: _Change) -> float:
        for _ in range(LOOKS):
            with self._services.redis.pipeline() as pipe:
                pipe.watch(*keys)
                counts = _counts([None if data is None else _read(data) for data in pipe.mget(keys)])
                seconds, micros = pipe.time()
                said = change(counts, seconds + micros / 1e6)
                if said.counts == counts:
                    return said.wait
                pipe.multi()
                for key, count, span in kept(keys, said.counts):
                    pipe.set(key, msgspec.msgpack.encode(count), px=round(span * 1000))
                try:
                    pipe.execute()
                    return said.wait
                except redis.WatchError:
                    continue
        return 1.0  # so many at once: none of them is in a hurry

    def _in_process(self, keys: _Keys, change: _Change) -> float:
        now = time.time()
        with self._lock:
            found = [self._own.get(key, (None, 0.0)) for key in keys]
            said = change(_counts([count if until > now else None for count, until in found]), now)
            for key, count, span in kept(keys, said.counts):
                self._own[key] = count, now + span
                self._own.move_to_end(key)
            while len(self._own) > OWN_MOST:
                self._own.popitem(last=False)
            return said.wait


def whole_seconds(wait: float) -> int:
    """What ``Retry-After`` says of a wait."""
    return max(1, math.ceil(wait))


def _keys(name: str, address: str) -> _Keys:
    there = place(address)
    # Hashed: whoever reads Redis finds no names, and nobody makes a long one.
    return _key("pair", f"{name}\0{there}"), _key("name", name), _key("address", there)


def _key(kind: str, text: str) -> str:
    return f"{names.LOGIN}{kind}:{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:32]}"


def place(address: str) -> str:
    """Whom an address stands for: of IPv6 its network, for everybody has a whole one."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 6:
        return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))
    return str(found)


def _counts(found: Sequence[Count | None]) -> Counts:
    pair, name, address = found
    return Counts(pair, name or Count(), address or Count())


def _read(data: bytes) -> Count:
    return msgspec.msgpack.decode(data, type=Count)


def kept(keys: tuple[_Key, _Key, _Key], counts: Counts) -> Iterator[tuple[_Key, Count, float]]:
    """What is to be kept: under which key, and for how many seconds."""
    pair = counts.pair or Count()
    yield keys[0], pair, KNOWN if pair.known else PAIR.kept
    yield keys[1], counts.name, NAME.kept
    yield keys[2], counts.address, ADDRESS.kept
