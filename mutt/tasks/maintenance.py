"""mutt.maintenance.*: the sweep, API keys, sources, what noise control and windows owe, the flow back, months."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, select

from mutt import keyring, watching
from mutt.celery import app
from mutt.pipeline.noise import work_due
from mutt.pipeline.record import sweep as sweep_rows
from mutt.pipeline.spill import flow_back as flow_back_rows
from mutt.pipeline.spill import result_of
from mutt.store import (
    alerts,
    attempts,
    backtests,
    history,
    partitions,
    receipts,
    shadows,
    versions,
)
from mutt.store.archives import manifest
from mutt.store.engine import transaction
from mutt.tasks.base import MuttTask, services

#: A clear that no raise came for within a day ended nothing that MUTT knew of.
CLEARS_KEPT = timedelta(days=1)

#: The audit goes month by month: rows stay so many days longer, and can be explained by the version they carry.
MONTH_DAYS = 32


@app.task(bind=True, base=MuttTask, name="mutt.maintenance.sweep")
def sweep(self: MuttTask, lost: bool = True, **_labels: Any) -> dict[str, Any]:
    """Bring in alerts whose rows wait and that stand nowhere."""

    def work() -> dict[str, Any]:
        s = services()
        now = datetime.now(UTC)
        return dict(sweep_rows(s.store, s.lanes, now, s.settings.alert_queue_max, lost=lost))

    return self.work(work)


@app.task(bind=True, base=MuttTask, name="mutt.maintenance.noise")
def noise(self: MuttTask, **_labels: Any) -> dict[str, Any]:
    """Tell of storms, and send the last word of what flapped, where the tick found some due."""

    def work() -> dict[str, Any]:
        s = services()
        return dict(work_due(s.due, s.store, s.lanes.release_held, datetime.now(UTC)))

    return self.work(work)


@app.task(bind=True, base=MuttTask, name="mutt.maintenance.windows")
def windows(self: MuttTask, **_labels: Any) -> dict[str, Any]:
    """Maintenance windows: receipts of those that are on or over, and the release of what still burns."""

    def work() -> dict[str, Any]:
        s = services()
        return dict(receipts.work(s.engine, s.lanes.release_held, datetime.now(UTC)))

    return self.work(work)


@app.task(bind=True, base=MuttTask, name="mutt.maintenance.keys")
def keys(self: MuttTask, **_labels: Any) -> dict[str, Any]:
    """API keys: make the copy in Redis again, and note which were used."""

    def work() -> dict[str, Any]:
        # First what lets in and keeps out: whatever is wrong with what ingest noted keeps nobody's key waiting.
        return {"keys": keyring.publish(services()), "used": keyring.note_uses(services())}

    return self.work(work)


@app.task(bind=True, base=MuttTask, name="mutt.maintenance.sources")
def sources(self: MuttTask, **_labels: Any) -> dict[str, Any]:
    """Sources: read what ingest heard of them, and tell of those that fell silent."""
    return self.work(lambda: dict(watching.work(services())))


@app.task(bind=True, base=MuttTask, name="mutt.maintenance.flow_back")
def flow_back(self: MuttTask, **_labels: Any) -> dict[str, Any]:
    """Bring rounds from the spill into the stream, for about a second."""

    def work() -> dict[str, Any]:
        s = services()
        flow = flow_back_rows(s.spill_rows, s.bed, monotonic=time.monotonic, sleep=time.sleep)
        s.metrics.flowed_back.inc(flow.events)
        if flow.ended == "empty":
            s.bed.tell_flowed_back()
        elif flow.rounds:
            s.bed.tell_spilled()
        return result_of(flow)

    return self.work(work)


@app.task(bind=True, base=MuttTask, name="mutt.maintenance.partitions")
def make_partitions(self: MuttTask, **_labels: Any) -> dict[str, Any]:
    """Make the months to come."""

    def work() -> dict[str, Any]:
        with transaction(services().engine) as conn:
            return {"made": partitions.ensure(conn, datetime.now(UTC))}

    return self.work(work)


@app.task(bind=True, base=MuttTask, name="mutt.maintenance.retention")
def retention(self: MuttTask, **_labels: Any) -> dict[str, Any]:
    """Archive and drop months that are wholly past the retention; forget old configuration history."""
    # Late: it brings pyarrow, sixty megabytes that no other task of any worker needs.
    from mutt.store import retention as months  # noqa: PLC0415

    def work() -> dict[str, Any]:
        s = services()
        with transaction(s.engine) as conn:
            # What goes is gone: a worker whose clock runs ahead takes nothing that is not due by PostgreSQL's, too.
            now = min(datetime.now(UTC), conn.execute(select(func.now())).scalar_one())
            attempts.prune(conn, now - timedelta(days=s.settings.audit_retention_days))
        with transaction(s.engine) as conn:
            forgotten = history.prune(conn, now - timedelta(days=s.settings.config_audit_days))
            alerts.prune_clears(conn, now - CLEARS_KEPT)
            kept = max(s.settings.config_audit_days, s.settings.audit_retention_days + MONTH_DAYS)
            versions.prune(conn, now - timedelta(days=kept))
            shadows.expire(conn, now - timedelta(days=s.settings.config_audit_days))
            backtests.prune(conn, now)
            receipts.expire(conn, now - timedelta(days=s.settings.config_audit_days))
        expired = manifest.expire(s.archives.directory, now, s.settings.audit_archive_years)
        # Last: an archive that is damaged holds up nothing else.
        try:
            retired = months.retire(s.engine, now, s.settings.audit_retention_days, s.archives)
        finally:
            converted = months.convert(s.engine, s.archives, now)
        return {"retired": retired, "converted": converted, "history": forgotten, "expired": expired}

    return self.work(work)
