"""The rules in PostgreSQL: read as a compiled ruleset, and changed with a note of who did it."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar, Unpack

import msgspec
from sqlalchemy import Connection, Label, Row, cast, delete, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import JSONB, REGCLASS

from mutt.errors import ManyRefused, NoRuleset, RuleError
from mutt.rules.book import Book, planned
from mutt.rules.change import REDACTIONS, RULES, Change, Fields, fields_of
from mutt.rules.check import check_rule, read_flag
from mutt.rules.evaluate import Ruleset
from mutt.rules.redaction import Redaction
from mutt.rules.rule import Example, Rule, StormPolicy
from mutt.rules.shadow import drafted
from mutt.rules.starting import STARTING_DEVELOPMENT_HOSTS, STARTING_RULES
from mutt.rules.windows import Window
from mutt.store import changes, history
from mutt.store.history import Said
from mutt.store.tables import (
    alert_rules,
    development_hosts,
    device_teams,
    maintenance_windows,
    redactions,
    ruleset_version,
    storm_policies,
)

log = logging.getLogger(__name__)

T = TypeVar("T")


def tags_as_text(tags: Any) -> Label[Any]:
    """The tags of a rule as texts, from a JSON column.

    psql may write {"site": 1}; an event's tags are texts, so the rule means "1". Nothing else in a row can be what
    Rule does not hold: the columns' types and CHECKs see to that, and one odd row must not hide its neighbours.
    """
    tag = func.jsonb_each_text(tags).table_valued("key", "value")
    texts = func.jsonb_object_agg(tag.c.key, func.coalesce(tag.c.value, "null"), type_=JSONB)
    return select(func.coalesce(texts, text("'{}'::jsonb"), type_=JSONB)).scalar_subquery().label("tags")


_columns = [
    tags_as_text(alert_rules.c.tags) if name == "tags" else alert_rules.c[name]
    for name in Rule.__struct_fields__
]
_storm_columns = [storm_policies.c[name] for name in StormPolicy.__struct_fields__]
_redaction_columns = [redactions.c[name] for name in Redaction.__struct_fields__]
_window_columns = [maintenance_windows.c[name] for name in Window.__struct_fields__]
_ATTEMPTS = 5


#: From so many rules on a new version is compiled beside the work; fewer take less than two commits do.
BESIDE_FROM = 1_000

#: For so many seconds after a version was last seen to stand it may judge: a saved rule acts within five.
LATE = 2.0

#: Seconds after which the thread that compiles gives way: with Python's 5 ms the work, which waits for a server every
#: millisecond, would wait for it each time.
YIELD = 0.0005
_USUAL = sys.getswitchinterval()  # not asked when a thread begins: another may be at it

_Found = TypeVar("_Found")


class HasRules(Protocol):
    """Rules in the place of others."""

    @property
    def rules(self) -> list[Rule]: ...


Changed = TypeVar("Changed", bound=HasRules)

#: Opens a transaction of its own.
Opens = Callable[[], AbstractContextManager[Connection]]


class Rulebook:
    """The ruleset of one process: compiled once a version, kept until the version changes.

    Given what ``opens`` a transaction, a new version of many rules is compiled in a thread while the one in force goes
    on judging: which one judged stands in each ruleset, and so in each row. Threads may share a rulebook.
    """

    def __init__(self, default_team: str, opens: Opens | None = None) -> None:
        self._default_team, self._opens = default_team, opens
        self._ruleset: Ruleset | None = None
        self._seen = float("-inf")  #: when what is in force was last seen to be what stands
        self._refused = -1  #: the last version that could not be compiled
        self._lock = threading.Lock()
        self._beside: Future[Ruleset] | None = None  #: what is being compiled

    def current(self, conn: Connection) -> Ruleset:
        """The ruleset of the version that the caller's transaction sees, or for a moment the one before it.

        A version that can't be compiled leaves the last good one in force, which says so in its ``version``.
        Raises :class:`NoRuleset` where there is none; never answers with an empty default.
        """
        version, good = current_version(conn), self._ruleset
        if good is not None and version in (good.version, self._refused):
            self._seen = time.monotonic()
            return good
        try:
            return self._while_compiling(good, version) or self._compiled_now(conn)
        except NoRuleset as error:
            if good is None:
                raise
            self._refused = version
            log.error("ruleset %d can't be compiled, %d stays in force: %s", version, good.version, error)
            return good

    @property
    def last(self) -> Ruleset | None:
        """The last ruleset that was in force here, whatever stands by now."""
        return self._ruleset

    def _compiled_now(self, conn: Connection) -> Ruleset:
        found = load(conn, self._default_team)
        self._ruleset, self._seen, self._beside = found, time.monotonic(), None
        return found

    def _while_compiling(self, good: Ruleset | None, version: int) -> Ruleset | None:
        """What judges while a thread compiles ``version``, and that in the end. None: it has to be compiled now.

        That is so where what is in force may be out of date for long (nobody has asked for a while), and where the
        thread failed or found another version: the caller reads for itself, and its error is about what stands.
        """
        if good is None or self._opens is None or len(good.rules) < BESIDE_FROM:
            return None
        with self._lock:
            if self._ruleset is not good or time.monotonic() - self._seen >= LATE:
                return None
            beside = self._beside = self._beside or in_a_thread(partial(self._load, self._opens))
            if not beside.done():
                return good
            self._beside = None
            if beside.exception() or beside.result().version != version:
                return None
            self._ruleset, self._seen = beside.result(), time.monotonic()
            return self._ruleset

    def _load(self, opens: Opens) -> Ruleset:
        with opens() as conn:
            found = _read(conn)
        return found.compile(self._default_team)  # others need the connection more


def in_a_thread(work: Callable[[], T]) -> Future[T]:
    """Do ``work`` beside the others, and give way to them."""
    made: Future[T] = Future()

    def run() -> None:
        sys.setswitchinterval(YIELD)
        try:
            made.set_result(work())
        except Exception as error:  # noqa: BLE001 whoever asks has to deal with it
            made.set_exception(error)
        finally:
            sys.setswitchinterval(_USUAL)

    # A daemon: an end of the process need not wait for it.
    threading.Thread(target=run, name="rules", daemon=True).start()
    return made


def current_version(conn: Connection) -> int:
    """The version of the rules as committed. Raises :class:`NoRuleset` if it can't be told."""
    version = conn.execute(select(ruleset_version.c.version)).scalar_one_or_none()
    if version is None:
        raise NoRuleset("ruleset_version has no row: run `mutt migrate`")
    return version


