"""Maintenance: windows in which alerts are held, and the receipts of what they held."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from flask import abort, redirect, request, url_for
from flask_admin import expose
from flask_login import current_user
from sqlalchemy import Connection
from wtforms import BooleanField, SelectField, SelectMultipleField, StringField, widgets
from wtforms.fields.choices import SelectChoice

from mutt.rules.check import WINDOW_SCOPES
from mutt.rules.windows import DAYS, Occurrence, Window, check_timezone, in_zone, read_time
from mutt.store import devices, lookup, receipts, windows
from mutt.store.users import Role
from mutt.web.admin import repeats
from mutt.web.admin.named import NamedForm, NamedPage
from mutt.web.admin.page import said, search
from mutt.web.roles import BY_OPERATORS, requires

#: How long a new window is, if nobody says otherwise.
USUAL = timedelta(hours=2)

#: Occurrences to come that a window's page shows.
COMING = 5

RECEIPTS_SHOWN = 200


def _time(label: str, widget: widgets.Input, description: str = "") -> StringField:
    # As text: what is no time, the check says at its field.
    return StringField(label, widget=widget, description=description)


class WindowForm(NamedForm):
    """The fields of :class:`Window`, as text; times are on the clock of its time zone."""

    name = StringField("Name", description="What is done, such as “core upgrade”.")
    owner = StringField("Owner", description="Who answers for it.")
    reason = StringField("Reason", description="A ticket, or a sentence.")
    hostname = StringField(
        "Host", description="A name, a glob such as core-*, or a network such as 10.0.0.0/8."
    )
    team = StringField("Team", description="The team that the alert goes to.", render_kw={"list": "teams"})
    rule_id = StringField("Rule", description="The number of a rule.", render_kw={"inputmode": "numeric"})
    starts_at = _time("From", widgets.DateTimeLocalInput())
    ends_at = _time("To", widgets.DateTimeLocalInput(), "Of the first time, if it repeats.")
    timezone = StringField(
        "Time zone", description="Whose clock is meant.", render_kw={"list": "zones", "spellcheck": "false"}
    )
    repeat = SelectField(
        "Repeats",
        choices=[SelectChoice(*preset) for preset in repeats.PRESETS.items()],
        validate_choice=False,
    )
    days = SelectMultipleField(
        "On",
        choices=[SelectChoice(*day) for day in zip(DAYS, repeats.NAMES, strict=True)],
        validate_choice=False,
        option_widget=widgets.CheckboxInput(),
        description="None: the day on which it begins.",
    )
    until = _time("Last day", widgets.DateInput(), "Left empty: for good.")
    recurrence = StringField(
        "RRULE",
        description="Only for “as the RRULE says”: FREQ=WEEKLY;INTERVAL=2;BYDAY=SA",
        render_kw={"spellcheck": "false"},
    )
    release = BooleanField("Send what still burns at the end", description="Else the receipt only names it.")
    is_active = BooleanField("Active")

    @classmethod
    def of(cls, window: Window, seen: datetime | None = None) -> WindowForm:
        """The form filled in with a window that was last changed at ``seen``; what was sent comes first."""
        first = window.starts_at.astimezone(window.zone)
        repeat = repeats.read(window.recurrence, first)
        values = {name: getattr(window, name) for name in Window.__struct_fields__}
        times = {name: _local(values[name], window.zone) for name in ("starts_at", "ends_at")}
        chosen = {"repeat": repeat.preset, "days": list(repeat.days), "until": repeat.until}
        stamp = {"seen": seen.isoformat() if seen else ""}
        return cls(data={**values, **times, **chosen, **stamp})

    def window(self) -> dict[str, Any]:
        """What ``windows.save`` takes. Raises :class:`RuleError`."""
        names = ("name", "owner", "reason", *WINDOW_SCOPES, "starts_at", "ends_at", "timezone")
        values = {name: self._fields[name].data or None for name in names}
        values = {
            name: value or "" if name in ("name", "owner", "reason") else value
            for name, value in values.items()
        }
        values |= {"release": bool(self.release.data), "is_active": bool(self.is_active.data)}
        chosen = repeats.Repeat(self.repeat.data or repeats.ONCE, self.days.data or (), self.until.data or "")
        rule = repeats.written(chosen, _first(values), self.recurrence.data or "")
        return {**values, "recurrence": rule}


def _first(values: dict[str, Any]) -> datetime | None:
    """When the first occurrence begins, on the clock of its time zone. Raises :class:`RuleError`."""
    if not values["starts_at"]:
        return None
    zone = check_timezone(values["timezone"] or "UTC")
    return in_zone("starts_at", read_time("starts_at", values["starts_at"]), zone).astimezone(ZoneInfo(zone))


class Shown(NamedTuple):
    """A window as the list has it."""

    window: Window
    on: Occurrence | None  #: the one that is on
    next: Occurrence | None  #: the next to come
    held: int  #: alerts that the one that is on has held


class Maintenance(NamedPage):
    needs = BY_OPERATORS

    @expose("/")
    def index(self) -> Any:
        now, wanted = datetime.now(UTC), request.args.get("q", "")
        with lookup.reading(self.engine) as conn:
            found = search(windows.windows(conn), wanted, _text)
            on = {window.id: one for window in found if (one := window.at(now))}
            held = receipts.held_so_far(conn, on)
        shown = [Shown(one, on.get(one.id), one.next_after(now), held.get(one.id, 0)) for one in found]
        groups = {
            "Now": sorted((one for one in shown if one.on), key=lambda one: one.on.end if one.on else now),
            "Coming": sorted(
                (one for one in shown if one.next and not one.on),
                key=lambda one: one.next.start if one.next else now,
            ),
            "Ended or off": [one for one in reversed(shown) if not one.on and not one.next],
        }
        return self.render("windows.html", groups=groups, q=wanted, found=len(found), says=_says, local=_told)

    @expose("/new", methods=("GET", "POST"))
    @requires(Role.OPERATOR)
    def new(self) -> Any:
        """A new window; ``?like=ID`` begins with another, ``?hostname=``, ``?team=`` and ``?rule_id=`` with a scope."""
        form = WindowForm.of(self._like(request.args.get("like", type=int)))
        if form.validate_on_submit() and self._save(form):
            return redirect(url_for("maintenance.index"))
        return self._form_page(form)

    @expose("/<int:window_id>", methods=("GET", "POST"))
    def edit(self, window_id: int) -> Any:
        window, changed_at = self._get(window_id)
        form = WindowForm.of(window, changed_at)
        if form.validate_on_submit() and self._save(form, window_id):
            return redirect(url_for("maintenance.index"))
        return self._form_page(form, window)

    @expose("/<int:window_id>/end", methods=("POST",))
    def end(self, window_id: int) -> Any:
        why = request.form.get("reason")
        return self.change(
            lambda conn: windows.end_now(conn, window_id, datetime.now(UTC), **said(why)),
            "has ended. Its receipt is made within half a minute",
        )

    @expose("/<int:window_id>/delete", methods=("POST",))
    def delete(self, window_id: int) -> Any:
        seen, why = request.form.get("seen", ""), request.form.get("reason")
        return self.change(
            lambda conn: windows.remove(conn, window_id, seen=seen, **said(why)),
            "is deleted; its receipts stay",
        )

    @expose("/receipts")
    def receipts(self) -> Any:
        """What occurrences held, the newest first; of one window with ``?window=ID``."""
        window_id = request.args.get("window", type=int)
        with lookup.reading(self.engine) as conn:
            found = receipts.receipts(conn, window_id=window_id, limit=RECEIPTS_SHOWN)
        return self.render("receipts.html", receipts=found, window_id=window_id, most=RECEIPTS_SHOWN)

    @expose("/receipts/<int:receipt_id>")
    def receipt(self, receipt_id: int) -> Any:
        with lookup.reading(self.engine) as conn:
            try:
                found = receipts.receipt(conn, receipt_id)
            except LookupError as error:
                abort(404, f"{error}.")
            burning = receipts.burning(conn, receipt_id)
            window = _standing(conn, found.window_id)
        here = window and _told(Occurrence(found.starts_at, found.ends_at), window)
        return self.render("receipt.html", receipt=found, burning=burning, window=window, here=here)

    def _like(self, window_id: int | None) -> Window:
        start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        if window_id is not None:
            like, _ = self._get(window_id)
            return like
        return Window(
            id=0,
            name="",
            owner=current_user.name,
            hostname=request.args.get("hostname") or None,
            team=request.args.get("team") or None,
            rule_id=request.args.get("rule_id", type=int),
            starts_at=start,
            ends_at=start + USUAL,
        )

    def _get(self, window_id: int) -> tuple[Window, datetime]:
        return self.read(lambda conn: windows.get(conn, window_id))

    def _save(self, form: WindowForm, window_id: int | None = None) -> bool:
        seen = None if window_id is None else form.seen.data or ""
        return self.save(
            form,
            lambda conn: windows.save(
                conn, form.window(), window_id=window_id, seen=seen, **said(form.why.data)
            ),
        )

    def _form_page(self, form: WindowForm, window: Window | None = None) -> Any:
        now = datetime.now(UTC)
        coming = []
        if window is not None:
            for one in _following(window, now):
                coming.append((_told(one, window), _told(one)))
        with lookup.reading(self.engine) as conn:
            teams = sorted(set(devices.teams(conn).values()))
        page = self.render(
            "window.html",
            form=form,
            window=window,
            on=window and window.at(now),
            coming=coming,
            teams=teams,
            zones=sorted(available_timezones()),
        )
        return page, form.status if request.method == "POST" else 200


def _following(window: Window, now: datetime) -> list[Occurrence]:
    found: list[Occurrence] = []
    after = now
    while len(found) < COMING and (one := window.next_after(after)):
        found.append(one)
        after = one.start
    return found


def _standing(conn: Connection, window_id: int) -> Window | None:
    try:
        return windows.get(conn, window_id)[0]
    except LookupError:
        return None


def _local(time: datetime, zone: ZoneInfo) -> str:
    local = time.astimezone(zone)
    return f"{local:%Y-%m-%dT%H:%M:%S}" if local.second else f"{local:%Y-%m-%dT%H:%M}"


def _told(one: Occurrence, window: Window | None = None) -> str:
    """From when to when: on the clock of the window's time zone, or in UTC."""
    zone = ZoneInfo(window.timezone) if window else UTC
    start, end = one.start.astimezone(zone), one.end.astimezone(zone)
    to = f"{end:%H:%M}" if end.date() == start.date() else f"{end:%a %Y-%m-%d %H:%M}"
    return f"{start:%a %Y-%m-%d %H:%M} to {to}"


def _says(window: Window) -> str:
    return repeats.said(window.recurrence, window.starts_at.astimezone(window.zone))


def _text(window: Window) -> str:
    scopes = filter(None, (window.hostname, window.team, window.rule_id and f"rule {window.rule_id}"))
    return "\n".join((window.name, window.owner, window.reason, *map(str, scopes)))
