"""Shadow: a draft of the rules beside those in force: begun, looked at, promoted or dropped."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from flask import abort, flash, redirect, request, url_for
from flask_admin import expose
from flask_wtf.file import FileField
from sqlalchemy import Connection
from wtforms import BooleanField, IntegerField, StringField

from mutt.errors import Refused, RuleError
from mutt.rules.book import Book, NotRules, check, read
from mutt.rules.change import RULES
from mutt.rules.shadow import Kind, called
from mutt.store import lookup, rulesearch, shadows
from mutt.store.engine import transaction
from mutt.store.shadows import DAYS, DAYS_MAX, Edit, Hour, Shadow
from mutt.web.admin.forms import Refusable, RuleForm
from mutt.web.admin.page import REFUSED, Page, said
from mutt.web.admin.ruleform import is_draft, refused_draft

#: Events of a kind that the page shows.
SAMPLES_SHOWN = 50

#: Changes of a draft that the page shows in full.
CHANGES_SHOWN = 50

#: So much of what is wrong with a file is said at a time.
FAULTS_SHOWN = 5

#: What the page calls each kind, in the order in which it matters.
KINDS = {
    Kind.NEWLY_ALERTS: "newly alerts",
    Kind.NO_LONGER_ALERTS: "no longer alerts",
    Kind.OTHER_HANDLING: "other handling, team or severity",
    Kind.OTHER_RULE: "other rule, to the same effect",
}

#: The chart: its size, and the class of each kind's bars.
WIDTH, HEIGHT = 1000, 120
BARS = {
    Kind.NEWLY_ALERTS: "second",
    Kind.NO_LONGER_ALERTS: "third",
    Kind.OTHER_HANDLING: "first",
    Kind.OTHER_RULE: "soft",
}


class ShadowForm(Refusable):
    """A file of rules, and for how long its draft is to run."""

    file = FileField(
        "Rules (YAML or JSON)", description="As `mutt rules export` writes them; found by their names."
    )
    replace = BooleanField("Without the rules that the file does not name")
    name = StringField("Name", description="Left empty: the first rule's.", render_kw={"maxlength": 255})
    days = IntegerField("Days", default=DAYS, description=f"Then it ends by itself; at most {DAYS_MAX}.")
    reason = StringField("Why", description="Kept in the history.", render_kw={"maxlength": 500})


class Bar(NamedTuple):
    """A part of the chart."""

    kind: Kind
    x: float
    y: float
    width: float
    height: float
    title: str


class Shadows(Page):
    @expose("/")
    def index(self) -> Any:
        """The newest one, and those before it."""
        return self._page(ShadowForm(formdata=None))

    @expose("/<int:shadow_id>")
    def one(self, shadow_id: int) -> Any:
        return self._page(ShadowForm(formdata=None), shadow_id)

    @expose("/start", methods=("POST",))
    def start(self) -> Any:
        """Begin with the fields of the rule form (``rule_id`` names the rule, none makes one), or with a file."""
        form = ShadowForm()
        try:
            with transaction(self.engine) as conn:
                edits, wanted = self._wanted(conn, form)
                shadow = shadows.start(
                    conn,
                    edits,
                    wanted,
                    replace=bool(form.replace.data) and not edits,
                    # The rule form has a name too: the rule's.
                    name="" if edits else form.name.data or "",
                    days=_days(form),
                    **said(form.reason.data),
                )
        except LookupError as error:
            abort(404, f"{error}: it may have been deleted. Nothing was begun.")
        except Refused as error:
            if is_draft():
                return refused_draft(self, error)
            form.refuse(error)
            return self._page(form), REFUSED
        flash(f"“{shadow.name}” runs beside the rules in force. Workers ask it within seconds.")
        return redirect(url_for("shadow.one", shadow_id=shadow.id))

    @expose("/<int:shadow_id>/promote", methods=("POST",))
    def promote(self, shadow_id: int) -> Any:
        with self._ending(shadow_id) as conn:
            version = shadows.promote(conn, shadow_id, **said(request.form.get("reason")))
        flash(f"Promoted: the draft is version {version} of the rules. Workers follow it within 5 seconds.")
        return redirect(url_for("shadow.one", shadow_id=shadow_id))

    @expose("/<int:shadow_id>/drop", methods=("POST",))
    def drop(self, shadow_id: int) -> Any:
        with self._ending(shadow_id) as conn:
            shadow = shadows.drop(conn, shadow_id, **said(request.form.get("reason")))
        flash(f"“{shadow.name}” is dropped. The rules in force are what they were.")
        return redirect(url_for("shadow.one", shadow_id=shadow_id))

    @contextlib.contextmanager
    def _ending(self, shadow_id: int) -> Iterator[Connection]:
        try:
            with transaction(self.engine) as conn:
                yield conn
        except LookupError:
            abort(404, _gone(shadow_id))
        except Refused as error:
            abort(409, f"Nothing was changed: {error.reason}.")

    def _wanted(self, conn: Connection, form: ShadowForm) -> tuple[list[Edit], Book | None]:
        """What is to be drafted: of one rule, or what a file holds. Raises Refused."""
        if not is_draft():
            upload = form.file.data
            return [], read_file(upload.read() if upload else b"")
        rule_id = request.form.get("rule_id", type=int)
        seen = request.form.get("seen", "")
        if rule_id is not None and seen:
            changed_at = rulesearch.changed_at(conn, [rule_id]).get(rule_id)
            if changed_at and changed_at.isoformat() != seen:
                raise RuleError(
                    "", "This rule was changed after you opened it: open it again to see what stands."
                )
        return [Edit(rule_id, RuleForm().rule())], None

    def _page(self, form: ShadowForm, shadow_id: int | None = None) -> Any:
        with lookup.reading(self.engine) as conn:
            others = shadows.newest(conn)
            shadow = others[0] if others else None
            if shadow_id is not None:
                try:
                    shadow = shadows.get(conn, shadow_id)
                except LookupError:
                    abort(404, _gone(shadow_id))
            found = self._found(conn, shadow) if shadow else {}
        return self.render(
            "shadow.html",
            form=form,
            shadow=shadow,
            others=[other for other in others if shadow is None or other.id != shadow.id],
            runs=any(other.runs for other in others),
            kinds=KINDS,
            **found,
        )

    def _found(self, conn: Connection, shadow: Shadow) -> dict[str, Any]:
        hours = shadows.hours(conn, shadow.id)
        totals = shadows.totals(hours)
        asked = sum(totals.values()) - totals[Kind.SKIPPED]
        return {
            "changes": shadow.draft[:CHANGES_SHOWN],
            "hours": hours,
            "totals": totals,
            "asked": asked,
            "skipped": totals[Kind.SKIPPED],
            "samples": {kind: shadows.samples(conn, shadow.id, kind, SAMPLES_SHOWN) for kind in KINDS},
            "in_the_way": shadows.changed_since(conn, shadow) if shadow.is_open else [],
            "bars": bars(hours),
            "bar_class": BARS,
            "size": (WIDTH, HEIGHT),
            # The page of a rule that is only drafted is not there.
            "drafted": {}
            if shadow.promoted_version
            else {
                int(change.record_id): change.name
                for change in shadow.draft
                if change.table == RULES and change.before is None
            },
            "called": called,
        }


def read_file(data: bytes) -> Book:
    """What a file of rules holds, YAML or JSON. Raises :class:`RuleError`."""
    if not data:
        raise RuleError("file", "is empty; choose a file of rules")
    try:
        found, faults = check(read("the file", data))
    except NotRules as error:
        raise RuleError("file", f"can't be read: {error}") from None
    if faults:
        said = (f"{fault.rule}: {fault.field} {fault.reason}" for fault in faults[:FAULTS_SHOWN])
        raise RuleError("file", "; ".join(said))
    return found


def bars(hours: Sequence[Hour]) -> list[Bar]:
    """The differences of each hour (the newest comes first), one kind upon the other, drawn from left to right."""
    if not hours:
        return []
    first, hour_long = hours[-1].hour, timedelta(hours=1)
    # A day at least, so that one bar is no wall.
    step = WIDTH / max(24, (hours[0].hour - first) // hour_long + 1)
    most = max(sum(hour.counts.get(kind, 0) for kind in KINDS) for hour in hours)
    drawn = []
    for hour in hours:
        x, y = (hour.hour - first) // hour_long * step, float(HEIGHT)
        for kind, title in KINDS.items():
            if n := hour.counts.get(kind, 0):
                height = n / most * HEIGHT
                y -= height
                told = f"{hour.hour:%Y-%m-%d %H:00} UTC: {n:,} {title}"
                drawn.append(
                    Bar(kind, round(x, 2), round(y, 2), round(step * 0.8, 2), round(height, 2), told)
                )
    return drawn


def _days(form: ShadowForm) -> int:
    if "days" not in request.form:
        return DAYS  # the rule form does not ask
    if form.days.data is None:
        raise RuleError("days", f"is no whole number; write 1 to {DAYS_MAX}")
    return int(form.days.data)


def _gone(shadow_id: int) -> str:
    return f"There is no shadow {shadow_id}: what ended long ago is forgotten."
