"""Bodies of JSON: each object is an item, or holds a list of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from typing import Any, ClassVar

import msgspec
from msgspec import Raw

from mutt.errors import RejectedItem
from mutt.formats.base import Answers, Context, Fields, JsonObject, Parsed, fit
from mutt.formats.body import TOO_DEEP, Broken, no_json, split, without_bom
from mutt.formats.collector import Collector, kind
from mutt.formats.values import clean, clean_text

#: An event, for who sent something else.
_SUCH = '{"hostname": "core-1", "message": "fan failed"}'


class JsonFormat:
    """A format whose items are JSON objects. A subclass has a ``name`` and :meth:`read`; the rest has defaults."""

    name: ClassVar[str]
    header: ClassVar[str] = ""
    #: A request whose Content-Type begins so is mine, whatever its body looks like. Empty: the body is looked at.
    media: ClassVar[str] = ""
    answers: ClassVar[Answers] = Answers()
    #: An object without one of these keys is never this format's: it spares the others the question.
    marks: ClassVar[frozenset[str]] = frozenset()
    #: One of mine has to come alone: the whole request shows whose it is (``mutt/web/intake.py``).
    alone: ClassVar[bool] = False
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

    def parse(self, body: bytes, context: Context) -> Parsed:
        return parse_json(body, context, lambda _item: self)


Route = Callable[[JsonObject], JsonFormat]


def parse_json(body: bytes, context: Context, route: Route) -> Parsed:
    """Split ``body`` and let ``route`` choose the format of each object."""
    pieces = split(body)
    collector, first = Collector(context, alone=len(pieces) == 1), ""
    for piece in pieces:
        if isinstance(piece, Broken):
            collector.reject(piece.raw, RejectedItem("event", piece.reason))
            continue
        try:
            item, text = load(piece)
            chosen = route(item)
            if collector.alone or not chosen.alone:
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
        raise RejectedItem("event", f"is {kind(value)}: write an object, such as {_SUCH}")
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
