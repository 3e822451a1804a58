"""What PostgreSQL's own words mean for MUTT's promises. Pure: they come in as :class:`~mutt.store.vitals.Vitals`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from mutt.doctor.finding import Finding, bad, ok, warn
from mutt.store.partitions import name_of
from mutt.store.vitals import Server, Vitals
from mutt.words import many

#: What a replica may be behind.
LAGS = timedelta(minutes=1)

#: server_version_num of the least version.
FLOOR = 150_000

#: Months from this one on that should be there; the calendar makes three ahead.
MONTHS = 3

#: Of max_connections: what is taken beyond this share is nearly everything.
NEARLY_ALL = 0.9


def check(found: Vitals, *, pool_max: int, now: datetime) -> Iterator[Finding]:
    """Every finding about one server and its database."""
    yield _version(int(found.settings.get("server_version_num", "0")))
    yield from _durability(found.settings)
    yield _migrations(found)
    yield _connections(found, pool_max)
    if found.migrated_to:
        yield _default_rows(found.default_rows)
        yield _months(found.months, now)


def _version(version: int) -> Finding:
    what, shown = "PostgreSQL version", f"{version // 10_000}.{version % 10_000}"
    if version >= FLOOR:
        return ok(what, shown)
    return bad(what, f"{shown}; MUTT needs {FLOOR // 10_000}", f"run PostgreSQL {FLOOR // 10_000} or newer")


_LOST = {
    "fsync": "a crash of the machine may destroy the database",
    "full_page_writes": "a crash of the machine may leave torn pages",
    "synchronous_commit": "a crash loses rows whose events are settled already",
}


def _durability(settings: Mapping[str, str]) -> Iterator[Finding]:
    for name, loses in _LOST.items():
        value = settings.get(name, "on")
        what = f"PostgreSQL {name}"
        yield bad(what, f"off: {loses}", f"set {name} = on") if value == "off" else ok(what, value)


def _migrations(found: Vitals) -> Finding:
    if found.migrated_to == found.head:
        return ok("PostgreSQL schema", f"at {found.head}")
    if found.ahead:
        says = f"at {found.migrated_to}, which this MUTT does not know: it is at {found.head}"
        return warn(
            "PostgreSQL schema", says, "go on with the upgrade: old and new run side by side meanwhile"
        )
    says = f"at {found.migrated_to}, this MUTT is at {found.head}" if found.migrated_to else "there is none"
    return bad("PostgreSQL schema", says, "run `mutt migrate`")


def _connections(found: Vitals, pool_max: int) -> Finding:
    what = "PostgreSQL connections"
    reserved = int(found.settings.get("superuser_reserved_connections", "3"))
    room = int(found.settings.get("max_connections", "100")) - reserved
    ours = sum(found.ours.values())
    # A process can't be told from the outside, but each holds at least one connection and at most its pool.
    most = ours * pool_max
    says = f"{found.connections} of {room} in use, {ours} by MUTT ({_by_role(found.ours)})"
    if found.connections >= room * NEARLY_ALL:
        return bad(what, says, "raise max_connections, lower DB_POOL_MAX, or put a pooler in between")
    if found.connections - ours + most > room:
        says += f"; with full pools (DB_POOL_MAX={pool_max}) up to {most}"
        return warn(
            what,
            says,
            f"lower DB_POOL_MAX, or raise max_connections to {found.connections - ours + most + reserved}",
        )
    return ok(what, says)


def check_replica(primary: Server, replica: Server) -> Iterator[Finding]:
    """Every finding about the server that DATABASE_READ_URL names, beside that of DATABASE_URL."""
    yield _replica(primary, replica)
    if not replica.standby:
        return
    what, lag = "replica, behind", replica.source.lag
    if lag is None or lag >= LAGS:
        says = replica.source.says or "nobody can tell"
        yield bad(what, says, "see its log, and pg_stat_replication at the primary")
    else:
        yield ok(what, f"{lag.total_seconds():.1f} s")
    if not replica.feedback:
        yield warn(
            "replica, hot_standby_feedback",
            "off: a long back-test may be broken off for what its primary cleans up (40001), and reads again",
            "set hot_standby_feedback = on there",
        )


def _replica(primary: Server, replica: Server) -> Finding:
    what = "replica"
    if replica.system != primary.system:
        fix = "have DATABASE_READ_URL name a standby of DATABASE_URL's server"
        return bad(what, "its data are another server's", fix)
    if not replica.standby:
        return warn(what, "is no standby", "unset DATABASE_READ_URL, or have it name a standby")
    if replica.migrated_to != primary.migrated_to:
        says = f"its schema is at {replica.migrated_to or 'none'}, the primary's at {primary.migrated_to or 'none'}"
        return bad(what, says, "wait until it has what its primary has")
    return ok(what, "a standby of this primary, with its schema")


def _by_role(ours: Mapping[str, int]) -> str:
    return ", ".join(f"{name.removeprefix('mutt-')} {n}" for name, n in sorted(ours.items())) or "none"


def _default_rows(rows: int) -> Finding:
    if not rows:
        return ok("audit, default partition", "empty")
    return warn(
        "audit, default partition",
        f"{many(rows, 'row')}: their month was missing",
        "run `mutt partitions ensure`",
    )


def _months(there: Sequence[str], now: datetime) -> Finding:
    what, fix = (
        "audit, months ahead",
        "run `mutt partitions ensure`, and see that a worker serves -Q maintenance",
    )
    wanted, month = [], now.astimezone(UTC).replace(day=1)
    for _ in range(MONTHS):
        wanted.append(name_of(month))
        month = (month + timedelta(days=32)).replace(day=1)
    missing = [name for name in wanted if name not in there]
    if wanted[0] in missing:
        return bad(what, f"{missing[0]} is missing, and that is now", fix)
    if missing:
        return warn(what, f"{', '.join(missing)} missing", fix)
    return ok(what, f"up to {max(there)}")
