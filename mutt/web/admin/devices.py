"""What the rules know of devices: development hosts, and the teams of devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response, abort, flash, redirect, request, url_for
from flask_admin import expose
from sqlalchemy import Connection

from mutt.errors import ManyRefused, Refused
from mutt.rules.hosts import KINDS, HostPatterns, kind_of
from mutt.store import devices, lookup
from mutt.store.engine import transaction
from mutt.store.history import Said
from mutt.store.users import Role
from mutt.web.admin import csvfile
from mutt.web.admin.forms import HostForm, ImportForm, TeamForm, searched
from mutt.web.admin.page import (
    A_PAGE,
    CONFLICT,
    REFUSED,
    Page,
    done,
    in_place,
    list_of,
    said,
    search,
    wanted_page,
)
from mutt.web.roles import requires
from mutt.words import many

HOST_COLUMNS = ("hostname",)
TEAM_COLUMNS = ("hostname", "team_assignment", "seen")


class Devices(Page):
    """A list of names, globs and networks: searched, by kind, tried with a host, out and in as CSV."""

    def narrowed(self, patterns: Mapping[str, str]) -> dict[str, Any]:
        """What a page shows of ``patterns`` (with what belongs to each), as ``?q=``, ``?kind=`` and ``?host=`` ask."""
        wanted, kind = searched(request.args.get("q")), request.args.get("kind", "")
        found = search(patterns.items(), wanted, "\n".join)
        kinds = dict.fromkeys(KINDS, 0)
        for pattern, _ in found:
            kinds[kind_of(pattern)] += 1
        if kind in KINDS:
            found = [item for item in found if kind_of(item[0]) == kind]
        page, pages = wanted_page(len(found))
        host = searched(request.args.get("host"), devices.HOSTNAME_MAX)
        return {
            "rows": found[(page - 1) * A_PAGE : page * A_PAGE],
            "found": len(found),
            "q": wanted,
            "kind": kind,
            "kinds": kinds,
            "page": page,
            "pages": pages,
            "host": host,
            "matching": HostPatterns(patterns).matching(host) if host else [],
        }

    def import_page(self, columns: tuple[str, ...], what: str, put: Any) -> Any:
        """Lines of CSV, each given to ``put(conn, cells, said)``: all of them, or none."""
        form, status = ImportForm(), 200
        errors: list[tuple[int, str]] = []
        if form.validate_on_submit():
            status = REFUSED
            try:
                lines = csvfile.read(form.given(), columns, columns[:-1] or columns)
                errors = self._imported(lines, put, said(form.reason.data), keep=not form.check.data)
                if not errors:
                    done = "imported" if not form.check.data else "can be imported. Nothing was changed"
                    flash(f"{many(len(lines), 'line')} {done}.")
                    if not form.check.data:
                        return redirect(url_for(f"{self.endpoint}.index"))
                    status = 200
            except Refused as error:
                form.refuse(error)
        page = self.render("devices_import.html", form=form, errors=errors, columns=columns, what=what)
        return page, status

    def _imported(
        self, lines: list[csvfile.Line], put: Any, said: Said, *, keep: bool
    ) -> list[tuple[int, str]]:
        errors: dict[int, Refused] = {}
        try:
            with transaction(self.engine) as conn:
                for line in lines:
                    try:
                        put(conn, line.cells, said)
                    except Refused as error:
                        errors[line.number] = error
                if errors or not keep:
                    raise ManyRefused(errors)  # so that nothing is committed
        except ManyRefused as refused:
            return [(number, str(error)) for number, error in refused.reasons.items()]
        return []


class Hosts(Devices):
    @expose("/", methods=("GET", "POST"))
    def index(self) -> Any:
        form = HostForm()
        if form.validate_on_submit() and self._add(form):
            return redirect(list_of("hosts.index"))
        with lookup.reading(self.engine) as conn:
            shown = self.narrowed(dict.fromkeys(devices.hosts(conn), ""))
        return self.render("hosts.html", form=form, **shown), REFUSED if request.method == "POST" else 200

    def _add(self, form: HostForm) -> bool:
        hostname = form.hostname.data or ""
        try:
            with transaction(self.engine) as conn:
                devices.add_host(conn, hostname, **said(form.reason.data))
        except Refused as error:
            form.refuse(error)
            return False
        flash(f"{hostname.strip()} is a development host.")
        return True

    @expose("/remove", methods=("POST",))
    def remove(self) -> Any:
        hostname = request.form.get("hostname", "")
        with transaction(self.engine) as conn:
            removed = devices.remove_host(conn, hostname, **said(request.form.get("reason")))
        return done(f"{hostname} is no development host{' any more' if removed else ''}.", "hosts.index")

    @expose("/hosts.csv")
    def export(self) -> Response:
        with lookup.reading(self.engine) as conn:
            found = devices.hosts(conn)
        return csvfile.download("hosts.csv", HOST_COLUMNS, ({"hostname": host} for host in found))

    @expose("/import", methods=("GET", "POST"))
    @requires(Role.ADMIN)
    def import_(self) -> Any:
        def put(conn: Connection, cells: dict[str, str], said: Said) -> None:
            devices.add_host(conn, cells["hostname"], **said)

        return self.import_page(HOST_COLUMNS, "development hosts", put)


class Teams(Devices):
    @expose("/")
    def index(self) -> str:
        with lookup.reading(self.engine) as conn:
            teams = devices.teams(conn)
        return self._list(teams)

    def _list(self, teams: Mapping[str, str]) -> str:
        default = self.services.settings.unhandled_default_team
        shown = self.narrowed(teams)
        return self.render("teams.html", **shown, default_team=default, teams=sorted(set(teams.values())))

    @expose("/new", methods=("GET", "POST"))
    @requires(Role.ADMIN)
    def new(self) -> Any:
        form = TeamForm()
        if form.validate_on_submit() and self._save(form, form.hostname.data or ""):
            return redirect(url_for("teams.index"))
        return self._form_page(form)

    @expose("/edit", methods=("GET", "POST"))
    @requires(Role.ADMIN)
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

    @expose("/put", methods=("POST",))
    def put(self) -> Any:
        """Give a device of the list to another team, where it stands."""
        given = {name: request.form.get(name, "") for name in TEAM_COLUMNS}
        try:
            with transaction(self.engine) as conn:
                _put_team(conn, given, said(request.form.get("reason")))
        except Refused as error:
            status = CONFLICT if error.field == "" else REFUSED
            if not in_place():
                abort(status, error.reason)
            with lookup.reading(self.engine) as conn:
                team = lookup.team_of(conn, given["hostname"])
            if team is None:
                abort(status, error.reason)
            row = {"host": given["hostname"], "team": team, "problem": error.reason}
            return self.render("changed.html", row="teams_row.html", sentence="", **row), status
        host, team = given["hostname"].strip(), given["team_assignment"].strip()
        return done(
            f"{host} belongs to {team}.", "teams.index", "teams_row.html", host=host, team=team, problem=""
        )

    @expose("/remove", methods=("POST",))
    def remove(self) -> Any:
        hostname = request.form.get("hostname", "")
        try:
            with transaction(self.engine) as conn:
                _check_unchanged(conn, hostname, request.form.get("seen"))
                devices.remove_team(conn, hostname, **said(request.form.get("reason")))
        except Refused as error:
            abort(CONFLICT, error.reason)
        return done(f"{hostname} has no team of its own any more.", "teams.index")

    @expose("/teams.csv")
    def export(self) -> Response:
        with lookup.reading(self.engine) as conn:
            found = devices.teams(conn)
        rows = ({"hostname": host, "team_assignment": team, "seen": team} for host, team in found.items())
        return csvfile.download("teams.csv", TEAM_COLUMNS, rows)

    @expose("/import", methods=("GET", "POST"))
    @requires(Role.ADMIN)
    def import_(self) -> Any:
        return self.import_page(TEAM_COLUMNS, "device teams", _put_team)

    def _save(self, form: TeamForm, hostname: str, *, seen: str | None = None) -> bool:
        team = form.team_assignment.data or ""
        try:
            with transaction(self.engine) as conn:
                _check_unchanged(conn, hostname, seen)
                devices.put_team(conn, hostname, team, **said(form.reason.data))
        except Refused as error:
            form.refuse(error)
            return False
        flash(f"{hostname.strip()} belongs to {team.strip()}.")
        return True

    def _form_page(self, form: TeamForm, hostname: str = "") -> Any:
        page = self.render("team.html", form=form, hostname=hostname)
        return page, REFUSED if request.method == "POST" else 200


def _put_team(conn: Connection, given: Mapping[str, str], said: Said) -> None:
    """Give a device to a team, if it belongs to whom the giver saw (nothing said: to anybody). Raises Refused."""
    if given.get("seen"):
        _check_unchanged(conn, given["hostname"], given["seen"])
    devices.put_team(conn, given["hostname"], given["team_assignment"], **said)


def _check_unchanged(conn: Connection, hostname: str, seen: str | None) -> None:
    """Refuse to write over a team that the writer has not seen (None: saw none). Raises Refused."""
    team = lookup.team_of(conn, hostname.strip(), lock=True)
    if team != seen:
        stands = f"belongs to {team}" if team else "has no team of its own any more"
        raise Refused("", f"{hostname.strip()} {stands}, which this page did not show: open it again.")