class _Read(NamedTuple):
    """The rules as they stood at one moment, and what goes with them."""

    version: int
    rules: list[Rule]
    hosts: list[str]
    teams: dict[str, str]
    storms: list[StormPolicy]
    windows: list[Window]
    redactions: list[Redaction]

    @property
    def book(self) -> Book:
        return Book(
            rules=self.rules,
            hosts=self.hosts,
            teams=self.teams,
            storms=self.storms,
            redactions=self.redactions,
        )

    def compile(self, default_team: str) -> Ruleset:
        ruleset = Ruleset.compile(
            self.version,
            self.rules,
            self.hosts,
            self.teams,
            default_team,
            storms=self.storms,
            windows=self.windows,
            redactions=self.redactions,
        )
        return _told(ruleset)


def load(conn: Connection, default_team: str) -> Ruleset:
    """Read and compile the rules. Raises :class:`NoRuleset` if they can't be, or don't stand still."""
    return _read(conn).compile(default_team)


def load_drafted(
    conn: Connection, default_team: str, drafted: Callable[[list[Rule]], Changed]
) -> tuple[Ruleset, Ruleset, Changed]:
    """The ruleset that stands, the one that would stand with the rules that ``drafted`` makes of it, and what it made.

    Nothing is written. Raises :class:`NoRuleset`, and what ``drafted`` raises.
    """
    found = _read(conn)
    changed = drafted(found.rules)
    return (
        found.compile(default_team),
        found._replace(rules=changed.rules).compile(default_team),
        changed,
    )


def _read(conn: Connection) -> _Read:
    def all_of_it(
        conn: Connection,
    ) -> tuple[list[Rule], list[str], dict[str, str], list[StormPolicy], list[Window], list[Redaction]]:
        rules = list_rules(conn)
        hosts = list(conn.execute(select(development_hosts.c.hostname)).scalars())
        teams = {row.hostname: row.team_assignment for row in conn.execute(select(device_teams))}
        storms = [StormPolicy(**row._mapping) for row in conn.execute(select(*_storm_columns))]
        windows = [Window(**row._mapping) for row in conn.execute(select(*_window_columns))]
        taken_out = [Redaction(**row._mapping) for row in conn.execute(select(*_redaction_columns))]
        return rules, hosts, teams, storms, windows, taken_out

    version, found = unchanged(conn, all_of_it)
    return _Read(version, *found)


