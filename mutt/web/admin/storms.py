"""Storms: when many alerts of one key are one storm, of which Moog gets one summary."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import redis
from flask import redirect, request, url_for
from flask_admin import expose
from wtforms import BooleanField, StringField

from mutt.errors import SettingsError
from mutt.rules.check import STORM_KEYS
from mutt.rules.rule import StormPolicy
from mutt.store import lookup, storms
from mutt.store.users import Role
from mutt.web.admin.named import NamedForm, NamedPage
from mutt.web.admin.page import said
from mutt.web.roles import requires


class StormForm(NamedForm):
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

    keys = STORM_KEYS

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


class Storms(NamedPage):
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
        form = StormForm.of(usual if like is None else self._get(like)[0])
        if form.validate_on_submit() and self._save(form):
            return redirect(url_for("storms.index"))
        return self._form_page(form)

    @expose("/<int:policy_id>", methods=("GET", "POST"))
    def edit(self, policy_id: int) -> Any:
        policy, changed_at = self._get(policy_id)
        form = StormForm.of(policy, changed_at)
        if form.validate_on_submit() and self._save(form, policy_id):
            return redirect(url_for("storms.index"))
        return self._form_page(form, policy)

    @expose("/<int:policy_id>/delete", methods=("POST",))
    def delete(self, policy_id: int) -> Any:
        seen, why = request.form.get("seen", ""), request.form.get("reason")
        return self.change(lambda conn: storms.remove(conn, policy_id, seen=seen, **said(why)), "is deleted")

    def _get(self, policy_id: int) -> tuple[StormPolicy, datetime]:
        return self.read(lambda conn: storms.get(conn, policy_id))

    def _save(self, form: StormForm, policy_id: int | None = None) -> bool:
        seen = None if policy_id is None else form.seen.data or ""
        return self.save(
            form,
            lambda conn: storms.save(
                conn, form.policy(), policy_id=policy_id, seen=seen, **said(form.why.data)
            ),
        )

    def _form_page(self, form: StormForm, policy: StormPolicy | None = None) -> Any:
        page = self.render("storm.html", form=form, policy=policy)
        return page, form.status if request.method == "POST" else 200
