"""What is configured: rules, development hosts, teams, maintenance windows, storm policies, redactions."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection

from mutt.errors import Refused
from mutt.rules.check import check_redaction
from mutt.rules.redaction import Redaction, Redactions
from mutt.rules.rule import Handling, MatchType, Rule, StormPolicy
from mutt.rules.windows import Window
from mutt.services import Services
from mutt.store import changes, devices, lookup, redactions, rulebook, rulesearch, storms, windows
from mutt.store.engine import transaction
from mutt.store.rulesearch import ORDERS, Listed, RuleSearch
from mutt.web.api import wire
from mutt.web.api.routes import COUNT, INTEGER, TEXT, Json, Reply, Route, listing, obj, ref
from mutt.web.api.wire import Stale, body, known, match, said
from mutt.web.roles import BY_OPERATORS, USUAL, Needs

_PAGING: Mapping[str, Json] = {
    "page": {"type": "integer", "minimum": 1, "default": 1},
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
}
_PAGES = obj("page limit total pages", page=INTEGER, limit=INTEGER, total=COUNT, pages=COUNT)


def routes(services: Services) -> list[Route]:
    found = [*_Rules(services).routes(), *_Hosts(services).routes()]
    found += [*_Teams(services).routes(), *_windows(services), *_storms(services)]
    found += _redactions(services)
    return found


class _Rules:
    """``/rules``."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> list[Route]:
        one = "/rules/<int:rule_id>"
        filters: dict[str, Json] = {
            "search": TEXT | {"maxLength": 255},
            "match_type": {"enum": list(MatchType)},
            "handling": {"enum": list(Handling)},
            "environment": {"enum": ["production", "development"]},
            "team": TEXT,
            "active": {"enum": ["on", "off"]},
            "order": {"enum": list(ORDERS), "default": "tried"},
        }
        shared: dict[str, Any] = {"tag": "rules", "answer": ref("StoredRule")}
        changing: dict[str, Any] = shared | {"body": ref("RuleChange"), "kept": True, "missing": True}
        return [
            Route(
                "GET",
                "/rules",
                self.index,
                "The rules, in the order in which they are tried",
                "rules",
                listing("rules", ref("StoredRule"), pagination=_PAGES),
                query={**_PAGING, **filters},
            ),
            Route("POST", "/rules", self.create, "Make a rule", status=201, body=ref("RuleChange"), **shared),
            Route("GET", one, self.get, "One rule", missing=True, **shared),
            Route("PUT", one, self.put, "Change a rule; what is not given has its default", **changing),
            Route("PATCH", one, self.patch, "Change some fields of a rule", **changing),
            Route(
                "DELETE",
                one,
                self.delete,
                "Delete a rule; the answer is what it was",
                kept=True,
                missing=True,
                **shared,
            ),
        ]

    def index(self) -> Reply:
        page, limit = wire.page_of()
        asked = RuleSearch(
            text=wire.text("search"),
            match_type=_one_of("match_type", MatchType),
            handling=_one_of("handling", Handling),
            environment=_one_of("environment", ("production", "development")),
            team=wire.text("team"),
            active=_one_of("active", ("on", "off")),
            order=_one_of("order", ORDERS) or "tried",
        )
        with lookup.reading(self._services.engine) as conn:
            total = rulesearch.count(conn, asked)
            found = rulesearch.find(conn, asked, limit=limit, skip=(page - 1) * limit)
        pages = wire.paged(total, page, limit)
        return Reply({"rules": [stored_rule(one) for one in found], "pagination": pages})

    def create(self) -> Reply:
        given = body()
        with transaction(self._services.engine) as conn:
            made = rulebook.save_rule(conn, given, **said())
            stands = _found(conn, made.id)
        return Reply(stored_rule(stands), 201, _etag(stands), str(made.id))

    def get(self, rule_id: int) -> Reply:
        with lookup.reading(self._services.engine) as conn:
            stands = _found(conn, rule_id)
        return Reply(stored_rule(stands), etag=_etag(stands))

    def put(self, rule_id: int) -> Reply:
        # A whole rule: what it does not say is as in a new one.
        plain = {k: v for k, v in msgspec.to_builtins(Rule(id=0, name="")).items() if k != "id"}
        return self._save(rule_id, plain | body())

    def patch(self, rule_id: int) -> Reply:
        return self._save(rule_id, body())

    def _save(self, rule_id: int, given: dict[str, Any]) -> Reply:
        given.pop("updated_at", None)  # what was read may be sent again as it came
        if given.pop("id", rule_id) != rule_id:
            raise Refused("id", "is not the one of the address; leave it out")
        with transaction(self._services.engine) as conn:
            _check_match(conn, rule_id)
            rulebook.save_rule(conn, given, rule_id=rule_id, **said())
            stands = _found(conn, rule_id)
        return Reply(stored_rule(stands), etag=_etag(stands))

    def delete(self, rule_id: int) -> Reply:
        with transaction(self._services.engine) as conn:
            _check_match(conn, rule_id)
            stands = _found(conn, rule_id)
            rulebook.delete_rule(conn, rule_id, **said())
        return Reply(stored_rule(stands))


