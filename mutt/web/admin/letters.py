"""The dead letters: counted by reason, looked at, tried, sent again, replaced by a copy, given up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
from flask import abort, flash, redirect, request, url_for
from flask_admin import expose
from flask_login import current_user

from mutt import names
from mutt.errors import Refused
from mutt.event import Event
from mutt.letters import copies
from mutt.letters.desk import DROP, REPLAY, Copy, Desk, NotEditable, Order, rejected_text
from mutt.letters.orders import Orders
from mutt.letters.remedy import remedy
from mutt.letters.trial import Trial, told
from mutt.services import Services
from mutt.store.users import Role
from mutt.streams.letters import KEPT, Letter, NoLetter, NotReplayable, is_id
from mutt.web.admin.forms import AlertCopyForm, CopyForm, DropForm, EventCopyForm, TextCopyForm
from mutt.web.admin.page import REFUSED, SHOWN, Page
from mutt.web.roles import BY_OPERATORS, requires
from mutt.words import many, printable

#: Letters that a page of a list shows.
A_PAGE = 50

#: Whatever a letter holds, a page stays one that a telephone can show. Characters.
HELD_MAX = 200_000


class DeadLetters(Page):
    needs = BY_OPERATORS

    def __init__(self, services: Services, name: str, endpoint: str) -> None:
        super().__init__(services, name, endpoint)
        self._desk = Desk(services)

    @property
    def _orders(self) -> Orders:
        return Orders(self.services.redis)

    @expose("/")
    def index(self) -> str:
        groups = {queue: self._desk.letters.counts(queue) for queue in names.DLQS}
        rows = [(queue, group, n) for queue, found in groups.items() for group, n in found.items()]
        return self.render(
            "letters.html", rows=rows[:SHOWN], found=len(rows), orders=self._told_orders(names.DLQS)
        )

    @expose("/<queue>/")
    def group(self, queue: str) -> str:
        """The letters of ``?group=``, page by page: ``?after=`` is the last one of the page before."""
        _check_queue(queue)
        group, after = request.args.get("group", ""), request.args.get("after", "")
        if after and not is_id(after):
            abort(404, "There is no such page of this list.")
        seen = self._desk.letters.page(queue, group, after=after, want=A_PAGE)
        return self.render(
            "letters_group.html",
            queue=queue,
            group=group,
            after=after,
            seen=seen,
            remedy=remedy(seen.letters[0]) if seen.letters and group else None,
            orders=self._told_orders([queue]),
            form=DropForm(formdata=None),
        )

    @expose("/<queue>/all", methods=("POST",))
    def all(self, queue: str) -> Any:
        """Let workers send all letters of a reason again, or give them up, as the button said."""
        _check_queue(queue)
        group, form = request.form.get("group", ""), DropForm()
        what = DROP if request.form.get("what") == DROP else REPLAY
        try:
            order = self._desk.order(
                queue, what, who=current_user.name, reason=form.reason.data or "", group=group
            )
            self._orders.give(order)
        except Refused as error:
            abort(409, f"{error.field} {error.reason}".strip())
        except NotReplayable as error:
            abort(409, str(error))
        done = "dropped" if what == DROP else "sent again while there is room"
        flash(f"{many(order.total, 'letter')} will be {done}. This page shows how far it is.")
        return redirect(url_for("letters.group", queue=queue, group=group))

    @expose("/<queue>/stop", methods=("POST",))
    def stop(self, queue: str) -> Any:
        _check_queue(queue)
        stopped = self._orders.stop(queue)
        flash("It ends after its present step." if stopped else "Nothing is under way any more.")
        return redirect(url_for("letters.group", queue=queue, group=request.form.get("group", "")))

    @expose("/<queue>/<id_>")
    def one(self, queue: str, id_: str) -> Any:
        return self._letter_page(self._read(queue, id_))

    @expose("/<queue>/<id_>/try", methods=("POST",))
    def try_(self, queue: str, id_: str) -> Any:
        letter = self._read(queue, id_)
        return self._letter_page(letter, trial=self._desk.try_(queue, id_))

    @expose("/<queue>/<id_>/replay", methods=("POST",))
    def replay(self, queue: str, id_: str) -> Any:
        letter = self._read(queue, id_)
        try:
            order = self._desk.order(queue, REPLAY, who=current_user.name, ids=[id_], now=True)
        except NotReplayable as error:
            abort(409, str(error))
        return self._carried_out(order, letter, "is sent again")

    @expose("/<queue>/<id_>/drop", methods=("POST",))
    def drop(self, queue: str, id_: str) -> Any:
        letter, form = self._read(queue, id_), DropForm()
        try:
            order = self._desk.order(
                queue, DROP, who=current_user.name, ids=[id_], reason=form.reason.data or ""
            )
        except Refused as error:
            form.refuse(error)
            return self._letter_page(letter, drop=form), REFUSED
        return self._carried_out(order, letter, "is dropped")

    @expose("/<queue>/<id_>/edit", methods=("GET", "POST"))
    @requires(Role.OPERATOR)
    def edit(self, queue: str, id_: str) -> Any:
        letter = self._read(queue, id_)
        form = self._copy_form(letter)
        if form.validate_on_submit():
            copy = self._copied(form, letter)
            if copy:
                changed = ", ".join(copy.changed) or "nothing"
                fate = "The original stays." if copy.kept else "The original is dropped."
                flash(f"The copy {', '.join(copy.ids[:3])} is accepted (changed: {changed}). {fate}")
                return redirect(url_for("letters.group", queue=queue))
        page = self.render("letter_edit.html", letter=letter, form=form, remedy=remedy(letter))
        return page, REFUSED if request.method == "POST" else 200

    def _copy_form(self, letter: Letter) -> CopyForm:
        if letter.queue == "ingest":
            return TextCopyForm(data={"text": rejected_text(self._desk.letters.one("ingest", letter.id))})
        try:
            original = self._desk.original(letter.queue, letter.id)
        except NotEditable as error:
            abort(409, str(error))
        made = EventCopyForm if isinstance(original, Event) else AlertCopyForm
        return made(data=copies.as_text(original))

    def _copied(self, form: CopyForm, letter: Letter) -> Copy | None:
        """The copy that was accepted; None: the form says why it was not."""
        said: dict[str, Any] = {"who": current_user.name, "reason": form.reason.data or ""}
        try:
            if isinstance(form, TextCopyForm):
                keep, format_ = bool(form.keep.data), form.format.data or ""
                shown = rejected_text(self._desk.letters.one("ingest", letter.id))
                text = form.text.data or ""
                text = shown if copies.seen("raw", text) == copies.seen("raw", shown) else text
                return self._desk.edit_rejected(letter.id, text, format_=format_, keep=keep, **said)
            original = self._desk.original(letter.queue, letter.id)
            changes = copies.changes_of(original, form.texts())
            keep = isinstance(form, EventCopyForm) and bool(form.keep.data)
            return self._desk.edit(letter.queue, letter.id, changes, keep=keep, **said)
        except Refused as error:
            form.refuse(error)
            return None

    def _carried_out(self, order: Order, letter: Letter, what: str) -> Any:
        for _ in self._desk.run(order):
            pass
        if order.outcomes:
            abort(409, f"Letter {letter.id} is not dropped: {KEPT}.")
        if not order.letters:
            abort(409, f"Letter {letter.id} is not there any more, or can't be read: nothing was changed.")
        flash(f"Letter {letter.id} {what}.")
        return redirect(url_for("letters.group", queue=letter.queue))

    def _read(self, queue: str, id_: str) -> Letter:
        _check_queue(queue)
        try:
            return self._desk.show(queue, id_)
        except NoLetter as error:
            abort(404, str(error))

    def _letter_page(
        self, letter: Letter, *, trial: Trial | None = None, drop: DropForm | None = None
    ) -> str:
        held = orjson.dumps(letter.payload, default=str, option=orjson.OPT_INDENT_2).decode()
        return self.render(
            "letter.html",
            letter=letter,
            remedy=remedy(letter),
            trial=[(label, printable(text)) for label, text in told(trial)] if trial else [],
            held=printable(held[:HELD_MAX]),
            cut=max(0, len(held) - HELD_MAX),
            drop=drop or DropForm(formdata=None),
        )

    def _told_orders(self, queues: Iterable[str]) -> list[tuple[Order, bool]]:
        """Orders about these queues, each with: is it under way?"""
        running = [(order, True) for queue in queues if (order := self._orders.under_way(queue))]
        ended = [(order, False) for queue in queues if (order := self._orders.ended(queue))]
        return running + ended


def _check_queue(queue: str) -> None:
    if queue not in names.DLQS:
        abort(404, f"There are no dead letters called {queue}.")
