"""What the linter is told of the audit is so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import msgspec
from sqlalchemy import Connection, Engine, text, update

from mutt.rules import lint
from mutt.rules.evaluate import Ruleset, evaluate
from mutt.store import audit, partitions, rulebook, usage
from mutt.store.engine import transaction
from mutt.store.tables import alert_rules
from tests.bench import event

NOW = datetime.now(UTC)


def judged(conn: Connection, ruleset: Ruleset, hostname: str, message: str, at: datetime) -> None:
    happened = msgspec.structs.replace(
        event(message=message), event_id=uuid4(), received_at=at, hostname=hostname, tags={"site": "lon1"}
    )
    verdict = evaluate(happened, ruleset)
    audit.copy_rows(
        conn,
        [audit.audit_row(happened, verdict, ruleset_version=1, batch_id="b", correlation_id="c")],
    )


def test_what_the_audit_knows(engine: Engine) -> None:
    """Rules that decided nothing for long, unless they are young; the hosts there are; and the newest events."""
    with transaction(engine) as conn:
        partitions.ensure(conn, NOW)
        rulebook.import_rules(
            conn,
            [{"match_string": word} for word in ("fan", "pump", "young")],
            replace=True,
            changed_by="ann",
        )
        fan, pump, young = (rule.id for rule in rulebook.list_rules(conn))
        made = (
            update(alert_rules).where(alert_rules.c.id != young).values(created_at=NOW - timedelta(days=99))
        )
        conn.execute(made)
        ruleset = rulebook.load(conn, "NETO")
        for number in range(5):
            judged(conn, ruleset, f"r{number % 3}", "fan failed", NOW - timedelta(minutes=number))
    with transaction(engine) as conn:
        facts = usage.facts(conn, NOW, sample=3)
        assert facts.silent == {pump}
        assert facts.hosts == {"r0", "r1", "r2"}
        assert len(facts.sample) == 3 and facts.sample[0].tags == {"site": "lon1"}
        found = lint.findings(rulebook.list_rules(conn), facts)
    assert [one.rule_id for one in found if one.kind is lint.Kind.NEVER_FIRED] == [pump]
    assert fan not in facts.silent


def test_an_empty_audit_says_nothing(engine: Engine) -> None:
    """Nothing is claimed of hosts or events where there are none."""
    with transaction(engine) as conn:
        facts = usage.facts(conn, NOW)
    assert (facts.hosts, facts.sample, facts.silent) == (None, [], frozenset())


def test_rules_are_looked_up_by_their_index(engine: Engine) -> None:
    """Never the whole audit: neither for the rules that were silent nor for the hosts."""
    with transaction(engine) as conn:
        partitions.ensure(conn, NOW)
        for query, given in ((usage._SILENT, {"since": NOW}), (usage._HOSTS, {"limit": 9})):
            plan = conn.execute(text(f"EXPLAIN {query.text}"), given).scalars().all()
            assert not [line for line in plan if "Seq Scan on event_audit_log" in line]
