"""What is filled in. A form only carries text: what may be saved is for the rules and the store to say."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from flask import request
from flask_wtf import FlaskForm
from flask_wtf.file import FileField
from wtforms import (
    BooleanField,
    DateTimeLocalField,
    Field,
    HiddenField,
    IntegerField,
    SearchField,
    SelectField,
    StringField,
    SubmitField,
    TextAreaField,
)
from wtforms.fields.choices import SelectChoice
from wtforms.validators import NumberRange, Optional

from mutt.alert import LANES, Status
from mutt.errors import Refused, RuleError
from mutt.event import State
from mutt.formats.registry import FORMATS
from mutt.letters.copies import OF_ALERT, OF_EVENT
from mutt.rules.rule import FIELDS, META, UNHANDLED, Handling, MatchType, Rule
from mutt.store.lookup import AlertSearch, AuditSearch, Key
from mutt.store.rulesearch import SCOPES, RuleSearch
from mutt.web.admin.examples import read_examples, write_examples

SYSLOG = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug")
MOOG = ("clear", "indeterminate", "warning", "minor", "major", "critical")

LIMITS = ("100", "500")

#: PostgreSQL's integer.
_INTEGER = 2**31 - 1


class Refusable(FlaskForm):
    """A form that can show why it was refused, at the field at fault."""

    def refuse(self, error: Refused) -> None:
        name, bracket, part = error.field.partition("[")  # examples[2] is a part of the field examples
        field = self._fields.get(name)
        if field is None:
            self.form_errors.append(" ".join((error.field, error.reason)).strip())
        else:
            field.errors = [*field.errors, f"{field.label.text}{bracket}{part}: {error.reason}"]


def _choice(label: str, words: Any, **more: Any) -> SelectField:
    # Not checked here: the rule's own check says what is wrong and what would be right.
    return SelectField(label, choices=[str(word) for word in words], validate_choice=False, **more)


def _numbered(label: str, empty: str, words: tuple[str, ...], **more: Any) -> SelectField:
    choices = [SelectChoice("", empty)]
    choices += [SelectChoice(str(number), f"{number} {word}") for number, word in enumerate(words)]
    return SelectField(label, choices=choices, validate_choice=False, **more)


def lines(text: str | None) -> str:
    # Browsers send CR LF for each line end of a text area.
    return (text or "").replace("\r\n", "\n")


def _area(label: str, rows: int, **more: Any) -> TextAreaField:
    return TextAreaField(label, filters=[lines], render_kw={"rows": rows, "spellcheck": "false"}, **more)


def _number(label: str, description: str) -> StringField:
    return StringField(label, description=description, render_kw={"inputmode": "numeric"})


def _seconds(label: str, description: str) -> StringField:
    return StringField(
        label, description=description, render_kw={"inputmode": "numeric", "placeholder": "seconds"}
    )


class RuleForm(Refusable):
    """The fields of :class:`Rule`, as text."""

    name = StringField("Name", description="Left empty: the text it looks for.")
    match_type = _choice("Match type", MatchType)
    match_string = TextAreaField("Text", filters=[lines], render_kw={"rows": 2, "spellcheck": "false"})
    field = StringField("Field", description="Where the text is looked for.", render_kw={"list": "fields"})
    trap_oid = StringField("Trap OID", description="For oid_prefix; else only traps with this OID.")
    syslog_severity = _numbered("Severity", "any", SYSLOG, description="This one and all that are worse.")
    hostname = StringField(
        "Host", description="A name, a glob such as core-*, or a network such as 10.0.0.0/8."
    )
    source = StringField("Source")
    program = StringField("Program")
    tags = TextAreaField("Tags", filters=[lines], description="One a line: site=lon1", render_kw={"rows": 2})
    priority = StringField(
        "Priority", description="The lowest number wins.", render_kw={"inputmode": "numeric"}
    )
    prod_handling = _choice("Production", Handling)
    dev_handling = _choice("Development", Handling)
    team_assignment = StringField("Team", render_kw={"list": "teams"})
    moog_severity = _numbered("Moog severity", "from the event", MOOG)
    is_active = BooleanField("Active")
    dedup_window = _seconds("Dedup window", "So long a repeat of the same trouble is counted, not sent.")
    threshold_count = _number("Threshold", "So many events of the same trouble make an alert …")
    threshold_window = _seconds("Threshold window", "… within so many seconds; fewer are held.")
    flap_count = _number("Flap changes", "So many changes between raise and clear …")
    flap_window = _seconds("Flap window", "… within so many seconds: it is held until it rests.")
    examples = _area(
        "Examples",
        4,
        description="One a line: “+ text” must match, “- text” must not; a whole event as JSON:"
        ' {"message": "…", "hostname": "core-1", "severity": 2, "matches": true}',
    )
    reason = StringField(
        "Why", description="Kept in the history with this change.", render_kw={"maxlength": 500}
    )
    seen = HiddenField()

    field_names = FIELDS

    @classmethod
    def of(cls, rule: Rule, seen: datetime | None = None) -> RuleForm:
        """The form filled in with a rule that was last changed at ``seen``; what was sent comes first."""
        return cls(data={**texts_of(rule), "seen": seen.isoformat() if seen else ""})

    def rule(self) -> dict[str, Any]:
        """What ``save_rule`` takes. Raises :class:`RuleError`."""
        values = {name: self._fields[name].data for name in Rule.__struct_fields__ if name in self._fields}
        more = {"tags": read_tags(values["tags"] or ""), "examples": read_examples(values["examples"] or "")}
        return {**values, **more}

    def differing(self, rule: Rule) -> list[tuple[Field, str, str]]:
        """Where what was typed is not what stands: (field, typed, standing)."""
        standing = texts_of(rule)
        found = []
        for name, value in standing.items():
            field = self._fields[name]
            typed = field.data if isinstance(field.data, bool) else (field.data or "").strip("\n")
            if typed != (value if isinstance(value, bool) else value.strip("\n")):
                found.append((field, _word(typed), _word(value)))
        return found

    def take(self, rule: Rule, names: Iterable[str]) -> None:
        """Fill in what stands in these fields."""
        for name, value in texts_of(rule).items():
            if name in names:
                self._fields[name].data = value


def texts_of(rule: Rule) -> dict[str, Any]:
    """The fields of a rule as the form writes them: text, but for ``is_active``."""
    values: dict[str, Any] = msgspec.to_builtins(rule)
    del values["id"]
    values["tags"] = "\n".join(f"{name}={value}" for name, value in rule.tags.items())
    values["examples"] = write_examples(rule.examples)
    return {
        name: value if isinstance(value, bool) else "" if value is None else str(value)
        for name, value in values.items()
    }


def _word(value: str | bool) -> str:
    return value if isinstance(value, str) else "yes" if value else "no"


def read_tags(text: str) -> dict[str, str]:
    """Tags, one ``name=value`` a line. Raises :class:`RuleError`."""
    tags = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise RuleError("tags", f"line {number} has no =; write name=value")
        if name.strip() in tags:
            raise RuleError("tags", f"line {number} names {name.strip()} a second time")
        tags[name.strip()] = value
    return tags


class Search(FlaskForm):
    """A search: it changes nothing, so it is a GET without a token."""

    class Meta:
        csrf = False


def _any(label: str, words: Iterable[str]) -> SelectField:
    return SelectField(label, choices=[SelectChoice("", "any"), *map(str, words)], default="")


def searched(text: str | None, limit: int = 1000) -> str:
    """What is searched for, without what PostgreSQL can't look for."""
    return (text or "").replace("\0", "").strip()[:limit].encode("utf-8", "replace").decode()


