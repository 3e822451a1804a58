"""Who may do what in Redis: one table of MUTT's roles, printed as an ACL file for Redis 7.0 and Valkey.

A right is a list of commands together with the keys that they may be used on (a selector): who may append to a stream
may not overwrite it. The commands of a script are held to the rights of whoever calls it. Nobody has ``@admin`` or
``@dangerous`` commands, but for INFO, which tells how full Redis is, and which run of it this is.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from mutt import names

#: Every session: it logs in, asks for the time and for INFO, and runs scripts and transactions of what it may do.
SESSION = (
    "+@connection -@admin -@dangerous +@transaction +info +time "
    "+eval +evalsha +script|load +script|exists +publish"
)

#: All that can be done to data, on keys that are a role's own; scripts that name these keys, too.
DATA = (
    "+@string +@hash +@list +@set +@sortedset +@stream -@dangerous "
    "+del +unlink +exists +expire +pexpire +ttl +pttl +type +watch +eval +evalsha"
)
READ = "+@read -@dangerous"

#: What a server holds, where not all: MUTT's data (STREAM_URL), or Celery's doorbells (BROKER_URL).
DATA_PART, BROKER_PART = "data", "broker"

#: Celery's queues, and what kombu keeps beside them: messages in work, bindings, the answers to remote control.
QUEUES = ("alerts", "moog", "housekeeping", "maintenance", "backtests")
_KOMBU = ("~unacked", "~unacked_index", "~unacked_mutex", "~_kombu.*", "~*.pidbox")
#: A pattern that somebody subscribes to has to stand here word for word.
EVENTS, CONTROL = "/{db}.celeryev/*", "/{db}.celery.pidbox"

_STREAMS = (names.INGEST_STREAM, names.DELIVERY_STREAM, *names.LANE_STREAMS)
_LANES, _ALERTS, _BEHIND = "~mutt:alert_queue:*", "~mutt:alerts:*", f"~{names.BEHIND}*"
_NOISE = ("~mutt:noise:*", f"~{names.STORM}*")
_GATE = (f"~{names.BUDGET}", "~mutt:breaker:*", f"~{names.LOCK}", f"~{names.TURNS}")


@dataclasses.dataclass(frozen=True)
class Right:
    """Commands, and the keys that they may be used on (``~``, or ``%R~`` and ``%W~``); none: they name no key."""

    commands: str
    keys: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"({self.commands} {' '.join(self.keys)})".replace(" )", ")")

    @property
    def of(self) -> str:
        """Which part of Redis its keys are: data or broker."""
        return DATA_PART if any("mutt:" in key for key in self.keys) else BROKER_PART


@dataclasses.dataclass(frozen=True)
class Role:
    """What one role may do: its rights, and the channels that it publishes to or hears."""

    rights: tuple[Right, ...]
    channels: tuple[str, ...] = (EVENTS,)
    hears: bool = False  #: what is said there; else it only publishes
    more: str = ""  #: commands that name no key


def _reads(*keys: str) -> tuple[str, ...]:
    return tuple(f"%R~{key}" for key in keys)


def _writes(*keys: str) -> tuple[str, ...]:
    return tuple(f"%W~{key}" for key in keys)


def _tells(role: str) -> Right:
    """A process says how it is, under its own role, and reads of nobody."""
    return Right("+hset +hdel +pexpire", _writes(names.PULSE_OF + role))


#: Whoever reads how all are, and keeps it.
_PULSE = (
    Right("+hgetall +hdel", (f"~{names.PULSE_OF}*",)),
    Right("+lpush +ltrim +lrange +lindex +pexpire", (f"~{names.PULSE_SAMPLES}", f"~{names.PULSE_POINTS}")),
    Right("+set", _writes(names.PULSE_TURN)),
)


def _rings(*queues: str) -> Right:
    """A doorbell is pushed, and counted; nobody's is read."""
    return Right("+lpush +llen", _writes(*queues))


