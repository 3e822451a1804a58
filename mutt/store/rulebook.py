"""The rules in PostgreSQL: read as a compiled ruleset, and changed with a note of who did it."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Unpack

import msgspec
from sqlalchemy import Connection, Label, Row, delete, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import JSONB

from mutt.errors import NoRuleset
from mutt.rules.check import check_rule
from mutt.rules.evaluate import Ruleset
from mutt.rules.rule import Rule
from mutt.rules.starting import STARTING_DEVELOPMENT_HOSTS, STARTING_RULES
from mutt.store import history
from mutt.store.history import Said
from mutt.store.tables import alert_rules, development_hosts, device_teams, ruleset_version

log = logging.getLogger(__name__)


def _tags_as_text() -> Label[Any]:
    # psql may write {"site": 1}; an event's tags are texts, so the rule means "1". Nothing else in a row can be what
    # Rule does not hold: the columns' types and CHECKs see to that, and one odd row must not hide its neighbours.
    tag = func.jsonb_each_text(alert_rules.c.tags).table_valued("key", "value")
    texts = func.jsonb_object_agg(tag.c.key, func.coalesce(tag.c.value, "null"), type_=JSONB)
    return select(func.coalesce(texts, text("'{}'::jsonb"), type_=JSONB)).scalar_subquery().label("tags")


_columns = [_tags_as_text() if name == "tags" else alert_rules.c[name] for name in Rule.__struct_fields__]
_ATTEMPTS = 5


class Rulebook:
    """The ruleset of one process: compiled once a version, kept until the version changes."""

    def __init__(self, default_team: str) -> None:
        self._default_team = default_team
        self._ruleset: Ruleset | None = None
        self._refused = -1  #: the last version that could not be compiled

    def current(self, conn: Connection) -> Ruleset:
        """The ruleset of the version that the caller's transaction sees.

        A version that can't be compiled leaves the last good one in force, which says so in its ``version``.
        Raises :class:`NoRuleset` where there is none; never answers with an empty default.
        """
        version = current_version(conn)
        good = self._ruleset
        if good is not None and version in (good.version, self._refused):
            return good
        try:
            self._ruleset = load(conn, self._default_team)
        except NoRuleset as error:
            if good is None:
                raise
            self._refused = version
            log.error("ruleset %d can't be compiled, %d stays in force: %s", version, good.version, error)
            return good
        return self._ruleset


def current_version(conn: Connection) -> int:
    """The version of the rules as committed. Raises :class:`NoRuleset` if it can't be told."""
    version = conn.execute(select(ruleset_version.c.version)).scalar_one_or_none()
    if version is None:
        raise NoRuleset("ruleset_version has no row: run `mutt migrate`")
    return version


def load(conn: Connection, default_team: str) -> Ruleset:
    """Read and compile the rules. Raises :class:`NoRuleset` if they can't be, or don't stand still."""
    for _ in range(_ATTEMPTS):
        version = current_version(conn)
        rules = list_rules(conn)
        hosts = list(conn.execute(select(development_hosts.c.hostname)).scalars())
        teams = {row.hostname: row.team_assignment for row in conn.execute(select(device_teams))}
        # Each statement sees its own moment: only an unchanged version proves that they saw the same rules.
        if current_version(conn) == version:
            return Ruleset.compile(version, rules, hosts, teams, default_team)
    raise NoRuleset("the rules change faster than they can be read")


def seed(conn: Connection) -> bool:
    """Write the starting rules and hosts, if nobody has ever written a rule. Did it?"""
    version = conn.execute(select(ruleset_version.c.version).with_for_update()).scalar_one()
    if version or conn.execute(select(alert_rules.c.id).limit(1)).first():
        return False
    for rule in STARTING_RULES:
        _create(conn, rule, {"changed_by": "mutt", "reason": "starting rules"})
    conn.execute(
        insert(development_hosts), [{"hostname": hostname} for hostname in STARTING_DEVELOPMENT_HOSTS]
    )
    return True


