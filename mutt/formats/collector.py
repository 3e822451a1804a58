"""What is done around a format's own reading: an event is numbered, stamped, checked and named."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast
from uuid import UUID, SafeUUID, uuid5

from msgspec import Raw

from mutt import cut
from mutt.errors import Kind, RejectedBody, RejectedItem
from mutt.event import Event, uuid7
from mutt.formats import times
from mutt.formats.base import (
    CLEAR_KEY_MAX,
    HOSTNAME_MAX,
    ID_SPACE,
    MESSAGE_MAX,
    NAME_MAX,
    Context,
    Fields,
    Parsed,
    Rejected,
    fit,
)
from mutt.formats.body import MAX_ITEMS
from mutt.source import Source

_NAMES = ("source", "program", "facility")
_MICROSECOND = timedelta(microseconds=1)


class Collector:
    """Gathers a request's events: numbers, stamps, checks and names what a format read."""

    def __init__(self, context: Context, *, alone: bool = False) -> None:
        self.alone = alone  #: is what is read all that the request holds?
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
            raise RejectedItem("event_id", f"is {kind(own_id)}: write text or a whole number")
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


def kind(value: object) -> str:
    """What JSON calls it."""
    return _KINDS.get(type(value), "null")


def _hostname(value: Any) -> str:
    if value is None:
        raise RejectedItem("hostname", "is missing: name the device that it happened on")
    if not isinstance(value, str):
        raise RejectedItem("hostname", f"is {kind(value)}: write text, in quotes")
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
        raise RejectedItem("message", f"is {kind(value)}: write text, in quotes")
    if not value or value.isspace():
        raise RejectedItem("message", "is empty: say what happened", kind=Kind.BLANK)
    return value if len(value) <= MESSAGE_MAX else cut.to_characters(value, MESSAGE_MAX)


def _bounded(clear_key: str) -> str:
    """PostgreSQL's index takes no long keys, and a clear need only have the same as its raise."""
    written = clear_key.encode()
    return clear_key if len(written) <= CLEAR_KEY_MAX else f"sha256:{hashlib.sha256(written).hexdigest()}"
