"""Real senders against a real MUTT: while all is well, while ingest answers 503 for a minute, and after that."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.senders.alertmanager import SHORT, Alertmanager
from tests.senders.base import RAISE
from tests.senders.outage import Run, lead_through, missing, settle, started
from tests.senders.rsyslog import Rsyslog
from tests.senders.syslog_ng import SyslogNg
from tests.servers import lacking, scratch
from tests.stack import QUICK, Stack, running

SENDERS = (Alertmanager, SyslogNg, Rsyslog)

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def ran() -> Iterator[tuple[Run, Stack]]:
    """All of them went through it at once."""
    with scratch() as directory, running(directory / "home", QUICK) as stack:
        with started(SENDERS, stack, directory) as run:
            lead_through(run, stack)
            settle(run, stack, 60)
            yield run, stack


def test_ingest_answered_503_all_the_time_that_its_redis_was_away(ran: tuple[Run, Stack]) -> None:
    run, _ = ran
    assert set(run.statuses) == {503}


@pytest.mark.parametrize("name", [sender.name for sender in SENDERS])
def test_a_sender_loses_nothing_over_an_outage_of_a_minute(ran: tuple[Run, Stack], name: str) -> None:
    run, _ = ran
    if lacks := run.told.get(name):
        lacking(f"{name} is not here: {lacks}")
    assert not missing(run, name)
    assert not run.pending.get(name), "the sender's own counters say that all was delivered"
    more = run.audit[name] - run.senders[name].expected
    assert not more, "nothing is there twice"


def test_the_books_balance_after_it(ran: tuple[Run, Stack]) -> None:
    run, stack = ran
    found = stack.balanced(accepted=sum(sum(one.expected.values()) for one in run.senders.values()))
    assert (found["events"]["parked"], found["events"]["dropped"]) == (0, 0)


def test_an_alert_that_came_and_went_in_the_outage_is_told_by_nobody(ran: tuple[Run, Stack]) -> None:
    """As Alertmanager does with every receiver: docs/senders.md says so."""
    run, _ = ran
    assert run.audit["alertmanager"][SHORT, RAISE] == 0
