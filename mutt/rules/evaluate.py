"""evaluate: one event and one ruleset in, one verdict out. Pure and total: no event makes it raise.

``Ruleset.compile`` turns rules into one matcher a field; ``evaluate`` asks them which rules' patterns match, walks
those in order of (priority, id), and the first whose scope admits the event decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple, Protocol

import msgspec

from mutt.errors import RuleError
from mutt.event import SOURCE_SILENT, Event, State
from mutt.rules.hosts import HostPatterns, check_host_pattern
from mutt.rules.matcher import Matcher, check_expression, expression
from mutt.rules.oid import OidPrefixes, normal, under
from mutt.rules.redaction import Redaction, Redactions
from mutt.rules.rule import FIELDS, META, UNHANDLED, Handling, MatchType, Rule, StormPolicy, Verdict
from mutt.rules.template import template_of
from mutt.rules.windows import Window, Windows

PRODUCTION, DEVELOPMENT = "production", "development"

#: Moog's severity (5 critical … 1 indeterminate) of syslog's 0 to 7.
MOOG_SEVERITY = {0: 5, 1: 5, 2: 4, 3: 3, 4: 2, 5: 2, 6: 1, 7: 1}

#: Moog's severity where neither the rule nor the event has one.
SEVERITY_OF_HANDLING = {
    Handling.PAGE_AND_TICKET: 5,
    Handling.PAGE_ONLY: 4,
    Handling.TICKET_ONLY: 3,
    Handling.IGNORE: 1,
}
META_SEVERITY = 3

#: So many hosts are remembered by a ruleset; then it begins anew.
HOSTS_REMEMBERED = 65_536

TextOf = Callable[[Event], str | None]


class Host(NamedTuple):
    """What a ruleset knows of a host name."""

    environment: str
    team: str
    scopes: frozenset[str]  #: the host scopes that admit it
    has_team: bool = True  #: is ``team`` its own? Else it is the one of all that have none


class Judged(Protocol):
    """An event with its verdict, and the request that it came in."""

    @property
    def event(self) -> Event: ...
    @property
    def verdict(self) -> Verdict: ...
    @property
    def batch_id(self) -> str: ...
    @property
    def correlation_id(self) -> str: ...


class Scope(NamedTuple):
    """What a rule asks of an event besides its text; None asks nothing."""

    severity: int | None
    hostname: str | None
    source: str | None
    program: str | None
    trap_oid: str | None
    tags: dict[str, str]

    @classmethod
    def of(cls, rule: Rule) -> Scope | None:
        """The scope of ``rule``, or None where it admits every event that its text matches."""
        oid = None if rule.match_type is MatchType.OID_PREFIX or not rule.trap_oid else normal(rule.trap_oid)
        names = (rule.source, rule.program)
        source, program = (name.lower() if name else None for name in names)
        scope = cls(rule.syslog_severity, rule.hostname or None, source, program, oid, rule.tags)
        return scope if any(part is not None for part in scope[:-1]) or rule.tags else None

    def admits(self, event: Event, host: Host) -> bool:
        """Does every part hold? A part that the event has nothing for does not."""
        return (
            (self.severity is None or (event.severity is not None and event.severity <= self.severity))
            and (self.hostname is None or self.hostname in host.scopes)
            and (self.source is None or event.source.lower() == self.source)
            and (self.program is None or (event.program or "").lower() == self.program)
            and (
                self.trap_oid is None or (event.trap_oid is not None and under(event.trap_oid, self.trap_oid))
            )
            and all(event.tags.get(name) == value for name, value in self.tags.items())
        )


class Ruleset:
    """One version of the rules, compiled. Immutable but for what it remembers; safe to share between threads."""

    def __init__(
        self,
        version: int,
        rules: list[Rule],
        refused: dict[int, RuleError],
        hosts: Hosts,
        storms: Sequence[StormPolicy] = (),
        windows: Windows | None = None,
        redactions: Redactions | None = None,
    ) -> None:
        self.version = version
        self.windows = windows or Windows()  #: of maintenance
        self.redactions = redactions or Redactions()  #: what is taken out of an event before it is judged
        self.storms = storms  #: active policies, in the order of their ids
        self.rules = {rule.id: rule for rule in rules}  #: by id, inactive ones too
        self.refused = refused  #: active rules that can't be compiled, by id; their neighbours stand
        self._hosts = hosts
        self._ranked = sorted(
            (rule for rule in rules if rule.is_active and rule.id not in refused),
            key=lambda rule: (rule.priority, rule.id),
        )
        self._scopes = [Scope.of(rule) for rule in self._ranked]
        self._message, self._fields = _matchers(self._ranked)
        self._oids = OidPrefixes(
            (rank, rule.trap_oid or "")
            for rank, rule in enumerate(self._ranked)
            if rule.match_type is MatchType.OID_PREFIX
        )
        self._verdicts: dict[tuple[int, str, int | None], Verdict] = {}

    @classmethod
    def compile(
        cls,
        version: int,
        rules: Iterable[Rule],
        development_hosts: Iterable[str],
        device_teams: Mapping[str, str],
        default_team: str = "NETO",
        storms: Iterable[StormPolicy] = (),
        windows: Iterable[Window] = (),
        redactions: Iterable[Redaction] = (),
    ) -> Ruleset:
        """The ruleset of ``rules``. Raises :class:`mutt.errors.NoRuleset` where re2 can't hold them all.

        And where a redaction can't be compiled: what it should take out must not be kept.
        A rule that can't be compiled is left out and stands in ``refused``. ``development_hosts`` and the keys of
        ``device_teams`` are names, globs or networks.
        """
        given = list(rules)
        refused = {rule.id: error for rule in given if rule.is_active and (error := fault(rule))}
        scopes = {rule.hostname for rule in given if rule.hostname and rule.id not in refused}
        policies = sorted((policy for policy in storms if policy.is_active), key=lambda policy: policy.id)
        scopes |= {policy.hostname for policy in policies if policy.hostname}
        maintenance = Windows(windows)
        scopes |= {window.hostname for window in maintenance if window.hostname}
        hosts = Hosts(scopes, development_hosts, device_teams, default_team)
        return cls(version, given, refused, hosts, policies, maintenance, Redactions(redactions))

    @property
    def ranked(self) -> Sequence[Rule]:
        """The rules in force, in the order in which they are tried: what stands at a rank."""
        return self._ranked

    def patterns_of(self, hostname: str) -> tuple[str | None, str | None]:
        """Why a host has its environment and its team: the development pattern and the team's, where one matches."""
        return self._hosts.patterns(hostname)

    def rule_name(self, rule_id: int | None) -> str:
        """The name of a rule, also of one that is gone since."""
        if rule_id is None:
            return UNHANDLED
        rule = self.rules.get(rule_id)
        return rule.name if rule else f"rule {rule_id}"

    def host(self, hostname: str) -> Host:
        """Environment, team and scopes of a host."""
        return self._hosts[hostname]

    def candidates(self, event: Event) -> list[int]:
        """The ranks of all rules whose text or OID matches, the first to decide first."""
        found = self._message.match(event.message)
        for read, matcher in self._fields:
            text = read(event)
            if text is not None:
                found += matcher.match(text)
        if event.trap_oid is not None:
            found += self._oids.match(event.trap_oid)
        found.sort()
        return found

    def deciding(self, event: Event, host: Host) -> int | None:
        """The rank of the rule that decides, or None."""
        for rank in self.candidates(event):
            scope = self._scopes[rank]
            if scope is None or scope.admits(event, host):
                return rank
        return None

    def matching(self, event: Event) -> list[Rule]:
        """Every rule whose conditions all hold, the one that decides first."""
        host = self.host(event.hostname)
        scoped = ((rank, self._scopes[rank]) for rank in self.candidates(event))
        return [self._ranked[rank] for rank, scope in scoped if scope is None or scope.admits(event, host)]

    def verdict(self, rank: int, environment: str, severity: int | None) -> Verdict:
        """The verdict of the rule at ``rank``; one value for all events that share it."""
        from_event = None if severity is None else MOOG_SEVERITY.get(severity)
        key = rank, environment, from_event
        found = self._verdicts.get(key)
        if found is None:
            found = self._verdicts[key] = _verdict(self._ranked[rank], environment, from_event)
        return found


