"""The settle's noise control and its model decide the same, on real Redis."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple
from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mutt import codec, names
from mutt.alert import Alert, clearing, from_verdict
from mutt.entry import Entry, Move, Part, raise_alert
from mutt.event import Envelope, Event, Segment, State
from mutt.rules.evaluate import Ruleset, evaluate
from mutt.rules.noise import Replay, limits
from mutt.rules.rule import Rule, StormPolicy, Verdict
from mutt.settings import Settings
from mutt.streams import books
from mutt.streams.connect import connect
from mutt.streams.stream import Stream

NOW = datetime(2026, 3, 4, 9, 15, tzinfo=UTC)
HOSTS, TEXTS = ("a", "b"), ("LINK", "DISK")

few = st.one_of(st.none(), st.integers(2, 4))
span = st.sampled_from((1, 2, 3, 5, 8, 20))


class Step(NamedTuple):
    """One event: how long after the one before, of which host and rule, and whether it ends a fault."""

    gap: float
    host: str
    text: str
    clear: bool


@st.composite
def rules(draw: st.DrawFn) -> list[Rule]:
    made = []
    for number, text in enumerate(TEXTS, 1):
        threshold, flap = draw(few), draw(few)
        made.append(
            Rule(
                id=number,
                name=text,
                match_string=text,
                dedup_window=draw(st.one_of(st.none(), span)),
                threshold_count=threshold,
                threshold_window=draw(span) if threshold else None,
                flap_count=flap,
                flap_window=draw(span) if flap else None,
            )
        )
    return made


@st.composite
def policies(draw: st.DrawFn) -> list[StormPolicy]:
    groups = st.sampled_from(("host", "rule", "team", "source", "tags.site", "tags.none"))
    return [
        StormPolicy(
            id=number,
            name="storm",
            group_by=draw(groups),
            alert_count=draw(st.integers(2, 5)),
            alert_window=draw(span),
            hostname=draw(st.sampled_from((None, "a", "[ab]"))),
        )
        for number in range(draw(st.integers(0, 2)))
    ]


step = st.builds(
    Step,
    gap=st.sampled_from((1.0, 1.0, 2.0, 3.0, 8.0, 0.000001)),
    host=st.sampled_from(HOSTS),
    text=st.sampled_from(TEXTS),
    clear=st.booleans(),
)


class Judged(NamedTuple):
    """An alert with the event and the verdict that it came from."""

    event: Event
    verdict: Verdict
    alert: Alert


def happenings(steps: Sequence[Step], ruleset: Ruleset) -> list[Judged]:
    """The alerts that evaluate would make of these steps, one after the other."""
    at, raised, made = NOW, {}, []
    for one in steps:
        at += timedelta(seconds=one.gap)
        event = Event(
            event_id=uuid4(),
            received_at=at,
            occurred_at=at,
            hostname=one.host,
            message=one.text,
            tags={"site": one.host[0]},
            state=State.CLEAR if one.clear else State.RAISE,
        )
        verdict = evaluate(event, ruleset)
        pair = one.host, one.text
        if not one.clear:
            alert = from_verdict(event, verdict, correlation_id="c", rule_name=one.text)
            raised[pair] = alert
        elif pair in raised:
            alert = clearing(event, raised.pop(pair), correlation_id="c")
        else:
            continue
        made.append(Judged(event, verdict, alert))
    return made


class Workers:
    """Workers on one Redis that settle what they are given."""

    def __init__(self, url: str) -> None:
        self.client = connect(url)
        self.client.flushdb()
        queue = names.queues(Settings.from_env({}))["ingest_queue"]
        self.stream = Stream(self.client, queue, lambda *_a, **_k: None)

    def entry(self, n: int) -> Entry:
        event = Event(event_id=uuid4(), received_at=NOW, occurred_at=NOW, hostname="h", message="m")
        fields, size = codec.encode(Envelope([Segment("b", "c", [event])]), n=n)
        self.stream.append(str(uuid4()), [Part([(n, fields, size)])], max_events=10**6, max_bytes=1 << 30)
        return self.stream.take("w", 1).entries[0]

    def settle(self, alerts: Sequence[Judged], ruleset: Ruleset, times: int = 1) -> None:
        """One entry's alerts; whoever asks again changes nothing."""
        entry = self.entry(len(alerts))
        follow = []
        for event, _, alert in alerts:
            bounds = limits(ruleset, alert.rule_id, alert.hostname, alert.team, alert.source, event.tags)
            follow.append(raise_alert(alert, 1000, bounds))
        counts = {
            "events.queued": -entry.n,
            "events.settled": entry.n,
            "ingest.bytes": -entry.size,
            "alerts.raised": len(alerts),
            "alerts.waiting": len(alerts),
        }
        for turn in range(times):
            assert self.stream.settle([Move(entry, counts, follow)]) == [turn == 0]

    def decided(self) -> dict[str, str]:
        """Why each alert is held, by its id."""
        found = books.entries(self.client, names.DELIVERY_STREAM)
        return {fields[b"id"].decode(): fields[b"held"].decode() for _, fields in found}

    def check_books(self) -> None:
        ledger, walked = books.read(self.client), books.walk(self.client)
        assert (ledger.off_alerts, ledger.off_events) == (0, 0)
        assert ledger.alerts["waiting"] == walked.waiting
        assert ledger.alerts["cancelled"] == len(self.decided())