def stored_rule(listed: Listed) -> dict[str, Any]:
    """A rule as the API gives it."""
    fields: dict[str, Any] = msgspec.to_builtins(listed.rule)
    return fields | {"updated_at": listed.changed_at.isoformat()}


def _found(conn: Connection, rule_id: int) -> Listed:
    found = rulesearch.one(conn, rule_id)
    if found is None:
        raise LookupError(f"there is no rule {rule_id}")
    return found


def _check_match(conn: Connection, rule_id: int) -> None:
    seen = match()
    changed = rulesearch.changed_at(conn, [rule_id], lock=True).get(rule_id)
    if changed is None:
        raise LookupError(f"there is no rule {rule_id}")
    if seen is not None and changed.isoformat() not in seen:
        stands = _found(conn, rule_id)
        raise Stale(stored_rule(stands), _etag(stands))


def _etag(listed: Listed) -> str:
    return listed.changed_at.isoformat()


def _one_of(name: str, words: Any) -> str:
    given = wire.text(name)
    if given and given not in list(words):
        raise Refused(name, f"{given[:60]!r} is none of {', '.join(words)}")
    return given


class _Hosts:
    """``/dev-hosts``."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> list[Route]:
        host, tag = obj("hostname", hostname=TEXT), "dev-hosts"
        one = "/dev-hosts/<path:hostname>"
        return [
            Route(
                "GET",
                "/dev-hosts",
                self.index,
                "The development hosts: names, globs, networks",
                tag,
                listing("hosts", host),
            ),
            Route(
                "POST",
                "/dev-hosts",
                self.add,
                "Make a host a development host",
                tag,
                host,
                status=201,
                body=host,
            ),
            Route("GET", one, self.get, "Is it one?", tag, host, missing=True),
            Route("PUT", one, self.put, "Make a host a development host, if it is none", tag, host),
            Route(
                "DELETE",
                one,
                self.remove,
                "Make it a production host again",
                tag,
                host,
                missing=True,
            ),
        ]

    def index(self) -> Reply:
        with lookup.reading(self._services.engine) as conn:
            found = devices.hosts(conn)
        return Reply({"hosts": [{"hostname": hostname} for hostname in found]})

    def add(self) -> Reply:
        return self._add(_texts(body(), "hostname")["hostname"].strip(), 201)

    def get(self, hostname: str) -> Reply:
        hostname = hostname.strip()
        with lookup.reading(self._services.engine) as conn:
            if hostname not in devices.hosts(conn):
                raise LookupError(f"{hostname} is no development host")
        return Reply({"hostname": hostname})

    def put(self, hostname: str) -> Reply:
        return self._add(hostname.strip(), 200)

    def _add(self, hostname: str, status: int) -> Reply:
        with transaction(self._services.engine) as conn:
            devices.add_host(conn, hostname, **said())
        return Reply({"hostname": hostname}, status)

    def remove(self, hostname: str) -> Reply:
        hostname = hostname.strip()
        with transaction(self._services.engine) as conn:
            if not devices.remove_host(conn, hostname, **said()):
                raise LookupError(f"{hostname} is no development host")
        return Reply({"hostname": hostname})


class _Teams:
    """``/teams``."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> list[Route]:
        team, tag = obj("hostname team_assignment", hostname=TEXT, team_assignment=TEXT), "teams"
        one = "/teams/<path:hostname>"
        shared: dict[str, Any] = {"tag": tag, "answer": team}
        return [
            Route(
                "GET", "/teams", self.index, "The teams of devices: names, globs, networks", tag, listing("teams", team)
            ),
            Route("POST", "/teams", self.add, "Give a device to a team", status=201, body=team, **shared),
            Route("GET", one, self.get, "The team of one", missing=True, **shared),
            Route(
                "PUT",
                one,
                self.put,
                "Give it to a team",
                body=obj("team_assignment", team_assignment=TEXT),
                kept=True,
                **shared,
            ),
            Route(
                "DELETE",
                one,
                self.remove,
                "Give it back to the default team",
                kept=True,
                missing=True,
                **shared,
            ),
        ]  # fmt: skip

    def index(self) -> Reply:
        with lookup.reading(self._services.engine) as conn:
            found = devices.teams(conn)
        teams = [{"hostname": hostname, "team_assignment": team} for hostname, team in found.items()]
        return Reply({"teams": teams})

    def get(self, hostname: str) -> Reply:
        hostname = hostname.strip()
        with lookup.reading(self._services.engine) as conn:
            team = lookup.team_of(conn, hostname)
        if team is None:
            raise LookupError(f"{hostname} has no team of its own")
        return self._reply(hostname, team)

    def add(self) -> Reply:
        given = _texts(body(), "hostname", "team_assignment")
        return self._put(given["hostname"].strip(), given["team_assignment"], 201)

    def put(self, hostname: str) -> Reply:
        given, hostname = body(), hostname.strip()
        known(given, ("hostname", "team_assignment"))
        if given.pop("hostname", hostname) != hostname:
            raise Refused("hostname", "is not the one of the address; leave it out")
        return self._put(hostname, _texts(given, "team_assignment")["team_assignment"])

    def _put(self, hostname: str, team: str, status: int = 200) -> Reply:
        with transaction(self._services.engine) as conn:
            if match() is not None:
                changes.hold(conn)  # a row that is not there yet can't be locked
            self._check_match(conn, hostname)
            devices.put_team(conn, hostname, team, **said())
        return self._reply(hostname, team.strip(), status)

    def remove(self, hostname: str) -> Reply:
        hostname = hostname.strip()
        with transaction(self._services.engine) as conn:
            team = lookup.team_of(conn, hostname, lock=True)
            if team is None:
                raise LookupError(f"{hostname} has no team of its own")
            self._check_match(conn, hostname)
            devices.remove_team(conn, hostname, **said())
        return Reply({"hostname": hostname, "team_assignment": team})

    def _check_match(self, conn: Connection, hostname: str) -> None:
        seen = match()
        team = lookup.team_of(conn, hostname, lock=True)
        if seen is not None and _team_etag(team) not in seen:
            stands = None if team is None else {"hostname": hostname, "team_assignment": team}
            raise Stale(stands, _team_etag(team))

    def _reply(self, hostname: str, team: str, status: int = 200) -> Reply:
        return Reply({"hostname": hostname, "team_assignment": team}, status, _team_etag(team))