class Hosts(dict[str, Host]):
    """What is known of each host name seen so far, found out on first sight."""

    def __init__(
        self, scopes: Iterable[str], development: Iterable[str], teams: Mapping[str, str], default_team: str
    ) -> None:
        super().__init__()
        self._teams, self.default_team = dict(teams), default_team
        self._development, self._team_hosts = HostPatterns(development), HostPatterns(self._teams)
        self._scopes = HostPatterns(scopes)

    def __missing__(self, hostname: str) -> Host:
        teams = self._team_hosts.matching(hostname)
        host = Host(
            environment=DEVELOPMENT if self._development.matching(hostname) else PRODUCTION,
            team=self._teams[teams[0]] if teams else self.default_team,
            scopes=frozenset(self._scopes.matching(hostname)),
            has_team=bool(teams),
        )
        if len(self) >= HOSTS_REMEMBERED:
            self.clear()
        self[hostname] = host
        return host

    def patterns(self, hostname: str) -> tuple[str | None, str | None]:
        """The pattern that makes a host development, and the one that gives it its team: the most telling of each."""
        development, teams = self._development.matching(hostname), self._team_hosts.matching(hostname)
        return (development[0] if development else None), (teams[0] if teams else None)


def evaluate(event: Event, ruleset: Ruleset) -> Verdict:
    """What becomes of ``event``, and why. Never raises."""
    host = ruleset.host(event.hostname)
    if event.internal:
        verdict = _meta(event, host)
        # What it says is of a host: a window that covers that one covers it, too.
        silent = event.template == SOURCE_SILENT and ruleset.windows
        return held(verdict, event, host, ruleset.windows) if silent else verdict
    rank = ruleset.deciding(event, host)
    if rank is not None:
        verdict = ruleset.verdict(rank, event.environment or host.environment, event.severity)
        return held(verdict, event, host, ruleset.windows) if ruleset.windows else verdict
    return unhandled(event, host, template_of(event.message))


