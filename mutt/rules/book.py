"""Book: what makes a ruleset, as values; and as a file for people, which is YAML or JSON.

A file of rules holds up to five sections::

    rules:
    - name: fan failed
      match_string: fan failed
      team_assignment: Power
      examples:
      - fan failed in bay 3
      - message: fan ok
        matches: false
    development_hosts: [lab-*]
    device_teams: {core-*: Backbone}
    storm_policies:
    - {name: a host goes wild, group_by: host, alert_count: 50, alert_window: 60}
    redactions:
    - {name: passwords, pattern: 'password=\\S+', replacement: 'password=[redacted]'}

A plain list is one of rules. What is left out has its default. Every value is read as the text that stands there, so
that no ``no``, ``010`` or ``1:30`` becomes something else: what a field means by it, the field's own check says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec
import orjson
import yaml

from mutt.errors import MuttError, RuleError
from mutt.rules.change import HOSTS, REDACTIONS, RULES, STORMS, TEAMS, WINDOWS, Change, Fields, fields_of
from mutt.rules.check import check_hostname, check_redaction, check_rule, check_storm, check_team
from mutt.rules.redaction import Redaction
from mutt.rules.rule import Rule, StormPolicy
from mutt.rules.windows import Window

# libyaml is ten times as fast, and comes with most builds.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SafeDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

Item = Mapping[str, Any]
_Made = TypeVar("_Made")

#: The sections of a file, in its order.
SECTIONS = ("rules", HOSTS, TEAMS, STORMS, REDACTIONS)


class NotRules(MuttError):
    """A file that holds no rules."""


class Fault(NamedTuple):
    """Something of a file that can't stay as it is."""

    rule: str  #: the rule's name, else its place in the file; of another section, that and what it is about
    field: str
    reason: str


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a ruleset. None: nothing is said of it. An id is 0 where there is none."""

    rules: Sequence[Rule] | None = None
    hosts: Sequence[str] | None = None
    teams: Mapping[str, str] | None = None
    storms: Sequence[StormPolicy] | None = None
    redactions: Sequence[Redaction] | None = None
    windows: Sequence[Window] | None = None  #: to be compared only: no file speaks of them

    def rows(self) -> dict[str, list[tuple[str, Fields]]]:
        """The rows of each table of which something is said, each with its id."""
        found: dict[str, list[tuple[str, Fields]]] = {}
        if self.rules is not None:
            found[RULES] = [(str(rule.id), fields_of(rule)) for rule in self.rules]
        if self.hosts is not None:
            found[HOSTS] = [(host, {"hostname": host}) for host in self.hosts]
        if self.teams is not None:
            found[TEAMS] = [
                (host, {"hostname": host, "team_assignment": team}) for host, team in self.teams.items()
            ]
        if self.storms is not None:
            found[STORMS] = [(str(policy.id), fields_of(policy)) for policy in self.storms]
        if self.redactions is not None:
            found[REDACTIONS] = [(str(one.id), fields_of(one)) for one in self.redactions]
        if self.windows is not None:
            found[WINDOWS] = [(str(window.id), fields_of(window)) for window in self.windows]
        return found


def between(before: Book, after: Book) -> list[Change]:
    """What makes ``after`` of ``before``: rows of one id are one row. Both say everything."""
    changes = []
    had = {table: dict(rows) for table, rows in before.rows().items()}
    for table, rows in after.rows().items():
        was = had[table]
        for record, row in rows:
            stood = was.pop(record, None)
            if stood != row:
                changes.append(Change(table=table, record_id=record, before=stood, after=row))
        changes += [Change(table=table, record_id=record, before=row) for record, row in was.items()]
    return changes


def planned(standing: Book, wanted: Book, *, replace: bool = False) -> list[Change]:
    """What makes ``standing`` hold what ``wanted`` says; with ``replace`` nothing else, of what it speaks of.

    Rules, storm policies and redactions are known by their names, and so keep their ids: of several of one name, the
    first stays the first.
    """
    changes = []
    had = standing.rows()
    for table, rows in wanted.rows().items():
        left: dict[str, list[tuple[str, Fields]]] = {}
        for record, row in had[table]:
            left.setdefault(_name(row), []).append((record, row))
        for _, row in rows:
            same = left.get(_name(row))
            record, stood = same.pop(0) if same else ("", None)
            if stood != row:
                changes.append(Change(table=table, record_id=record, before=stood, after=row))
        if replace:
            gone = (each for same in left.values() for each in same)
            changes += [Change(table=table, record_id=record, before=row) for record, row in gone]
    return changes


def _name(row: Fields) -> str:
    name: str = row["name"] if "name" in row else row["hostname"]
    return name


# ---- reading


def read(name: str, data: bytes) -> dict[str, Any]:
    """The sections of a file, unchecked; ``name`` is for messages. Raises :class:`NotRules`."""
    return sections_of(name, _parsed(name, data))


def sections_of(name: str, found: Any) -> dict[str, Any]:
    """The same of what a file's text says, as plain values. Raises :class:`NotRules`."""
    if isinstance(found, list):
        found = {"rules": found}
    if not isinstance(found, dict) or not found:
        raise NotRules(f"{name} holds no list of rules")
    if not found.keys() & set(SECTIONS):
        found = {"rules": [found]}  # one rule
    unknown = [str(key) for key in found if key not in SECTIONS]
    if unknown:
        raise NotRules(f"{name}: {unknown[0]} is no section; there are {', '.join(SECTIONS)}")
    sections = {section: found[section] for section in SECTIONS if found.get(section) is not None}
    for section, value in sections.items():
        if not isinstance(value, dict if section == TEAMS else list):
            what = "mapping of hosts to teams" if section == TEAMS else "list"
            raise NotRules(f"{name}: {section} is no {what}")
        if section in ("rules", STORMS, REDACTIONS) and not all(isinstance(item, dict) for item in value):
            raise NotRules(f"{name}: {section} holds what has no fields")
    return sections