def check(url: str, ruleset: Ruleset, steps: Sequence[Step], sizes: Sequence[int], times: int) -> None:
    alerts = happenings(steps, ruleset)
    workers, replay = Workers(url), Replay(ruleset)
    try:
        rest, turn = list(alerts), 0
        while rest:
            size = sizes[turn % len(sizes)]
            workers.settle(rest[:size], ruleset, times)
            rest, turn = rest[size:], turn + 1
        told = workers.decided()
        decided = [replay.decide(one.event, one.verdict, one.alert.signature) for one in alerts]
        assert [told.get(str(one.alert.alert_id), "") for one in alerts] == decided
        workers.check_books()
    finally:
        workers.client.close()


bounded = functools.partial(
    settings, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@bounded(max_examples=120)
@given(
    rules(),
    policies(),
    st.integers(0, 1 << 32),
    st.sampled_from((0.0, 0.1, 0.4)),
    st.integers(1, 2),
)
def test_the_script_decides_as_the_model_does(
    redis_url: str,
    made: list[Rule],
    storms: list[StormPolicy],
    seed: int,
    clears: float,
    times: int,
) -> None:
    """However alerts are cut into entries, and though each is settled twice: the same are held, for the same reason."""
    dice = random.Random(seed)
    steps = [
        Step(
            dice.choice((0.000001, 1, 1, 1, 2, 2, 3, 8)),
            dice.choice(HOSTS),
            dice.choice(TEXTS),
            dice.random() < clears,
        )
        for _ in range(80)
    ]
    sizes = [dice.randint(1, 9) for _ in range(10)]
    check(redis_url, Ruleset.compile(1, made, [], {}, storms=storms), steps, sizes, times)


@bounded(max_examples=60)
@given(st.lists(step, max_size=40), st.randoms(use_true_random=False), st.integers(1, 12))
def test_in_any_order_repeats_of_a_window_are_sent_once(
    redis_url: str, steps: list[Step], dice: random.Random, window: int
) -> None:
    """Workers settle out of order: of each signature one is sent, and those that are lie a window apart."""
    rules = [Rule(id=n, name=text, match_string=text, dedup_window=window) for n, text in enumerate(TEXTS, 1)]
    ruleset = Ruleset.compile(1, rules, [], {})
    alerts = [one for one in happenings(steps, ruleset) if one.alert.state is State.RAISE]
    dice.shuffle(alerts)
    workers = Workers(redis_url)
    try:
        for one in alerts:
            workers.settle([one], ruleset)
        held = workers.decided()
        sent: dict[str, list[datetime]] = {}
        for one in alerts:
            if str(one.alert.alert_id) not in held:
                sent.setdefault(one.alert.signature, []).append(one.alert.received_at)
        assert sent.keys() == {one.alert.signature for one in alerts}
        for times in sent.values():
            assert all(later - one >= timedelta(seconds=window) for one, later in pairwise(times))
        workers.check_books()
    finally:
        workers.client.close()


@bounded(max_examples=60)
@given(st.lists(step, max_size=40), st.randoms(use_true_random=False))
def test_in_any_order_each_is_decided_once_and_the_books_hold(
    redis_url: str, steps: list[Step], dice: random.Random
) -> None:
    """All bounds at once, settled out of order and twice: nothing is counted twice, no alert is lost."""
    rules = [
        Rule(
            id=number,
            name=text,
            match_string=text,
            dedup_window=4,
            threshold_count=2,
            threshold_window=9,
            flap_count=2,
            flap_window=9,
        )
        for number, text in enumerate(TEXTS, 1)
    ]
    storms = [StormPolicy(id=1, name="s", group_by="host", alert_count=2, alert_window=5)]
    ruleset = Ruleset.compile(1, rules, [], {}, storms=storms)
    alerts = happenings(steps, ruleset)
    dice.shuffle(alerts)
    workers = Workers(redis_url)
    try:
        for one in alerts:
            workers.settle([one], ruleset, 2)
        workers.check_books()
        ledger = books.read(workers.client).alerts
        assert ledger["raised"] == len(alerts) == ledger["waiting"] + ledger["cancelled"]
    finally:
        workers.client.close()
