"""The rules: found, looked at, changed where they stand or in their form, one or many at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from flask import abort, flash, redirect, request, url_for
from flask_admin import expose
from sqlalchemy import Connection

from mutt.errors import ManyRefused, Refused, RuleError
from mutt.rules.evaluate import fault
from mutt.rules.rule import Rule
from mutt.services import Services
from mutt.store import lookup, rulebook, rulesearch
from mutt.store.engine import transaction
from mutt.store.rulesearch import Listed
from mutt.store.users import Role
from mutt.web.admin import csvfile
from mutt.web.admin.backtests import drafted_rule
from mutt.web.admin.badges import Badges
from mutt.web.admin.examples import read_examples
from mutt.web.admin.forms import ImportForm, RuleForm, RuleListForm, read_tags, texts_of
from mutt.web.admin.page import A_PAGE, CONFLICT, REFUSED, Page, done, in_place, list_of, said, wanted_page
from mutt.web.admin.ruleform import form_page
from mutt.web.roles import requires
from mutt.words import many

CSV_COLUMNS = ("id", *(name for name in Rule.__struct_fields__ if name != "id"), "changed_at")


class Changed(RuleError):
    """A rule was changed after the writer looked at it: what stands now, and who made it so."""

    def __init__(self, stands: Listed, who: str) -> None:
        when = f"{stands.changed_at:%Y-%m-%d %H:%M:%S} UTC{' by ' + who if who else ''}"
        super().__init__("", f"This rule was changed at {when}, after you opened it.")
        self.stands = stands


class Row(NamedTuple):
    """A line of the list: the rule, what it was when the page was made, and what is wrong with it."""

    rule: Rule
    seen: str
    fault: str


class Rules(Page):
    def __init__(self, services: Services, name: str, endpoint: str) -> None:
        super().__init__(services, name, endpoint)
        self._badges = Badges()

    @expose("/")
    def index(self) -> str:
        with lookup.reading(self.engine) as conn:
            shown, more = self._shown(conn)
        return self.render("rules.html", rows=[_row(listed) for listed in shown], **more)

    def _shown(self, conn: Connection) -> tuple[list[Listed], dict[str, Any]]:
        """The rules of the page that is asked for, and what goes with them."""
        form = RuleListForm(request.args)
        asked = form.asked(rulesearch.teams(conn))
        found = rulesearch.count(conn, asked)
        page, pages = wanted_page(found)
        shown = rulesearch.find(conn, asked, limit=A_PAGE, skip=(page - 1) * A_PAGE)
        return shown, {"form": form, "asked": asked, "found": found, "page": page, "pages": pages}

    @expose("/badges")
    def badges(self) -> str:
        """What the linter says of the rules of a list's page, as parts for its rows; or of one rule, ``?of=``."""
        of = request.args.get("of", type=int)
        with lookup.reading(self.engine) as conn:
            ids = [of] if of else [listed.rule.id for listed in self._shown(conn)[0]]
            found = self._badges.current(conn)
        findings = {rule_id: found[rule_id] for rule_id in ids if rule_id in found}
        return self.render("rules_badges.html", findings=findings, of=of)

    @expose("/new", methods=("GET", "POST"))
    @requires(Role.OPERATOR, changing=Role.ADMIN)
    def new(self) -> Any:
        """A new rule; ``?like=ID`` begins with the values of another, ``?backtest=ID`` with those of a draft.

        An operator drafts there, to test and to back-test.
        """
        form = RuleForm.of(self._tested() or self._like(request.args.get("like", type=int)))
        if form.validate_on_submit() and self._save(form):
            return redirect(url_for("rules.index"))
        return form_page(self, form)

    def _tested(self) -> Rule | None:
        job = request.args.get("backtest")
        try:
            return drafted_rule(self.engine, job) if job else None
        except LookupError:
            abort(404, "There is no such back-test: those that ended long ago are forgotten.")

    def _like(self, rule_id: int | None) -> Rule:
        return Rule(id=0, name="") if rule_id is None else self._read(rule_id).rule

    @expose("/<int:rule_id>", methods=("GET", "POST"))
    def edit(self, rule_id: int) -> Any:
        """A rule's form. With ``take`` its fields are filled in with what stands, and nothing is saved.

        ``?backtest=ID`` begins with the values of a draft.
        """
        stands = self._read(rule_id)
        form = RuleForm.of(self._tested() or stands.rule, stands.changed_at)
        taken = request.form.getlist("take")
        if form.is_submitted() and taken:
            form.take(stands.rule, taken)
            form.seen.data = stands.changed_at.isoformat()
            return form_page(self, form, rule_id, conflict=stands)
        try:
            if form.validate_on_submit() and self._save(form, rule_id):
                return redirect(url_for("rules.index"))
        except Changed as error:
            form.refuse(error)
            # Whoever sends it once more has seen what stands.
            form.seen.data = error.stands.changed_at.isoformat()
            return form_page(self, form, rule_id, conflict=error.stands)
        return form_page(self, form, rule_id)

    @expose("/<int:rule_id>/active", methods=("POST",))
    def active(self, rule_id: int) -> Any:
        """Switch a rule on or off, as the button said."""
        return self._in_place(rule_id, {"is_active": request.form.get("active", "")})

    @expose("/<int:rule_id>/priority", methods=("POST",))
    def priority(self, rule_id: int) -> Any:
        """Give a rule another priority, where it stands in the list."""
        return self._in_place(rule_id, {"priority": request.form.get("priority", "")})

    def _in_place(self, rule_id: int, wanted: dict[str, str]) -> Any:
        try:
            with transaction(self.engine) as conn:
                if "seen" in request.form:
                    _check_unchanged(conn, rule_id, request.form["seen"])
                rule = rulebook.save_rule(conn, wanted, rule_id=rule_id, **said(request.form.get("reason")))
                stands = _listed(conn, rule_id)
        except LookupError:
            abort(404, _gone(rule_id))
        except Changed as error:
            (typed,) = wanted.values()
            return self._not_in_place(error.stands, f"{error.reason} {typed} is not saved.", CONFLICT)
        except Refused as error:
            return self._not_in_place(self._read(rule_id), str(error), REFUSED)
        now = f"is {'on' if rule.is_active else 'off'}"
        if "priority" in wanted:
            now = f"has priority {rule.priority}"
        answer = done(
            f"Rule “{rule.name}” {now}.", "rules.index", "rules_row.html", row_of=_row(stands), problem=""
        )
        answer.headers["HX-Trigger"] = "rules-changed"  # whoever shows badges asks for them again
        return answer

    def _not_in_place(self, stands: Listed, problem: str, status: int) -> Any:
        if not in_place():
            abort(status if status == CONFLICT else 400, problem)
        page = self.render(
            "changed.html", row="rules_row.html", row_of=_row(stands), problem=problem, sentence=""
        )
        return page, status

    @expose("/bulk", methods=("POST",))
    def bulk(self) -> Any:
        """Switch on, switch off or delete the rules that are ticked: all of them, or none."""
        what = request.form.get("what", "")
        ticked = dict(_ticked(request.form.getlist("rule")))
        reason = said(request.form.get("reason"))
        if not ticked:
            abort(400, "No rule is ticked: nothing was changed.")
        try:
            with transaction(self.engine) as conn:
                self._check_all_unchanged(conn, ticked)
                if what == "delete":
                    for rule_id in sorted(ticked):
                        rulebook.delete_rule(conn, rule_id, **reason)
                elif what in ("on", "off"):
                    items = [(rule_id, {"is_active": what}) for rule_id in sorted(ticked)]
                    rulebook.save_rules(conn, items, **reason)
                else:
                    abort(400, f"{what[:20]!r} is none of on, off, delete: nothing was changed.")
        except ManyRefused as error:
            ids = sorted(ticked)
            told = "; ".join(f"rule {ids[index]}: {refused}" for index, refused in error.reasons.items())
            abort(400, f"Nothing was changed: {told}.")
        except Refused as error:
            abort(CONFLICT, f"Nothing was changed: {error.reason}")
        became = {"delete": "deleted", "on": "on", "off": "off"}[what]
        flash(f"{many(len(ticked), 'rule')} {'is' if len(ticked) == 1 else 'are'} {became}.")
        return redirect(list_of("rules.index"))

    def _check_all_unchanged(self, conn: Connection, ticked: dict[int, str]) -> None:
        stands = rulesearch.changed_at(conn, ticked, lock=True)
        changed = [
            str(rule_id)
            for rule_id, seen in ticked.items()
            if rule_id not in stands or stands[rule_id].isoformat() != seen
        ]
        if changed:
            told = ", ".join(changed[:10])
            raise Refused("", f"after the list was made, somebody changed rule {told}. Load the list again.")

    @expose("/<int:rule_id>/delete", methods=("POST",))
    def delete(self, rule_id: int) -> Any:
        try:
            with transaction(self.engine) as conn:
                _check_unchanged(conn, rule_id, request.form.get("seen", ""))
                rule = rulebook.delete_rule(conn, rule_id, **said(request.form.get("reason")))
        except LookupError:
            abort(404, _gone(rule_id))
        except Refused as error:
            abort(CONFLICT, f"{error.reason} Nothing was deleted: open it again to see what stands.")
        flash(f"Rule “{rule.name}” is deleted.")
        return redirect(url_for("rules.index"))

    @expose("/rules.csv")
    def export(self) -> Any:
        """The list as it is filtered, all of its pages."""
        form = RuleListForm(request.args)
        with lookup.reading(self.engine) as conn:
            found = rulesearch.find(conn, form.asked(rulesearch.teams(conn)))
        return csvfile.download("rules.csv", CSV_COLUMNS, map(_cells, found))

    @expose("/import", methods=("GET", "POST"))
    @requires(Role.ADMIN)
    def import_(self) -> Any:
        """Rules from a file: all of its lines, or none."""
        form, status = ImportForm(), 200
        errors: list[tuple[int, str]] = []
        if form.validate_on_submit():
            try:
                lines = csvfile.read(form.given(), CSV_COLUMNS, ())
                errors, made = self._imported(lines, said(form.reason.data), keep=not form.check.data)
                if not errors and made:
                    flash(f"{many(len(lines), 'line')} imported: {made}.")
                    return redirect(url_for("rules.index"))
                if not errors:
                    flash(f"{many(len(lines), 'line')} can be imported. Nothing was changed.")
            except Refused as error:
                form.refuse(error)
            status = REFUSED if errors or form.errors else 200
        return self.render("rules_import.html", form=form, errors=errors, columns=CSV_COLUMNS), status

    def _imported(
        self, lines: list[csvfile.Line], said: Any, *, keep: bool
    ) -> tuple[list[tuple[int, str]], str]:
        """What is wrong with which line; else what was made of them, or nothing if it was only to be checked."""
        errors: dict[int, str] = {}
        items: list[tuple[int | None, dict[str, Any]]] = []
        for line in lines:
            try:
                items.append(_item(line))
            except Refused as error:
                errors[line.number] = str(error)
                items.append((None, {}))
        try:
            with transaction(self.engine) as conn:
                _check_lines(conn, lines, items, errors)
                good = [index for index, line in enumerate(lines) if line.number not in errors]
                try:
                    rulebook.save_rules(conn, [items[index] for index in good], **said)
                except ManyRefused as refused:
                    errors |= {lines[good[at]].number: str(error) for at, error in refused.reasons.items()}
                if errors or not keep:
                    raise _NotKept
        except _NotKept:
            return sorted(errors.items()), ""
        new = sum(rule_id is None for rule_id, _ in items)
        return [], f"{new} new, {len(items) - new} as they stand in the file"

    def _read(self, rule_id: int) -> Listed:
        with lookup.reading(self.engine) as conn:
            try:
                return _listed(conn, rule_id)
            except LookupError:
                abort(404, _gone(rule_id))

    def _save(self, form: RuleForm, rule_id: int | None = None) -> bool:
        try:
            with transaction(self.engine) as conn:
                if rule_id is not None:
                    _check_unchanged(conn, rule_id, form.seen.data or "")
                rule = rulebook.save_rule(conn, form.rule(), rule_id=rule_id, **said(form.reason.data))
        except LookupError:
            abort(404, _gone(rule_id))
        except Changed:
            raise
        except Refused as error:
            form.refuse(error)
            return False
        flash(f"Rule “{rule.name}” is saved. Workers follow it within 5 seconds.")
        return True


