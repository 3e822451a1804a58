"""What log shippers have in common: records of a log, whose fields have other names with each of them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, ClassVar, NamedTuple

from mutt.formats import traps, values
from mutt.formats.base import Context, Fields, JsonObject
from mutt.formats.objects import JsonFormat
from mutt.formats.remembered import remember

Keys = tuple[str, ...]


#: For a field that stands nowhere: no key has a NUL.
_NOWHERE = "\0"

_TEXT = {str}


class Places(NamedTuple):
    """Under which key each field of a record stands, and which keys are left."""

    host: str
    message: str
    time: str
    program: str
    severities: Keys  #: those that may be read as one, the first first
    facilities: Keys
    rest: Keys


class Shipped(JsonFormat):
    """Records of a log. For each field the keys that it may stand under: the first that says something wins.

    Without a host it is the sender's: shippers run on the machines whose logs they ship.
    """

    hosts: ClassVar[Keys] = ("hostname", "host")
    messages: ClassVar[Keys] = ("message", "msg")
    times: ClassVar[Keys] = ("timestamp",)
    severities: ClassVar[Keys] = ("severity",)
    facilities: ClassVar[Keys] = ("facility",)
    programs: ClassVar[Keys] = ("program",)

    def __init__(self) -> None:
        self._places: dict[Keys, Places] = {}

    def read(self, item: JsonObject, context: Context) -> Fields:
        said = item.values()
        if None in said or "" in said:
            item = {key: value for key, value in item.items() if value is not None and value != ""}
        places = self._find(tuple(item))
        get, left = item.get, places.rest
        program, host, message = get(places.program), get(places.host), get(places.message)
        fields: Fields = {
            "hostname": context.default_host if host is None or host == "-" else host,
            "message": _with_mnemonic(program, message),
            "time": get(places.time),
            "source": self.name,
        }
        if program is not None:
            fields["program"] = program if type(program) is str else values.text(program)
        if places.severities:
            fields["severity"], left = _first(item, places.severities, values.severity, left)
        if places.facilities:
            fields["facility"], left = _first(item, places.facilities, values.facility, left)
        fields["tags"] = _tags(item, left)
        return fields

    def _find(self, keys: Keys) -> Places:
        """Records of one sender have the same keys, in the same order: where each field stands is found once."""
        found = self._places.get(keys)
        return remember(self._places, keys, self._look(keys)) if found is None else found

    def _look(self, keys: Keys) -> Places:
        def there(wanted: Keys) -> Keys:
            return tuple(key for key in wanted if key in keys)

        host, message, time, program = (
            (*there(wanted), _NOWHERE)[0] for wanted in (self.hosts, self.messages, self.times, self.programs)
        )
        severities, facilities = there(self.severities), there(self.facilities)
        read = {host, message, time, program, *severities, *facilities}
        rest = tuple(key for key in keys if key not in read)
        return Places(host, message, time, program, severities, facilities, rest)


def _first(item: JsonObject, keys: Keys, read: Callable[[Any], Any], left: Keys) -> tuple[Any, Keys]:
    """The first of ``keys`` that can be read, and what is left with the others."""
    for key in keys:
        if (found := read(item[key])) is not None:
            return found, left if len(keys) == 1 else (*left, *(one for one in keys if one != key))
    return None, left + keys


def _tags(item: JsonObject, keys: Keys) -> dict[str, str]:
    """What is left, flattened; without RFC 5424's word for nothing."""
    tags = {key: value for key in keys if (value := item[key]) != "-"}
    return tags if _TEXT.issuperset(map(type, tags.values())) else dict(values.flat(tags))


def _with_mnemonic(program: Any, message: Any) -> Any:
    """The message as rules look at it: Cisco's mnemonic, which parsers of syslog take for the program, before it."""
    if type(message) is not str:
        return message
    if message[:1] in (" ", "\ufeff"):  # what stood between the tag and the text, or says that it is UTF-8
        message = message[1:]
    return f"{program}: {message}" if type(program) is str and program[:1] == "%" else message


#: Keys of objects that are somebody else's, wherever else they are found.
_TRAPS = traps.MARKS


def are_of_a_record(keys: Collection[str], messages: Keys) -> bool:
    """May they be those of a record of a log, whose text stands under one of ``messages``? They are none where they are
    a native event's, or a trap's; and without a text they may be anybody's."""
    native = "hostname" in keys and "message" in keys
    return not native and _TRAPS.isdisjoint(keys) and any(key in keys for key in messages)
