"""What happened: audited events, changes of the configuration, alerts, and what became of one event."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row

from mutt.alert import LANES, Status
from mutt.errors import Refused
from mutt.explain.gather import Explainer
from mutt.services import Services
from mutt.store import lookup, whole
from mutt.store.lookup import AlertSearch, AuditSearch
from mutt.web import reading
from mutt.web.api import wire
from mutt.web.api.routes import COUNT, FLAG, INTEGER, TEXT, TIME, Json, Reply, Route, listing, obj, or_null

#: Rows that are counted, and pages through; beyond them the time has to be narrowed.
COUNTED = 10_000

_AUDITED: Json = obj(
    "event_id received_at hostname severity source message matched_rule_id ruleset_version handling team"
    " correlation_id",
    event_id=TEXT,
    received_at=TIME,
    hostname=TEXT,
    severity=or_null(INTEGER),
    source=TEXT,
    message=TEXT,
    matched_rule_id=or_null(INTEGER),
    ruleset_version=INTEGER,
    handling=TEXT,
    team=or_null(TEXT),
    correlation_id=TEXT,
)
_ALERT: Json = obj(
    "alert_id event_id received_at hostname status",
    alert_id=TEXT,
    event_id=TEXT,
    received_at=TIME,
    hostname=TEXT,
    rule_id=or_null(INTEGER),
    team=TEXT,
    lane={"enum": list(LANES)},
    severity=INTEGER,
    state=TEXT,
    status={"enum": list(Status)},
    attempts=INTEGER,
    delivered_at=or_null(TIME),
    moog_status=or_null(INTEGER),
    description=TEXT,
    reason=TEXT,
)
_CHANGE: Json = obj(
    "id at changed_by operation table_name record_id reason before after correlation_id",
    id=INTEGER,
    at=TIME,
    changed_by=TEXT,
    operation=TEXT,
    table_name=TEXT,
    record_id=TEXT,
    reason=TEXT,
    before=or_null({"type": "object"}),
    after=or_null({"type": "object"}),
    correlation_id=TEXT,
    ruleset_version=or_null(INTEGER),
    undoes=or_null(INTEGER),
)
_PAGES = obj(
    "page limit total pages",
    page=INTEGER,
    limit=INTEGER,
    total=COUNT,
    pages=COUNT,
    total_is_capped=FLAG | {"description": f"There are more than {COUNTED} rows: narrow the time"},
)
_ARCHIVES = TEXT | {"description": "Which part of it was read from archives, in a sentence; else empty"}
_PAGING = {
    "page": {"type": "integer", "minimum": 1},
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000},
}
_DATES = {"start_date": TEXT, "end_date": TEXT}


class _Records:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._explainer = Explainer(services)

    def routes(self) -> list[Route]:
        of_audit: dict[str, Json] = {
            **_PAGING,
            **_DATES,
            "hostname": TEXT,
            "rule_id": INTEGER,
            "handling": TEXT,
            "source": TEXT,
            "severity": {"type": "integer", "minimum": 0, "maximum": 7},
            "text": TEXT,
        }
        of_changes: dict[str, Json] = {
            **_DATES,
            "limit": _PAGING["limit"],
            "before": INTEGER,
            **dict.fromkeys(("changed_by", "operation", "table_name", "record_id", "correlation_id"), TEXT),
        }
        of_alerts: dict[str, Json] = {
            **_DATES,
            "limit": _PAGING["limit"],
            "hostname": TEXT,
            "status": {"enum": list(Status)},
            "held": TEXT,
            "lane": {"enum": list(LANES)},
            "rule_id": INTEGER,
            "team": TEXT,
        }
        return [
            Route(
                "GET",
                "/audit-logs",
                self.audit_logs,
                "Audited events, the newest first; the last 15 minutes where neither host, rule nor time is given",
                "audit-logs",
                listing("logs", _AUDITED, pagination=_PAGES, archives=_ARCHIVES),
                query=of_audit,
            ),
            Route(
                "GET",
                "/audit",
                self.changes,
                "Changes of the configuration, the newest first; `before` is the last id of a page",
                "audit",
                listing("changes", _CHANGE),
                query=of_changes,
            ),
            Route(
                "GET",
                "/alerts",
                self.alerts,
                "Alerts and what became of them, the newest first",
                "alerts",
                listing("alerts", _ALERT),
                query=of_alerts,
            ),
            Route(
                "GET",
                "/events/<event_id>/explain",
                self.explain,
                "What became of an event: how it was parsed, each rule tried, what held it back, each attempt at Moog",
                "events",
                {"type": "object"},
                query={"at": TEXT},
            ),
        ]

    def audit_logs(self) -> Reply:
        page, limit = wire.page_of()
        if (page - 1) * limit >= COUNTED:
            raise Refused("page", f"lies beyond the first {COUNTED} rows; narrow start_date and end_date")
        asked = AuditSearch(
            hostname=wire.text("hostname"),
            rule_id=wire.number("rule_id"),
            handling=wire.text("handling"),
            source=wire.text("source"),
            severity=wire.number("severity", high=7),
            text=wire.text("text"),
            since=wire.time("start_date"),
            until=wire.time("end_date"),
        ).narrowed(datetime.now(UTC))
        read, archives = partial(reading.read, self._services), self._services.archives
        skip, most = (page - 1) * limit, COUNTED + 1
        rows, total, told = whole.numbered(read, archives, asked, limit=limit, skip=skip, most=most)
        pages = wire.paged(min(total, COUNTED), page, limit) | {"total_is_capped": total > COUNTED}
        logs = [msgspec.to_builtins(row._asdict()) for row in rows]
        return Reply({"logs": logs, "pagination": pages, "archives": told})

    def changes(self) -> Reply:
        _, limit = wire.page_of()
        with lookup.reading(self._services.engine) as conn:
            found = lookup.newest_changes(
                conn,
                table=wire.text("table_name"),
                record=wire.text("record_id"),
                who=wire.text("changed_by"),
                operation=wire.text("operation"),
                correlation_id=wire.text("correlation_id"),
                since=wire.time("start_date"),
                until=wire.time("end_date"),
                before=wire.number("before"),
                limit=limit,
            )
        return Reply({"changes": [_plain(row) for row in found]})

    def alerts(self) -> Reply:
        _, limit = wire.page_of()
        asked = AlertSearch(
            status=_word("status", Status),
            held=wire.text("held"),
            hostname=wire.text("hostname"),
            lane=_word("lane", LANES),
            rule_id=wire.number("rule_id"),
            team=wire.text("team"),
            since=wire.time("start_date"),
            until=wire.time("end_date"),
            limit=limit,
        ).narrowed(datetime.now(UTC))
        found = reading.read(self._services, lambda conn: lookup.search_alerts(conn, asked))
        return Reply({"alerts": [_plain(row) for row in found.rows]})

    def explain(self, event_id: str) -> Reply:
        try:
            UUID(event_id)
        except ValueError:
            raise Refused("event_id", "is no UUID; MUTT's own id stands in the audit") from None
        return Reply(self._explainer.event(event_id, wire.time("at")).as_json())


def routes(services: Services) -> list[Route]:
    return _Records(services).routes()


def _plain(row: Row[Any]) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(dict(row._mapping))
    return found


def _word(name: str, words: Any) -> str:
    given = wire.text(name)
    if given and given not in list(words):
        raise Refused(name, f"{given[:60]!r} is none of {', '.join(words)}")
    return given
