"""Every format by name, and the choice of one where a request names none."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Sequence

import msgspec

from mutt import formats
from mutt.errors import Kind, RejectedBody
from mutt.formats import mapped, native, syslog, within
from mutt.formats.base import NO_HEADERS, Answers, Context, Format, Headers, JsonObject, Parsed
from mutt.formats.objects import JsonFormat, Route, parse_json
from mutt.formats.remembered import remember

#: Asked last: they take whatever nobody else claims.
_LAST = (native.FORMAT.name, syslog.FORMAT.name)

#: How compressed bytes begin: gzip, zstd. Neither opens any text.
_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")


def _found() -> Iterator[Format]:
    for module in pkgutil.iter_modules(formats.__path__):
        found = getattr(importlib.import_module(f"{formats.__name__}.{module.name}"), "FORMAT", None)
        if module.name != "registry" and found is not None:
            yield found


#: All formats by name, those that take anything at the end.
FORMATS: dict[str, Format] = {
    found.name: found for found in sorted(_found(), key=lambda found: (found.name in _LAST, found.name))
}
_TEXT = tuple(found for found in FORMATS.values() if not isinstance(found, JsonFormat))
_JSON = tuple(
    found for found in FORMATS.values() if isinstance(found, JsonFormat) and found is not native.FORMAT
)
_MARKS = frozenset[str]().union(*(found.marks for found in _JSON))
_BY_HEADER = tuple((found.header, found) for found in FORMATS.values() if found.header)
_BY_MEDIA = tuple((found.media, found) for found in _JSON if found.media)
_ANSWERS = Answers()


class Mixed(JsonFormat):
    """JSON that came without a format's name: each object goes to the format that claims it, else to ``native``.

    Where the sender's key has a mapping, that has what nobody claims and what is no native event either.
    """

    name = "json"

    def parse(self, body: bytes, context: Context) -> Parsed:
        chosen = _with_mapping(context) if context.source.mapping else route

        def allowed(item: JsonObject) -> JsonFormat:
            found = chosen(item)
            check_allowed(found.name, context.formats)
            return found

        return parse_json(body, context, allowed if context.formats else chosen)


MIXED = Mixed()


def _with_mapping(context: Context) -> Route:
    mapper = mapped.Mapper(context)

    def chosen(item: JsonObject) -> JsonFormat:
        found = route(item)
        return mapper if found is native.FORMAT and not native.is_native(item) else found

    return chosen


def route(item: JsonObject) -> JsonFormat:
    """The format of one JSON object."""
    if not _MARKS.isdisjoint(item):
        keys = tuple(item)
        fitting = _fitting.get(keys)
        if fitting is None:
            fitting = _fit(keys)
        for found in fitting:
            if found.claims(item):
                return found
    return native.FORMAT


#: Who is to be asked for an object, by its keys: most objects of a body have the same ones, in the same order.
_fitting: dict[tuple[str, ...], tuple[JsonFormat, ...]] = {}


def _fit(keys: tuple[str, ...]) -> tuple[JsonFormat, ...]:
    found = tuple(one for one in _JSON if not one.marks.isdisjoint(keys) and one.fits(keys))
    return remember(_fitting, keys, found)


within.ask(route)


def get(name: str) -> Format | None:
    """The format of ``/ingest/<name>``."""
    return FORMATS.get(name)


def answers(name: str) -> Answers:
    """What the senders of the format of this name have to be answered; of an unknown one, what most have to."""
    found = FORMATS.get(name)
    return found.answers if found else _ANSWERS


def sniff(body: bytes, content_type: str, headers: Headers = NO_HEADERS) -> Format:
    """The format that ``body`` looks like. Raises :class:`RejectedBody` for bytes that are no text."""
    for header, found in _BY_HEADER:
        if headers.get(header, ""):
            return found
    for media, found in _BY_MEDIA:
        if content_type[: len(media)].lower() == media:
            return found
    if body.startswith(_COMPRESSED):
        raise RejectedBody(
            "Content-Encoding",
            "is missing though the body is compressed: send Content-Encoding: gzip, or zstd",
            415,
        )
    if MIXED.sniffs(body, content_type):
        return MIXED
    return next(found for found in _TEXT if found.sniffs(body, content_type))


def choose(named: str, body: bytes, content_type: str, context: Context) -> Format:
    """Who reads ``body``: the format that its path names, else the one of its sender's key, else who it looks like.

    Raises :class:`RejectedBody` for bytes that are no text.
    """
    found = get(named or context.source.format)
    return sniff(body, content_type, context.headers) if found is None else found


def parse(found: Format, body: bytes, context: Context) -> Parsed:
    """The events of ``body``, and what of it was refused.

    Raises :class:`RejectedBody` where it can't be read, holds nothing at all, or what its sender may not send.
    """
    if found is not MIXED:
        check_allowed(found.name, context.formats)
    parsed = found.parse(body, context)
    if not parsed.events and not parsed.rejected:
        raise RejectedBody("body", "holds no event: send at least one", kind=Kind.NOTHING)
    return parsed if parsed.format else msgspec.structs.replace(parsed, format=found.name)


def check_allowed(name: str, formats: Sequence[str]) -> None:
    """Is this format one of ``formats``, or are those none at all? Raises :class:`RejectedBody`, of status 403."""
    if formats and name not in formats:
        raise RejectedBody(
            "format", f"is {name}, and this API key may send {' and '.join(formats)} only", 403
        )
