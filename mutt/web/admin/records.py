"""What happened: events as audited, alerts and their delivery, changes of the configuration. Read only."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from flask import request
from flask_admin import expose

from mutt.store import lookup
from mutt.web.admin.forms import AlertsForm, AuditForm
from mutt.web.admin.page import REFUSED, Page


class Audit(Page):
    @expose("/")
    def index(self) -> Any:
        form = AuditForm(request.args)
        if not form.validate():
            return self.render("audit.html", form=form, rows=[], asked=None), REFUSED
        asked = form.asked().narrowed(datetime.now(UTC))
        with lookup.reading(self.services.read_engine) as conn:
            rows = lookup.search_audit(conn, asked)
        return self.render("audit.html", form=form, rows=rows, asked=asked)


class Alerts(Page):
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
        return self.render("history.html", changes=rows, asked=asked)


def changed_fields(change: Any) -> list[tuple[str, str | None, str | None]]:
    """What a change of the history changed: (field, before, after). None stands for nothing."""
    old, new = change.before or {}, change.after or {}
    return [
        (name, _shown(old.get(name)), _shown(new.get(name)))
        for name in {**old, **new}
        if (old.get(name) or None) != (new.get(name) or None)
    ]


def _shown(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if isinstance(value, int | float) else msgspec.json.encode(value).decode()


def apart(before: str | None, after: str | None) -> tuple[str, str, str, str]:
    """Two texts as what they begin with alike, what each has of its own, and what they end with alike.

    Texts that have little in common are left whole, each its own: a letter in common tells nobody anything.
    """
    old, new = before or "", after or ""
    begin = _alike(old, new)
    end = _alike(old[begin:][::-1], new[begin:][::-1])
    if begin + end < max(4, min(len(old), len(new)) // 3):
        return "", old, new, ""
    return old[:begin], old[begin : len(old) - end], new[begin : len(new) - end], old[len(old) - end :]


def _alike(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    differ = (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differ, min(len(one), len(other)))
