"""What Redis' own words mean for MUTT's promises. Pure: INFO and CONFIG come in as mappings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mutt.doctor.finding import Finding, bad, ok, warn
from mutt.streams.bound import MEMORY_SHARE
from mutt.streams.connect import FLOOR

Info = Mapping[str, Any]

#: From this share of ``maxmemory`` on people should know.
FULL_SOON = 0.6


def check(
    info: Info,
    config: Mapping[str, str] | None,
    *,
    wait_replicas: int,
    sentinel: bool,
    spill: bool = False,
) -> Iterator[Finding]:
    """Every finding about one server. ``config`` is None where CONFIG GET is not allowed."""
    yield _version(info)
    yield _cluster(info)
    yield from _persistence(info, config)
    yield _last_write(info)
    yield _eviction(info)
    yield _memory(info)
    yield _replicas(info, config, wait_replicas, sentinel, spill)


def _version(info: Info) -> Finding:
    version = str(info.get("redis_version", "0"))
    good = tuple(int(part) for part in version.split(".")[:2]) >= FLOOR
    floor = ".".join(map(str, FLOOR))
    if good:
        # Valkey says of itself that it is Redis 7.2.4, whatever it is.
        valkey = info.get("valkey_version")
        return ok("Redis version", f"Valkey {valkey}" if valkey else version)
    return bad(
        "Redis version", f"{version}; the scripts need {floor}", f"run Redis {floor} or newer, or Valkey"
    )


def _cluster(info: Info) -> Finding:
    if not info.get("cluster_enabled"):
        return ok("Redis cluster", "none")
    return bad(
        "Redis cluster", "this is a Redis Cluster, which Celery can't use", "run a single Redis, or Sentinel"
    )


def _persistence(info: Info, config: Mapping[str, str] | None) -> Iterator[Finding]:
    what = "Redis appendonly"
    if not info.get("aof_enabled"):
        yield bad(
            what,
            "off: a restart loses what was accepted",
            "CONFIG SET appendonly yes, and appendfsync always",
        )
        return
    yield ok(what, "on")
    what = "Redis appendfsync"
    fix = "CONFIG SET appendfsync always"
    if config is None:
        yield warn(
            what,
            "CONFIG GET is not allowed here, so nobody can tell",
            "ask who runs it for appendfsync always",
        )
        return
    policy = config.get("appendfsync", "")
    if policy == "always":
        yield ok(what, "always")
    elif policy == "everysec":
        says = "everysec: a power failure loses up to about a second of accepted events (two, if the disk is busy)"
        yield warn(what, says, fix)
    else:
        yield bad(
            what,
            f"{policy}: a power failure loses what the system had not written yet, half a minute or so",
            fix,
        )
    if policy != "always":
        return
    if config.get("no-appendfsync-on-rewrite") == "yes":
        says = "yes: while the file is rewritten nothing is synced"
        yield warn("Redis no-appendfsync-on-rewrite", says, "CONFIG SET no-appendfsync-on-rewrite no")


def _last_write(info: Info) -> Finding:
    names = ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")
    failed = [name for name in names if info.get(name, "ok") != "ok"]
    if failed:
        return bad(
            "Redis writing", f"{', '.join(failed)} failed", "free the disk that Redis writes to; see its log"
        )
    return ok("Redis writing", "the last writes to disk went well")


def _eviction(info: Info) -> Finding:
    policy = str(info.get("maxmemory_policy", ""))
    if policy == "noeviction":
        return ok("Redis maxmemory-policy", policy)
    return bad(
        "Redis maxmemory-policy",
        f"{policy}: Redis may throw queues away",
        "CONFIG SET maxmemory-policy noeviction",
    )


def _memory(info: Info) -> Finding:
    what, used, most = "Redis memory", int(info.get("used_memory", 0)), int(info.get("maxmemory") or 0)
    if not most:
        return warn(
            what,
            f"{_mib(used)} used, no limit",
            "set maxmemory, so that ingest refuses before the system kills Redis",
        )
    share, says = used / most, f"{_mib(used)} of {_mib(most)} used"
    if share >= MEMORY_SHARE:
        return bad(
            what, f"{says}: ingest refuses from {MEMORY_SHARE:.0%} on", "drain the queues, or raise maxmemory"
        )
    if share >= FULL_SOON:
        return warn(
            what, f"{says}; ingest refuses from {MEMORY_SHARE:.0%} on", "raise maxmemory, or add workers"
        )
    return ok(what, says)


def _mib(count: int) -> str:
    return f"{count / (1 << 20):.0f} MiB"


def _replicas(
    info: Info, config: Mapping[str, str] | None, wait_replicas: int, sentinel: bool, spill: bool
) -> Finding:
    what, there = "Redis replicas", int(info.get("connected_slaves", 0))
    if info.get("role", "master") != "master":
        return bad(
            what, "this is a replica: it takes no writes", "point REDIS_URL at the master, or at Sentinel"
        )
    if wait_replicas > there:
        happens = "every request is spilled, and nothing flows back" if spill else "every request is refused"
        says = f"INGEST_WAIT_REPLICAS is {wait_replicas}, {there} are connected: {happens}"
        return bad(what, says, "connect the replicas, or lower INGEST_WAIT_REPLICAS")
    if not (there or sentinel):
        return ok(what, "none: one server, and no failover to lose anything in")
    if not wait_replicas:
        says = "a failover loses what the replica had not received yet"
        return warn(what, f"{there} connected; {says}", "set INGEST_WAIT_REPLICAS=1")
    if config is not None and config.get("min-replicas-to-write", "0") == "0":
        says = f"{there} connected, but a master cut off from all of them goes on taking writes"
        return warn(what, says, "CONFIG SET min-replicas-to-write 1")
    says = f"{there} connected, {wait_replicas} waited for"
    if sentinel and wait_replicas < there:
        says += "; pause the primary before a planned failover (docs/scaling.md)"
    return ok(what, says)
