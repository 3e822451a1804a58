"""The linter's page: what is odd about the rules that stand."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from flask import request
from flask_admin import expose

from mutt.rules import lint
from mutt.rules.lint import Kind
from mutt.store import lookup, rulebook, usage
from mutt.web import reading
from mutt.web.admin.page import SHOWN, Page

#: Rules whose cost is told: the dearest.
COSTS_SHOWN = 20

#: Seconds for which costs are measured, so that nobody waits long for the page.
PATIENCE = 1.0


class Lint(Page):
    @expose("/")
    def index(self) -> str:
        """``?kind=``: findings of one kind only."""
        settings = self.services.settings
        days = min(usage.SILENT_DAYS, settings.audit_retention_days)
        with lookup.reading(self.engine) as conn:
            rules = rulebook.list_rules(conn)
        facts = reading.read(self.services, lambda conn: usage.facts(conn, datetime.now(UTC), days=days))
        costs = sorted(lint.costs(rules, facts.sample, seconds=PATIENCE), key=lambda cost: -cost[1])
        found = lint.findings(rules, facts, costs)
        kind = request.args.get("kind", "")
        counts = Counter(finding.kind for finding in found)
        # Half of a large ruleset has no example: what can be mended is not to drown in it.
        chosen = [one for one in found if (one.kind == kind if kind else one.kind is not Kind.NO_EXAMPLES)]
        return self.render(
            "lint.html",
            findings=chosen[:SHOWN],
            found=len(chosen),
            kind=kind,
            counts={each: counts[each] for each in Kind if counts[each]},
            costs=costs[:COSTS_SHOWN],
            facts=facts,
            rules=len(rules),
        )