def _team_etag(team: str | None) -> str:
    # A header holds no team's name: it may be any text.
    return "none" if team is None else hashlib.sha256(team.encode()).hexdigest()


def _texts(given: Mapping[str, Any], *names: str) -> dict[str, str]:
    """These fields, all of them texts. Raises :class:`Refused`."""
    known(given, names)
    for name in names:
        if not isinstance(given.get(name), str):
            raise Refused(name, "is missing; write text" if name not in given else "is no text")
        if "\0" in given[name]:
            raise Refused(name, "holds NUL, which can't be stored; leave it out")
    return {name: given[name] for name in names}


def _windows(services: Services) -> list[Route]:
    kept = _Kept(
        services, "window_id", windows.windows, windows.get, windows.save, windows.remove, msgspec.to_builtins
    )
    return kept.routes(
        "maintenance-windows", "windows", Window.__name__, "a maintenance window", BY_OPERATORS
    )


def _storms(services: Services) -> list[Route]:
    kept = _Kept(
        services, "policy_id", storms.policies, storms.get, storms.save, storms.remove, msgspec.to_builtins
    )
    return kept.routes("storm-policies", "policies", StormPolicy.__name__, "a storm policy")


def _redactions(services: Services) -> list[Route]:
    kept = _Kept(
        services,
        "redaction_id",
        redactions.listed,
        redactions.get,
        redactions.save,
        redactions.remove,
        msgspec.to_builtins,
    )
    found = kept.routes("redactions", "redactions", Redaction.__name__, "a redaction")
    (put,) = (route for route in found if route.method == "PUT")
    found.insert(found.index(put) + 1, dataclasses.replace(put, method="PATCH"))
    return [
        *found,
        Route(
            "POST",
            "/redactions/test",
            _Redacted(services).test,
            "What redactions leave of a text: the one that is given, or those in force. Nothing is kept",
            "redactions",
            _REDACTED,
            body=obj("text", text=TEXT, redaction=ref("RedactionChange")),
            needs=BY_OPERATORS,
        ),
    ]


