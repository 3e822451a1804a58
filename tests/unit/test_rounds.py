"""The group commit of ingest: who shares a round, who hears of its failure, and who waits for how long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from mutt.errors import StreamAway, Unavailable
from mutt.streams import rounds
from mutt.streams.rounds import Rounds
from tests.waiting import wait_until


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Carrier:
    """Carries rounds when the test lets it; keeps what it carried."""

    def __init__(self) -> None:
        self.rounds: list[list[str]] = []
        self.deadlines: list[float] = []
        self.gate = threading.Semaphore(0)
        self.fails: dict[str, Exception] = {}  #: a contribution, and what its round dies of
        self.carrying = 0
        self.most = 0

    def __call__(self, contributions: Sequence[str], deadline: float) -> list[str]:
        self.carrying += 1
        self.most = max(self.most, self.carrying)
        self.rounds.append(list(contributions))
        self.deadlines.append(deadline)
        try:
            assert self.gate.acquire(timeout=10)
            for one in contributions:
                if one in self.fails:
                    raise self.fails[one]
            return [one.upper() for one in contributions]
        finally:
            self.carrying -= 1


class Caller(threading.Thread):
    """One request's thread."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.work = work
        self.result: Any = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self.work()
        except BaseException as error:  # noqa: BLE001 a thread's edge: the test looks at it
            self.error = error

    def outcome(self) -> Any:
        self.join(10)
        assert not self.is_alive()
        return self.error or self.result


class House:
    """Rounds, with what a test needs to see."""

    def __init__(self, **options: object) -> None:
        self.clock, self.carrier = Clock(), Carrier()
        self.rounds: Rounds[str, str] = Rounds(self.carrier, clock=self.clock, **options)  # type: ignore[arg-type]
        self.sent = 0

    def submit(self, name: str, size: int = 1) -> Caller:
        """Send, and wait until it is carried or queued."""
        before = self._seen()
        caller = Caller(lambda: self.rounds.submit(name, size))
        wait_until(lambda: self._seen() > before or not caller.is_alive(), 5, f"{name} to be queued")
        return caller

    def _seen(self) -> int:
        return sum(len(one) for one in self.carrier.rounds) + len(self.rounds._queue)

    def let(self, count: int = 1) -> None:
        self.carrier.gate.release(count)

    def await_round(self, number: int) -> None:
        wait_until(lambda: len(self.carrier.rounds) >= number, 5, f"round {number}")


@pytest.fixture
def house() -> House:
    return House()


def test_what_arrives_while_a_round_is_carried_shares_the_next_one(house: House) -> None:
    callers = [house.submit(name) for name in "abcd"]
    house.let(2)
    assert [caller.outcome() for caller in callers] == list("ABCD")
    assert house.carrier.rounds == [["a"], ["b", "c", "d"]]
    assert house.carrier.most == 1, "one round at a time"


def test_nobody_waits_for_company(house: House) -> None:
    house.let()
    assert house.submit("a").outcome() == "A"
    house.let()
    assert house.submit("b").outcome() == "B"
    assert house.carrier.rounds == [["a"], ["b"]]


def test_a_round_holds_at_most_its_bytes() -> None:
    house = House(max_bytes=10)
    callers = [house.submit(name, size) for name, size in (("a", 1), ("b", 6), ("c", 4), ("d", 1))]
    house.let(9)
    assert [caller.outcome() for caller in callers] == list("ABCD")
    assert house.carrier.rounds == [["a"], ["b", "c"], ["d"]]


def test_an_error_reaches_exactly_those_of_its_round(house: House) -> None:
    first = house.submit("a")
    second = [house.submit(name) for name in ("b", "bad", "c")]
    wrong = house.carrier.fails["bad"] = ValueError("its own")
    house.let()
    assert first.outcome() == "A"
    house.await_round(2)
    third = [house.submit(name) for name in "de"]
    house.let(2)
    assert [caller.outcome() for caller in second] == [wrong] * 3
    assert [caller.outcome() for caller in third] == ["D", "E"]


@pytest.mark.parametrize("error", [ValueError("x"), Unavailable("Redis is nearly full", 5), SystemExit(1)])
def test_whatever_a_round_dies_of_the_next_one_is_carried(house: House, error: Exception) -> None:
    house.carrier.fails["a"] = error
    first, second = house.submit("a"), house.submit("b")
    house.let(2)
    assert first.outcome() is error
    assert second.outcome() == "B"


def test_a_round_is_carried_within_the_deadline_of_the_one_that_waited_longest(house: House) -> None:
    callers = [house.submit("a"), house.submit("b")]
    house.clock.now += 0.4
    callers.append(house.submit("c"))
    house.let(2)
    assert [caller.outcome() for caller in callers] == list("ABC")
    assert house.carrier.deadlines == [101.0, 101.0]


def test_the_time_that_a_request_spent_before_counts(house: House) -> None:
    house.let()
    assert house.rounds.submit("a", 1, since=99.5) == "A"
    assert house.carrier.deadlines == [100.5]


