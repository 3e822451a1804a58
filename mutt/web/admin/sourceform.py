"""What is filled in about the sender behind a key, and what its mapping makes of a sample, before anything is saved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from wtforms import BooleanField, HiddenField, SelectField, StringField, TextAreaField
from wtforms.fields.choices import SelectChoice

from mutt.errors import RejectedBody
from mutt.event import Event
from mutt.formats import registry
from mutt.formats.base import Context, Parsed
from mutt.grant import check_source, digest_of, every_of, severity_of
from mutt.rules.trace import severity_text
from mutt.source import ENVIRONMENTS, Source
from mutt.store.keys import Key
from mutt.streams.letters import Letter
from mutt.web.admin.forms import Refusable
from mutt.words import short_span

#: Bytes of a sample that are read, and events of it that are shown.
SAMPLE_MAX, EVENTS_SHOWN = 65_536, 10

#: Whose a sample is that names no host: of its sender the address is not known here.
SENDER = "the sender's address"

#: What is shown of an event, where it says it.
_SHOWN = ("hostname", "message", "severity", "state", "occurred_at", "source", "program", "facility",
          "clear_key", "instance", "trap_oid", "default_team", "environment")  # fmt: skip
_LABELS = {"occurred_at": "time", "default_team": "team"}


class SourceForm(Refusable):
    """What is known of who sends with a key."""

    format = SelectField(
        "Its posts are",
        choices=[SelectChoice("", "what they look like"), *map(SelectChoice, sorted(registry.FORMATS))],
        validate_choice=False,
        description="Of posts to /ingest: they are not looked at. A path that names a format wins.",
    )
    team = StringField(
        "Team",
        description="Of events that no rule handles, on hosts that have no team of their own.",
        render_kw={"maxlength": 255},
    )
    environment = SelectField(
        "Environment",
        choices=[SelectChoice("", "by the host"), *map(SelectChoice, ENVIRONMENTS)],
        validate_choice=False,
        description="Of its events, whatever their host is.",
    )
    severity = SelectField(
        "Severity",
        choices=[SelectChoice("", "none"), *(SelectChoice(str(n), severity_text(n)) for n in range(8))],
        validate_choice=False,
        description="Of its events that have none.",
    )
    every = StringField(
        "Heard every",
        description="At least once in this span: 5m, 1h. Else an alert says that it is silent. 0: it may be."
        " Left empty: as it is learned.",
        render_kw={"autocomplete": "off"},
    )
    in_address = BooleanField(
        "Its key may stand in the address: ?key=…",
        description="For senders that can set no header: logs and proxies on the way see it there.",
    )
    mapping = TextAreaField(
        "Mapping",
        description="How JSON becomes events that no format claims and that has no hostname and message: "
        "lines such as hostname: host.name, in JMESPath.",
        render_kw={"rows": 11, "spellcheck": "false", "class": "code"},
    )
    letter = SelectField("A refused item", validate_choice=False)
    sample = TextAreaField("Or this", render_kw={"rows": 6, "spellcheck": "false"})
    why = StringField(
        "Why", description="Kept in the history with this change.", render_kw={"maxlength": 500}
    )
    seen = HiddenField()  #: what was known when the writer began

    @classmethod
    def of(cls, key: Key, refused: Sequence[Letter]) -> SourceForm:
        """The form filled in with what is known; what was sent comes first."""
        known = key.source
        every = "" if known.every is None else short_span(known.every) if known.every else "0"
        severity = "" if known.severity is None else str(known.severity)
        newest = refused[0].id if refused else ""
        form = cls(
            data={name: getattr(known, name) for name in _PLAIN}
            | {"every": every, "severity": severity, "letter": newest, "seen": seen_of(known)}
        )
        form.letter.choices = [
            *(SelectChoice(one.id, f"{one.at[11:19]} {one.reason}"[:120]) for one in refused),
            SelectChoice("", "none: the text below"),
        ]
        return form

    def source(self) -> Source:
        """What is filled in. Raises :class:`Refused`."""
        return Source(
            format=self.format.data or "",
            mapping=(self.mapping.data or "").replace("\r\n", "\n"),
            team=self.team.data or "",
            environment=self.environment.data or "",
            severity=severity_of(self.severity.data),
            every=every_of(self.every.data),
            in_address=bool(self.in_address.data),
        )

    def pasted(self) -> str:
        """The sample, as it was before a browser gave its lines other ends."""
        return (self.sample.data or "").replace("\r\n", "\n")


def seen_of(source: Source) -> str:
    """What names all that is known of a source."""
    return digest_of(msgspec.json.encode(source))[:16]


_PLAIN = ("format", "team", "environment", "in_address", "mapping")


class Previewed(NamedTuple):
    """What a sample becomes."""

    events: list[list[tuple[str, str]]]  #: of each its fields and tags
    refused: list[str]
    more: int  #: events that are not shown


def previewed(source: Source, formats: Sequence[str], sample: str) -> Previewed:
    """What ingest would make of ``sample``. Raises :class:`Refused` where the source can't be saved as it is."""
    checked, body = check_source(source, formats), sample.encode(errors="replace")
    if not body.strip():
        return Previewed([], [], 0)
    if len(body) > SAMPLE_MAX:
        return Previewed(
            [], [f"The sample has {len(body)} bytes; at most {SAMPLE_MAX} are read: paste less."], 0
        )
    context = Context(datetime.now(UTC), "preview", SAMPLE_MAX, SENDER, tuple(formats), source=checked)
    try:
        parsed = registry.parse(registry.choose("", body, "", context), body, context)
    except RejectedBody as error:
        return Previewed([], [f"{error.field} {error.reason}."], 0)
    events = [list(_fields(event)) for event in parsed.events[:EVENTS_SHOWN]]
    return Previewed(events, list(_refusals(parsed)), len(parsed.events) - len(events))


def _refusals(parsed: Parsed) -> Iterator[str]:
    for one in parsed.rejected[:EVENTS_SHOWN]:
        yield f"Item {one.index + 1} is refused: {one.field} {one.reason}."
    if len(parsed.rejected) > EVENTS_SHOWN:
        yield f"{len(parsed.rejected) - EVENTS_SHOWN} more are refused, too."


def _fields(event: Event) -> Iterator[tuple[str, str]]:
    for name in _SHOWN:
        value: Any = getattr(event, name)
        if value is not None:
            yield _LABELS.get(name, name), severity_text(value) if name == "severity" else str(value)
    for name, text in event.tags.items():
        yield f"tags.{name}", text