def unchanged(conn: Connection, read: Callable[[Connection], _Found]) -> tuple[int, _Found]:
    """What ``read`` finds while the rules stand still, and their version. Raises :class:`NoRuleset` if they don't."""
    for _ in range(_ATTEMPTS):
        version = current_version(conn)
        found = read(conn)
        # Each statement sees its own moment: only an unchanged version proves that they saw the same rules.
        if current_version(conn) == version:
            return version, found
    raise NoRuleset("the rules change faster than they can be read")


def read_draft(conn: Connection, changes: Sequence[Change]) -> _Read:
    """The rules as they would be with these changes; compile them where no connection is held."""
    read = _read(conn)
    made = drafted(read.book, changes)
    return read._replace(
        rules=list(made.rules or ()),
        hosts=list(made.hosts or ()),
        teams=dict(made.teams or {}),
        storms=list(made.storms or ()),
        redactions=list(made.redactions or ()),
    )


def _told(ruleset: Ruleset) -> Ruleset:
    for rule_id, error in ruleset.refused.items():
        log.warning("ruleset %d: rule %d is not in force: %s", ruleset.version, rule_id, error)
    for window_id, why in ruleset.windows.refused.items():
        log.warning("ruleset %d: maintenance window %d is not in force: %s", ruleset.version, window_id, why)
    return ruleset


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


def last_id(conn: Connection) -> int:
    """The highest id that a new rule ever got, also of one that is gone; 0: none."""
    sequence = func.pg_get_serial_sequence(alert_rules.name, "id")
    last = select(func.coalesce(func.pg_sequence_last_value(cast(sequence, REGCLASS)), 0))
    return int(conn.execute(last).scalar_one())


def get_rule(conn: Connection, rule_id: int) -> Rule | None:
    row = conn.execute(select(*_columns).where(alert_rules.c.id == rule_id)).first()
    return None if row is None else _rule(row)


def get_rules(conn: Connection, rule_ids: Iterable[int]) -> dict[int, Rule]:
    """Those of these rules that there are."""
    query = select(*_columns).where(alert_rules.c.id.in_(list(rule_ids)))
    return {rule.id: rule for rule in map(_rule, conn.execute(query))}


def save_rule(
    conn: Connection,
    data: Mapping[str, Any],
    *,
    rule_id: int | None = None,
    **said: Unpack[Said],
) -> Rule:
    """Create a rule, or change the fields that ``data`` gives of rule ``rule_id``; note it in the history.

    The rules that then stand have been compiled together. Raises :class:`RuleError` with the field at fault,
    ``LookupError`` if there is no such rule.
    """
    before, after = _save(conn, data, rule_id, said)
    if _asks_for_more(before, after):
        check_compiles(conn)
    return after


def save_rules(
    conn: Connection, items: Iterable[tuple[int | None, Mapping[str, Any]]], **said: Unpack[Said]
) -> list[Rule]:
    """Save many, each as :func:`save_rule` does (None: a new one); the rules that then stand are compiled once.

    Raises :class:`ManyRefused` with what is wrong of each: none of them may then be committed.
    """
    saved, refused = [], {}
    for index, (rule_id, data) in enumerate(items):
        try:
            saved.append(_save(conn, data, rule_id, said))
        except RuleError as error:
            refused[index] = error
        except LookupError:
            refused[index] = RuleError("id", f"there is no rule {rule_id}; leave it empty to make a new one")
    if refused:
        raise ManyRefused(refused)
    if any(_asks_for_more(before, after) for before, after in saved):
        check_compiles(conn)
    return [after for _, after in saved]


def check_compiles(conn: Connection, field: str = "match_string") -> None:
    """Raise :class:`RuleError` where the rules, as this transaction has left them, don't fit into one ruleset.

    Ask after the change: its version then keeps other writers waiting until the end.
    """
    try:
        load(conn, "")
    except NoRuleset as error:
        raise RuleError(
            field,
            f"does not fit beside the other active rules ({error}); write .* in place of long counts {{n,m}},"
            " or switch off rules that are not needed",
        ) from None


def looks_for_more(change: Change) -> bool:
    """Can a ruleset that could be compiled be one no more, once this is done?"""
    if change.after is None:
        return False
    if change.table == REDACTIONS:
        return bool(change.after["is_active"])
    return change.table == RULES and _looks_for_more(change.before, change.after)


def _asks_for_more(before: Rule | None, after: Rule) -> bool:
    return _looks_for_more(None if before is None else fields_of(before), fields_of(after))


