"""The page of a rule's form: of a rule that stands, of a new one, and of a draft that could not be tried as it is."""

from __future__ import annotations

from typing import Any

from flask import request

from mutt.errors import Refused
from mutt.store import lookup, rulesearch
from mutt.store.rulesearch import Listed
from mutt.web.admin.forms import RuleForm
from mutt.web.admin.page import REFUSED, Page

#: Changes that the page of a rule shows, the newest.
CHANGES_SHOWN = 8


def is_draft() -> bool:
    """Does this request bring the fields of a rule's form?"""
    return "match_type" in request.form


def refused_draft(page: Page, error: Refused) -> Any:
    """The form as it was sent, with what is wrong with it: nothing that was typed is lost."""
    form = RuleForm()
    form.refuse(error)
    return form_page(page, form, request.form.get("rule_id", type=int))


def form_page(
    page: Page, form: RuleForm, rule_id: int | None = None, *, conflict: Listed | None = None
) -> Any:
    """The form, what is known of its rule, and, with ``conflict``, what stands in its place."""
    with lookup.reading(page.engine) as conn:
        teams = rulesearch.teams(conn)
        changes = (
            lookup.newest_changes(conn, table="alert_rules", record=str(rule_id), limit=CHANGES_SHOWN)
            if rule_id
            else ()
        )
        listed = rulesearch.one(conn, rule_id) if rule_id else None
    shown = page.render(
        "rule.html",
        form=form,
        rule_id=rule_id,
        name=listed.rule.name if listed else "",
        teams=teams,
        changes=changes,
        conflict=conflict,
        differing=form.differing(conflict.rule) if conflict else (),
    )
    return shown, REFUSED if request.method == "POST" and not request.form.get("take") else 200
