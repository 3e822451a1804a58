"""What every format shares: the values that go in and out, and what is done around a format's own reading."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, NamedTuple, Protocol, TypedDict, cast
from uuid import UUID, SafeUUID, uuid5

import msgspec
from msgspec import Raw

from mutt import cut
from mutt.errors import Kind, RejectedBody, RejectedItem
from mutt.event import Event, State, Varbind, uuid7
from mutt.formats import times
from mutt.formats.body import MAX_ITEMS, TOO_DEEP, Broken, no_json, split, without_bom
from mutt.formats.values import clean, clean_text
from mutt.source import UNKNOWN, Source

#: Senders' ids that are no UUIDs become uuid5(uuid5(this, API key's id), text): no key can name another's events.
ID_SPACE = UUID("5f2d1c1e-7c0b-5b39-9a53-0d3b1b9a4c11")

HOSTNAME_MAX = 255

#: Characters of a message that are kept; a longer one says where it was cut. ``raw`` has all of it.
MESSAGE_MAX = 65_536

#: Characters of a source, a program or a facility, likewise.
NAME_MAX = 255
_NAMES = ("source", "program", "facility")

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

    hostname: Any  #: checked here: text, not blank, at most 255 characters
    message: Any  #: checked here: text, not blank
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


_MICROSECOND = timedelta(microseconds=1)


class Collector:
    """Gathers a request's events: numbers, stamps, checks and names what a format read."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._defaults = context.source if context.source.tells_of_events else None
        self._index = 0
        self._received_at = context.received_at
        self._space: UUID | None = None
        # One random draw a request, counted up: RFC 9562's monotonic UUIDv7. The cleared bit leaves room to count.
        self._next_id = uuid7(context.received_at.timestamp()).int & ~(1 << 61)
        self.parsed = Parsed([], [], [])

    def attempt(self, read: Callable[[], Fields], text: str) -> None:
        """Take the item that was written as ``text``, or note why it is not taken."""
        try:
            self.check_size(text)
            self.add(read(), text)
        except RejectedItem as refusal:
            self.reject(text.encode(), refusal)

    def add(self, fields: Fields, text: str) -> None:
        """Take the item that was written as ``text``. Raises :class:`RejectedItem`; its place stays open then."""
        identified = fields.get("own_id") not in (None, "")
        self.parsed.events.append(self._event(fields, text))
        if identified:
            self.parsed.identified.append(len(self.parsed.events) - 1)
        self._step()

    def expect(self, more: int) -> None:
        """So many come that a list in an object holds. Raises :class:`RejectedBody` where those are too many."""
        if self._index + more > MAX_ITEMS:
            raise RejectedBody("body", f"holds too many items; send at most {MAX_ITEMS} at once", 413)

    def check_size(self, text: str) -> None:
        """Raises :class:`RejectedItem` for a text that is too large for an event."""
        size = len(text) if text.isascii() else len(text.encode())
        if size > self._context.max_event:
            raise RejectedItem(
                "event",
                f"is {size} bytes; at most {self._context.max_event} are taken: shorten it",
                kind=Kind.TOO_LARGE,
            )

    def reject(self, raw: bytes | Raw, refusal: RejectedItem) -> None:
        """Note that this item was not taken."""
        text = fit(bytes(memoryview(raw)[: self._context.max_event]))
        rejected = Rejected(self._index, refusal.field, refusal.reason, text, refusal.kind)
        self.parsed.rejected.append(rejected)
        self._step()

    def _step(self) -> None:
        self._index += 1
        self._next_id += 1
        self._received_at += _MICROSECOND

    def _event(self, fields: Fields, text: str) -> Event:
        own_id = fields.pop("own_id", None)
        occurred_at, occurred_text = times.occurred(fields.pop("time", None), self._received_at)
        fields["hostname"] = _hostname(fields.get("hostname"))
        fields["message"] = _message(fields.get("message"))
        if key := fields.get("clear_key"):
            fields["clear_key"] = _bounded(key)
        settled = cast(dict[str, Any], fields)  # one dict, filled up: half the price of keywords beside it
        for name in _NAMES:
            if (said := settled.get(name)) and len(said) > NAME_MAX:
                settled[name] = cut.to_characters(said, NAME_MAX)
        settled["event_id"] = _uuid(self._next_id) if own_id is None or own_id == "" else self._own(own_id)
        settled["received_at"] = self._received_at
        settled["occurred_at"] = occurred_at
        settled["occurred_text"] = occurred_text
        settled["item"] = self._index
        settled["raw"] = text
        if self._defaults is not None:
            _fill_up(settled, self._defaults)
        return Event(**settled)

    def _own(self, own_id: Any) -> UUID:
        if not isinstance(own_id, str | int) or isinstance(own_id, bool):
            raise RejectedItem("event_id", f"is {_kind(own_id)}: write text or a whole number")
        text = str(own_id)
        if len(text) == 36:
            try:
                return UUID(text)
            except ValueError:
                pass
        if self._space is None:
            self._space = uuid5(ID_SPACE, self._context.key_id)
        return uuid5(self._space, text)