def unhandled(event: Event, host: Host, template: str | None = None) -> Verdict:
    """What becomes of an event that no rule handles."""
    return Verdict(
        rule_id=None,
        handling=UNHANDLED,
        forward=False,
        environment=environment_of(event, host),
        team=team_of(event, host),
        moog_severity=None,
        why="no rule matched",
        template=template,
    )


def environment_of(event: Event, host: Host) -> str:
    """What its key's source says, else what its host is."""
    return event.environment or host.environment


def team_of(event: Event, host: Host) -> str:
    """Whose an event is that no rule gives to a team: its host's own, else its key's source's, else everybody's."""
    return host.team if host.has_team or not event.default_team else event.default_team


def verdict_of(rule: Rule, environment: str, severity: int | None) -> Verdict:
    """What ``rule`` makes of an event of this severity (syslog's), where it decides."""
    return _verdict(rule, environment, None if severity is None else MOOG_SEVERITY.get(severity))


def held(verdict: Verdict, event: Event, host: Host, windows: Windows) -> Verdict:
    """A rule's verdict, with the maintenance window that keeps its alert from Moog, if one does.

    A clear is never held: whether Moog knows what it ends is seen when it is settled.
    """
    if not verdict.forward or event.state is not State.RAISE:
        return verdict
    window = windows.holding(event.received_at, host.scopes, verdict.team, verdict.rule_id)
    if window is None:
        return verdict
    why = f"{verdict.why}; held by maintenance window {window.id} {window.name} of {window.owner}"
    return msgspec.structs.replace(verdict, held=window.held, why=why)


def _meta(event: Event, host: Host) -> Verdict:
    return Verdict(
        rule_id=None,
        handling=META,
        forward=True,
        environment=environment_of(event, host),
        team=event.team or team_of(event, host),
        moog_severity=META_SEVERITY
        if event.severity is None
        else MOOG_SEVERITY.get(event.severity, META_SEVERITY),
        why="raised by MUTT itself; no rule is asked",
        template=event.template,
    )


def _verdict(rule: Rule, environment: str, from_event: int | None) -> Verdict:
    handling = rule.dev_handling if environment == DEVELOPMENT else rule.prod_handling
    severity = rule.moog_severity
    if severity is None:
        severity = SEVERITY_OF_HANDLING[handling] if from_event is None else from_event
    forward = handling.forwards
    return Verdict(
        rule_id=rule.id,
        handling=handling.value,
        forward=forward,
        environment=environment,
        team=rule.team_assignment,
        moog_severity=severity if forward else None,
        why=f"rule {rule.id} {rule.name} (priority {rule.priority}) {_says(rule)}; {environment}: {handling.value}",
    )


def _says(rule: Rule) -> str:
    if rule.match_type is MatchType.OID_PREFIX:
        return f"trap under {rule.trap_oid}"
    where = "" if rule.field == "message" else f"{rule.field} "
    text = rule.match_string if len(rule.match_string) <= 60 else rule.match_string[:59] + "…"
    return f'{where}{rule.match_type.value} "{text}"'


def _matchers(ranked: list[Rule]) -> tuple[Matcher, list[tuple[TextOf, Matcher]]]:
    by_field: dict[str, list[tuple[int, str]]] = {"message": []}
    for rank, rule in enumerate(ranked):
        if rule.match_type is not MatchType.OID_PREFIX:
            by_field.setdefault(rule.field, []).append((rank, expression(rule.match_type, rule.match_string)))
    message = Matcher(by_field.pop("message"))
    return message, [(text_of(field), Matcher(patterns)) for field, patterns in by_field.items()]


def text_of(field: str) -> TextOf:
    """What finds the text of ``field`` in an event; None where the event has none."""
    if not field.startswith("tags."):
        return attrgetter(field)
    name = field.removeprefix("tags.")
    return lambda event: event.tags.get(name)


def is_field(name: str) -> bool:
    """May a rule look into the field ``name``?"""
    return name in FIELDS or (name.startswith("tags.") and len(name) > len("tags."))


def fault(rule: Rule) -> RuleError | None:
    """Why ``rule`` can't become part of a ruleset; None: it can."""
    try:
        check_matchable(rule)
    except RuleError as error:
        return error
    return None


def check_matchable(rule: Rule) -> None:
    """Raise :class:`RuleError` where ``rule`` can't become part of a ruleset."""
    if not is_field(rule.field):
        raise RuleError(
            "field", f"{rule.field!r} is no field of an event; write one of {', '.join(FIELDS)} or tags.NAME"
        )
    if rule.hostname:
        check_host_pattern(rule.hostname)
    if rule.match_type is MatchType.OID_PREFIX:
        if not normal(rule.trap_oid or ""):
            raise RuleError("trap_oid", "is empty; an oid_prefix rule needs an OID such as 1.3.6.1.4.1.9")
    elif not rule.match_string:
        raise RuleError(
            "match_string", f"is empty; a {rule.match_type.value} rule needs the text to look for"
        )
    else:
        check_expression(expression(rule.match_type, rule.match_string))
