"""What ``mutt send`` makes up, how it reads files, and how it keeps to a rate."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from mutt.cli.posting import BURST, Pace, Tally
from mutt.cli.send import summary
from mutt.cli.traffic import KINDS, WRITERS, Batch, NotReadable, from_file, made_up
from mutt.event import Event
from mutt.formats import registry
from mutt.formats.base import Context
from mutt.rules.evaluate import Ruleset, evaluate
from mutt.rules.starting import STARTING_DEVELOPMENT_HOSTS, STARTING_RULES

NOW = datetime(2026, 3, 4, 9, 30, tzinfo=UTC)
RULES = Ruleset.compile(1, STARTING_RULES, STARTING_DEVELOPMENT_HOSTS, {})


def make(kind: str = "mixed", format_: str = "native", count: int = 250, seed: int = 1) -> list[Batch]:
    return list(made_up(kind, format_, count=count, batch=100, seed=seed, clock=lambda: NOW))


def read(batch: Batch, format_: str) -> list[Event]:
    parsed = registry.parse(registry.FORMATS[format_], batch.body, Context(NOW, "k", 1 << 16, "h"))
    assert not parsed.rejected
    return parsed.events


def cut(data: bytes, *, count: int = 0, batch: int = 2) -> list[Batch]:
    return list(from_file(io.BytesIO(data), count=count, batch=batch))


def test_the_same_seed_makes_the_same_events_and_another_seed_others():
    assert make(seed=1) == make(seed=1) != make(seed=2)


def test_the_last_batch_holds_the_rest():
    assert [batch.events for batch in make()] == [100, 100, 50]


def test_a_count_of_nought_has_no_end():
    endless: Iterator[Batch] = made_up("storm", "native", count=0, batch=10, seed=1, clock=lambda: NOW)
    assert [next(endless).events for _ in range(50)] == [10] * 50


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format_", WRITERS)
def test_every_kind_in_every_format_is_read_whole_by_ingest(kind, format_):
    for batch in make(kind, format_):
        events = read(batch, format_)
        assert len(events) == batch.events
        assert all(event.occurred_at == NOW and event.severity is not None for event in events)


def verdicts(kind: str) -> list[tuple[int | None, int | None]]:
    events = [event for batch in make(kind) for event in read(batch, "native")]
    found = [evaluate(event, RULES) for event in events]
    return [(verdict.rule_id, verdict.moog_severity) for verdict in found]


def test_critical_events_all_travel_in_the_critical_lane():
    assert {severity for _, severity in verdicts("critical")} == {5}


@pytest.mark.parametrize("kind", ["unmatched", "storm"])
def test_unmatched_and_storm_meet_no_rule(kind):
    assert {rule for rule, _ in verdicts(kind)} == {None}


def test_a_mix_meets_some_rules():
    assert {rule for rule, _ in verdicts("mixed")} > {None, 3}


def test_a_storm_is_of_few_kinds():
    events = [event for batch in make("storm") for event in read(batch, "native")]
    assert len({(event.hostname, evaluate(event, RULES).template) for event in events}) == 3


def test_an_array_is_cut_into_arrays_without_touching_its_items():
    data = b'[{"hostname":"a","n":1.10},\n {"hostname":"b"}, {"hostname":"c"}]'
    assert [(batch.body, batch.events) for batch in cut(data)] == [
        (b'[{"hostname":"a","n":1.10},{"hostname":"b"}]', 2),
        (b'[{"hostname":"c"}]', 1),
    ]


def test_ndjson_is_read_line_by_line_so_that_a_broken_line_is_ingests_to_refuse():
    found = cut(b'{"a":1}\n\n{"a":\n{"a":3}\r\n')
    assert [batch.body for batch in found] == [b'{"a":1}\n{"a":', b'{"a":3}']


def test_an_object_over_several_lines_is_one_event():
    assert [batch.events for batch in cut(b'{\n "hostname": "a",\n "message": "m"\n}\n')] == [1]


def test_anything_else_is_lines():
    found = cut(b"<13>Oct 11 22:14:15 host app: one\n\n[ 12.3] kernel: two\nthree")
    assert [batch.events for batch in found] == [2, 1]
    assert found[0].content_type == "text/plain"


def test_no_more_than_count_are_read():
    assert sum(batch.events for batch in cut(b"one\ntwo\nthree\nfour\n", count=3)) == 3


def test_an_empty_file_holds_no_batch():
    assert cut(b"") == []


@pytest.mark.parametrize("data", [b'[{"hostname":"a"},{"hostname":]', b'{"a":1} {"b":\n} {"c":3}'])
def test_a_file_that_is_no_json_is_refused_before_anything_is_sent(data):
    with pytest.raises(NotReadable, match="no JSON"):
        from_file(io.BytesIO(data), count=0, batch=2)


class Clock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_rate_spaces_the_batches():
    clock = Clock()
    pace = Pace(100, clock)
    waits = []
    for _ in range(4):
        waits.append(pace.wait(50))
        clock.now += waits[-1]
    assert waits == [0.0, 0.5, 0.5, 0.5]


def test_after_an_outage_the_rate_is_not_made_up_for_by_a_flood():
    clock = Clock()
    pace = Pace(100, clock)
    pace.wait(50)
    clock.now = 60.0
    sent = 0
    while pace.wait(50) == 0.0:
        sent += 50
    assert sent <= 100 * BURST + 50


def test_without_a_rate_nothing_waits():
    assert Pace(0, Clock()).wait(10_000) == 0.0


def test_a_rejected_item_or_a_batch_given_up_is_not_whole():
    assert Tally(accepted=5).whole
    assert not Tally(accepted=5, rejected=1).whole
    assert not Tally(accepted=5, errors=1).whole


def test_a_rate_is_reported_as_it_was_asked_for_and_an_outage_shows():
    clock = Clock()
    pace = Pace(100, clock)
    for _ in range(10):
        clock.now += pace.wait(100)
    assert Tally(accepted=1000, seconds=clock.now, paced=pace.span).eps == 100
    assert Tally(accepted=1000, seconds=20, paced=pace.span).eps == 50


def test_the_summary_has_a_rate():
    assert summary(Tally(accepted=50, seconds=2.0))["eps"] == 25.0
