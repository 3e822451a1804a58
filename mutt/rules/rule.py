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


UNHANDLED = "Unhandled"
META = "Meta"
