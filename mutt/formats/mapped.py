"""``mapped``: JSON of a sender's own, which the mapping of its API key turns into events (docs/formats/mapped.md)."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

from mutt.errors import Refused, RejectedBody, RejectedItem
from mutt.formats import values
from mutt.formats.base import Context, Fields, JsonObject, Parsed
from mutt.formats.collector import Collector
from mutt.formats.mapping import EACH_STEPS, ITEM_STEPS, Mapping, Steps, compiled
from mutt.formats.objects import JsonFormat, as_object, parse_json, written


class Mapped(JsonFormat):
    """Never claims an object: it is asked for what nobody else claims (``registry.Mixed``), or where it is named."""

    name = "mapped"

    def read(self, item: JsonObject, context: Context) -> Fields:
        return Mapper(context).read(item, context)

    def parse(self, body: bytes, context: Context) -> Parsed:
        if not context.source.mapping:
            raise RejectedBody("mapping", "is missing: write one for this API key (page Keys, Source)")
        mapper = Mapper(context)
        return parse_json(body, context, lambda _item: mapper)


class Mapper(Mapped):
    """The same for one request: what its expressions cost is counted together."""

    def __init__(self, context: Context) -> None:
        self._steps = Steps()
        self._mapping, self._fault = _mapping(context.source.mapping)

    def take(self, item: JsonObject, text: str, collector: Collector, context: Context) -> None:
        """Elements of ``each``, where it finds an array; an object without one is an event itself."""
        mapping = self._whole()
        if mapping.each is None:
            return super().take(item, text, collector, context)
        self._steps.begin(EACH_STEPS)
        elements = self._steps.value("each", mapping.each, item)
        if not isinstance(elements, list):
            return super().take(item, text, collector, context)
        collector.expect(len(elements))
        for element, its_text in zip(elements, written(text, mapping.each.path, elements), strict=True):
            collector.attempt(partial(self._element, element, context), its_text)
        return None

    def _element(self, element: Any, context: Context) -> Fields:
        return self.read(as_object(element), context)

    def read(self, item: JsonObject, context: Context) -> Fields:
        mapping, value = self._whole(), self._steps.value
        self._steps.begin(ITEM_STEPS)
        found = {name: value(name, one, item) for name, one in mapping.fields.items()}
        fields: Fields = {
            "hostname": found.get("hostname", context.default_host),
            "message": found["message"],
            "time": found.get("time"),
            "own_id": found.get("event_id"),
            "source": _text(found.get("source")) or self.name,
            "program": _text(found.get("program")),
            "clear_key": _text(found.get("clear_key")),
            "instance": _text(found.get("instance")),
        }
        _read_words(mapping, found, fields)
        fields["tags"] = _tags(mapping, found, item)
        return fields

    def _whole(self) -> Mapping:
        if self._mapping is None:
            raise RejectedItem("mapping", f"can't be used: {self._fault}")
        return self._mapping


def _mapping(text: str) -> tuple[Mapping | None, str]:
    """It was checked when it was saved: by the MUTT of then."""
    try:
        return compiled(text), ""
    except Refused as error:
        return None, error.reason


@lru_cache(maxsize=1024)
def takes_long(text: str) -> bool:
    """May the mapping ``text`` cost more than the other formats do? Remembered, also of one that can't be used."""
    found, _ = _mapping(text)
    return found is None or not found.plain


def _read_words(mapping: Mapping, found: dict[str, Any], fields: Fields) -> None:
    """Severity and state. What is no such word is taken out of ``found``: it stays a tag."""
    if (said := found.get("severity")) is not None:
        severity = mapping.severities.get(_word(said))
        fields["severity"] = values.severity(said) if severity is None else severity
        if fields["severity"] is None:
            del found["severity"]
    if (said := found.get("state")) is not None:
        state = mapping.states.get(_word(said)) or values.state(said)
        if state is None:
            del found["state"]
        else:
            fields["state"] = state


def _word(said: Any) -> str:
    return values.text(said).strip().lower()


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else values.text(value)


def _tags(mapping: Mapping, found: dict[str, Any], item: JsonObject) -> dict[str, str]:
    """All of ``item`` but for what the mapping took as it stands there."""
    tags = dict(values.flat({key: value for key, value in item.items() if value is not None}))
    for name in found:
        if path := mapping.fields[name].path:
            tags.pop(".".join(path), None)
    return tags


FORMAT = Mapped()