def _looks_for_more(before: Fields | None, after: Fields) -> bool:
    # Of what a ruleset compiles. Switching off and deleting are always possible, whatever else stands.
    if not after["is_active"]:
        return False
    return before is None or not before["is_active"] or _compiled_of(before) != _compiled_of(after)


def _compiled_of(rule: Fields) -> list[Any]:
    return [rule[name] for name in ("match_type", "match_string", "field", "hostname")]


def _save(
    conn: Connection, data: Mapping[str, Any], rule_id: int | None, said: Said
) -> tuple[Rule | None, Rule]:
    if rule_id is None:
        return None, _create(conn, check_rule(data), said)
    before = _locked(conn, rule_id)
    after = _changed(before, data)
    if after != before:
        values = {**fields_of(after), "updated_at": func.now()}
        conn.execute(update(alert_rules).where(alert_rules.c.id == rule_id).values(values))
        history.note(
            conn,
            operation="UPDATE",
            table_name=alert_rules.name,
            record_id=rule_id,
            before=fields_of(before),
            after=fields_of(after),
            **said,
        )
    return before, after


def _changed(before: Rule, data: Mapping[str, Any]) -> Rule:
    if data.keys() == {"is_active"} and not read_flag("is_active", data["is_active"]):
        return msgspec.structs.replace(before, is_active=False)  # also a rule that would be refused today
    return check_rule(fields_of(before) | dict(data), rule_id=before.id)


def delete_rule(conn: Connection, rule_id: int, **said: Unpack[Said]) -> Rule:
    """Delete a rule and note it. Answers with what it was. Raises ``LookupError`` if there is no such rule."""
    before = _locked(conn, rule_id)
    conn.execute(delete(alert_rules).where(alert_rules.c.id == rule_id))
    history.note(
        conn,
        operation="DELETE",
        table_name=alert_rules.name,
        record_id=rule_id,
        before=fields_of(before),
        **said,
    )
    return before


def export(conn: Connection) -> list[dict[str, Any]]:
    """Every rule as plain values, in the order in which they are tried; what ``import_rules`` takes."""
    return [fields_of(rule) for rule in list_rules(conn)]


def import_rules(
    conn: Connection,
    items: Iterable[Mapping[str, Any]],
    *,
    replace: bool = False,
    **said: Unpack[Said],
) -> list[Rule]:
    """Create or change rules by their names; ids are this database's own, so that history keeps its meaning.

    All items are checked before the first is written; with ``replace``, rules that no item names are deleted. At the
    end the rules that then stand are compiled together, once. Raises :class:`RuleError`.
    """
    checked = [check_rule(item) for item in items]
    changes.hold(conn)
    found = planned(Book(rules=list_rules(conn)), Book(rules=checked), replace=replace)
    changes.write(conn, found, **said)
    if any(map(looks_for_more, found)):
        check_compiles(conn)
    standing: dict[bytes, list[Rule]] = defaultdict(list)
    for rule in list_rules(conn):
        standing[_key(rule)].append(rule)
    return [standing[_key(rule)].pop(0) for rule in checked]


def _key(rule: Rule) -> bytes:
    return msgspec.json.encode(fields_of(rule), order="sorted")


def _create(conn: Connection, rule: Rule, said: Said) -> Rule:
    row = conn.execute(insert(alert_rules).values(fields_of(rule)).returning(*_columns)).one()
    created = _rule(row)
    history.note(
        conn,
        operation="CREATE",
        table_name=alert_rules.name,
        record_id=created.id,
        after=fields_of(created),
        **said,
    )
    return created


def _locked(conn: Connection, rule_id: int) -> Rule:
    row = conn.execute(select(*_columns).where(alert_rules.c.id == rule_id).with_for_update()).first()
    if row is None:
        raise LookupError(f"there is no rule {rule_id}")
    return _rule(row)


def _rule(row: Row[Any]) -> Rule:
    return rule_of(dict(zip(Rule.__struct_fields__, row, strict=True)))


def rule_of(row: Mapping[str, Any]) -> Rule:
    """The rule that a row's values describe; what a rule has no field for is left out."""
    return msgspec.convert({**row, "examples": _examples(row.get("examples"))}, Rule)


def _examples(kept: Any) -> list[Example]:
    # psql may have written anything; examples decide nothing, so what can't be read is left out.
    found = []
    for one in kept or ():
        with contextlib.suppress(msgspec.ValidationError):
            found.append(msgspec.convert(one, Example))
    return found