class RuleListForm(Search):
    """What narrows the list of rules."""

    q = SearchField("Search", render_kw={"placeholder": "name, text, host, tag, #id"})
    match_type = _any("Match type", MatchType)
    team = SelectField("Team", validate_choice=False, default="")
    handling = _any("Handling", Handling)
    environment = _any("Environment", ("production", "development"))
    active = _any("Active", ("on", "off"))
    scope = SelectField(
        "Scope",
        choices=[
            SelectChoice("", "any"),
            SelectChoice("yes", "has one"),
            SelectChoice("no", "none"),
            *SCOPES,
        ],
    )
    order = SelectField(
        "Order",
        choices=[SelectChoice("tried", "as tried"), "name", "team", SelectChoice("changed", "last changed")],
        default="tried",
    )

    def asked(self, teams: Iterable[str]) -> RuleSearch:
        """What is asked for; a word that nobody could have chosen asks for nothing."""
        self.team.choices = [SelectChoice("", "any"), *teams]
        chosen = {name: self._chosen(name) for name in RuleSearch.__struct_fields__ if name != "text"}
        return RuleSearch(text=searched(self.q.data), **{name: word for name, word in chosen.items() if word})

    def _chosen(self, name: str) -> str:
        field = self._fields[name]
        return field.data if field.data in {value for value, *_ in field.iter_choices()} else ""


