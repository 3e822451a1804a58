"""The ruleset as a whole: its versions, plans from a file, tests of a draft, the linter, back-tests."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import orjson
from flask import g
from sqlalchemy import Connection, Row

from mutt.backtest import jobs
from mutt.backtest.draft import Draft
from mutt.backtest.run import NOW, THEN, Question
from mutt.errors import Refused
from mutt.event import Event
from mutt.formats import registry
from mutt.formats.base import Context
from mutt.rules import book, lint
from mutt.rules.change import Change
from mutt.rules.check import check_rule
from mutt.rules.preview import Tested, preview
from mutt.rules.rule import Rule, Verdict
from mutt.services import Services
from mutt.store import backtests, lookup, plans, rulebook, versions
from mutt.store.engine import transaction
from mutt.store.plans import Plan
from mutt.web.admin.tester import EVENTS_MAX, NOBODY, TEXT_MAX
from mutt.web.api import wire
from mutt.web.api.routes import (
    COUNT,
    FLAG,
    INTEGER,
    TEXT,
    TIME,
    Json,
    Reply,
    Route,
    listing,
    obj,
    or_null,
    ref,
)
from mutt.web.api.wire import body, known, said
from mutt.web.roles import BY_OPERATORS

_MADE: Json = obj(
    "version at who why",
    version=INTEGER,
    at=TIME,
    who={"type": "array", "items": TEXT},
    why={"type": "array", "items": TEXT},
)
_CHANGE: Json = obj(
    "operation table name fields",
    operation={"enum": ["CREATE", "UPDATE", "DELETE"]},
    table=TEXT,
    name=TEXT,
    record_id=TEXT,
    fields={"type": "array", "items": obj("name", name=TEXT, before={}, after={})},
)
_PLAN: Json = listing("changes", _CHANGE, version=INTEGER)
_BOOK: Json = obj(
    rules={"type": "array", "items": ref("RuleChange")},
    development_hosts={"type": "array", "items": TEXT},
    device_teams={"type": "object", "additionalProperties": TEXT},
    storm_policies={"type": "array", "items": ref("StormPolicyChange")},
    redactions={"type": "array", "items": ref("RedactionChange")},
)
_FINDING: Json = obj("rule_id kind level message", rule_id=INTEGER, kind=TEXT, level=TEXT, message=TEXT)
_VERDICT: Json = obj("rule handling team", rule=TEXT, handling=TEXT, team=or_null(TEXT))
_TESTED: Json = obj(
    "hostname message matches decides before after",
    hostname=TEXT,
    message=TEXT,
    matches=or_null(FLAG),
    decides=or_null(FLAG),
    before=_VERDICT,
    after=_VERDICT,
)
_JOB: Json = obj(
    "id who created_at status",
    id=TEXT,
    who=TEXT,
    created_at=TIME,
    status={"enum": ["queued", "running", "done", "cancelled", "failed"]},
    progress={},
    result={},
    error=TEXT,
)


class _Ruleset:
    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> list[Route]:
        return [*self._of_versions(), *self._of_rules(), *self._of_backtests()]

    def _of_versions(self) -> list[Route]:
        shown: dict[str, Any] = {"tag": "versions", "missing": True}
        return [
            Route(
                "GET",
                "/versions",
                self.versions,
                "Versions of the ruleset, the newest first; `before` is the last version of a page",
                "versions",
                listing("versions", _MADE),
                query={"before": INTEGER, "limit": COUNT},
            ),
            Route(
                "GET",
                "/versions/<int:version>",
                self.version,
                "All that made a version",
                answer=obj("version", version=INTEGER, ruleset=_BOOK),
                **shown,
            ),
            Route(
                "GET",
                "/versions/<int:version>/compare/<int:other>",
                self.compare,
                "What was made, changed and deleted from one version to another",
                answer=listing("changes", _CHANGE),
                **shown,
            ),
            Route(
                "POST",
                "/versions/<int:version>/restore",
                self.restore,
                "Make a version stand again, as a new one",
                answer=_PLAN,
                **shown,
            ),
        ]

    def _of_rules(self) -> list[Route]:
        return [
            Route(
                "POST",
                "/rules/plan",
                self.plan,
                "What a file of rules would change; nothing is",
                "rules",
                _PLAN,
                body=obj("ruleset", ruleset=_BOOK, replace={"type": "boolean"}),
            ),
            Route(
                "POST",
                "/rules/apply",
                self.apply,
                "Do what a plan says: all of it or nothing; with `version` only if the plan is still true",
                "rules",
                _PLAN,
                body=obj("ruleset", ruleset=_BOOK, replace={"type": "boolean"}, version=INTEGER),
            ),
            Route(
                "POST",
                "/rules/test",
                self.test,
                "What the rules make of events, and would with a draft in place; nothing is saved",
                "rules",
                listing("tested", _TESTED, left_out=COUNT),
                body=obj("events", events={}, rule=ref("RuleChange"), rule_id=INTEGER),
                needs=BY_OPERATORS,
            ),
            Route(
                "GET",
                "/rules/lint",
                self.lint,
                "What the rules themselves give away: unreachable ones, doubles, a regex that is a contains",
                "rules",
                listing("findings", _FINDING),
            ),
        ]

    def _of_backtests(self) -> list[Route]:
        of_job: dict[str, Any] = {"tag": "backtests", "answer": _JOB, "missing": True}
        return [
            Route(
                "GET",
                "/backtests",
                self.backtests,
                "Back-tests, the newest first, without their results",
                "backtests",
                listing("backtests", _JOB),
            ),
            Route(
                "POST",
                "/backtests",
                self.ask,
                "Try a draft on stored events",
                "backtests",
                _JOB,
                status=202,
                body=obj(
                    rule=ref("RuleChange"),
                    rule_id=INTEGER,
                    rules={"type": "array", "items": ref("RuleChange")},
                    replace={"type": "boolean"},
                    since=TIME,
                    until=TIME,
                    host=TEXT,
                    baseline={"enum": [NOW, THEN]},
                ),
                needs=BY_OPERATORS,
            ),
            Route(
                "GET", "/backtests/<uuid:job>", self.backtest, "How far one is, and what came out", **of_job
            ),
            Route(
                "POST",
                "/backtests/<uuid:job>/cancel",
                self.cancel,
                "End one",
                needs=BY_OPERATORS,
                **of_job,
            ),
        ]

    def versions(self) -> Reply:
        limit = wire.number("limit", 100, low=1, high=1000) or 100
        with lookup.reading(self._services.engine) as conn:
            found = versions.latest(conn, before=wire.number("before"), limit=limit)
        made = [
            {"version": one.version, "at": one.at.isoformat(), "who": list(one.who), "why": list(one.why)}
            for one in found
        ]
        return Reply({"versions": made})

    def version(self, version: int) -> Reply:
        with lookup.reading(self._services.engine) as conn:
            found = versions.book_of(conn, _small(version))
        return Reply({"version": version, "ruleset": _as_file(found)})

    def compare(self, version: int, other: int) -> Reply:
        with lookup.reading(self._services.engine) as conn:
            found = versions.compare(conn, _small(version), _small(other))
        return Reply({"changes": [_change(change) for change in found]})

    def restore(self, version: int) -> Reply:
        with transaction(self._services.engine) as conn:
            made = versions.restore(conn, _small(version), said())
            return self._planned(conn, made)

    def plan(self) -> Reply:
        given = body()
        known(given, ("ruleset", "replace"))
        with lookup.reading(self._services.engine) as conn:
            made = plans.plan(conn, _book(given), replace=_flag(given, "replace"))
        return Reply(_plan(made, made.version))

    def apply(self) -> Reply:
        given = body()
        known(given, ("ruleset", "replace", "version"))
        version = given.get("version")
        if version is not None and (not isinstance(version, int) or isinstance(version, bool)):
            raise Refused("version", "is no whole number; it is the plan's")
        with transaction(self._services.engine) as conn:
            try:
                made = plans.apply(
                    conn, _book(given), replace=_flag(given, "replace"), version=version, **said()
                )
            except Refused as error:
                if error.field == "version":
                    raise wire.Wrong(409, error.reason, field="version", reason=error.reason) from None
                raise
            return self._planned(conn, made)

    def _planned(self, conn: Connection, made: Plan) -> Reply:
        return Reply(_plan(made, rulebook.current_version(conn)))

    def test(self) -> Reply:
        given = body()
        known(given, ("events", "rule", "rule_id"))
        draft, events = self._tried(given), _events(given)
        with self._services.store.transaction() as tx:
            ruleset = tx.ruleset()
        tested = preview(events, ruleset, draft)
        return Reply({"tested": [_told(one) for one in tested], "left_out": len(events) - len(tested)})

    def _tried(self, given: Mapping[str, Any]) -> Rule | None:
        rule_id = _id(given)
        if "rule" in given:
            rule = check_rule(_rule(given), rule_id=rule_id or 0)
        elif rule_id is None:
            return None
        else:
            with lookup.reading(self._services.engine) as conn:
                standing = rulebook.get_rule(conn, rule_id)
            if standing is None:
                raise LookupError(f"there is no rule {rule_id}")
            rule = standing
        return msgspec.structs.replace(rule, is_active=True)

    def lint(self) -> Reply:
        with lookup.reading(self._services.engine) as conn:
            rules = rulebook.list_rules(conn)
        found = lint.findings(rules)
        return Reply({"findings": [msgspec.to_builtins(one) | {"level": one.level} for one in found]})

    def backtests(self) -> Reply:
        with lookup.reading(self._services.engine) as conn:
            found = backtests.newest(conn)
        return Reply({"backtests": [_job(row) for row in found]})

    def ask(self) -> Reply:
        given = body()
        known(given, ("rule", "rule_id", "rules", "replace", "since", "until", "host", "baseline"))
        question = Question(
            draft=_draft(given),
            since=_time(given, "since") or datetime.now(UTC) - timedelta(days=7),
            until=_time(given, "until") or datetime.now(UTC),
            host=_word(given, "host"),
            baseline=_word(given, "baseline") or NOW,
        )
        with transaction(self._services.engine) as conn:
            job = jobs.ask(conn, g.who, question)
            row = backtests.get(conn, job)
        jobs.announce(self._services)
        return Reply(_job(row), 202, location=str(job))

    def backtest(self, job: UUID) -> Reply:
        with lookup.reading(self._services.engine) as conn:
            return Reply(_job(backtests.get(conn, job), whole=True))

    def cancel(self, job: UUID) -> Reply:
        with transaction(self._services.engine) as conn:
            backtests.cancel(conn, job)
            return Reply(_job(backtests.get(conn, job)))


def routes(services: Services) -> list[Route]:
    return _Ruleset(services).routes()


def _small(version: int) -> int:
    if version > wire.INTEGER_MAX:
        raise LookupError("there is no such version")
    return version


def _book(given: Mapping[str, Any]) -> book.Book:
    ruleset = given.get("ruleset")
    if not isinstance(ruleset, Mapping):
        raise Refused("ruleset", "is missing; write what `mutt rules export` writes, as JSON")
    try:
        found, faults = book.check(book.sections_of("the ruleset", dict(ruleset)))
    except book.NotRules as error:
        raise Refused("ruleset", str(error)) from None
    if faults:
        first = faults[0]
        raise Refused(f"ruleset.{first.field}", f"of {first.rule}: {first.reason}")
    return found


def _as_file(found: book.Book) -> dict[str, Any]:
    return {
        "rules": [msgspec.to_builtins(rule) for rule in found.rules or ()],
        "development_hosts": list(found.hosts or ()),
        "device_teams": dict(found.teams or {}),
        "storm_policies": [msgspec.to_builtins(policy) for policy in found.storms or ()],
        "redactions": [msgspec.to_builtins(one) for one in found.redactions or ()],
    }


def _plan(made: Plan, version: int) -> dict[str, Any]:
    return {"version": version, "changes": [_change(change) for change in made.changes]}


def _change(change: Change) -> dict[str, Any]:
    return {
        "operation": change.operation,
        "table": change.table,
        "name": change.name,
        "record_id": change.record_id,
        "fields": [field._asdict() for field in change.fields],
    }


def _draft(given: Mapping[str, Any]) -> Draft:
    if ("rule" in given) == ("rules" in given):
        raise Refused("rule", "give either rule (with rule_id, where it changes one) or rules")
    if "rule" in given:
        return Draft.of_rule(_rule(given), _id(given))
    rules = given["rules"]
    if not isinstance(rules, list) or not all(isinstance(rule, Mapping) for rule in rules):
        raise Refused("rules", "is no list of rules")
    return Draft.of_file(rules, replace=_flag(given, "replace"))


def _rule(given: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(given["rule"], Mapping):
        raise Refused("rule", "is no object; write the fields of a rule")
    return given["rule"]


def _id(given: Mapping[str, Any]) -> int | None:
    rule_id = given.get("rule_id")
    if rule_id is None:
        return None
    if not isinstance(rule_id, int) or isinstance(rule_id, bool) or not 0 <= rule_id <= wire.INTEGER_MAX:
        raise Refused("rule_id", "is no whole number from 0 on")
    return rule_id


def _events(given: Mapping[str, Any]) -> list[Event]:
    """The events to try: a list as for ``/ingest``, or text such as syslog lines. Raises :class:`Refused`."""
    events = given.get("events")
    if not isinstance(events, str | list) or not events:
        raise Refused("events", "is missing; write a list of events as for /ingest, or text")
    data = orjson.dumps(events) if isinstance(events, list) else events.encode(errors="replace")
    if len(data) > TEXT_MAX:
        raise Refused("events", f"has {len(data)} bytes; at most {TEXT_MAX} are read")
    parsed = registry.parse(
        registry.sniff(data, ""), data, Context(datetime.now(UTC), "test", TEXT_MAX, NOBODY)
    )
    for refused in parsed.rejected:
        raise Refused(f"events.{refused.index}.{refused.field}", refused.reason)
    if len(parsed.events) > EVENTS_MAX:
        raise Refused("events", f"are {len(parsed.events)}; at most {EVENTS_MAX} are tried")
    return parsed.events


def _told(one: Tested) -> dict[str, Any]:
    return {
        "hostname": one.event.hostname,
        "message": one.event.message,
        "matches": None if one.draft is None else one.draft.matches,
        "decides": None if one.draft is None else one.draft.decides,
        "before": _verdict(one.before, one.rule_before),
        "after": _verdict(one.after, one.rule_after),
    }


def _verdict(verdict: Verdict, rule: str) -> dict[str, Any]:
    return {"rule": rule, "handling": verdict.handling, "team": verdict.team}


def _flag(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise Refused(name, "is neither true nor false")
    return value


def _word(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name, "")
    if not isinstance(value, str) or "\0" in value:
        raise Refused(name, "is no text")
    return value.strip()


def _time(given: Mapping[str, Any], name: str) -> datetime | None:
    value = given.get(name)
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        raise Refused(name, "is no time; write one such as 2026-03-04T09:15:00Z") from None


def _job(row: Row[Any] | None, *, whole: bool = False) -> dict[str, Any]:
    if row is None:
        raise LookupError("there is no such back-test: those that ended long ago are forgotten")
    names = ["id", "who", "created_at", "status", "progress", "error"] + (["result"] if whole else [])
    found: dict[str, Any] = msgspec.to_builtins({name: row._mapping[name] for name in names})
    return found