_REDACTED = obj(
    "text taken",
    text=TEXT,
    taken={
        "type": "array",
        "items": obj("redaction was becomes", redaction=TEXT, was=TEXT, becomes=TEXT),
    },
)


class _Redacted:
    """``/redactions/test``."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def test(self) -> Reply:
        given = body()
        known(given, ("text", "redaction"))
        draft, text = given.get("redaction"), given.get("text")
        if not isinstance(text, str):
            raise Refused("text", "is missing; write text" if text is None else "is no text")
        if draft is not None and not isinstance(draft, dict):
            raise Refused("redaction", "is no object; give its pattern and replacement")
        made = Redactions(self._standing() if draft is None else [_draft(draft)])
        taken = [
            {"redaction": one.redaction.name, "was": piece.was, "becomes": piece.becomes}
            for one in made.taken_of(text)
            for piece in one.pieces
            if not piece.stays
        ]
        return Reply({"text": made.text(text), "taken": taken})

    def _standing(self) -> list[Redaction]:
        with lookup.reading(self._services.engine) as conn:
            return redactions.listed(conn)


def _draft(given: dict[str, Any]) -> Redaction:
    try:
        return msgspec.structs.replace(check_redaction({"name": "draft", **given}), is_active=True)
    except Refused as error:
        raise Refused(f"redaction.{error.field}", error.reason) from None


class _Kept:
    """Rows that a module of the store lists, gets, saves and removes, each with the time of its last change."""

    def __init__(
        self,
        services: Services,
        key: str,
        list_: Callable[[Connection], list[Any]],
        get: Callable[..., tuple[Any, Any]],
        save: Callable[..., Any],
        remove: Callable[..., Any],
        plain: Callable[[Any], dict[str, Any]],
    ) -> None:
        self._services, self._key, self._list, self._get = services, key, list_, get
        self._save, self._remove, self._plain = save, remove, plain

    def routes(self, tag: str, name: str, schema: str, what: str, needs: Needs = USUAL) -> list[Route]:
        one = f"/{tag}/<int:id_>"
        shared: dict[str, Any] = {"tag": tag, "answer": ref(schema), "needs": needs}
        of_one: dict[str, Any] = shared | {"missing": True}
        change = ref(schema + "Change")

        def listed() -> Reply:
            with lookup.reading(self._services.engine) as conn:
                return Reply({name: [self._plain(row) for row in self._list(conn)]})

        return [
            Route("GET", f"/{tag}", listed, "All of them", tag, listing(name, ref(schema))),
            Route("POST", f"/{tag}", self.create, f"Make {what}", status=201, body=change, **shared),
            Route("GET", one, self.get, "One of them", **of_one),
            Route("PUT", one, self.put, f"Change the fields of {what}", body=change, kept=True, **of_one),
            Route("DELETE", one, self.remove, f"Delete {what}", kept=True, **of_one),
        ]

    def create(self) -> Reply:
        given = body()
        with transaction(self._services.engine) as conn:
            made = self._save(conn, given, **said())
            return self._reply(conn, made.id, 201, str(made.id))

    def get(self, id_: int) -> Reply:
        with lookup.reading(self._services.engine) as conn:
            return self._reply(conn, id_)

    def put(self, id_: int) -> Reply:
        given = body()
        with transaction(self._services.engine) as conn:
            self._check_match(conn, id_)
            self._save(conn, given, **{self._key: id_}, **said())
            return self._reply(conn, id_)

    def remove(self, id_: int) -> Reply:
        with transaction(self._services.engine) as conn:
            self._check_match(conn, id_)
            return Reply(self._plain(self._remove(conn, id_, **said())))

    def _check_match(self, conn: Connection, id_: int) -> None:
        seen = match()
        stands, changed_at = self._get(conn, id_, lock=True)
        if seen is not None and changed_at.isoformat() not in seen:
            raise Stale(self._plain(stands), changed_at.isoformat())

    def _reply(self, conn: Connection, id_: int, status: int = 200, location: str = "") -> Reply:
        stands, changed_at = self._get(conn, id_)
        return Reply(self._plain(stands), status, changed_at.isoformat(), location)