class ImportForm(Refusable):
    """Lines of CSV, in a file or pasted."""

    file = FileField("File", description="CSV in UTF-8, as the list exports it.")
    text = _area("or its text", 6)
    reason = StringField("Why", description="Kept in the history.", render_kw={"maxlength": 500})
    check = SubmitField("Only check")
    submit = SubmitField("Import")

    def given(self) -> bytes:
        """What was sent. Raises :class:`Refused`."""
        body: bytes = self.file.data.read() if self.file.data else b""
        body = body or (self.text.data or "").encode("utf-8", "surrogatepass")
        if not body.strip():
            raise Refused("file", "is empty: choose a file, or paste its lines")
        return body


class HostForm(Refusable):
    hostname = StringField(
        "Host", description="A name, a glob such as lab-*, or a network such as 10.9.0.0/16."
    )
    reason = StringField("Why", description="Kept in the history.", render_kw={"maxlength": 500})


class TeamForm(Refusable):
    hostname = StringField(
        "Host", description="A name, a glob such as core-*, or a network such as 10.0.0.0/8."
    )
    team_assignment = StringField("Team")
    reason = StringField("Why", description="Kept in the history.", render_kw={"maxlength": 500})
    seen = HiddenField()


class DropForm(Refusable):
    """Why letters are given up."""

    reason = StringField(
        "Why", description="Kept in the history.", render_kw={"maxlength": 500, "required": True}
    )


class CopyForm(Refusable):
    """A copy of a dead letter: what each field holds now, as text."""

    reason = StringField("Why", description="Kept in the history.", render_kw={"maxlength": 500})

    def texts(self) -> dict[str, str]:
        """The fields of the copy, as they were sent."""
        return {
            name: self._fields[name].data or "" for name in (*OF_EVENT, *OF_ALERT) if name in self._fields
        }


class EventCopyForm(CopyForm):
    hostname = StringField("Host")
    message = _area("Message", 4)
    severity = StringField("Severity", description="0 (emergency) to 7 (debug), or nothing.")
    state = _choice("State", State)
    occurred_at = StringField("Occurred at")
    source = StringField("Source")
    facility = StringField("Facility")
    program = StringField("Program")
    trap_oid = StringField("Trap OID")
    instance = StringField("Instance", description="The object that a trap speaks of.")
    clear_key = StringField("Clear key", description="What a clear has in common with its raise.")
    varbinds = _area("Varbinds", 3, description="One a line: OID=value")
    tags = _area("Tags", 4, description="One a line: name=value")
    raw = _area("Text as it came", 4)
    keep = BooleanField("Leave the original where it is")


class AlertCopyForm(CopyForm):
    hostname = StringField("Host")
    description = _area("Description", 4)
    severity = StringField("Moog severity", description="1 (indeterminate) to 5 (critical).")
    team = StringField("Team")
    type = StringField("Type")
    source = StringField("Source")
    occurred_at = StringField("Occurred at")


class TextCopyForm(CopyForm):
    text = _area("Text", 12)
    format = SelectField(
        "Format",
        choices=[SelectChoice("", "by its looks"), *sorted(FORMATS)],
        default="",
        description="How ingest reads it.",
    )
    keep = BooleanField("Leave the original where it is")


#: Spans of time to choose from, as the reader names them.
SPANS = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
}
_SPAN_CHOICES = [
    SelectChoice("", "from … to"),
    SelectChoice("15m", "last 15 min"),
    SelectChoice("1h", "last hour"),
    SelectChoice("24h", "last 24 h"),
    SelectChoice("7d", "last 7 days"),
]

#: What held an alert back, by the first word of its reason.
HELD = ("maintenance", "dedup", "threshold", "storm", "flapping", "cleared")

_TIMES = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]


