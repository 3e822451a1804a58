"""What happened: events as audited, alerts and their delivery, changes of the configuration. Read only."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flask import request
from flask_admin import expose

from mutt.store import lookup
from mutt.web.admin.forms import AlertsForm, AuditForm
from mutt.web.admin.page import REFUSED, Page
from mutt.web.admin.stories import AlertPage, EventPage


class Audit(EventPage):
    @expose("/")
    def index(self) -> Any:
        form = AuditForm(request.args)
        if not form.validate():
            return self.render("audit.html", form=form, rows=[], asked=None), REFUSED
        asked = form.asked().narrowed(datetime.now(UTC))
        with lookup.reading(self.services.read_engine) as conn:
            rows = lookup.search_audit(conn, asked)
        return self.render("audit.html", form=form, rows=rows, asked=asked)


class Alerts(AlertPage):
    @expose("/")
    def index(self) -> Any:
        form = AlertsForm(request.args)
        if not form.validate():
            return self.render("alerts.html", form=form, rows=[]), REFUSED
        asked = {"status": form.status.data, "hostname": (form.hostname.data or "").strip()}
        with lookup.reading(self.services.read_engine) as conn:
            rows = lookup.newest_alerts(conn, **asked, limit=form.limit.data)
        return self.render("alerts.html", form=form, rows=rows)


class History(Page):
    @expose("/")
    def index(self) -> str:
        asked = {name: request.args.get(name, "") for name in ("table", "record")}
        with lookup.reading(self.engine) as conn:
            rows = lookup.newest_changes(conn, table=asked["table"], record=asked["record"])
        changes = [(row, changed_fields(row.before, row.after)) for row in rows]
        return self.render("history.html", changes=changes, asked=asked)


def changed_fields(before: dict[str, Any] | None, after: dict[str, Any] | None) -> list[tuple[str, Any, Any]]:
    """What differs: (field, before, after). None stands for nothing."""
    old, new = before or {}, after or {}
    return [(name, old.get(name), new.get(name)) for name in {**old, **new} if old.get(name) != new.get(name)]
