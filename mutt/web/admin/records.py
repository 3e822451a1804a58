"""What happened: events as audited, alerts and their delivery, changes of the configuration, which can be undone."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
from flask import abort, flash, redirect, request, url_for
from flask_admin import expose
from wtforms.fields.choices import SelectChoice

from mutt.errors import Refused
from mutt.store import lookup, undo, whole
from mutt.store.engine import transaction
from mutt.store.lookup import AlertSearch, AuditSearch, Rows
from mutt.store.users import Role
from mutt.store.whole import Found
from mutt.web import reading
from mutt.web.admin import csvfile
from mutt.web.admin.exports import ExportPage
from mutt.web.admin.forms import AlertsForm, AuditForm, HistoryForm, UndoForm, write_key
from mutt.web.admin.page import REFUSED, Page, here, said
from mutt.web.admin.stories import AlertPage, EventPage
from mutt.web.roles import requires

#: Rows that a file of a search holds at most.
CSV_ROWS = 10_000

AUDIT_COLUMNS = (
    "received_at",
    "event_id",
    "hostname",
    "severity",
    "source",
    "message",
    "matched_rule_id",
    "ruleset_version",
    "handling",
    "team",
    "correlation_id",
)
ALERT_COLUMNS = (
    "received_at",
    "alert_id",
    "event_id",
    "hostname",
    "description",
    "lane",
    "severity",
    "state",
    "rule_id",
    "team",
    "status",
    "attempts",
    "delivered_at",
    "moog_status",
    "reason",
)


class Records(Page):
    """A list of what happened, the newest first, page by page from a row on."""

    def edges(self, found: Rows | Found, since: datetime | None) -> dict[str, str]:
        """Where the pages before and after this one begin: their addresses. A chosen span stays where it began."""
        began = {"span": "", "since": f"{since.astimezone(UTC):%Y-%m-%dT%H:%M:%S}" if since else ""}
        if not found.rows:
            return {"newest": here(before="", after="")} if found.newer or found.older else {}
        newer = {"newer": here(**began, before="", after=write_key(found.rows[0]))} if found.newer else {}
        older = {"older": here(**began, after="", before=write_key(found.rows[-1]))} if found.older else {}
        return {**newer, **older}


class Audit(EventPage, ExportPage, Records):
    @expose("/")
    def index(self) -> Any:
        form = AuditForm(request.args)
        if not form.validate():
            return self.render("audit.html", form=form, rows=[], asked=None, edges={}), REFUSED
        asked, found = self._found(form)
        edges = self.edges(found, asked.since)
        return self.render(
            "audit.html", form=form, rows=found.rows, asked=asked, edges=edges, archived=found.told
        )

    @expose("/audit.csv")
    def export(self) -> Any:
        form = AuditForm(request.args)
        if not form.validate():
            abort(400, "This search can't be made: look at its page.")
        _, found = self._found(form, limit=CSV_ROWS)
        return csvfile.download("audit.csv", AUDIT_COLUMNS, (row._asdict() for row in found.rows))

    def _found(self, form: AuditForm, **more: Any) -> tuple[AuditSearch, Found]:
        now = datetime.now(UTC)
        asked = msgspec.structs.replace(form.asked(now).narrowed(now), **more)
        return asked, whole.search(partial(reading.read, self.services), self.services.archives, asked)


class Alerts(AlertPage, Records):
    @expose("/")
    def index(self) -> Any:
        form = AlertsForm(request.args)
        if not form.validate():
            return self.render("alerts.html", form=form, rows=[], asked=None, edges={}), REFUSED
        asked, found = self._found(form)
        edges = self.edges(found, asked.since)
        return self.render("alerts.html", form=form, rows=found.rows, asked=asked, edges=edges)

    @expose("/alerts.csv")
    def export(self) -> Any:
        form = AlertsForm(request.args)
        if not form.validate():
            abort(400, "This search can't be made: look at its page.")
        _, found = self._found(form, limit=CSV_ROWS)
        return csvfile.download("alerts.csv", ALERT_COLUMNS, (row._asdict() for row in found.rows))

    def _found(self, form: AlertsForm, **more: Any) -> tuple[AlertSearch, Rows]:
        now = datetime.now(UTC)
        asked = msgspec.structs.replace(form.asked(now).narrowed(now), **more)
        return asked, reading.read(self.services, lambda conn: lookup.search_alerts(conn, asked))


class History(Records):
    @expose("/")
    def index(self) -> Any:
        form = HistoryForm(request.args)
        with lookup.reading(self.engine) as conn:
            form.table.choices = [SelectChoice("", "any"), *lookup.changed_tables(conn)]
            if not form.validate():
                return self.render("history.html", form=form, changes=[], undone={}, edges={}), REFUSED
            asked, limit = form.asked(datetime.now(UTC)), form.limit.data
            rows = lookup.newest_changes(conn, **asked, limit=limit + 1)
            undone = lookup.undone(conn, [row.id for row in rows])
        older = {"older": here(before=rows[limit - 1].id)} if len(rows) > limit else {}
        edges = older | ({"newest": here(before="")} if asked["before"] else {})
        return self.render(
            "history.html",
            form=form,
            changes=rows[:limit],
            undone=undone,
            edges=edges,
            can_be_undone=undo.can_be_undone,
        )

    @expose("/<int:note_id>/undo", methods=("GET", "POST"))
    @requires(Role.ADMIN)
    def undo(self, note_id: int) -> Any:
        """Shows a change that is to be taken back; sent, takes it back."""
        with lookup.reading(self.engine) as conn:
            change = lookup.change(conn, note_id) if note_id < 2**63 else None
        if change is None:
            abort(404, f"The history has no change {note_id}: it may be too old to be kept.")
        form, status = UndoForm(), 200
        if form.validate_on_submit():
            try:
                with transaction(self.engine) as conn:
                    made = undo.undo(conn, note_id, said(form.reason.data))
                flash(f"Change {note_id} is taken back: {made.noun} {made.record_id} is as it was.")
                return redirect(url_for("history.index", table=change.table_name, record=change.record_id))
            except LookupError as error:
                abort(404, str(error))
            except Refused as error:
                form.refuse(error)
                status = REFUSED
        return self.render("undo.html", form=form, change=change), status


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
