"""Test before save: what a rule, as the form holds it now, would make of events; nothing is saved."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from flask import request
from flask_admin import expose
from sqlalchemy import Connection, Row
from wtforms import IntegerField, StringField, TextAreaField
from wtforms.validators import NumberRange, Optional

from mutt.errors import NoRuleset, Refused, RejectedBody
from mutt.event import Event
from mutt.formats import registry
from mutt.formats.base import Context
from mutt.grant import check_name
from mutt.rules.check import check_rule
from mutt.rules.preview import Tested, preview
from mutt.rules.rule import Rule
from mutt.source import UNKNOWN, Source
from mutt.store import audit, keys, lookup, rulebook, stories
from mutt.store.users import Role
from mutt.web import reading
from mutt.web.admin.forms import RuleForm, Search
from mutt.web.admin.page import REFUSED, Page
from mutt.web.roles import Needs
from mutt.words import many

#: Events that are tried at once, and bytes of text that are read for them.
EVENTS_MAX, TEXT_MAX = 50, 256 << 10

#: Events of a host that are taken where nobody says how many.
OF_HOST = 20

#: Whose a pasted line is that names no host.
NOBODY = "example"

#: What the page itself asks for; the rest of what is sent is the draft.
_OWN = ("csrf_token", "events", "sent_with", "event_ids", "recent_host", "rule_id", "reason", "seen")


class EventsForm(Search):
    """Which events are tried. (The token is asked for by the application, of every POST.)"""

    events = TextAreaField(
        "Events",
        description="Messages, one a line; syslog lines; or events as JSON, traps too."
        f" A line that names no host counts as sent by host “{NOBODY}”.",
        render_kw={"rows": 6, "spellcheck": "false"},
    )
    sent_with = StringField("As sent with key", description="Its name: what is known of its source counts.")
    event_ids = StringField("Audited events", description="Their ids.")
    recent_host = StringField("Or the last 20 of host")
    rule_id = IntegerField(
        "Rule", [Optional(), NumberRange(0, 2**31 - 1)], description="Empty: no rule in particular."
    )


class Said(msgspec.Struct, kw_only=True):
    """What a test came to."""

    tested: list[Tested] = []
    draft: Rule | None = None
    off: bool = False  #: the draft is switched off, and was tried as if it were on
    errors: list[tuple[str, str]] = []  #: of the draft: (field's label, reason)
    notes: list[str] = []  #: of the events
    asked: bool = False  #: was there anything to try?

    @property
    def matching(self) -> int:
        return sum(one.draft is not None and one.draft.matches for one in self.tested)

    @property
    def deciding(self) -> int:
        return sum(one.draft is not None and one.draft.decides for one in self.tested)


class Tester(Page):
    needs = Needs(Role.OPERATOR, Role.OPERATOR)

    @expose("/")
    @expose("")
    def index(self) -> Any:
        """A page of its own: pick events (``?event_ids=``, ``?recent_host=``), see what the rules make of them."""
        return self._answer(EventsForm(request.args), {})

    @expose("", methods=("POST",))
    def run(self) -> Any:
        """The same of a draft: a fragment for the rule's form, a page for a browser without script."""
        draft = {} if "match_type" not in request.form else request.form.to_dict()
        return self._answer(EventsForm(request.form), draft)

    def _answer(self, form: EventsForm, draft: dict[str, str]) -> Any:
        said = Said()
        if form.validate():
            said = self._try(form, draft)
        status = REFUSED if said.errors or form.errors else 200
        if request.headers.get("HX-Request"):
            return self.render("tested.html", said=said), status
        carried = {name: value for name, value in draft.items() if name not in _OWN}
        return self.render("tester.html", form=form, said=said, carried=carried), status

    def _try(self, form: EventsForm, draft: dict[str, str]) -> Said:
        said = Said()
        said.draft = self._draft(form, draft, said)
        events = self._events(form, said)
        said.asked = bool(events or said.notes)
        if said.errors or not events:
            return said
        if len(events) > EVENTS_MAX:
            said.notes.append(f"Only the first {EVENTS_MAX} of {many(len(events), 'event')} are tried.")
        events = events[:EVENTS_MAX]
        try:
            with self.services.store.transaction() as tx:
                ruleset = tx.ruleset()
        except NoRuleset as error:
            said.notes.append(f"The rules can't be asked: {error}.")
            return said
        said.tested = preview(events, ruleset, said.draft)
        if len(said.tested) < len(events):
            said.notes.append(
                f"{many(len(events) - len(said.tested), 'event')} more would have taken too long."
            )
        return said

    def _draft(self, form: EventsForm, draft: dict[str, str], said: Said) -> Rule | None:
        rule_id = form.rule_id.data
        if not draft:
            return None if rule_id is None else self._standing(rule_id, said)
        fields = RuleForm()
        try:
            rule = check_rule(fields.rule(), rule_id=rule_id or 0)
        except Refused as error:
            field = fields._fields.get(error.field)
            said.errors.append((field.label.text if field else error.field, error.reason))
            return None
        said.off = not rule.is_active
        return msgspec.structs.replace(rule, is_active=True)

    def _standing(self, rule_id: int, said: Said) -> Rule | None:
        with lookup.reading(self.engine) as conn:
            rule = rulebook.get_rule(conn, rule_id)
        if rule is None:
            said.errors.append(("Rule", f"there is no rule {rule_id}"))
            return None
        said.off = not rule.is_active
        return msgspec.structs.replace(rule, is_active=True)

    def _source(self, form: EventsForm, said: Said) -> Source:
        """What is known of who sends with the key that is named."""
        name = (form.sent_with.data or "").strip()
        if not name:
            return UNKNOWN
        try:
            check_name(name)
            with lookup.reading(self.engine) as conn:
                return keys.find(conn, name).source
        except (Refused, LookupError):
            said.notes.append(f"There is no key of the name {name[:64]}: nothing is known of the sender.")
            return UNKNOWN

    def _events(self, form: EventsForm, said: Said) -> list[Event]:
        """The events that are pasted or picked; what can't be read is noted."""
        found = _pasted(form.events.data or "", self._source(form, said), said)
        ids = (form.event_ids.data or "").replace(",", " ").split()
        host = (form.recent_host.data or "").strip()
        if not ids and not host:
            return found
        wanted = _uuids(ids[:EVENTS_MAX], said)

        def ask(conn: Connection) -> tuple[list[Row[Any]], list[Row[Any]]]:
            picked = stories.audited(conn, wanted) if wanted else []
            return picked, stories.newest_of_host(conn, host, OF_HOST) if host else []

        picked, recent = reading.read(self.services, ask)
        missing = [str(one) for one in wanted if one not in {row.event_id for row in picked}]
        if missing:
            said.notes.append(f"The audit has no event {', '.join(missing)}.")
        if host and not recent:
            said.notes.append(f"The audit has no event of host {host}.")
        return found + [audit.event_of(row) for row in picked + recent]


