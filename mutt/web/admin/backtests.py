"""Back-tests: a draft of the rules over the stored past: asked for, watched, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from flask import Response, abort, flash, make_response, redirect, request, url_for
from flask_admin import expose
from flask_login import current_user
from flask_wtf.file import FileField
from sqlalchemy import Engine, Row
from wtforms import BooleanField, DateTimeLocalField, SelectField, StringField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import Optional

from mutt.backtest import jobs
from mutt.backtest.draft import Draft
from mutt.backtest.run import NOW, THEN, Question
from mutt.backtest.tally import Hour, Result
from mutt.errors import Refused
from mutt.rules.book import NotRules, items_of
from mutt.rules.rule import Rule
from mutt.store import backtests, lookup
from mutt.store.engine import transaction
from mutt.web.admin.forms import Refusable, RuleForm
from mutt.web.admin.page import REFUSED, Page
from mutt.web.admin.ruleform import is_draft, refused_draft
from mutt.web.roles import BY_OPERATORS

SPANS = {
    "1h": timedelta(hours=1),
    "24h": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
USUAL = "7d"

#: The chart: its size, the room above the bars, and the most bars of a kind.
WIDTH, HEIGHT, ABOVE, BARS = 1000, 160, 16, 180

_TIMES = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]


class BacktestForm(Refusable):
    """Over which events, compared with what; and a file of rules."""

    span = SelectField(
        "Over",
        choices=[
            SelectChoice("1h", "the last hour"),
            SelectChoice("24h", "the last 24 hours"),
            SelectChoice("7d", "the last 7 days"),
            SelectChoice("30d", "the last 30 days"),
            SelectChoice("", "as written beside"),
        ],
        default=USUAL,
        validate_choice=False,
    )
    since = DateTimeLocalField("From (UTC)", [Optional()], format=_TIMES)
    until = DateTimeLocalField("To (UTC)", [Optional()], format=_TIMES)
    host = StringField("Hosts", description="Empty: all. A name, a glob such as core-*, or a network.")
    baseline = SelectField(
        "Compared with",
        choices=[SelectChoice(NOW, "the rules as they are now"), SelectChoice(THEN, "what was decided then")],
        default=NOW,
        validate_choice=False,
    )
    file = FileField(
        "Rules", description="YAML or JSON, as `mutt rules export` writes them; found by their names."
    )
    replace = BooleanField("Without the rules that the file does not name")

    def question(self, draft: Draft, now: datetime) -> Question:
        """What is asked. Raises :class:`Refused`."""
        for field in (self.since, self.until):
            if field.errors:
                raise Refused(field.name, "is no time; write one such as 2026-03-04T09:30")
        until = _utc(self.until.data) or now
        since = _utc(self.since.data) or until - SPANS.get(self.span.data or USUAL, SPANS[USUAL])
        return Question(draft, since, until, (self.host.data or "").strip(), self.baseline.data or NOW)


class Bar(NamedTuple):
    """A part of the chart."""

    kind: str
    x: float
    y: float
    width: float
    height: float
    title: str


class Chart(NamedTuple):
    """Requests that Moog would get, without the draft and with it, drawn from left to right."""

    bars: list[Bar]
    most: int
    hours: int  #: that a bar stands for
    limit: float | None  #: where the budget's line is
    first: str
    last: str


class Backtests(Page):
    needs = BY_OPERATORS

    @expose("/")
    def index(self) -> Any:
        return self._list(BacktestForm(formdata=None))

    def _list(self, form: BacktestForm) -> str:
        with lookup.reading(self.engine) as conn:
            found = backtests.newest(conn)
        return self.render("backtests.html", form=form, jobs=found)

    @expose("/new", methods=("GET", "POST"))
    def new(self) -> Any:
        """Begin with the fields of the rule form (``rule_id`` names the rule, none is a new one), or with a file."""
        if request.method == "GET":
            return redirect(url_for("backtests.index"))
        form = BacktestForm()
        form.validate()
        try:
            job = self._ask(form, _draft(form))
        except Refused as error:
            if is_draft():
                return refused_draft(self, error)
            form.refuse(error)
            return self._list(form), REFUSED
        return redirect(url_for("backtests.one", job_id=job))

    @expose("/<uuid:job_id>/again", methods=("POST",))
    def again(self, job_id: UUID) -> Any:
        """The same draft over other events."""
        form = BacktestForm()
        form.validate()
        draft = jobs.question_of(self._get(job_id)).draft
        try:
            job = self._ask(form, draft)
        except Refused as error:
            form.refuse(error)
            return self._page(self._get(job_id), form), REFUSED
        return redirect(url_for("backtests.one", job_id=job))

    def _ask(self, form: BacktestForm, draft: Draft) -> UUID:
        question = form.question(draft, datetime.now(UTC))
        with transaction(self.engine) as conn:
            job = jobs.ask(conn, current_user.name, question)
        jobs.announce(self.services)
        return job

    @expose("/<uuid:job_id>")
    def one(self, job_id: UUID) -> Any:
        return self._page(self._get(job_id), BacktestForm(formdata=None))

    @expose("/<uuid:job_id>/state")
    def state(self, job_id: UUID) -> Response:
        """How far it is, as a part of its page; the whole page again once it has ended."""
        job = self._get(job_id)
        answer = make_response(self.render("backtest_state.html", job=job))
        if not _is_open(job):
            answer.headers["HX-Refresh"] = "true"
        return answer

    @expose("/<uuid:job_id>/cancel", methods=("POST",))
    def cancel(self, job_id: UUID) -> Any:
        with transaction(self.engine) as conn:
            if backtests.cancel(conn, job_id):
                flash("It is cancelled, within a moment.")
        return redirect(url_for("backtests.one", job_id=job_id))

    def _get(self, job_id: UUID) -> Row[Any]:
        with lookup.reading(self.engine) as conn:
            job = backtests.get(conn, job_id)
        if job is None:
            abort(404, "There is no such back-test: those that ended long ago are forgotten.")
        return job

    def _page(self, job: Row[Any], form: BacktestForm) -> Any:
        draft = jobs.question_of(job).draft
        told = msgspec.convert(job.result, Result, strict=False) if job.result else None
        return self.render(
            "backtest.html",
            job=job,
            is_open=_is_open(job),
            draft=draft,
            fields=[] if draft.whole else _fields(draft.rules[0]),
            told=told,
            chart=chart_of(told.hours, told.new_peak_hour.budget) if told else None,
            size=(WIDTH, HEIGHT),
            form=form,
        )


def drafted_rule(engine: Engine, job: str) -> Rule:
    """The rule of a back-test, to begin its form with. Raises ``LookupError`` where there is none."""
    with lookup.reading(engine) as conn:
        try:
            found = backtests.get(conn, UUID(job))
        except ValueError:
            found = None
    if found is None:
        raise LookupError(job)
    draft = jobs.question_of(found).draft
    return msgspec.convert({**draft.rules[0], "id": draft.rule_id or 0}, Rule)


def chart_of(hours: Mapping[str, Hour], budget: float) -> Chart | None:
    """The chart of ``hours`` (their names are YYYY-MM-DD HH); ``budget``: requests that Moog takes in an hour."""
    if not hours:
        return None
    at = {datetime.fromisoformat(f"{name}:00+00:00"): hour for name, hour in hours.items()}
    first, last = min(at), max(at)
    count = (last - first) // timedelta(hours=1) + 1
    together = -(-count // BARS)
    buckets = [[0, 0] for _ in range(-(-count // together))]
    for when, hour in at.items():
        bucket = buckets[(when - first) // timedelta(hours=together)]
        bucket[0] += hour.old_requests
        bucket[1] += hour.new_requests
    most = max(max(bucket) for bucket in buckets)
    # A day at least, so that one bar is no wall.
    step, room = WIDTH / max(24, len(buckets)), HEIGHT - ABOVE
    bars = []
    for number, bucket in enumerate(buckets):
        begins = first + timedelta(hours=number * together)
        title = f"{begins:%Y-%m-%d %H:00} UTC: {bucket[1]:,} with the draft, {bucket[0]:,} without"
        for place, kind in enumerate(("soft", "first")):
            if bucket[place]:
                height = bucket[place] / most * room
                x = (number + place * 0.45) * step
                bars.append(
                    Bar(
                        kind,
                        round(x, 2),
                        round(HEIGHT - height, 2),
                        round(step * 0.42, 2),
                        round(height, 2),
                        title,
                    )
                )
    share = budget * together / most if most else 0.0
    limit = round(HEIGHT - share * room, 2) if 0 < share <= 1 else None
    return Chart(bars, most, together, limit, f"{first:%Y-%m-%d %H:00}", f"{last:%Y-%m-%d %H:00}")


def _draft(form: BacktestForm) -> Draft:
    """What is drafted: one rule, or a file's. Raises :class:`Refused`."""
    if is_draft():
        return Draft.of_rule(RuleForm().rule(), request.form.get("rule_id", type=int))
    upload = form.file.data
    try:
        items = list(items_of("the file", upload.read() if upload else b""))
    except NotRules as error:
        raise Refused("file", str(error)) from None
    return Draft.of_file(items, replace=bool(form.replace.data))


def _fields(rule: Mapping[str, Any]) -> Sequence[tuple[str, Any]]:
    """What a drafted rule says beyond the defaults."""
    plain = msgspec.json.decode(msgspec.json.encode(Rule(id=0, name="")))
    return [(name, value) for name, value in rule.items() if plain.get(name) != value]


def _is_open(job: Row[Any]) -> bool:
    return job.status in ("queued", "running")


def _utc(time: datetime | None) -> datetime | None:
    return time if time is None else time.replace(tzinfo=UTC)
