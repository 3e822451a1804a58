"""The rules: looked at, changed, switched on and off."""

from __future__ import annotations

from typing import Any

from flask import abort, flash, redirect, request, url_for
from flask_admin import expose
from sqlalchemy import Connection

from mutt.errors import Refused
from mutt.rules.evaluate import fault
from mutt.rules.rule import Rule
from mutt.store import lookup, rulebook
from mutt.store.engine import transaction
from mutt.web.admin.forms import RuleForm, SeenForm
from mutt.web.admin.page import REFUSED, SHOWN, Page, said, search


class Rules(Page):
    @expose("/")
    def index(self) -> str:
        wanted = request.args.get("q", "")
        with lookup.reading(self.engine) as conn:
            rules = rulebook.list_rules(conn)
        found = search(rules, wanted, _text)
        shown = found[:SHOWN]
        # Only psql can have written them: workers leave them out, and their neighbours stand.
        faults = {rule.id: error for rule in shown if rule.is_active and (error := fault(rule))}
        return self.render(
            "rules.html", rules=shown, found=len(found), faults=faults, q=wanted, button=SeenForm()
        )

    @expose("/new", methods=("GET", "POST"))
    def new(self) -> Any:
        """A new rule; ``?like=ID`` begins with the values of another."""
        form = RuleForm.of(self._like(request.args.get("like", type=int)))
        if form.validate_on_submit() and self._save(form):
            return redirect(url_for("rules.index"))
        return self._form_page(form)

    def _like(self, rule_id: int | None) -> Rule:
        return Rule(id=0, name="") if rule_id is None else self._read(rule_id)[0]

    @expose("/<int:rule_id>", methods=("GET", "POST"))
    def edit(self, rule_id: int) -> Any:
        rule, changed_at = self._read(rule_id)
        form = RuleForm.of(rule, changed_at)
        if form.validate_on_submit() and self._save(form, rule_id):
            return redirect(url_for("rules.index"))
        return self._form_page(form, rule_id)

    @expose("/<int:rule_id>/active", methods=("POST",))
    def active(self, rule_id: int) -> Any:
        """Switch a rule on or off, as the button said."""
        try:
            with transaction(self.engine) as conn:
                wanted = {"is_active": request.form.get("active", "")}
                rule = rulebook.save_rule(conn, wanted, rule_id=rule_id, **said())
        except LookupError:
            abort(404, _gone(rule_id))
        except Refused as error:
            abort(400, str(error))
        flash(f"Rule “{rule.name}” is {'on' if rule.is_active else 'off'}.")
        return redirect(url_for("rules.index"))

    @expose("/<int:rule_id>/delete", methods=("POST",))
    def delete(self, rule_id: int) -> Any:
        try:
            with transaction(self.engine) as conn:
                _check_unchanged(conn, rule_id, request.form.get("seen", ""))
                rule = rulebook.delete_rule(conn, rule_id, **said(request.form.get("reason")))
        except LookupError:
            abort(404, _gone(rule_id))
        except Refused as error:
            abort(409, error.reason)
        flash(f"Rule “{rule.name}” is deleted.")
        return redirect(url_for("rules.index"))

    def _read(self, rule_id: int) -> tuple[Rule, Any]:
        with lookup.reading(self.engine) as conn:
            # The time first: a change in between then counts as not seen.
            changed_at = lookup.rule_changed_at(conn, rule_id)
            rule = rulebook.get_rule(conn, rule_id)
        if rule is None:
            abort(404, _gone(rule_id))
        return rule, changed_at

    def _save(self, form: RuleForm, rule_id: int | None = None) -> bool:
        try:
            with transaction(self.engine) as conn:
                if rule_id is not None:
                    _check_unchanged(conn, rule_id, form.seen.data or "")
                rule = rulebook.save_rule(conn, form.rule(), rule_id=rule_id, **said(form.reason.data))
        except LookupError:
            abort(404, _gone(rule_id))
        except Refused as error:
            form.refuse(error)
            return False
        flash(f"Rule “{rule.name}” is saved. Workers follow it within 5 seconds.")
        return True

    def _form_page(self, form: RuleForm, rule_id: int | None = None) -> Any:
        page = self.render("rule.html", form=form, rule_id=rule_id)
        return page, REFUSED if request.method == "POST" else 200


def _check_unchanged(conn: Connection, rule_id: int, seen: str) -> None:
    """Refuse to write over a change that the writer has not seen. Raises Refused."""
    changed_at = lookup.rule_changed_at(conn, rule_id, lock=True)
    if changed_at is None:
        raise LookupError(rule_id)
    if changed_at.isoformat() != seen:
        when = f"{changed_at:%Y-%m-%d %H:%M:%S} UTC"
        raise Refused(
            "", f"This rule was changed at {when}, after you opened it: open it again to see what stands."
        )


def _gone(rule_id: int | None) -> str:
    return f"There is no rule {rule_id}: it may have been deleted."


def _text(rule: Rule) -> str:
    scopes = (rule.hostname, rule.source, rule.program, rule.trap_oid)
    tags = (f"{name}={value}" for name, value in rule.tags.items())
    words = (rule.name, rule.match_type, rule.match_string, rule.team_assignment, rule.prod_handling)
    return "\n".join((*words, rule.dev_handling, *filter(None, scopes), *tags))
