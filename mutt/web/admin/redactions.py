"""Redactions: what is taken out of events before they are judged and kept; tried on a text and on stored events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from flask import abort, redirect, request, url_for
from flask_admin import expose
from wtforms import BooleanField, StringField, TextAreaField

from mutt.errors import NoRuleset, RuleError
from mutt.event import Event
from mutt.rules.check import check_redaction
from mutt.rules.redaction import COMMON, Redaction, Redactions, Taken, common
from mutt.store import lookup, redactions, usage
from mutt.store.users import Role
from mutt.web import reading
from mutt.web.admin.forms import lines
from mutt.web.admin.named import NamedForm, NamedPage
from mutt.web.admin.page import said
from mutt.web.roles import requires

#: Stored events that are tried, those that are shown, and characters of a text.
SAMPLE, SHOWN, TEXT_MAX = 1_000, 5, 64 << 10


class RedactionForm(NamedForm):
    """The fields of :class:`Redaction`, as text, and a text to try them on."""

    name = StringField("Name", description="What is taken out.")
    pattern = TextAreaField(
        "Pattern",
        filters=[lines],
        description="A regular expression as RE2 has it; (?i) ignores case. A tag, and a member of JSON, is also "
        r"looked at as NAME=VALUE: password=\S+ finds both.",
        render_kw={"rows": 2, "spellcheck": "false"},
    )
    replacement = StringField(
        "Replacement", description=r"What stands there instead; \1 is what the first group matched."
    )
    position = StringField(
        "Position",
        description="The lowest goes first; the others see what it left.",
        render_kw={"inputmode": "numeric"},
    )
    is_active = BooleanField("Active")
    text = TextAreaField(
        "Text to try",
        filters=[lines],
        description="A line, or an event as JSON. It is not kept.",
        render_kw={"rows": 4, "spellcheck": "false"},
    )

    @classmethod
    def of(cls, redaction: Redaction, seen: datetime | None = None) -> RedactionForm:
        """The form filled in with one that was last changed at ``seen``; what was sent comes first."""
        return cls(data={**msgspec.structs.asdict(redaction), "seen": seen.isoformat() if seen else ""})

    def redaction(self) -> dict[str, Any]:
        """What ``redactions.save`` takes."""
        texts = {name: self._fields[name].data or "" for name in ("name", "pattern", "replacement")}
        return {
            **texts,
            "position": self.position.data or "100",
            "is_active": bool(self.is_active.data),
        }


class Trial(msgspec.Struct, kw_only=True):
    """What would be taken out of a text, and of stored events."""

    text: str
    taken: Sequence[Taken] = ()
    tried: int = 0  #: stored events
    changed: int = 0  #: of them
    shown: Sequence[tuple[Event, Sequence[Taken]]] = ()
    too_long: bool = False


class RedactionPages(NamedPage):
    @expose("/")
    def index(self) -> str:
        return self._list_page()

    @expose("/try", methods=("POST",))
    @requires(Role.OPERATOR)
    def try_(self) -> Any:
        """Those in force on a text and on stored events; nothing is saved."""
        with lookup.reading(self.engine) as conn:
            found = redactions.listed(conn)
        try:
            trial = self._tried(Redactions(found), request.form.get("text", "").replace("\r\n", "\n"))
        except NoRuleset as error:
            abort(503, f"{error}.")
        return self._list_page(trial)

    @expose("/new", methods=("GET", "POST"))
    @requires(Role.ADMIN)
    def new(self) -> Any:
        """A new one; ``?like=ID`` begins with the values of another."""
        like = request.args.get("like", type=int)
        usual = Redaction(id=0, name="", pattern="")
        form = RedactionForm.of(usual if like is None else self._get(like)[0])
        return self._saved_or_tried(form, None)

    @expose("/<int:redaction_id>", methods=("GET", "POST"))
    def edit(self, redaction_id: int) -> Any:
        redaction, changed_at = self._get(redaction_id)
        return self._saved_or_tried(RedactionForm.of(redaction, changed_at), redaction)

    @expose("/common/<int:number>", methods=("POST",))
    def add_common(self, number: int) -> Any:
        """Make one of those that many sites want; it is off."""
        if number >= len(COMMON):
            abort(404, "There is no such redaction to add.")
        wanted = msgspec.structs.asdict(common()[number])
        return self.change(lambda conn: redactions.save(conn, wanted, **said()), "is added, and off")

    @expose("/<int:redaction_id>/switch", methods=("POST",))
    def switch(self, redaction_id: int) -> Any:
        """On or off, as the button said."""
        on = request.form.get("is_active") == "1"
        return self.change(
            lambda conn: redactions.save(conn, {"is_active": on}, redaction_id=redaction_id, **said()),
            "is on. Workers follow it within 5 seconds" if on else "is off",
        )

    @expose("/<int:redaction_id>/delete", methods=("POST",))
    def delete(self, redaction_id: int) -> Any:
        seen, why = request.form.get("seen", ""), request.form.get("reason")
        return self.change(
            lambda conn: redactions.remove(conn, redaction_id, seen=seen, **said(why)), "is deleted"
        )

    def _get(self, redaction_id: int) -> tuple[Redaction, datetime]:
        return self.read(lambda conn: redactions.get(conn, redaction_id))

    def _saved_or_tried(self, form: RedactionForm, redaction: Redaction | None) -> Any:
        trial = None
        if form.validate_on_submit():
            redaction_id = None if redaction is None else redaction.id
            if "try" in request.form:
                trial = self._draft_tried(form)
            elif self._save(form, redaction_id):
                return redirect(url_for("redactions.index"))
        page = self.render("redaction.html", form=form, redaction=redaction, trial=trial)
        return page, form.status if request.method == "POST" and trial is None else 200

    def _draft_tried(self, form: RedactionForm) -> Trial | None:
        """The draft alone, as if it were on; None: the form says why it can't be tried."""
        try:
            draft = check_redaction({**form.redaction(), "name": form.name.data or "it"})
        except RuleError as error:
            form.refuse(error)
            return None
        return self._tried(Redactions([msgspec.structs.replace(draft, is_active=True)]), form.text.data or "")

    def _tried(self, made: Redactions, text: str) -> Trial:
        trial = Trial(text=text, too_long=len(text) > TEXT_MAX)
        if not trial.too_long:
            trial.taken = made.taken_of(text)
        sample = reading.read(self.services, lambda conn: usage.sample_of(conn, datetime.now(UTC), SAMPLE))
        changed = [event for event in sample if made.redact(event) is not event]
        trial.tried, trial.changed = len(sample), len(changed)
        trial.shown = [(event, made.taken(event)[:SHOWN]) for event in changed[:SHOWN]]
        return trial

    def _save(self, form: RedactionForm, redaction_id: int | None) -> bool:
        seen = None if redaction_id is None else form.seen.data or ""
        return self.save(
            form,
            lambda conn: redactions.save(
                conn, form.redaction(), redaction_id=redaction_id, seen=seen, **said(form.why.data)
            ),
        )

    def _list_page(self, trial: Trial | None = None) -> str:
        with lookup.reading(self.engine) as conn:
            found = redactions.listed(conn)
        there = {redaction.name for redaction in found}
        offered = [(number, *one) for number, one in enumerate(COMMON) if one[0] not in there]
        return self.render("redactions.html", redactions=found, offered=offered, trial=trial)
