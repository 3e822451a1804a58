"""What an API key allows: its name, its scopes, the formats it may send, its quota. Values only.

A key's *name* stands for it wherever it is named: in entries, dead letters, rows and the history. It outlives every
rotation; the key's text is known to its holder alone, and here by its SHA-256 (see docs/decisions/0033-api-keys.md).
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable

import msgspec

from mutt.errors import Refused, SettingsError
from mutt.formats import mapped, mapping, registry
from mutt.settings import span
from mutt.source import ENVIRONMENTS, UNKNOWN, Source

#: What a key may be for: sending events, or the management API.
INGEST, MANAGEMENT = "ingest", "management"
SCOPES = (INGEST, MANAGEMENT)

#: A key's text begins so: who finds one in a file knows what it is, and so does a scanner for secrets.
PREFIX = "mutt_"

#: Random bytes of a key, and how many characters of it are shown where it is listed.
KEY_BYTES, HINT = 32, 4

#: Events a minute that a quota can be, at most.
QUOTA_MOST = 100_000_000

NOTE_MOST = 500

#: Characters of a team's name.
TEAM_MOST = 255

#: syslog's severities, as they are written.
SEVERITIES = tuple("01234567")

#: Seconds between which a source can be expected to be heard.
EVERY_LEAST, EVERY_MOST = 10, 366 * 86400

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Signing(msgspec.Struct, frozen=True):
    """How a source signs its requests."""

    header: str  #: that holds the signature
    secret: str  #: sealed, never plain
    algorithm: str = "sha256"  #: sha256, sha512 or sha1
    encoding: str = "hex"  #: hex or base64
    prefix: str = ""  #: before the signature, such as ``sha256=``
    timestamp_header: str = ""  #: empty: none is sent
    template: str = "{body}"  #: what is signed, such as ``{timestamp}.{body}``
    tolerance: int = 300  #: seconds that a timestamp may be off

    def __repr__(self) -> str:
        return f"Signing({self.header!r}, {self.algorithm!r})"


class Grant(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the holder of a key may do."""

    name: str
    scopes: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()  #: empty: every format
    quota: int | None = None  #: events a minute, over all replicas; None: as many as it likes
    expires: float | None = None  #: epoch seconds; None: never
    signing: Signing | None = None
    source: Source = UNKNOWN  #: what its events are taken for

    def allows(self, scope: str) -> bool:
        return scope in self.scopes

    def takes(self, format_: str) -> bool:
        """May it send this format?"""
        return not self.formats or format_ in self.formats

    def expired(self, now: float) -> bool:
        return self.expires is not None and now >= self.expires

    def pack(self) -> bytes:
        return _pack(self)

    @classmethod
    def unpack(cls, data: bytes) -> Grant:
        """What :meth:`pack` made. A plain name, as older versions wrote it, may send. Raises ``ValueError``."""
        if not data.startswith(b"{"):
            return cls(data.decode(), (INGEST,))
        try:
            return _unpack(data)
        except msgspec.MsgspecError as error:
            raise ValueError(str(error)) from error


_pack = msgspec.json.Encoder().encode
_unpack = msgspec.json.Decoder(Grant).decode

#: The key that the environment brings (INGEST_API_KEY): it may send, and nothing else.
BOOTSTRAP = Grant("bootstrap", (INGEST,))


def new_key() -> str:
    """A key's text: 256 random bits, as ``mutt_…``."""
    return PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).rstrip(b"=").decode()


def digest_of(key: bytes) -> str:
    """By what a key is known: SHA-256, in hexadecimal."""
    return hashlib.sha256(key).hexdigest()


def check_name(name: str) -> str:
    """Raises :class:`Refused`."""
    if not _NAME.fullmatch(name):
        raise Refused("name", "is not 1 to 64 of a-z, 0-9, '.', '_' and '-', the first a letter or a digit")
    if name == BOOTSTRAP.name:
        raise Refused("name", f"{name} is the name of the key in INGEST_API_KEY: choose another")
    return name


