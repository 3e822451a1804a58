"""check_rule: what an administrator or a file gives, as a rule; or which field can't stay, and what to write there."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from mutt.errors import RuleError
from mutt.event import SEVERITY_NAMES
from mutt.rules.evaluate import check_matchable
from mutt.rules.gaps import check_gaps
from mutt.rules.golden import check_examples
from mutt.rules.hosts import check_host_pattern
from mutt.rules.oid import normal
from mutt.rules.redaction import Redaction, check_redactable
from mutt.rules.rule import Example, Handling, MatchType, Rule, StormPolicy
from mutt.rules.windows import Window, check_times, check_timezone, in_zone, read_recurrence, read_time

NAME_MAX = 255
TEXT_MAX = 4096

#: PostgreSQL's integer.
_PRIORITY_LIMIT = 2**31 - 1

_OID = re.compile(r"[0-9]+(\.[0-9]+)*")
_FLAGS = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}

#: Fields that may be given empty (null, or no text), as a form gives what was not filled in.
_MAY_BE_EMPTY = frozenset(
    (
        "name",
        "match_string",
        "trap_oid",
        "syslog_severity",
        "hostname",
        "source",
        "program",
        "tags",
        "moog_severity",
        "dedup_window",
        "threshold_count",
        "threshold_window",
        "flap_count",
        "flap_window",
        "examples",
        "team",
        "rule_id",
        "timezone",
        "recurrence",
        "ended_at",
        "starts_at",
        "ends_at",
    )
)

#: The most that noise control takes: seconds of a window, and events that make one alert.
WINDOW_MAX = 7 * 86_400
COUNT_MAX = 1_000

#: Examples of one rule.
EXAMPLES_MAX = 100
_EMPTY: tuple[Any, ...] = (None, "", [], ())

_Word = TypeVar("_Word", bound=StrEnum)
Reader = Callable[[str, Any], Any]


def check_rule(data: Mapping[str, Any], *, rule_id: int = 0) -> Rule:
    """The rule that ``data`` (the fields of :class:`Rule`, as JSON, YAML or a form gives them) describes.

    Blanks around a value and dots around an OID are dropped, numbers may be text, severities names; the blanks of
    ``match_string`` are the rule's own. An absent field has its default; the name's is what the rule looks for.
    ``id`` in ``data`` is ignored. What only makes every event dear is refused of an active rule: one that stands
    from earlier can be switched off. The rule's own examples must hold, also of a rule that is off: it could be
    switched on. Raises :class:`RuleError` with the field and the remedy.
    """
    values = _values(data, _READERS, "rule")
    rule = _told_apart(Rule(id=rule_id, **{"name": "", **values}))
    _both(rule, "threshold_count", "threshold_window")
    _both(rule, "flap_count", "flap_window")
    check_matchable(rule)
    if rule.is_active and rule.match_type is MatchType.REGEX:
        check_gaps(rule.match_string)
    check_examples(rule)
    return (
        rule
        if rule.name
        else msgspec.structs.replace(rule, name=(rule.match_string or rule.trap_oid or "")[:NAME_MAX])
    )


def check_storm(data: Mapping[str, Any], *, policy_id: int = 0) -> StormPolicy:
    """The storm policy that ``data`` describes, as :func:`check_rule` reads a rule. Raises :class:`RuleError`."""
    values = _values(data, _OF_STORM, "storm policy")
    for field in ("name", "group_by", "alert_count", "alert_window"):
        if not values.get(field):
            raise RuleError(field, "is empty; a storm policy needs one")
    policy = StormPolicy(id=policy_id, **values)
    if policy.hostname:
        check_host_pattern(policy.hostname)
    return policy


def check_redaction(data: Mapping[str, Any], *, redaction_id: int = 0) -> Redaction:
    """The redaction that ``data`` describes, as :func:`check_rule` reads a rule. Raises :class:`RuleError`.

    The blanks of pattern and replacement are their own.
    """
    values = _values(data, _OF_REDACTION, "redaction")
    if not values.get("name"):
        raise RuleError("name", "is empty; name what is taken out")
    redaction = Redaction(id=redaction_id, **{"pattern": "", **values})
    check_redactable(redaction)
    return redaction


def check_window(data: Mapping[str, Any], *, window_id: int = 0) -> Window:
    """The maintenance window that ``data`` describes, as :func:`check_rule` reads a rule. Raises :class:`RuleError`.

    A time without an offset is one on the clock of the window's ``timezone``.
    """
    values = _values(data, _OF_WINDOW, "maintenance window")
    for field, what in _OF_EVERY_WINDOW.items():
        if not values.get(field):
            raise RuleError(field, f"is empty; {what}")
    if not any(values.get(scope) is not None for scope in WINDOW_SCOPES):
        raise RuleError("hostname", "is empty, and so are team and rule_id; say what is in maintenance")
    if values.get("hostname"):
        check_host_pattern(values["hostname"])
    zone = values.setdefault("timezone", "UTC")
    for field in ("starts_at", "ends_at"):
        # Whole seconds: a form that shows them gives them back as they were.
        values[field] = in_zone(field, values[field], zone).replace(microsecond=0)
    if values.get("ended_at"):
        values["ended_at"] = in_zone("ended_at", values["ended_at"], zone)
    window = Window(id=window_id, **values)
    check_times(window)
    return window


def check_hostname(given: Any, field: str = "hostname") -> str:
    """The name, glob or network that ``given`` is. Raises :class:`RuleError`."""
    name: str = _text(NAME_MAX)(field, given)
    if not name:
        raise RuleError(
            field, "is empty; write a name, a glob such as lab-*, or a network such as 10.9.0.0/16"
        )
    check_host_pattern(name, field)
    return name


def check_team(field: str, given: Any) -> str:
    """The name of a team. Raises :class:`RuleError`."""
    team: str = _text(NAME_MAX)(field, given)
    if not team:
        raise RuleError(field, "is blank; name a team")
    return team


def _values(data: Mapping[str, Any], readers: Mapping[str, Reader], what: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field, given in data.items():
        if field == "id":
            continue
        if field not in readers:
            raise RuleError(str(field), _unknown(str(field), readers, what))
        if given not in _EMPTY or field not in _MAY_BE_EMPTY:
            values[field] = readers[field](field, given)
    return values


def _told_apart(rule: Rule) -> Rule:
    # An oid_prefix rule looks at the OID only: text beside it would seem to be asked for, and is not.
    if rule.match_type is not MatchType.OID_PREFIX:
        if not rule.match_string.strip():
            raise RuleError(
                "match_string", f"is empty; a {rule.match_type.value} rule needs the text to look for"
            )
        return rule
    text = normal(rule.match_string)
    oid = rule.trap_oid or (_oid("match_string", text) if text else None)
    if text not in ("", oid):
        raise RuleError(
            "match_string",
            "has no meaning beside oid_prefix; leave it empty, or use contains with trap_oid as its scope",
        )
    return msgspec.structs.replace(rule, match_string="", trap_oid=oid, field="message")


def _both(rule: Rule, count: str, window: str) -> None:
    for given, lacking in ((count, window), (window, count)):
        if getattr(rule, given) is not None and getattr(rule, lacking) is None:
            raise RuleError(
                lacking, f"is empty beside {given}; give both (so many within so many seconds), or neither"
            )


def _text(limit: int, *, strip: bool = True) -> Reader:
    def read(field: str, given: Any) -> str:
        if not isinstance(given, str | int | float) or isinstance(given, bool):
            raise RuleError(field, f"is a {type(given).__name__}; write text")
        text = str(given).strip() if strip else str(given)
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise RuleError(
                field, "holds a character that can't be stored (NUL or half a surrogate pair); leave it out"
            )
        if len(text) > limit:
            raise RuleError(field, f"has {len(text)} characters; at most {limit} are kept")
        return text

    return read


def _scope(field: str, given: Any) -> str | None:
    return _text(NAME_MAX)(field, given) or None


def _word(words: type[_Word]) -> Reader:
    def read(field: str, given: Any) -> _Word:
        try:
            return words(str(given).strip())
        except ValueError:
            raise RuleError(field, f"{str(given)[:60]!r} is none of {', '.join(words)}") from None

    return read


def _whole(low: int, high: int, names: Mapping[str, int] | None = None) -> Reader:
    def read(field: str, given: Any) -> int:
        text = str(given).strip().lower()
        if names and text in names:
            return names[text]
        whole = not isinstance(given, bool) and re.fullmatch(r"[+-]?[0-9]{1,12}", text)
        if whole and low <= int(text) <= high:
            return int(text)
        wrong = "is out of range" if whole else "is no whole number"
        or_name = " or a name such as error" if names else ""
        raise RuleError(
            field, f"{str(given)[:60]!r} {wrong}; write a whole number from {low} to {high}{or_name}"
        )

    return read


def read_flag(field: str, given: Any) -> bool:
    """Yes or no, as JSON or a form gives it. Raises :class:`RuleError`."""
    flag = _FLAGS.get(str(given).strip().lower())
    if flag is None:
        raise RuleError(field, f"{str(given)[:60]!r} is neither true nor false")
    return flag


def _oid(field: str, given: Any) -> str | None:
    oid = normal(str(given))
    if oid and (len(oid) > NAME_MAX or not _OID.fullmatch(oid)):
        raise RuleError(field, f"{str(given)[:60]!r} is no OID; write numbers and dots such as 1.3.6.1.4.1.9")
    return oid or None


def _tags(field: str, given: Any) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise RuleError(field, 'is no mapping; write names and values such as {"site": "lon1"}')
    tags = {
        _text(NAME_MAX)(field, name): _text(NAME_MAX, strip=False)(field, value)
        for name, value in given.items()
    }
    if "" in tags:
        raise RuleError(field, "has a tag without a name")
    return tags


def _examples(field: str, given: Any) -> tuple[Example, ...]:
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise RuleError(field, 'is no list; write one such as [{"message": "fan failed", "matches": true}]')
    examples = tuple(_example(f"{field}[{number}]", one) for number, one in enumerate(given))
    if len(examples) > EXAMPLES_MAX:
        raise RuleError(field, f"are {len(examples)}; a rule has at most {EXAMPLES_MAX}")
    return examples


def _example(field: str, given: Any) -> Example:
    if isinstance(given, Example):
        return given
    if isinstance(given, str):
        given = {"message": given}  # the short form: an event with this message must match
    if not isinstance(given, Mapping):
        raise RuleError(
            field, 'is no event; write text, or fields such as {"message": "…", "matches": false}'
        )
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in _OF_EXAMPLE:
            raise RuleError(
                f"{field}.{name}", f"is no field of an example; there are {', '.join(_OF_EXAMPLE)}"
            )
        if value is not None:
            values[name] = _OF_EXAMPLE[name](f"{field}.{name}", value)
    example = Example(**values)
    if not example.message and not example.trap_oid:
        raise RuleError(field, "has neither message nor trap_oid; say what the event looks like")
    return example


def _unknown(field: str, known: Mapping[str, Any], what: str) -> str:
    near = difflib.get_close_matches(field, known, n=1)
    return f"is no field of a {what}; " + (
        f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    )


#: How each field of a rule is read.
_READERS: dict[str, Reader] = {
    "name": _text(NAME_MAX),
    "match_type": _word(MatchType),
    "match_string": _text(TEXT_MAX, strip=False),
    "field": _text(NAME_MAX),
    "trap_oid": _oid,
    "syslog_severity": _whole(0, 7, SEVERITY_NAMES),
    "hostname": _scope,
    "source": _scope,
    "program": _scope,
    "tags": _tags,
    "priority": _whole(-_PRIORITY_LIMIT, _PRIORITY_LIMIT),
    "prod_handling": _word(Handling),
    "dev_handling": _word(Handling),
    "team_assignment": check_team,
    "moog_severity": _whole(0, 5),
    "is_active": read_flag,
    "dedup_window": _whole(1, WINDOW_MAX),
    "threshold_count": _whole(2, COUNT_MAX),
    "threshold_window": _whole(1, WINDOW_MAX),
    "flap_count": _whole(2, COUNT_MAX),
    "flap_window": _whole(1, WINDOW_MAX),
    "examples": _examples,
}

#: What a storm is counted by.
STORM_KEYS = ("host", "rule", "team", "source")


def _group_by(field: str, given: Any) -> str:
    key: str = _text(NAME_MAX)(field, given)
    tag = key.removeprefix("tags.") if key.startswith("tags.") else ""
    if key not in STORM_KEYS and not tag:
        raise RuleError(field, f"{key[:60]!r} is none of {', '.join(STORM_KEYS)} or tags.NAME")
    return key


#: How each field of a storm policy is read.
_OF_STORM: dict[str, Reader] = {
    "name": _text(NAME_MAX),
    "group_by": _group_by,
    "alert_count": _whole(2, _PRIORITY_LIMIT),
    "alert_window": _whole(1, WINDOW_MAX),
    "hostname": _scope,
    "is_active": read_flag,
}

#: How each field of a redaction is read.
_OF_REDACTION: dict[str, Reader] = {
    "name": _text(NAME_MAX),
    "pattern": _text(TEXT_MAX, strip=False),
    "replacement": _text(NAME_MAX, strip=False),
    "is_active": read_flag,
    "position": _whole(-_PRIORITY_LIMIT, _PRIORITY_LIMIT),
}

#: What a maintenance window may be about, and what it can't be without.
WINDOW_SCOPES = ("hostname", "team", "rule_id")
_OF_EVERY_WINDOW = {
    "name": "name what is done, such as core upgrade",
    "owner": "name who answers for it",
    "starts_at": "say when it begins",
    "ends_at": "say when it ends; a window has an end",
}

#: How each field of a maintenance window is read.
_OF_WINDOW: dict[str, Reader] = {
    "name": _text(NAME_MAX),
    "owner": _text(NAME_MAX),
    "reason": _text(TEXT_MAX),
    "hostname": _scope,
    "team": _scope,
    "rule_id": _whole(1, _PRIORITY_LIMIT),
    "starts_at": read_time,
    "ends_at": read_time,
    "timezone": lambda field, given: check_timezone(given, field),
    "recurrence": read_recurrence,
    "release": read_flag,
    "is_active": read_flag,
    "ended_at": read_time,
}

#: How each field of an example is read.
_OF_EXAMPLE: dict[str, Reader] = {
    "message": _text(TEXT_MAX, strip=False),
    "hostname": _text(NAME_MAX),
    "severity": _whole(0, 7, SEVERITY_NAMES),
    "source": _text(NAME_MAX),
    "program": _text(NAME_MAX),
    "facility": _text(NAME_MAX),
    "trap_oid": _oid,
    "tags": _tags,
    "matches": read_flag,
}
