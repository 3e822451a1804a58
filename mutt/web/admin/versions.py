"""Versions of the ruleset: listed, shown, compared, restored; out as a file, and in by a plan that is shown first."""

from __future__ import annotations

from typing import Any

from flask import Response, abort, flash, redirect, request, url_for
from flask_admin import expose
from flask_wtf.file import FileField
from sqlalchemy import Connection
from wtforms import BooleanField, HiddenField, StringField, TextAreaField

from mutt.errors import Refused
from mutt.rules import book
from mutt.rules.book import Book, Fault, NotRules
from mutt.store import lookup, plans, rulebook, versions
from mutt.store.engine import transaction
from mutt.store.plans import Plan
from mutt.store.users import Role
from mutt.web.admin.forms import Refusable
from mutt.web.admin.page import A_PAGE, CONFLICT, REFUSED, SHOWN, Page, said
from mutt.web.roles import requires
from mutt.words import many


class RestoreForm(Refusable):
    """Why a version is to stand again; ``seen`` is the one that stood when that was asked."""

    reason = StringField("Why", description="Kept in the history.", render_kw={"maxlength": 500})
    seen = HiddenField()


class ImportForm(Refusable):
    """A file of rules; with ``seen``, the version that its plan was made for, it is applied."""

    file = FileField(
        "File", description="YAML or JSON, as a version exports it; rules are known by their names."
    )
    text = TextAreaField("Or its text", render_kw={"rows": 8, "spellcheck": "false"})
    replace = BooleanField("Delete what the file does not name, in its sections")
    reason = StringField("Why", description="Kept in the history.", render_kw={"maxlength": 500})
    seen = HiddenField()


class Versions(Page):
    @expose("/")
    def index(self) -> str:
        before = request.args.get("before", type=int)
        with lookup.reading(self.engine) as conn:
            found = versions.latest(conn, before=before, limit=A_PAGE + 1)
            stands = rulebook.current_version(conn)
        return self.render(
            "versions.html",
            versions=found[:A_PAGE],
            older=found[A_PAGE - 1].version if len(found) > A_PAGE else None,
            stands=stands,
        )

    @expose("/<int:version>")
    def show(self, version: int) -> str:
        """What stands in a version, and what it changed of the one before."""
        with lookup.reading(self.engine) as conn:
            _check_kept(conn, version)
            made = versions.latest(conn, before=version + 1, limit=2)
            earlier = made[1].version if len(made) > 1 else None
            found = versions.compare(conn, earlier, version) if earlier is not None else []
            stands = rulebook.current_version(conn)
            sizes = versions.sizes(conn, version)
        return self.render(
            "version.html",
            made=made[0],
            sizes=sizes,
            earlier=earlier,
            changes=found[:SHOWN],
            found=len(found),
            stands=stands,
        )

    @expose("/compare")
    def compare(self) -> str:
        """``?before=`` and ``?after=``: two versions."""
        before, after = request.args.get("before", type=int), request.args.get("after", type=int)
        if before is None or after is None:
            abort(400, "Say which two versions: before and after are their numbers.")
        with lookup.reading(self.engine) as conn:
            _check_kept(conn, before)
            _check_kept(conn, after)
            found = versions.compare(conn, before, after)
        return self.render(
            "versions_compare.html", before=before, after=after, changes=found[:SHOWN], found=len(found)
        )

    @expose("/<int:version>/restore", methods=("GET", "POST"))
    @requires(Role.ADMIN)
    def restore(self, version: int) -> Any:
        form = RestoreForm()
        if form.validate_on_submit() and (done := self._restored(version, form)):
            flash(f"Version {version} stands again, as version {done}. Workers follow it within 5 seconds.")
            return redirect(url_for("versions.index"))
        with lookup.reading(self.engine) as conn:
            _check_kept(conn, version)
            stands = rulebook.current_version(conn)
            found = versions.compare(conn, stands, version, windows=False)
        form.seen.data = str(stands)
        page = self.render(
            "versions_restore.html", version=version, form=form, changes=found[:SHOWN], found=len(found)
        )
        return page, REFUSED if request.method == "POST" else 200

    def _restored(self, version: int, form: RestoreForm) -> int | None:
        try:
            with transaction(self.engine) as conn:
                _check_kept(conn, version)
                versions.restore(conn, version, said(form.reason.data), seen=_number(form.seen.data))
                return rulebook.current_version(conn)
        except Refused as error:
            form.refuse(error)
            return None

    @expose("/<int:version>.yaml")
    def export(self, version: int) -> Response:
        with lookup.reading(self.engine) as conn:
            _check_kept(conn, version)
            stood = versions.book_of(conn, version)
        answer = Response(
            book.write(stood, f"MUTT, version {version} of the ruleset"), mimetype="application/yaml"
        )
        answer.headers["Content-Disposition"] = f"attachment; filename=rules-{version}.yaml"
        return answer

    @expose("/import", methods=("GET", "POST"))
    @requires(Role.ADMIN)
    def bring_in(self) -> Any:
        """A file: first its plan, then, as it was shown, that done."""
        form = ImportForm()
        if not form.validate_on_submit():
            return self.render("versions_import.html", form=form, plan=None, faults=[])
        if upload := form.file.data:
            form.text.data = upload.read().decode("utf-8", "replace")
        try:
            wanted, faults = book.check(
                book.read("the file", (form.text.data or "").encode("utf-8", "replace"))
            )
        except NotRules as error:
            form.refuse(Refused("text", str(error)))
            return self._plan_page(form)
        if faults:
            return self._plan_page(form, faults=faults)
        if form.seen.data and self._applied(form, wanted):
            return redirect(url_for("versions.index"))
        with lookup.reading(self.engine) as conn:
            plan = plans.plan(conn, wanted, replace=bool(form.replace.data))
        status = CONFLICT if form.form_errors else 200
        form.seen.data = str(plan.version)
        return self._plan_page(form, plan, status=status)

    def _applied(self, form: ImportForm, wanted: Book) -> bool:
        try:
            with transaction(self.engine) as conn:
                done = plans.apply(
                    conn,
                    wanted,
                    replace=bool(form.replace.data),
                    version=_number(form.seen.data),
                    **said(form.reason.data),
                )
                version = rulebook.current_version(conn)
        except Refused as error:
            form.refuse(error)
            return False
        flash(
            f"{many(len(done.changes), 'change')} made; version {version} stands. Workers follow it within 5 seconds."
        )
        return True

    def _plan_page(
        self,
        form: ImportForm,
        plan: Plan | None = None,
        *,
        faults: list[Fault] | None = None,
        status: int = REFUSED,
    ) -> Any:
        page = self.render("versions_import.html", form=form, plan=plan, faults=faults or [], shown=SHOWN)
        return page, status


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else -1


def _check_kept(conn: Connection, version: int) -> None:
    try:
        versions.check_kept(conn, version)
    except LookupError as error:
        abort(404, f"{error}.".capitalize())
