"""Leads senders through an outage: messages flow, MUTT's Redis stands still for a minute, and it goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import requests

from tests.senders.base import Place, Sender
from tests.stack import Stack
from tests.waiting import wait_until

#: Seconds of each phase.
BEFORE, AWAY, AFTER = 6.0, 60.0, 3.0

_ROWS = """
SELECT substring(message FROM 'sent-([a-z-]+)-[0-9]+[.]'), substring(message FROM 'sent-[a-z-]+-([0-9]+)[.]')::int,
       coalesce(context::json ->> 'state', 'raise'), count(*)
FROM event_audit_log WHERE message LIKE '%sent-%' GROUP BY 1, 2, 3
"""


@dataclass
class Run:
    """What became of it."""

    senders: Mapping[str, Sender]
    #: How many messages each had sent when MUTT went away.
    sent_before: dict[str, int] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)  #: that a post was answered while MUTT was away
    #: Rows of each sender's messages.
    audit: dict[str, Counter[tuple[int, str]]] = field(default_factory=dict)
    pending: dict[str, str] = field(default_factory=dict)  #: what senders had not delivered at the end
    lacking: dict[str, str] = field(default_factory=dict)  #: what those need that are not here


@contextlib.contextmanager
def started(senders: Sequence[type[Sender]], stack: Stack, directory: Path) -> Iterator[Run]:
    """Those of them that this machine has, running."""
    run = Run({})
    with contextlib.ExitStack() as ends:
        for kind in senders:
            if lacks := kind.lacks():
                run.lacking[kind.name] = lacks
                continue
            (directory / kind.name).mkdir()
            sender = kind(Place(directory / kind.name, stack.up["ingest"], stack.up["api_key"]))
            ends.callback(sender.stop)
            sender.start()
            run.senders = {**run.senders, kind.name: sender}
        yield run


def lead_through(run: Run, stack: Stack) -> None:
    """All of it. Raises :class:`AssertionError` where MUTT answers something else than 503 while it is away."""
    senders = run.senders.values()
    _flow(senders, BEFORE)
    run.sent_before = {sender.name: sender.sent for sender in senders}
    with _away(stack):
        wait_until(lambda: _status(stack) == 503, 20, "ingest to say 503")
        for sender in senders:
            sender.in_outage()
        _flow(senders, AWAY, lambda: run.statuses.append(_status(stack)))
    for sender in senders:
        sender.after_outage()
    _flow(senders, AFTER)


def settle(run: Run, stack: Stack, timeout: float) -> None:
    """Wait until everything that was sent is in the audit, and the senders' own counters say so."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        run.audit = rows(stack)
        run.pending = {name: told for name, one in run.senders.items() if (told := one.pending())}
        if not run.pending and not any(missing(run, name) for name in run.senders):
            return
        time.sleep(1)


def missing(run: Run, name: str) -> Counter[tuple[int, str]]:
    """What was sent, and is not in the audit."""
    return run.senders[name].expected - run.audit.get(name, Counter())


def more_than_once(run: Run, name: str) -> Counter[tuple[int, str]]:
    """What is in the audit more often than it was sent."""
    return run.audit.get(name, Counter()) - run.senders[name].expected


def under_way(run: Run, name: str) -> range:
    """Messages that may have been on their way into Redis as it stopped: it takes them when it goes on, and MUTT, who
    could not know, has answered 503. Each connection that stood then may hold one request, of the first seconds."""
    before, rate = run.sent_before[name], run.senders[name].rate
    return range(before - 3 * rate, before + 10 * rate)


def rows(stack: Stack) -> dict[str, Counter[tuple[int, str]]]:
    """How often each message is in the audit."""
    found: dict[str, Counter[tuple[int, str]]] = {}
    for name, number, state, n in stack.sql(_ROWS):
        found.setdefault(name, Counter())[number, state] = n
    return found


def _flow(senders: Sequence[Sender], seconds: float, look: Callable[[], object] = lambda: None) -> None:
    """Every sender sends its messages for each second."""
    ends = time.monotonic() + seconds
    while (now := time.monotonic()) < ends:
        for sender in senders:
            for _ in range(sender.rate):
                sender.send_next()
        look()
        time.sleep(max(0.0, now + 1 - time.monotonic()))


@contextlib.contextmanager
def _away(stack: Stack) -> Iterator[None]:
    """Redis stands still: it is there, and answers nothing."""
    hung = stack.pids["redis"]
    os.kill(hung, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(hung, signal.SIGCONT)


def _status(stack: Stack) -> int:
    """What a post is answered."""
    up = stack.up
    told = {"X-API-KEY": up["api_key"]}
    event = {"hostname": "probe", "message": "is MUTT there?"}
    return requests.post(up["ingest"] + "/ingest", json=event, headers=told, timeout=10).status_code