def test_one_that_fills_a_round_neither_waits_for_others_nor_keeps_them_waiting(house: House) -> None:
    small = house.submit("a")
    large = Caller(lambda: house.rounds.submit("large", 1 << 20))
    house.await_round(2)
    house.let(2)
    assert (small.outcome(), large.outcome()) == ("A", "LARGE")
    assert house.carrier.rounds == [["a"], ["large"]]


def test_those_who_come_together_are_in_one_round_and_get_their_results_in_their_order(house: House) -> None:
    first = house.submit("a")
    together = Caller(lambda: house.rounds.submit_all(["b", "c", "d"], 3))
    wait_until(lambda: len(house.rounds._queue) == 1, 5, "them to be queued")
    last = house.submit("e")
    house.let(2)
    assert (first.outcome(), together.outcome(), last.outcome()) == ("A", ["B", "C", "D"], "E")
    assert house.carrier.rounds == [["a"], ["b", "c", "d", "e"]]


def test_those_who_come_together_share_one_fate(house: House) -> None:
    wrong = house.carrier.fails["c"] = ValueError("its own")
    together = Caller(lambda: house.rounds.submit_all(["b", "c"], 2))
    house.let()
    assert together.outcome() is wrong


def test_those_who_fill_a_round_together_go_alone(house: House) -> None:
    small = house.submit("a")
    large = Caller(lambda: house.rounds.submit_all(["b", "c"], 1 << 20))
    house.await_round(2)
    house.let(2)
    assert (small.outcome(), large.outcome()) == ("A", ["B", "C"])


def test_a_failure_of_one_that_fills_a_round_is_noted_for_all(house: House) -> None:
    house.carrier.fails["large"] = StreamAway("Redis can't be reached")
    house.let()
    with pytest.raises(Unavailable):
        house.rounds.submit("large", 1 << 20)
    assert isinstance(house.submit("b").outcome(), Unavailable)
    assert house.carrier.rounds == [["large"]]


def test_who_waits_too_long_leaves_and_is_in_no_later_round(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "DEADLINE", 0.05)
    first, late = house.submit("a"), house.submit("late")
    outcome = late.outcome()
    assert isinstance(outcome, Unavailable)
    assert outcome.retry_after >= 1
    house.let()
    assert first.outcome() == "A"
    house.let()
    assert house.submit("b").outcome() == "B"
    assert house.carrier.rounds == [["a"], ["b"]]


def test_who_waits_too_long_for_a_round_under_way_is_told_that_nobody_knows(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = house.submit("a")
    second = house.submit("b")
    monkeypatch.setattr(rounds, "DEADLINE", 0.05)
    third = house.submit("c")
    house.let()
    assert first.outcome() == "A"
    house.await_round(2)
    assert isinstance(third.outcome(), Unavailable)
    house.let(2)
    assert second.outcome() == "B"


def test_after_a_failed_round_a_second_long_everyone_is_refused_at_once(house: House) -> None:
    house.carrier.fails["a"] = StreamAway("Redis can't be reached")
    house.let()
    house.submit("a").outcome()
    outcome = house.submit("b").outcome()
    assert isinstance(outcome, Unavailable)
    assert house.carrier.rounds == [["a"]]
    house.clock.now += rounds.CIRCUIT + 0.01
    house.let()
    assert house.submit("c").outcome() == "C"


def test_those_who_queued_behind_a_failed_round_are_refused_at_once_too(house: House) -> None:
    """Else each round of a queue would wait for the same silent server, one after another."""
    house.carrier.fails["a"] = StreamAway("Redis can't be reached")
    callers = [house.submit(name) for name in "abc"]
    house.let()
    assert [type(caller.outcome()) for caller in callers] == [StreamAway] * 3
    assert house.carrier.rounds == [["a"]]
    house.clock.now += rounds.CIRCUIT + 0.01
    house.let()
    assert house.submit("d").outcome() == "D"


def test_a_full_stream_opens_no_circuit(house: House) -> None:
    house.carrier.fails["a"] = Unavailable("Redis is nearly full", retry_after=5)
    house.let(2)
    house.submit("a").outcome()
    assert house.submit("b").outcome() == "B"


def test_a_storm_of_threads_gets_each_its_own_answer() -> None:
    made: Rounds[int, int] = Rounds(
        lambda contributions, _deadline: [one * 2 for one in contributions], max_bytes=7
    )
    answers: dict[int, int] = {}

    def work(base: int) -> None:
        for n in range(base, base + 200):
            answers[n] = made.submit(n, 1)

    threads = [threading.Thread(target=work, args=(base,)) for base in range(0, 3200, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == {n: n * 2 for n in range(3200)}


def test_an_outage_is_one_line_of_log_with_its_cause_and_everybody_is_told_that_cause(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    for cause in ("no replica has it", "no replica has it", "Redis refuses writes"):
        house.carrier.fails["a"] = StreamAway(cause)
        house.let()
        house.submit("a").outcome()
        refused = house.submit("b").outcome()
        assert isinstance(refused, StreamAway)
        assert refused.reason == cause
        house.clock.now += rounds.CIRCUIT + 0.01
    house.carrier.fails.clear()
    house.let()
    assert house.submit("c").outcome() == "C"
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [
        "no replica has it",
        "Redis refuses writes",
    ]