def items_of(name: str, data: bytes) -> list[Item]:
    """The rules of a file, unchecked. Raises :class:`NotRules`."""
    rules: list[Item] = read(name, data).get("rules", [])
    return rules


def check_items(items: Iterable[Item]) -> tuple[list[Rule], list[Fault]]:
    """The rules that are good, numbered as they stand, and what is wrong with the others."""
    good: list[Rule] = []
    faults: list[Fault] = []
    for number, item in enumerate(items, 1):
        try:
            good.append(check_rule(item, rule_id=number))
        except RuleError as error:
            faults.append(Fault(str(item.get("name") or f"#{number}"), error.field, error.reason))
    return good, faults


def check(sections: Mapping[str, Any]) -> tuple[Book, list[Fault]]:
    """The book that a file's sections (see :func:`read`) hold, and what is wrong with what they hold besides."""
    faults: list[Fault] = []
    values: dict[str, Any] = {}
    if "rules" in sections:
        values["rules"], faults = check_items(sections["rules"])
    if HOSTS in sections:
        hosts = [
            _tried(faults, f"{HOSTS} {given}", partial(check_hostname, given)) for given in sections[HOSTS]
        ]
        values["hosts"] = sorted({host for host in hosts if host})
    if TEAMS in sections:
        teams = [
            _tried(faults, f"{TEAMS} {host}", partial(_assigned, host, team))
            for host, team in sections[TEAMS].items()
        ]
        values["teams"] = dict(sorted(pair for pair in teams if pair))
    if STORMS in sections:
        storms = [
            _tried(faults, f"{STORMS} {item.get('name') or f'#{number}'}", partial(check_storm, item))
            for number, item in enumerate(sections[STORMS], 1)
        ]
        values["storms"] = [policy for policy in storms if policy]
    if REDACTIONS in sections:
        values["redactions"] = _redactions(sections[REDACTIONS], faults)
    return Book(**values), faults