def list_rules(conn: Connection) -> list[Rule]:
    """All rules, inactive ones too, as they are tried: by priority, then id."""
    query = select(*_columns).order_by(alert_rules.c.priority, alert_rules.c.id)
    return [_rule(row) for row in conn.execute(query)]


def get_rule(conn: Connection, rule_id: int) -> Rule | None:
    row = conn.execute(select(*_columns).where(alert_rules.c.id == rule_id)).first()
    return None if row is None else _rule(row)


def save_rule(
    conn: Connection,
    data: Mapping[str, Any],
    *,
    rule_id: int | None = None,
    **said: Unpack[Said],
) -> Rule:
    """Create a rule, or change the fields that ``data`` gives of rule ``rule_id``; note it in the history.

    Raises :class:`RuleError` with the field at fault, ``LookupError`` if there is no such rule.
    """
    if rule_id is None:
        return _create(conn, check_rule(data), said)
    before = _locked(conn, rule_id)
    after = check_rule(_fields(before) | dict(data), rule_id=rule_id)
    if after != before:
        changes = {**_fields(after), "updated_at": func.now()}
        conn.execute(update(alert_rules).where(alert_rules.c.id == rule_id).values(changes))
        history.note(
            conn,
            operation="UPDATE",
            table_name=alert_rules.name,
            record_id=rule_id,
            before=_fields(before),
            after=_fields(after),
            **said,
        )
    return after


def delete_rule(conn: Connection, rule_id: int, **said: Unpack[Said]) -> Rule:
    """Delete a rule and note it. Answers with what it was. Raises ``LookupError`` if there is no such rule."""
    before = _locked(conn, rule_id)
    conn.execute(delete(alert_rules).where(alert_rules.c.id == rule_id))
    history.note(
        conn,
        operation="DELETE",
        table_name=alert_rules.name,
        record_id=rule_id,
        before=_fields(before),
        **said,
    )
    return before


def export(conn: Connection) -> list[dict[str, Any]]:
    """Every rule as plain values, in the order in which they are tried; what ``import_rules`` takes."""
    return [_fields(rule) for rule in list_rules(conn)]


def import_rules(
    conn: Connection,
    items: Iterable[Mapping[str, Any]],
    *,
    replace: bool = False,
    **said: Unpack[Said],
) -> list[Rule]:
    """Create or change rules by their names; ids are this database's own, so that history keeps its meaning.

    All items are checked before the first is written. With ``replace``, rules that no item names are deleted.
    Raises :class:`RuleError`.
    """
    checked = [check_rule(item) for item in items]
    standing: dict[str, list[int]] = defaultdict(list)
    for rule in list_rules(conn):
        standing[rule.name].append(rule.id)
    written = []
    for rule in checked:
        same = standing[rule.name]
        written.append(save_rule(conn, _fields(rule), rule_id=same.pop(0) if same else None, **said))
    if replace:
        for rule_id in sorted(left for ids in standing.values() for left in ids):
            delete_rule(conn, rule_id, **said)
    return written


def _create(conn: Connection, rule: Rule, said: Said) -> Rule:
    row = conn.execute(insert(alert_rules).values(_fields(rule)).returning(*_columns)).one()
    created = _rule(row)
    history.note(
        conn,
        operation="CREATE",
        table_name=alert_rules.name,
        record_id=created.id,
        after=_fields(created),
        **said,
    )
    return created


def _locked(conn: Connection, rule_id: int) -> Rule:
    row = conn.execute(select(*_columns).where(alert_rules.c.id == rule_id).with_for_update()).first()
    if row is None:
        raise LookupError(f"there is no rule {rule_id}")
    return _rule(row)


def _rule(row: Row[Any]) -> Rule:
    return msgspec.convert(dict(zip(Rule.__struct_fields__, row, strict=True)), Rule)


def _fields(rule: Rule) -> dict[str, Any]:
    # Without the id: it belongs to the database.
    values: dict[str, Any] = msgspec.to_builtins(rule)
    del values["id"]
    return values
