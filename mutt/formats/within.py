"""Events inside an envelope: an Alertmanager's payload as a CloudEvent's data, a trap as what Splunk calls the event.

What stands inside is read by the format that claims it, as if it had come alone. The registry knows them all, those of
envelopes too, so it is it that says how to ask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import msgspec
from msgspec import Raw

from mutt.errors import RejectedItem
from mutt.formats.base import Context, Fields, JsonObject
from mutt.formats.collector import Collector
from mutt.formats.objects import JsonFormat
from mutt.formats.shipped import Shipped

#: Bytes that an envelope around several events may have beside them: each of the events is looked at with all of it.
AROUND_MOST = 8192

_asked: list[Callable[[JsonObject], JsonFormat]] = []


def ask(route: Callable[[JsonObject], JsonFormat]) -> None:
    """From now on ``route`` says whose an object is. For the registry, once it has found every format."""
    _asked[:] = [route]


class Envelope(JsonFormat):
    """A format whose items hold an event of somebody else. One inside another is not opened: nobody sends that."""

    #: The keys under which it stands.
    holds: ClassVar[tuple[str, ...]]

    def held(self, item: JsonObject) -> Any:
        """What stands in this envelope. Raises :class:`~mutt.errors.RejectedItem`."""
        raise NotImplementedError

    def opens(self, found: JsonFormat, _value: JsonObject) -> bool:
        """Is what stands inside left to ``found``, which claims it? Records of logs are claimed by names that anybody
        uses, and hold no state: an envelope's own tables know more."""
        return not isinstance(found, Shipped)

    def complete(self, item: JsonObject, fields: Fields, nth: int | None) -> None:
        """Add to an event of another format what the envelope says; of several events this is the ``nth``, from 0."""
        raise NotImplementedError

    def take(self, item: JsonObject, text: str, collector: Collector, context: Context) -> None:
        """A single event keeps the whole envelope as ``raw``, and each of several what its own format keeps: so each
        is read alike by the format that is its ``source``."""
        value = self.held(item)
        found = _known(value)
        if found is None or not self.opens(found, value):
            super().take(item, text, collector, context)
            return
        part = msgspec.json.encode(value).decode()
        inside = _Inside(_Opened(self, item, text, found.name, part, context.default_host), collector)
        found.take(value, part, inside, nameless(context))


def _known(value: Any) -> JsonFormat | None:
    """The format that claims ``value``; None: it is no object, or just JSON that nobody knows."""
    if type(value) is not dict or not value:
        return None
    found = _asked[0](value)
    if isinstance(found, Envelope):
        return None
    # What nobody claims is native by default: here only if it really is.
    return None if found.name == "native" and not ("hostname" in value and "message" in value) else found


def nameless(context: Context) -> Context:
    """``context`` for who shall not take the sender for the device: the envelope may name that."""
    return msgspec.structs.replace(context, default_host="")


class _Opened(NamedTuple):
    """An envelope, and what stands in it."""

    envelope: Envelope
    item: JsonObject
    text: str
    format: str  #: of what stands in it
    part: str  #: that, written alone
    sender: str  #: where nothing names a host, and the format takes the sender for it


class _Inside(Collector):
    """Gathers, for the collector of an envelope, what stood inside."""

    def __init__(self, opened: _Opened, outer: Collector) -> None:
        self._opened, self._outer, self._count = opened, outer, 0
        self._around: int | None = None  # bytes

    def add(self, fields: Fields, text: str) -> None:
        opened, alone = self._opened, text == self._opened.part
        if not alone:
            self._check_around()
        if alone and fields.get("source") == opened.format:
            fields["source"] = opened.envelope.name
        opened.envelope.complete(opened.item, fields, None if alone else self._count)
        if fields.get("hostname") == "":
            fields["hostname"] = opened.sender
        self._outer.add(fields, self._written(text))
        self._count += 1

    def _check_around(self) -> None:
        if self._around is None:
            beside = {
                key: self._opened.item[key]
                for key in self._opened.item
                if key not in self._opened.envelope.holds
            }
            self._around = len(msgspec.json.encode(beside))
        if self._around > AROUND_MOST:
            size = f"{self._around} bytes; at most {AROUND_MOST} are taken"
            why = f"stands in a list in an envelope of {size}: shorten that"
            raise RejectedItem("event", why)

    def expect(self, more: int) -> None:
        self._outer.expect(more)

    def check_size(self, text: str) -> None:
        self._outer.check_size(self._written(text))

    def reject(self, raw: bytes | Raw, refusal: RejectedItem) -> None:
        self._outer.reject(raw, refusal)
        self._count += 1

    def _written(self, text: str) -> str:
        return self._opened.text if text == self._opened.part else text