def _redactions(items: Iterable[Item], faults: list[Fault]) -> list[Redaction]:
    found: dict[str, Redaction] = {}
    for number, item in enumerate(items, 1):
        what = f"{REDACTIONS} {item.get('name') or f'#{number}'}"
        redaction = _tried(faults, what, partial(check_redaction, item))
        if redaction and found.setdefault(redaction.name, redaction) is not redaction:
            faults.append(Fault(what, "name", "is given a second time; give each its own"))
    return list(found.values())


def _assigned(host: Any, team: Any) -> tuple[str, str]:
    return check_hostname(host), check_team("team_assignment", team)


def _tried(faults: list[Fault], what: str, check: Callable[[], _Made]) -> _Made | None:
    try:
        return check()
    except RuleError as error:
        faults.append(Fault(what, error.field, error.reason))
        return None


def _parsed(name: str, data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        json_error = error
    try:
        return yaml.load(data, Loader=_Loader)  # noqa: S506 it makes lists, mappings and texts, and nothing else
    except yaml.YAMLError as error:
        if data.lstrip()[:1] in (b"[", b"{"):
            raise NotRules(f"{name} is no JSON: {json_error}") from None
        raise NotRules(f"{name} is neither JSON nor YAML: {_said(error)}") from None
    except RecursionError:
        raise NotRules(f"{name} is nested too deeply") from None


def _said(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}: " if mark else ""
    return where + str(getattr(error, "problem", None) or error)


def _not_meant(what: str, node: Any) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, what, node.start_mark)


#: What a value can be; another tag would make of it what no field's check has seen.
_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "null", "seq", "map"))


class _Loader(_SafeLoader):
    """Scalars are texts, but for null; a name stands once in a mapping; nothing stands for something else."""

    yaml_implicit_resolvers = {
        first: [("tag:yaml.org,2002:null", re.compile(r"(?:~|null|Null|NULL|)\Z"))]
        for first in ("~", "n", "N", "")
    }

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        if node in self.constructed_objects or node in self.recursive_objects:
            # A few lines of them would make a file that fills the memory.
            raise _not_meant("an alias (*name) is not understood; write it out", node)
        if node.tag not in _TAGS:
            raise _not_meant(f"a tag ({node.tag}) is not understood; leave it out", node)
        return super().construct_object(node, deep)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag not in _TAGS:
                raise _not_meant("a name is a text; this is none", key)
            if key.value in seen:
                raise _not_meant(f"{key.value} is given a second time", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


# ---- writing


def write(book: Book, comment: str = "") -> str:
    """The file of a book, as YAML: what has its default is left out, so that a difference shows what was meant.

    Any reader of YAML 1.1 or 1.2 finds the same texts in it. ``comment`` is its first line.
    """
    sections: dict[str, Any] = {}
    if book.rules is not None:
        sections["rules"] = [_short(rule) for rule in book.rules]
    if book.hosts is not None:
        sections[HOSTS] = list(book.hosts)
    if book.teams is not None:
        sections[TEAMS] = dict(book.teams)
    if book.storms is not None:
        sections[STORMS] = [_short(policy) for policy in book.storms]
    if book.redactions is not None:
        sections[REDACTIONS] = [_short(redaction) for redaction in book.redactions]
    text: str = yaml.dump(
        sections, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1 << 30, default_flow_style=False
    )
    return f"# {comment}\n{text}" if comment else text


def _short(row: Rule | StormPolicy | Redaction) -> dict[str, Any]:
    default = _DEFAULTS[type(row)]
    fields = {
        name: value for name, value in fields_of(row).items() if name not in default or value != default[name]
    }
    if "examples" in fields:
        # The short form: an event with this message, that must match.
        fields["examples"] = [
            one["message"] if one.keys() == {"message"} else one for one in fields["examples"]
        ]
    return fields


_DEFAULTS: dict[type, Fields] = {
    Rule: {name: value for name, value in fields_of(Rule(id=0, name="")).items() if name != "name"},
    StormPolicy: {"hostname": None, "is_active": True},
    Redaction: {"is_active": True, "position": 100},
}


class _Dumper(_SafeDumper):
    """Nothing stands for something else."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True