def _pasted(text: str, source: Source, said: Said) -> list[Event]:
    data = text.replace("\r\n", "\n").strip("\n").encode(errors="replace")
    if not data.strip():
        return []
    if len(data) > TEXT_MAX:
        said.notes.append(f"The text has {len(data)} bytes; at most {TEXT_MAX} are read. Paste less.")
        return []
    default = said.draft.hostname if said.draft and said.draft.hostname else ""
    host = NOBODY if not default or any(sign in default for sign in "*?[/") else default
    context = Context(datetime.now(UTC), "test", TEXT_MAX, host, source=source)
    try:
        parsed = registry.parse(registry.choose("", data, "", context), data, context)
    except RejectedBody as error:
        said.notes.append(f"The events can't be read: {error}.")
        return []
    for refused in parsed.rejected[:5]:
        said.notes.append(f"Event {refused.index + 1} can't be taken: {refused.field} {refused.reason}.")
    if len(parsed.rejected) > 5:
        said.notes.append(f"{many(len(parsed.rejected) - 5, 'event')} more can't be taken either.")
    return parsed.events


def _uuids(texts: Sequence[str], said: Said) -> list[UUID]:
    found = []
    for text in texts:
        with contextlib.suppress(ValueError):
            found.append(UUID(text))
            continue
        said.notes.append(f"{text} is no event id: it looks like 01890a5d-ac96-774b-bcce-b302099a8057.")
    return found
