"""What is filled in about an API key: its rights, how its source signs, a signature to try."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from wtforms import (
    HiddenField,
    PasswordField,
    SelectField,
    SelectMultipleField,
    StringField,
    TextAreaField,
    widgets,
)
from wtforms.fields.choices import SelectChoice

from mutt.errors import Refused
from mutt.formats.registry import FORMATS
from mutt.grant import SCOPES, Signing
from mutt.rules.windows import in_zone, read_time
from mutt.store.keys import Key
from mutt.web.admin.forms import Refusable
from mutt.web.signatures import ALGORITHMS, ENCODINGS, PRESETS

#: How long the secret before a rotation stays good: in the menu's order, in seconds.
OVERLAPS = {"86400": "a day", "3600": "an hour", "604800": "a week", "0": "no longer: it ends now"}

#: Of the presets in the menu: the fields below it say how.
OWN = "own"

#: Where a signing secret comes from.
KEPT, MADE, GIVEN = "kept", "made", "given"

#: What is said of each scope.
_SCOPES = {"ingest": "ingest: send events", "management": "management: all that the API can do"}


def _boxes(label: str, choices: Iterable[SelectChoice], description: str = "") -> SelectMultipleField:
    # Not checked here: the store says what is wrong.
    return SelectMultipleField(
        label,
        choices=list(choices),
        validate_choice=False,
        option_widget=widgets.CheckboxInput(),
        description=description,
    )


def _why() -> StringField:
    return StringField(
        "Why", description="Kept in the history with this change.", render_kw={"maxlength": 500}
    )


def _ends(description: str) -> StringField:
    return StringField("Ends (UTC)", widget=widgets.DateTimeLocalInput(), description=description)


class RightsForm(Refusable):
    """What a key may do."""

    scopes = _boxes("For", [SelectChoice(scope, _SCOPES[scope]) for scope in SCOPES])
    formats = _boxes("Formats", map(SelectChoice, sorted(FORMATS)), "None ticked: every format.")
    quota = StringField(
        "Quota",
        description="Events a minute over all of ingest; beyond it: 429. Left empty: as many as it likes.",
        render_kw={"inputmode": "numeric"},
    )
    note = StringField("Note", description="Who holds it, and where it is kept.")
    why = _why()

    @classmethod
    def of(cls, key: Key) -> RightsForm:
        """The form filled in with a key; what was sent comes first."""
        quota = "" if key.quota is None else str(key.quota)
        return cls(data={"scopes": key.scopes, "formats": key.formats, "quota": quota, "note": key.note})

    def rights(self) -> dict[str, Any]:
        """What the store takes. Raises :class:`Refused`."""
        return {
            "scopes": self.scopes.data or (),
            "formats": self.formats.data or (),
            "quota": _whole("quota", self.quota.data),
            "note": (self.note.data or "").strip(),
        }


class NewKeyForm(RightsForm):
    """A key that is made."""

    name = StringField(
        "Name",
        description="Its events and changes stand under it, for good: a-z, 0-9, dots, underscores, hyphens.",
        render_kw={"autocomplete": "off", "spellcheck": "false", "maxlength": 64},
    )
    expires_at = _ends("Left empty: never. A key with an end is one that nobody can forget.")

    def expires(self) -> datetime | None:
        """Raises :class:`Refused`."""
        return _instant("expires_at", self.expires_at.data)


class RotateForm(Refusable):
    """A new secret for a key."""

    overlap = SelectField(
        "The secret in use stays good for",
        choices=[SelectChoice(*choice) for choice in OVERLAPS.items()],
        validate_choice=False,
    )
    expires_at = _ends("Left empty: it lasts as long as the one before was made to.")
    why = _why()
    seen = HiddenField()  #: the newest secret that the writer knows of: who sends the form twice rotates once

    @classmethod
    def of(cls, key: Key) -> RotateForm:
        return cls(data={"overlap": next(iter(OVERLAPS)), "seen": newest(key)})

    def span(self) -> timedelta:
        """Raises :class:`Refused`."""
        if self.overlap.data not in OVERLAPS:
            raise Refused("overlap", f"is none of {', '.join(OVERLAPS)} seconds")
        return timedelta(seconds=int(self.overlap.data))

    def expires(self, key: Key) -> datetime | None:
        """Raises :class:`Refused`."""
        given = _instant("expires_at", self.expires_at.data)
        return datetime.now(UTC) + key.lifetime if given is None and key.lifetime else given


def newest(key: Key) -> str:
    """What names the newest secret of a key, and opens nothing."""
    return key.secrets[0].created_at.isoformat() if key.secrets else ""


class SigningForm(Refusable):
    """How a source signs. A secret that was typed is never shown again."""

    preset = SelectField(
        "As",
        choices=[*map(SelectChoice, PRESETS), SelectChoice(OWN, "the fields below say")],
        validate_choice=False,
        description="What a preset says comes before the fields below.",
    )
    header = StringField("Header", description="It holds the signature.")
    prefix = StringField("Prefix", description="Before the signature: sha256=")
    algorithm = SelectField("Algorithm", choices=[*map(SelectChoice, ALGORITHMS)], validate_choice=False)
    encoding = SelectField("Written in", choices=[*map(SelectChoice, ENCODINGS)], validate_choice=False)
    timestamp_header = StringField(
        "Header of the time",
        description="Seconds since 1970. Left empty: none is signed. The header of the signature: its t= is it.",
    )
    template = StringField("What is signed", description="{body}, {timestamp}.{body} …")
    tolerance = StringField(
        "Tolerance",
        description="Seconds that the time may be off.",
        render_kw={"inputmode": "numeric"},
    )
    source = SelectField("Its secret", validate_choice=False)
    secret = PasswordField(
        "Secret",
        description="Only where it was given to you: 16 characters or more.",
        render_kw={"autocomplete": "new-password", "spellcheck": "false"},
    )
    why = _why()
    seen = HiddenField()  #: which signing the writer knows of

    @classmethod
    def of(cls, signing: Signing | None, **how: Any) -> SigningForm:
        """The form filled in with what stands; what was sent comes first."""
        standing = signing or PRESETS["generic"]
        values = {
            name: str(value) for name, value in msgspec.to_builtins(standing).items() if name != "secret"
        }
        preset = next((name for name, one in PRESETS.items() if same(one, standing)), OWN)
        source = {MADE: "is made here, and shown once", GIVEN: "was given to you: the field below"}
        if signing:
            source = {KEPT: "stays as it is", **source}
        form = cls(data={**values, "preset": preset, "source": next(iter(source))}, **how)
        form.source.choices = [SelectChoice(*choice) for choice in source.items()]
        return form

    def signing(self) -> Signing:
        """What is filled in, without a secret. Raises :class:`Refused`."""
        if self.preset.data in PRESETS:
            return PRESETS[self.preset.data]
        texts = {name: (self._fields[name].data or "").strip() for name in _TEXTS}
        return Signing(
            **texts,
            secret="",
            template=self.template.data or "",
            tolerance=_whole("tolerance", self.tolerance.data) or 0,
        )


_TEXTS = ("header", "prefix", "algorithm", "encoding", "timestamp_header")


def same(one: Signing, other: Signing) -> bool:
    """Do both sign alike, whatever their secrets are?"""
    return msgspec.structs.replace(one, secret="") == msgspec.structs.replace(other, secret="")


class TryForm(Refusable):
    """A body and its signature, pasted."""

    body = TextAreaField("Body", render_kw={"rows": 4, "spellcheck": "false"})
    signature = StringField("Signature", render_kw={"spellcheck": "false", "autocomplete": "off"})
    timestamp = StringField("Time", render_kw={"autocomplete": "off"})

    def bodies(self) -> list[bytes]:
        """A browser writes each line's end as CR LF, and nobody knows how it was before."""
        text = self.body.data or ""
        return [text.replace("\r\n", "\n").encode(errors="replace"), text.encode(errors="replace")]


def _whole(name: str, given: str | None) -> int | None:
    text = (given or "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Refused(name, f"{text[:40]!r} is no whole number")
    return int(text)


def _instant(name: str, given: str | None) -> datetime | None:
    """A time on UTC's clock. Raises :class:`Refused`."""
    return in_zone(name, read_time(name, given), "UTC") if (given or "").strip() else None
