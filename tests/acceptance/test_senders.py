"""Real senders against a real MUTT: while all is well, while ingest answers 503 for a minute, and after that."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.senders.alertmanager import SHORT, Alertmanager
from tests.senders.base import RAISE
from tests.senders.listen import Informs, PythonSyslog
from tests.senders.outage import Run, lead_through, missing, more_than_once, settle, started, under_way
from tests.senders.rsyslog import Rsyslog
from tests.senders.scripts import CloudEvents, MuttLogging
from tests.senders.snmptrapd import Snmptrapd
from tests.senders.syslog_ng import SyslogNg
from tests.servers import lacking, scratch
from tests.stack import QUICK, Stack, running

#: Moog takes what is raised as fast as it comes: how the budget is kept is another test's.
SETTINGS = {**QUICK, "MOOG_RATE_LIMIT": "1000"}

SENDERS = (Alertmanager, SyslogNg, Rsyslog, Snmptrapd, CloudEvents, MuttLogging, PythonSyslog, Informs)

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def ran() -> Iterator[tuple[Run, Stack]]:
    """All of them went through it at once."""
    with scratch() as directory, running(directory / "home", SETTINGS) as stack:
        with started(SENDERS, stack, directory) as run:
            lead_through(run, stack)
            settle(run, stack, 60)
            yield run, stack


def needs(run: Run, name: str) -> None:
    """Did this sender run?"""
    if lacks := run.lacking.get(name):
        lacking(f"{name} is not here: {lacks}")


def test_ingest_answered_503_all_the_time_that_its_redis_was_away(ran: tuple[Run, Stack]) -> None:
    run, _ = ran
    assert set(run.statuses) == {503}


@pytest.mark.parametrize("name", [sender.name for sender in SENDERS])
def test_a_sender_loses_nothing_over_an_outage_of_a_minute(ran: tuple[Run, Stack], name: str) -> None:
    run, _ = ran
    needs(run, name)
    assert not missing(run, name)
    assert not run.pending.get(name), "the sender's own counters say that all was delivered"
    twice = {number for number, _ in more_than_once(run, name)}
    allowed = set() if run.senders[name].repeats_by_name else set(under_way(run, name))
    assert twice <= allowed, "nothing else is there twice"


def test_the_books_balance_after_it(ran: tuple[Run, Stack]) -> None:
    run, stack = ran
    found = stack.balanced(accepted=sum(sum(one.expected.values()) for one in run.senders.values()))
    assert (found["events"]["parked"], found["events"]["dropped"]) == (0, 0)


def test_an_alert_that_came_and_went_in_the_outage_is_told_by_nobody(ran: tuple[Run, Stack]) -> None:
    """As Alertmanager does with every receiver: docs/senders.md says so."""
    run, _ = ran
    needs(run, "alertmanager")
    assert run.audit["alertmanager"][SHORT, RAISE] == 0