def check_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """In their own order, each once. Raises :class:`Refused`."""
    given = set(scopes)
    if unknown := sorted(given.difference(SCOPES)):
        raise Refused("scopes", f"{unknown[0]!r} is none of {', '.join(SCOPES)}")
    if not given:
        raise Refused("scopes", f"are missing: name at least one of {', '.join(SCOPES)}")
    return tuple(scope for scope in SCOPES if scope in given)


def check_formats(formats: Iterable[str]) -> tuple[str, ...]:
    """In alphabetical order, each once; none at all: every format. Raises :class:`Refused`."""
    given = sorted(set(formats))
    for name in given:
        if registry.get(name) is None:
            raise Refused("formats", f"{name!r} is none of {', '.join(sorted(registry.FORMATS))}")
    return tuple(given)


def check_quota(quota: int | None) -> int | None:
    """Raises :class:`Refused`."""
    if quota is not None and not 1 <= quota <= QUOTA_MOST:
        raise Refused(
            "quota", f"is {quota}: write 1 to {QUOTA_MOST} events a minute, or none for as many as it likes"
        )
    return quota


def check_source(source: Source, formats: Iterable[str] = ()) -> Source:
    """Of a key that may send these ``formats`` (none: every one). Raises :class:`Refused`."""
    team = source.team.strip()
    if source.format and registry.get(source.format) is None:
        raise Refused("format", f"{source.format!r} is none of {', '.join(sorted(registry.FORMATS))}")
    if len(team) > TEAM_MOST or "\0" in team:
        raise Refused("team", f"is longer than {TEAM_MOST} characters, or holds NUL: shorten it")
    if source.environment and source.environment not in ENVIRONMENTS:
        raise Refused("environment", f"{source.environment!r} is none of {', '.join(ENVIRONMENTS)}")
    if source.severity is not None and not 0 <= source.severity <= 7:
        raise _no_severity(str(source.severity))
    if source.every and not EVERY_LEAST <= source.every <= EVERY_MOST:
        raise _no_span(f"{source.every:g}")
    if source.mapping.strip():
        mapping.compiled(source.mapping)
    checked = msgspec.structs.replace(
        source, team=team, mapping=source.mapping if source.mapping.strip() else ""
    )
    check_fit(checked, formats)
    return checked


def every_of(text: str | None) -> float | None:
    """Seconds, of a span such as 5m; 0: it may be silent; None: nothing is said. Raises :class:`Refused`."""
    given = (text or "").strip()
    if not given:
        return None
    if given in ("0", "0s"):
        return 0.0
    try:
        return span()("every", given)
    except SettingsError:
        raise _no_span(given) from None


def severity_of(text: str | None) -> int | None:
    """syslog's 0 to 7; None: nothing is said. Raises :class:`Refused`."""
    given = (text or "").strip()
    if not given:
        return None
    if given not in SEVERITIES:
        raise _no_severity(given)
    return int(given)


def _no_span(given: str) -> Refused:
    return Refused(
        "every",
        f"{given[:40]!r} is no span from 10s to 366d: write one such as 5m, or 0 where it may be silent",
    )


def _no_severity(given: str) -> Refused:
    return Refused("severity", f"{given[:40]!r} is no severity: write 0 (emergency) to 7 (debug), or none")


def check_fit(source: Source, formats: Iterable[str]) -> None:
    """May the key send what its source is said to? Raises :class:`Refused`."""
    allowed = tuple(formats)
    if allowed and source.format and source.format not in allowed:
        raise Refused("format", f"is {source.format}, and the key may send {' and '.join(allowed)} only")
    if allowed and source.mapping and mapped.FORMAT.name not in allowed:
        raise Refused(
            "mapping", f"needs the format {mapped.FORMAT.name}, which the key may not send: allow it"
        )
    if source.format == mapped.FORMAT.name and not source.mapping:
        raise Refused("mapping", "is missing: the format mapped reads JSON by it")


def check_note(note: str) -> str:
    """Raises :class:`Refused`."""
    if len(note) > NOTE_MOST or "\0" in note:
        raise Refused("note", f"is longer than {NOTE_MOST} characters, or holds NUL: shorten it")
    return note
