"""What the audit knows of the rules: which decided nothing, which hosts there are, and what events look like.

Each is asked of an index, however many rows there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, select, text

from mutt.event import Event
from mutt.rules.lint import Facts
from mutt.store.audit import event_of
from mutt.store.tables import event_audit_log

#: A rule that decided nothing in so many days may not be needed.
SILENT_DAYS = 90

#: Events that are looked at.
SAMPLE = 1_000

#: With more hosts than this it is not said which there are.
HOSTS_MAX = 20_000

#: Where the sample is taken from: the newest hour that can fill it.
_SPANS = (timedelta(hours=1), timedelta(days=1), timedelta(days=31))

_SILENT = text(
    """
    SELECT rule.id FROM alert_rules AS rule
    LEFT JOIN LATERAL (
        -- In an order, so that it is the index on rule and time that is read, and one row of it.
        SELECT received_at FROM event_audit_log AS event
        WHERE event.matched_rule_id = rule.id AND event.received_at >= :since
        ORDER BY event.received_at DESC LIMIT 1
    ) AS last ON true
    WHERE rule.is_active AND rule.created_at < :since AND last.received_at IS NULL
    """
)

_HOSTS = text(
    """
    WITH RECURSIVE host AS (
        (SELECT hostname FROM event_audit_log ORDER BY hostname LIMIT 1)
        UNION ALL
        SELECT (SELECT hostname FROM event_audit_log WHERE hostname > host.hostname ORDER BY hostname LIMIT 1)
        FROM host WHERE host.hostname IS NOT NULL
    )
    SELECT hostname FROM host WHERE hostname IS NOT NULL LIMIT :limit
    """
)


def facts(conn: Connection, now: datetime, *, days: int = SILENT_DAYS, sample: int = SAMPLE) -> Facts:
    """What the linter is told. ``days``: at most as many as the audit keeps."""
    return Facts(
        days=days,
        silent=frozenset(silent_rules(conn, now - timedelta(days=days))),
        hosts=hosts(conn),
        sample=sample_of(conn, now, sample),
    )


def silent_rules(conn: Connection, since: datetime) -> list[int]:
    """Active rules, made before ``since``, that have decided no event since. A younger one's time may come."""
    return list(conn.execute(_SILENT, {"since": since}).scalars())


def hosts(conn: Connection) -> frozenset[str] | None:
    """Every host name in the audit; None: there are too many to say, or none yet."""
    found = conn.execute(_HOSTS, {"limit": HOSTS_MAX + 1}).scalars().all()
    return frozenset(found) if 0 < len(found) <= HOSTS_MAX else None


def sample_of(conn: Connection, now: datetime, size: int = SAMPLE) -> Sequence[Event]:
    """Up to ``size`` events that were judged lately."""
    conn.execute(text("SET LOCAL enable_seqscan = off"))  # a month's beginning is not lately
    at = event_audit_log.c
    rows = []
    for span in _SPANS:
        query = select(event_audit_log).where(at.received_at.between(now - span, now)).limit(size)
        rows = list(conn.execute(query))
        if len(rows) >= size:
            break
    return [event_of(row) for row in rows]