def _fill_up(settled: dict[str, Any], source: Source) -> None:
    """What is known of the sender, where its event does not say it. No format gives the last two."""
    if settled.get("severity") is None:
        settled["severity"] = source.severity
    settled["default_team"] = source.team or None
    settled["environment"] = source.environment or None


_new, _set, _UNKNOWN = object.__new__, object.__setattr__, SafeUUID.unknown


def _uuid(value: int) -> UUID:
    # UUID(int=value) without its checks, which cost more than reading a hostname, a time and a severity together.
    made = _new(UUID)
    _set(made, "int", value)
    _set(made, "is_safe", _UNKNOWN)
    return made


#: What JSON's values are called where text was wanted.
_KINDS = {
    dict: "an object",
    list: "an array",
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "text",
}

#: An event, for who sent something else.
_SUCH = '{"hostname": "core-1", "message": "fan failed"}'


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "null")


def _hostname(value: Any) -> str:
    if value is None:
        raise RejectedItem("hostname", "is missing: name the device that it happened on")
    if not isinstance(value, str):
        raise RejectedItem("hostname", f"is {_kind(value)}: write text, in quotes")
    name = value.strip()
    if not name:
        raise RejectedItem("hostname", "is empty: name the device that it happened on")
    if len(name) > HOSTNAME_MAX:
        raise RejectedItem(
            "hostname", f"is {len(name)} characters long; at most {HOSTNAME_MAX} are taken: shorten it"
        )
    return name


def _message(value: Any) -> str:
    if value is None:
        raise RejectedItem("message", "is missing: say what happened", kind=Kind.MISSING)
    if not isinstance(value, str):
        raise RejectedItem("message", f"is {_kind(value)}: write text, in quotes")
    if not value or value.isspace():
        raise RejectedItem("message", "is empty: say what happened", kind=Kind.BLANK)
    return value if len(value) <= MESSAGE_MAX else cut.to_characters(value, MESSAGE_MAX)


def _bounded(clear_key: str) -> str:
    """PostgreSQL's index takes no long keys, and a clear need only have the same as its raise."""
    written = clear_key.encode()
    return clear_key if len(written) <= CLEAR_KEY_MAX else f"sha256:{hashlib.sha256(written).hexdigest()}"


def fit(data: bytes) -> str:
    """Bytes as text that can be stored: what is no UTF-8 as ``\\xNN``, NUL as U+FFFD."""
    return clean_text(data.decode("utf-8", "surrogateescape"))  # backslashreplace is much slower


class JsonFormat:
    """A format whose items are JSON objects. A subclass has a ``name`` and :meth:`read`; the rest has defaults."""

    name: ClassVar[str]
    header: ClassVar[str] = ""
    #: A request whose Content-Type begins so is mine, whatever its body looks like. Empty: the body is looked at.
    media: ClassVar[str] = ""
    answers: ClassVar[Answers] = Answers()
    #: An object without one of these keys is never this format's: it spares the others the question.
    marks: ClassVar[frozenset[str]] = frozenset()
    #: The key whose array holds the events, where an object wraps several (``alerts``, ``records``).
    inside: ClassVar[str] = ""

    def sniffs(self, body: bytes, content_type: str) -> bool:
        """JSON at all? Which JSON is asked object by object: see :meth:`claims`."""
        return looks_like_json(body, content_type)

    def fits(self, _keys: Collection[str]) -> bool:
        """May an object with these keys, of which one is of ``marks``, be mine? Asked once for all that have them."""
        return True

    def claims(self, _item: JsonObject) -> bool:
        """Is this object one of mine, where the request names no format? Asked only if its keys fit.

        No two formats may claim the same object: which of them is asked first is nobody's business.
        """
        return True

    def read(self, item: JsonObject, context: Context) -> Fields:
        """One event's fields; ``item`` may be taken apart. Raises :class:`~mutt.errors.RejectedItem`.

        What an event holds as ``raw`` is read alike when it comes alone: an element of ``inside`` has to do without
        what stood around it.
        """
        raise NotImplementedError

    def take(self, item: JsonObject, text: str, collector: Collector, context: Context) -> None:
        """Give ``collector`` the events of one object, which was written as ``text``.

        Raises :class:`~mutt.errors.RejectedItem` where it is not taken as a whole, and
        :class:`~mutt.errors.RejectedBody` for too many.
        """
        inner = item.get(self.inside) if self.inside else None
        if not isinstance(inner, list):
            collector.check_size(text)
            collector.add(self.read(item, context), text)
            return
        collector.expect(len(inner))
        for element, its_text in zip(inner, written(text, (self.inside,), inner), strict=True):
            try:  # as Collector.attempt does, whose calls are a twentieth of what an element costs
                collector.check_size(its_text)
                collector.add(self.read(as_object(element), context), its_text)
            except RejectedItem as refusal:
                collector.reject(its_text.encode(), refusal)

    def _element(self, element: Any, context: Context) -> Fields:
        return self.read(as_object(element), context)

    def parse(self, body: bytes, context: Context) -> Parsed:
        return parse_json(body, context, lambda _item: self)