class _NotKept(Exception):
    """What was written is not to be committed."""


def _row(listed: Listed) -> Row:
    # Only psql can have written a faulty one: workers leave it out, and its neighbours stand.
    rule = listed.rule
    return Row(rule, listed.changed_at.isoformat(), str((rule.is_active and fault(rule)) or ""))


def _listed(conn: Connection, rule_id: int) -> Listed:
    found = rulesearch.one(conn, rule_id)
    if found is None:
        raise LookupError(rule_id)
    return found


def _check_unchanged(conn: Connection, rule_id: int, seen: str) -> None:
    """Refuse to write over a change that the writer has not seen. Raises :class:`Changed`, LookupError."""
    changed_at = rulesearch.changed_at(conn, [rule_id], lock=True).get(rule_id)
    if changed_at is None:
        raise LookupError(rule_id)
    if changed_at.isoformat() != seen:
        newest = lookup.newest_changes(conn, table="alert_rules", record=str(rule_id), limit=1)
        raise Changed(_listed(conn, rule_id), newest[0].changed_by if newest else "")


def _ticked(given: Iterable[str]) -> Iterable[tuple[int, str]]:
    """The rules of a list's ticks, ``ID@changed at``."""
    for one in given:
        number, _, seen = one.partition("@")
        if not (number.isascii() and number.isdigit() and len(number) < 10):
            abort(400, f"{one[:40]!r} is no rule of this list: nothing was changed.")
        yield int(number), seen


