"""What log shippers have in common: records of a log, whose fields have other names with each of them."""

from __future__ import annotations

from typing import Any, ClassVar

from mutt.formats import traps, values
from mutt.formats.base import Context, Fields, JsonFormat, JsonObject

#: Keys of objects that are somebody else's, wherever else they are found: traps, and what MUTT itself calls an event.
_OTHERS = traps.MARKS


class Shipped(JsonFormat):
    """Records of a log. For each field the keys that it may stand under: the first that says something wins.

    Without a host it is the sender's: shippers run on the machines whose logs they ship.
    """

    hosts: ClassVar[tuple[str, ...]] = ("hostname", "host")
    messages: ClassVar[tuple[str, ...]] = ("message", "msg")
    times: ClassVar[tuple[str, ...]] = ("timestamp",)
    severities: ClassVar[tuple[str, ...]] = ("severity",)
    facilities: ClassVar[tuple[str, ...]] = ("facility",)
    programs: ClassVar[tuple[str, ...]] = ("program",)

    def read(self, item: JsonObject, context: Context) -> Fields:
        program, message = take(item, self.programs), take(item, self.messages)
        fields: Fields = {
            "hostname": take(item, self.hosts) or context.default_host,
            "message": _with_mnemonic(program, message),
            "time": take(item, self.times),
            "severity": _read_out(item, self.severities, values.severity),
            "facility": _read_out(item, self.facilities, values.facility),
            "source": self.name,
        }
        if program is not None:
            fields["program"] = values.text(program)
        fields["tags"] = dict(values.flat(_said(item)))
        return fields


def is_record(item: JsonObject) -> bool:
    """May it be a record of a log? It is none where it is a native event, or a trap."""
    return not ("hostname" in item and "message" in item) and _OTHERS.isdisjoint(item)


def take(item: JsonObject, keys: tuple[str, ...]) -> Any:
    """What stands at the first of ``keys`` that says something; it is taken out of ``item``. None: none does."""
    for key in keys:
        value = item.get(key)
        if value is not None and value != "":
            del item[key]
            return value
    return None


def _read_out(item: JsonObject, keys: tuple[str, ...], read: Any) -> Any:
    """Likewise the first that can be read; those that can't be stay where they are."""
    for key in keys:
        if key in item and (found := read(item[key])) is not None:
            del item[key]
            return found
    return None


def _with_mnemonic(program: Any, message: Any) -> Any:
    """The message as rules look at it: Cisco's mnemonic, which parsers of syslog take for the program, before it."""
    if not isinstance(message, str):
        return message
    if message[:1] in (" ", "\ufeff"):  # what stood between the tag and the text, or says that it is UTF-8
        message = message[1:]
    return f"{program}: {message}" if isinstance(program, str) and program[:1] == "%" else message


def _said(item: JsonObject) -> JsonObject:
    """Without what is null, and without RFC 5424's word for it."""
    return {key: value for key, value in item.items() if value is not None and value != "-"}