class TimedForm(Search):
    """What narrows a list whose rows have a time, and which of its pages is looked at."""

    span = SelectField("Time", choices=_SPAN_CHOICES, default="", validate_choice=False)
    since = DateTimeLocalField("From (UTC)", [Optional()], format=_TIMES, render_kw={"step": "1"})
    until = DateTimeLocalField("To (UTC)", [Optional()], format=_TIMES, render_kw={"step": "1"})
    limit = SelectField("Rows", coerce=int, choices=LIMITS, default=int(LIMITS[0]))

    def spanned(self, now: datetime) -> dict[str, Any]:
        """The fields of :class:`Span`. A chosen span counts from ``now``, and wins over a written beginning."""
        since = _utc(self.since.data)
        if self.span.data in SPANS:
            since = now - SPANS[self.span.data]
        return {
            "since": since,
            "until": _utc(self.until.data),
            "before": read_key(request.args.get("before", "")),
            "after": read_key(request.args.get("after", "")),
            "limit": self.limit.data,
        }

    def number(self, name: str) -> int | None:
        """A choice that is a number."""
        chosen = self._fields[name].data or ""
        return int(chosen) if chosen in "01234567" and chosen else None


class AuditForm(TimedForm):
    hostname = SearchField("Host")
    text = StringField("Text in the message")
    rule_id = IntegerField("Rule", [Optional(), NumberRange(0, _INTEGER)])
    handling = _any("Handling", (*Handling, UNHANDLED, META))
    severity = _numbered("Severity", "any", SYSLOG)
    source = StringField("Source")

    def asked(self, now: datetime) -> AuditSearch:
        return AuditSearch(
            **self.spanned(now),
            hostname=searched(self.hostname.data),
            rule_id=self.rule_id.data,
            handling=self.handling.data,
            severity=self.number("severity"),
            source=searched(self.source.data),
            text=searched(self.text.data),
        )


class AlertsForm(TimedForm):
    hostname = SearchField("Host")
    status = SelectField(
        "Status",
        choices=[
            SelectChoice("", "any"),
            *map(str, Status),
            *(SelectChoice(f"held:{word}", f"held: {word}") for word in HELD),
        ],
        default="",
    )
    lane = _any("Lane", LANES)
    rule_id = IntegerField("Rule", [Optional(), NumberRange(0, _INTEGER)])
    team = StringField("Team")

    def asked(self, now: datetime) -> AlertSearch:
        status, _, held = self.status.data.partition(":")
        return AlertSearch(
            **self.spanned(now),
            status="" if held else status,
            held=held,
            hostname=searched(self.hostname.data),
            lane=self.lane.data,
            rule_id=self.rule_id.data,
            team=searched(self.team.data),
        )


class HistoryForm(TimedForm):
    who = SearchField("Who")
    table = SelectField("What", validate_choice=False, default="")
    record = StringField("Record")
    operation = _any(
        "Operation", ("CREATE", "UPDATE", "DELETE", "REPLAY", "EDIT", "DROP", "REDACT", "RECOUNT")
    )
    correlation = StringField("Correlation id")

    def asked(self, now: datetime) -> dict[str, Any]:
        """What ``newest_changes`` takes."""
        spanned, before = self.spanned(now), request.args.get("before", "")
        return {
            "who": searched(self.who.data),
            "table": searched(self.table.data),
            "record": searched(self.record.data),
            "operation": self.operation.data,
            "correlation_id": searched(self.correlation.data),
            "since": spanned["since"],
            "until": spanned["until"],
            "before": int(before) if before.isascii() and before.isdigit() and len(before) < 18 else None,
        }


class UndoForm(Refusable):
    reason = StringField("Why", description="Kept in the history.", render_kw={"maxlength": 500})


def read_key(text: str) -> Key | None:
    """The edge of a page as :func:`write_key` wrote it; None for anything else."""
    time, _, id_ = text.partition("_")
    try:
        at = datetime.fromisoformat(time)
        return Key(at, UUID(id_)) if at.tzinfo else None
    except ValueError:
        return None


def write_key(row: Any) -> str:
    """The edge of a page: when its last (or first) row was received, and its id."""
    id_ = getattr(row, "alert_id", None) or row.event_id
    return f"{row.received_at.isoformat()}_{id_}"


def _utc(time: datetime | None) -> datetime | None:
    return time if time is None else time.replace(tzinfo=UTC)