Route = Callable[[JsonObject], JsonFormat]


def parse_json(body: bytes, context: Context, route: Route) -> Parsed:
    """Split ``body`` and let ``route`` choose the format of each object."""
    collector, first = Collector(context), ""
    for piece in split(body):
        if isinstance(piece, Broken):
            collector.reject(piece.raw, RejectedItem("event", piece.reason))
            continue
        try:
            item, text = load(piece)
            chosen = route(item)
            first = first or chosen.name
            chosen.take(item, text, collector, context)
        except RejectedItem as refusal:
            collector.reject(piece, refusal)
        except RecursionError:
            collector.reject(piece, RejectedItem("event", TOO_DEEP))
    return msgspec.structs.replace(collector.parsed, format=first)


_object = msgspec.json.Decoder(dict[str, Raw])
_array = msgspec.json.Decoder(list[Raw])


def written(text: str, inside: Sequence[str] | None, inner: list[Any]) -> list[str]:
    """The elements of the array at ``inside`` as they stand in ``text``.

    As JSON anew where it had to be forgiven, and where ``inside`` is None: they were made, and stand nowhere.
    """
    if inside is not None:
        try:
            for key in inside:
                text = str(_object.decode(text)[key], "utf-8")
            return [str(raw, "utf-8") for raw in _array.decode(text)]
        except (KeyError, msgspec.DecodeError, UnicodeError):
            pass
    return [msgspec.json.encode(element).decode() for element in inner]


_decode = msgspec.json.Decoder().decode
_lenient = json.JSONDecoder(strict=False, parse_constant=str)


def load(piece: Raw) -> tuple[JsonObject, str]:
    """One item as (object, text as it came). Raises :class:`RejectedItem`.

    Forgives what hand-made JSON often holds: control characters in texts, bytes that are no UTF-8, lone
    surrogates, NaN.
    """
    try:
        item, text = _decode(piece), str(piece, "utf-8")
        if "\\" in text and "\\u0000" in text:  # the first is looked for ten times as fast
            item = clean(item)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        data = bytes(piece)
        item, text = _forgive(data, error), fit(data)
    return as_object(item), text


def as_object(value: Any) -> JsonObject:
    """``value`` where an item is wanted. Raises :class:`RejectedItem`."""
    if type(value) is not dict:
        raise RejectedItem("event", f"is {_kind(value)}: write an object, such as {_SUCH}")
    return value


def _forgive(data: bytes, error: Exception) -> Any:
    try:
        return clean(_lenient.decode(data.decode("utf-8", "surrogateescape")))
    except ValueError:
        raise RejectedItem("event", clean_text(no_json(error))) from None


def looks_like_json(body: bytes, content_type: str) -> bool:
    """An object or an array by its first characters; ``[`` alone also opens lines of kernels, so it needs more."""
    head = body[:256].removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"{") or (head.startswith(b"null") and without_bom(body).strip() == b"null"):
        return True  # null is what programs send that have no event; nobody's message is only that
    if "json" in content_type.lower():
        return not head.startswith(b"<")
    return head.startswith(b"[") and head[1:].lstrip()[:1] in (b"{", b"[", b'"', b"]", b"")
