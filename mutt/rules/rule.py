"""Rule: which events matter, and what to do with them. Values only; checking one is ``check.check_rule``."""

from __future__ import annotations

import enum

import msgspec


class MatchType(enum.StrEnum):
    CONTAINS = "contains"
    EQUALS = "equals"
    PREFIX = "prefix"
    REGEX = "regex"
    OID_PREFIX = "oid_prefix"


class Handling(enum.StrEnum):
    """What a matched event becomes."""

    PAGE_AND_TICKET = "Page_and_ticket"
    PAGE_ONLY = "Page_only"
    TICKET_ONLY = "Ticket_only"
    IGNORE = "Ignore"

    @property
    def forwards(self) -> bool:
        return self is not Handling.IGNORE


#: The fields of an event that a rule's text may be looked for in; ``tags.NAME`` names one tag.
FIELDS = ("message", "hostname", "program", "source", "facility", "raw")


class Example(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """An event that a rule must match, or must not: checked whenever the rule is saved."""

    message: str = ""
    hostname: str = "example"
    severity: int | None = None  #: syslog's 0 to 7
    source: str = "native"
    program: str | None = None
    facility: str | None = None
    trap_oid: str | None = None
    tags: dict[str, str] = {}
    matches: bool = True  #: must the rule's own conditions hold? (Which rule decides is another question.)


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule. The lowest ``priority`` wins, then the lowest ``id``; the first match decides."""

    id: int
    name: str
    match_type: MatchType = MatchType.CONTAINS
    match_string: str = ""
    field: str = "message"  #: one of FIELDS, or tags.NAME
    trap_oid: str | None = None  #: for oid_prefix; no leading dot
    syslog_severity: int | None = None  #: matches 0 up to this
    hostname: str | None = None  #: scope: a glob, or a CIDR
    source: str | None = None  #: scope: equal, ignoring case
    program: str | None = None  #: scope: equal, ignoring case
    tags: dict[str, str] = {}  #: scope: every one must be there, equal
    priority: int = 100
    prod_handling: Handling = Handling.PAGE_AND_TICKET
    dev_handling: Handling = Handling.IGNORE
    team_assignment: str = "NETO"
    moog_severity: int | None = None  #: 0 to 5; None: from the event, else by handling
    is_active: bool = True
    dedup_window: int | None = None  #: seconds in which a repeat of a signature is counted, not sent
    threshold_count: int | None = None  #: so many events of a signature …
    threshold_window: int | None = None  #: … within so many seconds make the alert; fewer are held
    flap_count: int | None = None  #: so many changes between raise and clear …
    flap_window: int | None = None  #: … within so many seconds: it flaps, and is held until it rests
    examples: tuple[Example, ...] = ()


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What MUTT decided about one event, and why."""

    rule_id: int | None  #: None: unhandled
    handling: str  #: a Handling, or ``Unhandled`` / ``Meta``
    forward: bool
    environment: str  #: production or development
    team: str | None
    moog_severity: int | None  #: Moog's 0 to 5 where it is forwarded
    why: str  #: one sentence for people
    template: str | None = None  #: the message without its numbers, where unhandled
    held: str = ""  #: what keeps its alert from Moog, decided by the event alone: ``maintenance:ID``


class StormPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When many alerts of one key are a storm, of which Moog gets one summary."""

    id: int
    name: str
    group_by: str  #: host, rule, team, source or tags.NAME
    alert_count: int  #: so many alerts of one key …
    alert_window: int  #: … within so many seconds
    hostname: str | None = None  #: scope: a name, a glob or a CIDR
    is_active: bool = True


UNHANDLED = "Unhandled"
META = "Meta"
