"""What the rules know of devices: development hosts, and the teams of devices."""

from __future__ import annotations

from typing import Any

from flask import abort, flash, redirect, request, url_for
from flask_admin import expose
from sqlalchemy import Connection

from mutt.errors import Refused
from mutt.store import devices, lookup
from mutt.store.engine import transaction
from mutt.web.admin.forms import HostForm, SeenForm, TeamForm
from mutt.web.admin.page import REFUSED, SHOWN, Page, said, search


class Hosts(Page):
    @expose("/", methods=("GET", "POST"))
    def index(self) -> Any:
        form = HostForm()
        if form.validate_on_submit() and self._add(form):
            return redirect(url_for("hosts.index"))
        wanted = request.args.get("q", "")
        with lookup.reading(self.engine) as conn:
            found = search(devices.hosts(conn), wanted, str)
        button = SeenForm(formdata=None)
        page = self.render(
            "hosts.html", form=form, hosts=found[:SHOWN], found=len(found), q=wanted, button=button
        )
        return page, REFUSED if request.method == "POST" else 200

    def _add(self, form: HostForm) -> bool:
        hostname = form.hostname.data or ""
        try:
            with transaction(self.engine) as conn:
                devices.add_host(conn, hostname, **said())
        except Refused as error:
            form.refuse(error)
            return False
        flash(f"{hostname.strip()} is a development host.")
        return True

    @expose("/remove", methods=("POST",))
    def remove(self) -> Any:
        hostname = request.form.get("hostname", "")
        with transaction(self.engine) as conn:
            removed = devices.remove_host(conn, hostname, **said())
        flash(f"{hostname} is no development host{' any more' if removed else ''}.")
        return redirect(url_for("hosts.index"))


class Teams(Page):
    @expose("/")
    def index(self) -> str:
        wanted = request.args.get("q", "")
        with lookup.reading(self.engine) as conn:
            found = search(devices.teams(conn).items(), wanted, "\n".join)
        default = self.services.settings.unhandled_default_team
        return self.render(
            "teams.html", teams=found[:SHOWN], found=len(found), q=wanted, default_team=default
        )

    @expose("/new", methods=("GET", "POST"))
    def new(self) -> Any:
        form = TeamForm()
        if form.validate_on_submit() and self._save(form, form.hostname.data or ""):
            return redirect(url_for("teams.index"))
        return self._form_page(form)

    @expose("/edit", methods=("GET", "POST"))
    def edit(self) -> Any:
        """The team of ``?host=``: a network's slash has no place in a path."""
        hostname = request.args.get("host", "")
        with lookup.reading(self.engine) as conn:
            team = lookup.team_of(conn, hostname)
        if team is None:
            abort(404, f"{hostname} has no team of its own.")
        form = TeamForm(data={"hostname": hostname, "team_assignment": team, "seen": team})
        form.hostname.data = hostname  # one may not move it to another device by the way
        if form.validate_on_submit() and self._save(form, hostname, seen=form.seen.data):
            return redirect(url_for("teams.index"))
        return self._form_page(form, hostname)

    @expose("/remove", methods=("POST",))
    def remove(self) -> Any:
        hostname = request.form.get("hostname", "")
        try:
            with transaction(self.engine) as conn:
                _check_unchanged(conn, hostname, request.form.get("seen"))
                devices.remove_team(conn, hostname, **said())
        except Refused as error:
            abort(409, error.reason)
        flash(f"{hostname} has no team of its own any more.")
        return redirect(url_for("teams.index"))

    def _save(self, form: TeamForm, hostname: str, *, seen: str | None = None) -> bool:
        team = form.team_assignment.data or ""
        try:
            with transaction(self.engine) as conn:
                _check_unchanged(conn, hostname, seen)
                devices.put_team(conn, hostname, team, **said())
        except Refused as error:
            form.refuse(error)
            return False
        flash(f"{hostname.strip()} belongs to {team.strip()}.")
        return True

    def _form_page(self, form: TeamForm, hostname: str = "") -> Any:
        page = self.render("team.html", form=form, hostname=hostname)
        return page, REFUSED if request.method == "POST" else 200


def _check_unchanged(conn: Connection, hostname: str, seen: str | None) -> None:
    """Refuse to write over a team that the writer has not seen (None: saw none). Raises Refused."""
    team = lookup.team_of(conn, hostname.strip(), lock=True)
    if team != seen:
        stands = f"belongs to {team}" if team else "has no team of its own any more"
        raise Refused("", f"{hostname.strip()} {stands}, which this page did not show: open it again.")
