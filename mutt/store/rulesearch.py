"""The list of rules as people ask for it: searched, filtered, ordered and cut into pages by PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, Text, and_, func, not_, or_, select, text, true

from mutt.rules.rule import Handling, Rule
from mutt.store import rulebook
from mutt.store.tables import alert_rules

#: PostgreSQL's integer, in digits: what has more is no id.
_ID_DIGITS = 9

#: What narrows the events that a rule looks at.
SCOPES = ("hostname", "source", "program", "syslog_severity", "tags")

_at = alert_rules.c
_as_tried = (_at.priority, _at.id)
_ORDERS: dict[str, tuple[ColumnElement[Any], ...]] = {
    "tried": _as_tried,
    "name": (func.lower(_at.name), _at.id),
    "team": (func.lower(_at.team_assignment), *_as_tried),
    "changed": (_at.updated_at.desc(), _at.id),
}
ORDERS = tuple(_ORDERS)


class RuleSearch(msgspec.Struct, frozen=True, kw_only=True):
    """Which rules are wanted, and in what order. Empty: any."""

    text: str = ""  #: in any of a rule's texts, ignoring case; or its id
    match_type: str = ""
    team: str = ""
    handling: str = ""  #: in ``environment``, else in either
    environment: str = ""  #: production or development; without ``handling``: those that forward there
    active: str = ""  #: on or off
    scope: str = ""  #: yes or no, or one of SCOPES
    order: str = "tried"


class Listed(NamedTuple):
    """A rule, and when it was last changed: what a page shows, and what it has seen."""

    rule: Rule
    changed_at: datetime


def count(conn: Connection, asked: RuleSearch) -> int:
    """How many rules ``asked`` finds."""
    return conn.execute(select(func.count()).select_from(alert_rules).where(_wanted(asked))).scalar_one()


def find(conn: Connection, asked: RuleSearch, *, limit: int | None = None, skip: int = 0) -> list[Listed]:
    """The rules that ``asked`` finds, from the ``skip``-th on."""
    query = select(_at.id, _at.updated_at).where(_wanted(asked)).order_by(*_ORDERS[asked.order])
    found = conn.execute(query.limit(limit).offset(skip)).all()
    rules = rulebook.get_rules(conn, [row.id for row in found])
    return [Listed(rules[row.id], row.updated_at) for row in found if row.id in rules]


def one(conn: Connection, rule_id: int) -> Listed | None:
    # The time first: a change in between then counts as not seen.
    changed = changed_at(conn, [rule_id])
    rule = rulebook.get_rule(conn, rule_id)
    return None if rule is None or rule_id not in changed else Listed(rule, changed[rule_id])


def changed_at(conn: Connection, rule_ids: Iterable[int], *, lock: bool = False) -> dict[int, datetime]:
    """When each was last changed, of those there are. ``lock`` keeps it so until the transaction ends."""
    query = select(_at.id, _at.updated_at).where(_at.id.in_(list(rule_ids))).order_by(_at.id)
    found = conn.execute(query.with_for_update() if lock else query)
    return {row.id: row.updated_at for row in found}


def teams(conn: Connection) -> Sequence[str]:
    """The teams that rules name, in order."""
    query = select(_at.team_assignment).distinct().order_by(_at.team_assignment)
    return conn.execute(query).scalars().all()


def totals(conn: Connection) -> tuple[int, int]:
    """How many rules there are, and how many of them are active."""
    query = select(func.count(), func.count().filter(_at.is_active)).select_from(alert_rules)
    found = conn.execute(query).one()
    return found[0], found[1]


def _wanted(asked: RuleSearch) -> ColumnElement[bool]:
    wanted: list[ColumnElement[bool]] = [true()]
    if asked.text:
        wanted.append(_holds(asked.text))
    if asked.match_type:
        wanted.append(_at.match_type == asked.match_type)
    if asked.team:
        wanted.append(_at.team_assignment == asked.team)
    if asked.active:
        wanted.append(_at.is_active.is_(asked.active == "on"))
    if asked.handling or asked.environment:
        wanted.append(_handled(asked))
    if asked.scope:
        wanted.append(_scoped(asked.scope))
    return and_(*wanted)


def _holds(needle: str) -> ColumnElement[bool]:
    texts = [_at.name, _at.match_type, _at.match_string, _at.team_assignment, _at.prod_handling]
    texts += [_at.dev_handling, _at.hostname, _at.source, _at.program, _at.trap_oid]
    # A tag as people write it, which is how the list shows it.
    tag = func.jsonb_each_text(_at.tags).table_valued("key", "value")
    tags = select(func.string_agg(tag.c.key + "=" + tag.c.value, "\n")).scalar_subquery()
    found = func.concat_ws("\n", *texts, tags, type_=Text).icontains(needle, autoescape=True)
    number = needle.lstrip("#")
    if number.isascii() and number.isdigit() and len(number) <= _ID_DIGITS:
        return or_(found, _at.id == int(number))
    return found


def _handled(asked: RuleSearch) -> ColumnElement[bool]:
    columns = {"production": [_at.prod_handling], "development": [_at.dev_handling]}
    ours = columns.get(asked.environment, [_at.prod_handling, _at.dev_handling])
    if asked.handling:
        return or_(*(column == asked.handling for column in ours))
    return or_(*(column != Handling.IGNORE.value for column in ours))


def _scoped(scope: str) -> ColumnElement[bool]:
    has: dict[str, ColumnElement[bool]] = {
        name: _at.tags != text("'{}'::jsonb") if name == "tags" else _at[name].is_not(None) for name in SCOPES
    }
    # For a trap the OID is what the rule looks for.
    has["trap_oid"] = and_(_at.trap_oid.is_not(None), _at.match_type != "oid_prefix")
    if scope in has:
        return has[scope]
    some = or_(*has.values())
    return some if scope == "yes" else not_(some)
