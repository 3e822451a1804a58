"""What every format shares: what it is asked, and the values that go in and come out."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple, Protocol, TypedDict
from uuid import UUID

import msgspec

from mutt.errors import Kind
from mutt.event import Event, State, Varbind
from mutt.formats.values import clean_text
from mutt.source import UNKNOWN, Source

#: Senders' ids that are no UUIDs become uuid5(uuid5(this, API key's id), text): no key can name another's events.
ID_SPACE = UUID("5f2d1c1e-7c0b-5b39-9a53-0d3b1b9a4c11")

HOSTNAME_MAX = 255

#: Characters of a message that are kept; a longer one says where it was cut. ``raw`` has all of it.
MESSAGE_MAX = 65_536

#: Characters of a source, a program or a facility, likewise.
NAME_MAX = 255

CLEAR_KEY_MAX = 255  #: bytes

JsonObject = dict[str, Any]


class Headers(Protocol):
    """A request's headers. Asked for names in capitals: not everybody's are found however they are written."""

    def get(self, name: str, default: str, /) -> str: ...

    def items(self) -> Iterable[tuple[str, str]]: ...


#: For a body that came without a request.
NO_HEADERS: Headers = dict[str, str]()


class Answers(NamedTuple):
    """What a kind of sender has to be answered so that it loses nothing, and does not send the same for ever.

    The rest is the same for all: see docs/senders.md.
    """

    over_quota: int = 429  #: 503 for those that take a 429 for final
    none_taken: int = 400  #: 202 for those that repeat what a 400 refused: the items are kept for `mutt dlq`
    #: 202, likewise, for those that do so only with an item too large for MUTT: theirs knows no such limit.
    too_large: int = 400


class Context(msgspec.Struct, frozen=True):
    """What the request knows and its body does not."""

    received_at: datetime  #: aware, UTC; the stamp of the first item
    key_id: str  #: which API key
    max_event: int  #: bytes that one event may have
    default_host: str  #: the sender's address, for lines that name no host
    formats: tuple[str, ...] = ()  #: that its key may send; none: every one
    headers: Headers = NO_HEADERS
    source: Source = UNKNOWN  #: what is known of the sender


class Rejected(msgspec.Struct, frozen=True):
    """One item that was not taken, and why."""

    index: int  #: its place in the request
    field: str
    reason: str
    raw: str  #: its text, cut to ``max_event``
    kind: Kind = Kind.OTHER


class Parsed(msgspec.Struct, frozen=True):
    """What a body held. Every item is either in ``events`` or in ``rejected``."""

    events: list[Event]
    rejected: list[Rejected]
    identified: list[int]  #: positions in ``events`` of those that brought their own event_id
    format: str = ""  #: the name of the one that read it; of several, the first


class Fields(TypedDict, total=False):
    """What a format reads out of one item; absent ones keep the defaults of :class:`~mutt.event.Event`."""

    hostname: Any  #: checked by the collector: text, not blank, at most 255 characters
    message: Any  #: likewise: text, not blank
    time: Any  #: the sender's time as it wrote it
    own_id: Any  #: the sender's own id for the event, if it has one
    severity: int | None
    state: State
    source: str
    facility: str | None
    program: str | None
    trap_oid: str | None
    varbinds: tuple[Varbind, ...]
    tags: dict[str, str]
    clear_key: str | None
    instance: str | None


class Format(Protocol):
    """A way of writing events into a request's body."""

    @property
    def name(self) -> str:
        """As in ``/ingest/<name>``."""

    @property
    def header(self) -> str:
        """In capitals: a request that has this header is mine, whatever its body. Empty: there is none."""

    @property
    def answers(self) -> Answers:
        """What those who send it have to be answered."""

    def sniffs(self, body: bytes, content_type: str) -> bool:
        """Does this body look like mine? The Content-Type is a hint and often wrong."""

    def parse(self, body: bytes, context: Context) -> Parsed:
        """Raises :class:`~mutt.errors.RejectedBody` where nothing can be read."""


def fit(data: bytes) -> str:
    """Bytes as text that can be stored: what is no UTF-8 as ``\\xNN``, NUL as U+FFFD."""
    return clean_text(data.decode("utf-8", "surrogateescape"))  # backslashreplace is much slower