def _worker(*queues: str) -> tuple[Right, ...]:
    """What every Celery worker does: it hears its own doorbells, ticks, and gives back what others left undone."""
    return (
        Right("+brpop +rpop", tuple(f"~{queue}" for queue in queues)),
        Right("+lpush +rpush +llen", _writes(*QUEUES)),
        Right(DATA, _KOMBU),
        Right("+set +del +exists", ("~mutt:tick:*", "~mutt:bell:*")),
        # The tick counts: it reads none of what stands there.
        Right("+xlen +exists", _writes(*_STREAMS, names.OUTSIDE, names.SPILLED, names.BACKTESTS)),
        Right("+exists", _writes(names.LETTER_ORDERS)),
        Right("+zrangebyscore", _reads(names.NOISE_DUE)),
    )


_HEAR = "+subscribe +psubscribe +unsubscribe +punsubscribe"
_ON_AIR: dict[str, Any] = {"channels": (EVENTS, CONTROL), "hears": True}

# Redis looks at the rights in turn: what a role does most comes first.
ROLES: Mapping[str, Role] = {
    # Appends, and answers for what it appended. It reads none of what stands in a stream.
    "ingest": Role(
        (
            Right("+xadd", _writes(names.INGEST_STREAM, names.DLQ_INGEST, names.SOURCES)),
            Right("+get +set +pexpire", ("~mutt:round:*", "~mutt:idem:*", "~mutt:seen:*")),
            Right("+set", _writes("mutt:bell:ingest_queue", "mutt:ready", names.SPILLED)),
            Right("+hget +hmget +hincrby", (f"~{names.LEDGER}", f"~{names.DLQ_INGEST}:*")),
            Right("+hget +hmget +hgetall +hlen +exists", _reads(names.KEYS, f"{names.KEYS}:signed")),
            Right("+hset +expire +pexpire", _writes(f"{names.KEYS}:used")),
            Right(DATA, ("~mutt:quota:*",)),
            _rings("alerts"),
            _tells("ingest"),
        ),
        more="+wait",
    ),
    "alerts": Role(
        (
            Right(
                DATA,
                (
                    "~mutt:unhandled:*",
                    f"~{names.LEDGER}",
                    _ALERTS,
                    f"~{names.INGEST_STREAM}",
                    _LANES,
                    _BEHIND,
                    *_NOISE,
                    f"~{names.UNHANDLED_KINDS}",
                    f"~{names.SUSPECTS}",
                    f"~{names.SETTLED}*",
                ),
            ),
            Right("+xadd", _writes(names.DELIVERY_STREAM, names.DLQ_ALERTS, names.DLQ_MOOG)),
            *_worker("alerts"),
            _tells("alerts"),
        ),
        **_ON_AIR,
    ),
    "moog": Role(
        (
            Right(DATA, (*_GATE, _LANES, _ALERTS, _BEHIND, f"~{names.LEDGER}")),
            Right("+xadd", _writes(names.DELIVERY_STREAM, names.DLQ_MOOG)),
            *_worker("moog"),
            _tells("moog"),
        ),
        **_ON_AIR,
    ),
    # Records; and what has to be put right now and then: sweep, storms, windows, the spill, dead letters, keys.
    "housekeeping": Role(
        (
            Right(DATA, (f"~{names.DELIVERY_STREAM}", _ALERTS, f"~{names.LEDGER}", _LANES, _BEHIND, *_NOISE)),
            Right(
                "+xadd +xlen +xrange +xrevrange +xpending +xinfo|groups +xinfo|stream",
                (f"~{names.INGEST_STREAM}",),
            ),
            Right(DATA, ("~mutt:dlq:*", f"~{names.DROPS}", f"~{names.SPILLED}", "~mutt:ready")),
            Right("+xrange +xrevrange +xtrim", (f"~{names.SOURCES}",)),
            Right("+hset +hgetall +del", (f"~{names.SOURCES_NOW}",)),
            Right("+get +set +pexpire", ("~mutt:round:*", "~mutt:idem:*", "~mutt:seen:*")),
            Right(f"{DATA} +rename +renamenx", (f"~{names.KEYS}", f"~{names.KEYS}:*")),
            Right(READ, _reads("mutt:breaker:*", names.BUDGET)),
            *_worker("housekeeping", "maintenance"),
            _tells("housekeeping"),
            *_PULSE,
        ),
        **_ON_AIR,
    ),
    "backtests": Role(
        (*_worker("backtests"), Right("+set +del", _writes(names.BACKTESTS)), _tells("backtests")),
        **_ON_AIR,
    ),
    # People's: sees all, sends dead letters again or drops them, keeps the copy of the keys.
    "admin": Role(
        (
            Right(READ, _reads("mutt:*")),
            Right(DATA, ("~mutt:dlq:*", f"~{names.DROPS}", _ALERTS, _BEHIND, f"~{names.LEDGER}")),
            Right("+xadd", _writes(names.INGEST_STREAM, names.DELIVERY_STREAM)),
            Right("+xadd +xdel +xlen +xrange +xpending", (_LANES,)),
            Right("+set +del +exists", ("~mutt:bell:*", f"~{names.BACKTESTS}", "~mutt:ready")),
            Right(
                f"{DATA} +rename +renamenx",
                (f"~{names.KEYS}", f"~{names.KEYS}:signed", "~mutt:login:*", "~mutt:admin:*"),
            ),
            _rings(*QUEUES),
            _tells("admin"),
            *_PULSE,
        ),
    ),
    "beat": Role((_rings("maintenance"),)),
    # Sees what workers tell of themselves, and how many doorbells wait.
    "flower": Role(
        (
            Right("+llen", _writes(*QUEUES)),
            Right(DATA, ("~_kombu.*", "~*.pidbox", "~celeryev.*", "~unacked_mutex")),
            # kombu looks whether a message in work is overdue; for Flower none ever is (celeryconfig).
            Right("+zrange", _reads("unacked_index")),
        ),
        **_ON_AIR,
    ),
    # An operator at a shell: whatever the roles do can be done by hand, and nothing else.
    "cli": Role(
        (
            Right(f"{DATA} {READ} +rename +renamenx", ("~mutt:*",)),
            Right(DATA, (*(f"~{queue}" for queue in QUEUES), *_KOMBU, "~celeryev.*")),
        ),
        **_ON_AIR,
        more="+wait",
    ),
}