def _cells(listed: Listed) -> dict[str, object]:
    """A rule as a line of CSV; what has several lines in its form has them in its cell, too."""
    return {
        **texts_of(listed.rule),
        "id": listed.rule.id,
        "is_active": "on" if listed.rule.is_active else "off",
        "changed_at": listed.changed_at.isoformat(),
    }


def _item(line: csvfile.Line) -> tuple[int | None, dict[str, Any]]:
    """What ``save_rules`` takes for a line. Raises :class:`Refused`."""
    data: dict[str, Any] = {
        name: cell for name, cell in line.cells.items() if name not in ("id", "changed_at")
    }
    if "tags" in data:
        data["tags"] = read_tags(data["tags"].replace("\r\n", "\n"))
    if "examples" in data:
        data["examples"] = read_examples(data["examples"].replace("\r\n", "\n"))
    given = line.cells.get("id", "").strip()
    if given and not (given.isascii() and given.isdigit() and len(given) < 10):
        raise RuleError("id", f"{given[:40]!r} is no rule's number; leave it empty to make a new one")
    return (int(given) if given else None), data


def _check_lines(
    conn: Connection,
    lines: list[csvfile.Line],
    items: list[tuple[int | None, dict[str, Any]]],
    errors: dict[int, str],
) -> None:
    """Note which lines write over a change that is newer than their file, or name a rule twice."""
    stands = rulesearch.changed_at(conn, [rule_id for rule_id, _ in items if rule_id], lock=True)
    named: dict[int, int] = {}
    for line, (rule_id, _) in zip(lines, items, strict=True):
        if rule_id is None or line.number in errors:
            continue
        if rule_id in named:
            errors[line.number] = f"id: rule {rule_id} stands in line {named[rule_id]} already"
        named[rule_id] = line.number
        seen = line.cells.get("changed_at", "").strip()
        if seen and rule_id in stands and stands[rule_id].isoformat() != seen:
            when = f"{stands[rule_id]:%Y-%m-%d %H:%M:%S} UTC"
            errors[line.number] = f"rule {rule_id} was changed at {when}, after this file was written"


def _gone(rule_id: int | None) -> str:
    return f"There is no rule {rule_id}: it may have been deleted."
