"""The board: what the pipeline page says of a reading; and the runbook, as the admin shows it."""

from __future__ import annotations

import pytest

from mutt.pulse.sample import TROUBLES, Moog, Reading, Sample, Trouble
from mutt.web.admin.board import (
    PLACES,
    ROWS,
    UNKNOWN,
    board_of,
    books_of,
    millis,
    rate,
    share,
    size,
    states_of,
    table_of,
)
from mutt.web.admin.runbook import name_of, written
from tests import pulses

#: 2026-03-04 09:30:00 UTC.
NOW = 1_772_616_600.0


def trouble(name: str) -> Trouble:
    return Trouble(name, "title", "why", "do", "command")


def test_each_trouble_has_its_place_or_is_known_to_have_none() -> None:
    assert set(PLACES) == set(TROUBLES)
    assert [name for name, place in PLACES.items() if not place] == ["slow-pages"]


def test_the_first_trouble_is_the_bottleneck_wherever_the_others_are() -> None:
    """Also where another one is at the same place."""
    found = states_of(
        [trouble(name) for name in ("redis-memory", "redis-core", "alerts-behind", "slow-pages")]
    )
    assert found == {"redis": "first", "evaluate": "wrong"}
    assert states_of([]) == {}


def test_what_is_read_is_said() -> None:
    last = pulses.point(NOW, events_in=1_204.4)
    board = board_of(Reading(pulses.sample(NOW, queues=pulses.queues(ingest_queue=25)), (), (last,)))
    wanted = {
        "at": "09:30:00",
        "flow.accepted": "1,204",
        "events.queued": "7",
        "ingest_queue.oldest": "2.5 s",
        "delivery_queue.oldest": UNKNOWN,
        "evaluate.busy": "55 %",
        "ingest.processes": "1 process",
        "budget.used": "21 of 50",
        "moog.breaker": "closed",
        "redis.127.0.0.1:6379.memory": "268 MB of 1.1 GB",
        "postgres.connections": "14 of 100",
        "dead.total": "0",
    }
    assert {name: board.words[name] for name in wanted} == wanted
    assert board.bars["budget.used"] == 0.42
    assert (board.flows["accepted"], board.flows["sent"]) == (3, 2)


def test_what_could_not_be_read_is_not_said_to_be_well() -> None:
    """No queue is empty, no breaker closed and no book balanced because Redis is away."""
    away = Sample(NOW, away={"redis": "it does not answer"})
    board = board_of(Reading(away))
    for name in ("moog.breaker", "budget.used", "dead.total", "flow.accepted", "postgres.rows"):
        assert board.words[name] == UNKNOWN, name
    assert "events.queued" not in board.words
    assert books_of(away) is None


@pytest.mark.parametrize(
    ("moog", "says"),
    [
        (Moog("open", "auth", until=NOW + 90), "tried again at 09:31:30 UTC"),
        (Moog("open", "auth", until=NOW + 90_000), "tried again at 2026-03-05 10:30:00 UTC"),
        (Moog(paused_until=NOW + 5), "it asked to wait until 09:30:05 UTC"),
        (Moog(), ""),
    ],
    ids=["open", "until tomorrow", "paused", "closed"],
)
def test_when_moog_is_asked_again(moog: Moog, says: str) -> None:
    assert board_of(Reading(pulses.sample(NOW, moog=moog))).words["moog.until"] == says


def test_the_hour_as_a_table_has_means_of_what_flows_and_the_most_of_what_stands() -> None:
    points = [pulses.point(NOW - 5 * n, rows=float(n % 2), ingest_depth=n) for n in reversed(range(720))]
    rows = table_of(points)
    assert len(rows) == ROWS and rows[0].at > rows[-1].at
    assert rows[1].rows == pytest.approx(0.5, abs=0.01)
    assert rows[1].ingest_depth - rows[0].ingest_depth == 60
    assert table_of([]) == []


def test_figures_are_short_and_say_their_unit() -> None:
    assert [rate(one) for one in (None, 0.0, 0.42, 12.4, 1_204.0)] == [UNKNOWN, "0", "0.4", "12", "1,204"]
    assert [millis(one) for one in (None, 0.4, 12.0, 1_240.0)] == [UNKNOWN, "0.4 ms", "12 ms", "1.2 s"]
    assert [size(one) for one in (12, 4_300, 143e6, 1.4e9)] == ["12 B", "4.3 kB", "143 MB", "1.4 GB"]
    assert [share(one) for one in (None, 0.0, 0.123)] == [UNKNOWN, "0 %", "12 %"]


def test_the_runbook_lets_no_html_through_and_leads_to_its_headings() -> None:
    """Its links to other files of the docs lead nowhere in the admin: they stay text."""
    shown = written(
        "# Runbook\n\n## redis-memory\n\n<script>alert(1)</script> [here](#redis-memory)"
        " [scaling](scaling.md) [bad](javascript:alert)\n\n| a | b |\n|---|---|\n| `c` | d |\n"
    )
    assert '<h2 id="redis-memory">redis-memory</h2>' in shown
    assert "<script" not in shown and "&lt;script&gt;" in shown
    assert '<a href="#redis-memory">here</a>' in shown
    assert 'href="scaling.md"' not in shown and 'href="javascript' not in shown
    assert "<td><code>c</code></td>" in shown
    assert name_of("Redis is away: what now?") == "redis-is-away-what-now"