def hashed(password: str) -> str:
    """A password as an ACL holds it."""
    return "#" + hashlib.sha256(password.encode()).hexdigest()


def user(name: str, secret: str, db: int = 0, part: str = "") -> str:
    """One user's line; empty: it has nothing to do there. ``secret`` is :func:`hashed`; ``db`` is the number of the
    broker's database; ``part`` is what the server holds (empty: both)."""
    role = ROLES[name]
    rights = [right for right in role.rights if part in ("", right.of)]
    if not rights:
        return ""
    talks = part != DATA_PART
    channels = [f"&{channel}".format(db=db) for channel in role.channels if talks]
    hears = _HEAR if role.hears and talks else ""
    parts = ["user", name, "on", secret, SESSION, hears, role.more, *channels, *map(str, rights)]
    return " ".join(part for part in parts if part)


def file(secrets: Mapping[str, str], *, default: str = "", db: int = 0, part: str = "") -> str:
    """The whole file. ``secrets`` are hashes by role; ``default`` is that of the user without a name, who may do
    everything (empty: nobody gets in as that one); ``part`` is what the server holds (empty: both)."""
    nameless = f"user default on {default} ~* &* +@all" if default else "user default off resetpass -@all"
    return "\n".join([nameless, *_users(secrets, db, part)]) + "\n"


def _users(secrets: Mapping[str, str], db: int, part: str) -> Iterable[str]:
    return filter(None, (user(name, secrets[name], db, part) for name in ROLES))
