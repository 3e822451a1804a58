"""Storms: when many alerts of one key are one storm, of which Moog gets one summary."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import redis
from flask import abort, flash, redirect, request, url_for
from flask_admin import expose
from wtforms import BooleanField, HiddenField, StringField

from mutt.errors import Overwrites, Refused, SettingsError
from mutt.rules.check import STORM_KEYS
from mutt.rules.rule import StormPolicy
from mutt.store import lookup, storms
from mutt.store.engine import transaction
from mutt.store.users import Role
from mutt.web.admin.forms import Refusable
from mutt.web.admin.page import CONFLICT, REFUSED, Page, said
from mutt.web.roles import requires


class StormForm(Refusable):
    """The fields of :class:`StormPolicy`, as text."""

    name = StringField("Name", description="Stands in the summary.")
    group_by = StringField(
        "Counted by", description=f"{', '.join(STORM_KEYS)}, or tags.NAME.", render_kw={"list": "keys"}
    )
    alert_count = StringField(
        "Alerts", description="More than so many of one key …", render_kw={"inputmode": "numeric"}
    )
    alert_window = StringField(
        "Seconds", description="… within so many seconds are a storm.", render_kw={"inputmode": "numeric"}
    )
    hostname = StringField(
        "Host",
        description="Left empty: all. Else a name, a glob such as core-*, or a network such as 10.0.0.0/8.",
    )
    is_active = BooleanField("Active")
    why = StringField(
        "Why", description="Kept in the history with this change.", render_kw={"maxlength": 500}
    )
    seen = HiddenField()

    keys = STORM_KEYS
    status = REFUSED  #: what a refusal is answered with

    @classmethod
    def of(cls, policy: StormPolicy, seen: datetime | None = None) -> StormForm:
        """The form filled in with a policy that was last changed at ``seen``; what was sent comes first."""
        return cls(data={**msgspec.structs.asdict(policy), "seen": seen.isoformat() if seen else ""})

    def policy(self) -> dict[str, Any]:
        """What ``storms.save`` takes."""
        texts = {
            name: self._fields[name].data or "" for name in StormPolicy.__struct_fields__ if name != "id"
        }
        return {**texts, "hostname": self.hostname.data or None, "is_active": bool(self.is_active.data)}


class Storms(Page):
    @expose("/")
    def index(self) -> str:
        with lookup.reading(self.engine) as conn:
            found = storms.policies(conn)
        try:
            going, outage = self.services.due.storms(), ""
        except (SettingsError, redis.RedisError):
            going, outage = [], "Redis does not answer: storms that go on can't be shown."
        return self.render("storms.html", policies=found, going=going, outage=outage)

    @expose("/new", methods=("GET", "POST"))
    @requires(Role.ADMIN)
    def new(self) -> Any:
        """A new policy; ``?like=ID`` begins with the values of another."""
        like = request.args.get("like", type=int)
        usual = StormPolicy(id=0, name="", group_by="host", alert_count=50, alert_window=60)
        form = StormForm.of(usual if like is None else self._read(like)[0])
        if form.validate_on_submit() and self._save(form):
            return redirect(url_for("storms.index"))
        return self._form_page(form)

    @expose("/<int:policy_id>", methods=("GET", "POST"))
    def edit(self, policy_id: int) -> Any:
        policy, changed_at = self._read(policy_id)
        form = StormForm.of(policy, changed_at)
        if form.validate_on_submit() and self._save(form, policy_id):
            return redirect(url_for("storms.index"))
        return self._form_page(form, policy)

    @expose("/<int:policy_id>/delete", methods=("POST",))
    def delete(self, policy_id: int) -> Any:
        try:
            with transaction(self.engine) as conn:
                seen, why = request.form.get("seen", ""), request.form.get("reason")
                policy = storms.remove(conn, policy_id, seen=seen, **said(why))
        except LookupError as error:
            abort(404, f"{error}.")
        except Refused as error:
            abort(CONFLICT, error.reason)
        flash(f"“{policy.name}” is deleted.")
        return redirect(url_for("storms.index"))

    def _read(self, policy_id: int) -> tuple[StormPolicy, datetime]:
        with lookup.reading(self.engine) as conn:
            try:
                return storms.get(conn, policy_id)
            except LookupError as error:
                abort(404, f"{error}.")

    def _save(self, form: StormForm, policy_id: int | None = None) -> bool:
        try:
            with transaction(self.engine) as conn:
                seen = None if policy_id is None else form.seen.data or ""
                policy = storms.save(
                    conn, form.policy(), policy_id=policy_id, seen=seen, **said(form.why.data)
                )
        except LookupError as error:
            abort(404, f"{error}.")
        except Refused as error:
            form.refuse(error)
            form.status = CONFLICT if isinstance(error, Overwrites) else REFUSED
            return False
        flash(f"“{policy.name}” is saved. Workers follow it within 5 seconds.")
        return True

    def _form_page(self, form: StormForm, policy: StormPolicy | None = None) -> Any:
        page = self.render("storm.html", form=form, policy=policy)
        return page, form.status if request.method == "POST" else 200
