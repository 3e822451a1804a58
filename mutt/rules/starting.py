"""The rules and development hosts that a new installation begins with."""

from __future__ import annotations

from mutt.rules.rule import Handling, MatchType, Rule

STARTING_RULES = (
    Rule(
        id=1,
        name="CRITICAL",
        match_string="CRITICAL",
        priority=10,
        prod_handling=Handling.PAGE_AND_TICKET,
        dev_handling=Handling.TICKET_ONLY,
        team_assignment="NETO",
    ),
    Rule(
        id=2,
        name="ERROR",
        match_string="ERROR",
        priority=20,
        prod_handling=Handling.TICKET_ONLY,
        dev_handling=Handling.IGNORE,
        team_assignment="NETO",
    ),
    Rule(
        id=3,
        name="LINK-DOWN",
        match_string="LINK-DOWN",
        priority=5,
        prod_handling=Handling.PAGE_AND_TICKET,
        dev_handling=Handling.TICKET_ONLY,
        team_assignment="NetOps",
    ),
    Rule(
        id=4,
        name="DOT1X-FIRMWARE-RUNNING",
        match_string="DOT1X-FIRMWARE-RUNNING",
        priority=50,
        prod_handling=Handling.TICKET_ONLY,
        dev_handling=Handling.IGNORE,
        team_assignment="Security",
    ),
    Rule(
        id=5,
        name="cisco-syslog-trap",
        match_type=MatchType.OID_PREFIX,
        trap_oid="1.3.6.1.4.1.9.9.41.2",
        priority=15,
        prod_handling=Handling.PAGE_AND_TICKET,
        dev_handling=Handling.IGNORE,
        team_assignment="NetOps",
    ),
)

STARTING_DEVELOPMENT_HOSTS = ("dev-router1", "test-switch1", "qa-firewall1")
