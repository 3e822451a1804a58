"""Events inside an envelope: an Alertmanager's payload as a CloudEvent's data, a trap as what Splunk calls the event.

What stands inside is read by the format that claims it, as if it had come alone. The registry knows them all, those of
envelopes too, so it is it that says how to ask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw

from mutt.errors import RejectedItem
from mutt.formats.base import Collector, Context, Fields, JsonFormat, JsonObject

_asked: list[Callable[[JsonObject], JsonFormat]] = []


def ask(route: Callable[[JsonObject], JsonFormat]) -> None:
    """From now on ``route`` says whose an object is. For the registry, once it has found every format."""
    _asked[:] = [route]


class Envelope(JsonFormat):
    """A format whose items hold an event of somebody else. One inside another is not opened: nobody sends that."""


def known(value: Any) -> JsonFormat | None:
    """The format that claims ``value``; None: it is no object, or just JSON that nobody knows."""
    if type(value) is not dict or not value:
        return None
    found = _asked[0](value)
    if isinstance(found, Envelope):
        return None
    # What nobody claims is native by default: here only if it really is.
    return None if found.name == "native" and not ("hostname" in value and "message" in value) else found


def take(
    found: JsonFormat,
    value: JsonObject,
    text: str,
    collector: Collector,
    context: Context,
    complete: Callable[[Fields, int | None], None],
) -> None:
    """Give ``collector`` the events of ``value``, which stood in the envelope that was written as ``text``.

    ``complete`` adds to an event's fields what the envelope says. Of several events it is told which this is, and each
    keeps as ``raw`` what its own format keeps; else there is one, and its ``raw`` is the whole envelope.
    """
    part = msgspec.json.encode(value).decode()
    found.take(value, part, _Inside(collector, text, part, complete), nameless(context))


def nameless(context: Context) -> Context:
    """``context`` for who shall not take the sender for the device: the envelope may name that."""
    return msgspec.structs.replace(context, default_host="")


class _Inside(Collector):
    """Gathers for another collector what stood inside an envelope."""

    def __init__(
        self, outer: Collector, whole: str, part: str, complete: Callable[[Fields, int | None], None]
    ) -> None:
        self._outer, self._whole, self._part, self._complete = outer, whole, part, complete
        self._count = 0

    def add(self, fields: Fields, text: str) -> None:
        alone = text == self._part
        self._complete(fields, None if alone else self._count)
        self._outer.add(fields, self._written(text))
        self._count += 1

    def check_size(self, text: str) -> None:
        self._outer.check_size(self._written(text))

    def reject(self, raw: bytes | Raw, refusal: RejectedItem) -> None:
        self._outer.reject(raw, refusal)
        self._count += 1

    def _written(self, text: str) -> str:
        return self._whole if text == self._part else text
