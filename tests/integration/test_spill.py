"""The spill: Redis is away and ingest goes on; what was taken flows back, once, and the books say where it is."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import orjson
import psutil
import psycopg2
import pytest
import redis
from sqlalchemy import Engine, text, update

from mutt import names
from mutt.cli.ledger import observe
from mutt.cli.queues import spilled
from mutt.doctor.ask import examine
from mutt.doctor.finding import Finding, Level
from mutt.errors import StoreDown, Unavailable
from mutt.event import Envelope
from mutt.pipeline import accept
from mutt.pipeline.spill import LATE, Flowed, flow_back
from mutt.services import Services
from mutt.settings import Settings
from mutt.store.migrate import upgrade
from mutt.store.spill import CONNECTIONS, REMEMBERED, ROUNDS, Spill, Standing, marked, standing
from mutt.store.tables import ingest_spill
from mutt.streams import books, bound
from mutt.streams.connect import connect
from mutt.streams.keys import KeysCopy
from mutt.told import teller
from mutt.web.health import ingest_health
from mutt.web.ingest import keys_of, make_ingest
from tests.bench import Bench, benches
from tests.servers import Live, live_redis, memory, scratch
from tests.waiting import wait_until

KEY = "the-key-of-the-tests"


def one(message: str = "CRITICAL fan", **fields: Any) -> dict[str, Any]:
    return {"hostname": "core-1", "message": message, **fields}


class Ingest:
    """A web process with a spill."""

    def __init__(self, redis_url: str, database_url: str, **settings: Any) -> None:
        told = {"ingest_api_key": KEY, "ingest_spill": True} | settings
        self.settings = Settings.from_env({}, redis_url=redis_url, database_url=database_url, **told)
        self.services = Services(self.settings, lambda *_, **__: None, role="ingest", web=True)
        self.app = make_ingest(self.services)
        self.app.register_blueprint(ingest_health(self.services, keys_of(self.app).need))

    def post(self, body: Any, key: str = KEY, **headers: str) -> Any:
        told = {"X-API-KEY": key} | {name.replace("_", "-"): value for name, value in headers.items()}
        return self.app.test_client().post("/ingest", data=orjson.dumps(body), headers=told)

    def takes(self, body: Any, **headers: str) -> str:
        """Where the events of a 202 went: queued or spilled."""
        response = self.post(body, **headers)
        assert response.status_code == 202, response.get_data(as_text=True)
        told = response.get_json()
        assert told["status"] == "queued"
        return "spilled" if told.get("spilled") else "queued"

    def refuses(self, body: Any) -> dict[str, Any]:
        began = time.monotonic()
        response = self.post(body)
        took = time.monotonic() - began
        assert response.status_code == 503, response.get_data(as_text=True)
        assert int(response.headers["Retry-After"]) >= 1
        assert took < 3, "a second, and what a busy machine adds"
        found: dict[str, Any] = response.get_json()
        return found

    def get(self, path: str) -> Any:
        return self.app.test_client().get(path)

    def gauges(self) -> dict[str, float]:
        lines = teller(self.services, queues=False)().decode().splitlines()
        return {line.split(" ")[0]: float(line.split(" ")[1]) for line in lines if not line.startswith("#")}

    def close(self) -> None:
        self.services.redis.close()
        if self.settings.ingest_spill:
            self.services.spill._engine.dispose()


class House:
    """A web process and two workers on the same servers."""

    def __init__(self, ingest: Ingest, bench: Bench, other: Bench) -> None:
        self.ingest, self.bench, self.other = ingest, bench, other

    def flow(self, bench: Bench | None = None, **options: Any) -> Flowed:
        s = (bench or self.bench).services
        told: dict[str, Any] = {"monotonic": time.monotonic, "sleep": time.sleep, "slice_": 0.3} | options
        return flow_back(s.spill_rows, s.inlet, **told)

    def flow_all(self) -> None:
        assert wait_until(self.flow, 5).ended == "empty"

    def settle(self) -> None:
        """Everything flows back and is evaluated; the books balance."""

        def empty() -> bool:
            ended = self.flow().ended
            self.bench.run()
            return ended == "empty"

        wait_until(empty, 20, "everything to flow back")
        self.bench.check()

    @property
    def stands(self) -> Standing:
        with self.bench.sql() as conn:
            return standing(conn)

    def change(self, **values: Any) -> None:
        """As the rows of the spill would be after a while."""
        with self.bench.sql() as conn:
            conn.execute(update(ingest_spill).values(values))

    def forget_rounds(self) -> None:
        """As Redis and the spill are ten minutes later."""
        for key in self.bench.redis.keys("mutt:round:*"):
            self.bench.redis.delete(key)
        with self.bench.sql() as conn:
            conn.execute(
                text("UPDATE ingest_spill SET sent_at = sent_at - :s * interval '1 s'"), {"s": REMEMBERED + 1}
            )

    def messages(self) -> list[str]:
        return sorted(row.message for row in self.bench.rows())


@contextlib.contextmanager
def house_on(redis_url: str, database_url: str, **settings: Any) -> Iterator[House]:
    ingest = Ingest(redis_url, database_url, **settings)
    with benches(redis_url, database_url, 2, **settings) as (bench, other):
        KeysCopy(bench.redis).publish({})
        yield House(ingest, bench, other)
        ingest.close()
        for each in (bench, other):
            each.services.spill_rows._guard.dispose()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis is asked again sooner than users have it, so that tests wait less."""
    monkeypatch.setattr(accept, "AWAY", 0.2)


@pytest.fixture
def house(own_redis: Live, database_url: str) -> Iterator[House]:
    with house_on(own_redis.url, database_url) as made:
        yield made


@contextlib.contextmanager
def stopped(server: Live) -> Iterator[None]:
    """The server hangs: it neither answers nor closes. PostgreSQL's sessions do too."""
    hung = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    for process in hung:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in hung:
            os.kill(process.pid, signal.SIGCONT)


def spill_some(house: House, redis: Live, *bodies: Any, **headers: str) -> None:
    """These come in while Redis is away, and then it is back."""
    redis.kill()
    for body in bodies:
        assert house.ingest.takes(body, **headers) == "spilled"
    redis.start()


def back(house: House) -> None:
    """Wait until ingest itself has found Redis again."""
    wait_until(lambda: house.ingest.takes(one("back again")) == "queued", 10, "ingest to find Redis")


class Posting:
    """Threads that post until they are told to stop; what was answered how."""

    def __init__(self, ingest: Ingest, threads: int = 6) -> None:
        self.answers: list[tuple[int, str]] = []
        self._ingest, self._stop = ingest, threading.Event()
        self._threads = [threading.Thread(target=self._post, args=(name,)) for name in range(threads)]

    def _post(self, name: int) -> None:
        count = 0
        while not self._stop.is_set():
            message = f"CRITICAL {name}.{count}"
            self.answers.append((self._ingest.post(one(message)).status_code, message))
            count += 1

    def __enter__(self) -> Posting:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def statuses(self) -> set[int]:
        return {status for status, _ in self.answers}

    @property
    def accepted(self) -> list[str]:
        return sorted(message for status, message in self.answers if status == 202)

    def check(self, messages: list[str]) -> None:
        """Each that was accepted is one row; of what a busy machine refused too late some may be in as well."""
        assert self.statuses <= {202, 503}
        assert set(self.accepted) <= set(messages)
        assert len(messages) == len(set(messages))


# ---- the way there and back


def test_while_redis_is_away_events_are_taken_and_each_ends_as_one_row_when_it_is_back(
    house: House, own_redis: Live
) -> None:
    with Posting(house.ingest) as posting:
        wait_until(lambda: len(posting.answers) > 20, 20, "posts before")
        own_redis.kill()
        wait_until(lambda: house.stands.events > 50, 20, "posts that are spilled")
        own_redis.start()
        wait_until(lambda: house.bench.redis.exists(names.SPILLED), 20, "ingest to find Redis again")
    house.settle()
    posting.check(house.messages())


def test_nobody_restarts_anything_the_next_second_goes_into_the_queue(house: House, own_redis: Live) -> None:
    spill_some(house, own_redis, one())
    back(house)
    assert house.bench.redis.exists(names.SPILLED), "whoever ticks asks for the flow back at once"
    assert house.stands.events >= 1
    house.settle()
    assert house.stands.rounds == house.stands.bytes == house.stands.events == 0


def test_a_reply_from_the_spill_says_so_and_its_batch_id_is_in_the_rows(
    house: House, own_redis: Live
) -> None:
    own_redis.kill()
    response = house.ingest.post([one(), {}, one("CRITICAL two")], X_Correlation_ID="mine")
    told = response.get_json()
    said = {name: told[name] for name in ("status", "spilled", "accepted", "duplicates", "queue_depth")}
    assert response.status_code == 202
    assert said == {"status": "queued", "spilled": True, "accepted": 2, "duplicates": 0, "queue_depth": None}
    assert [bad["index"] for bad in told["rejected"]] == [1]
    own_redis.start()
    house.settle()
    rows = [(row.batch_id, row.item, row.correlation_id) for row in house.bench.rows()]
    assert rows == [(told["batch_id"], 0, "mine"), (told["batch_id"], 2, "mine")]


def test_requests_that_arrive_together_are_one_row_of_the_spill(house: House, own_redis: Live) -> None:
    own_redis.kill()
    house.ingest.takes(one())
    before = house.stands.rounds
    with house.bench.sql() as conn:
        # Rounds wait for each other here, and what arrives meanwhile shares the next one.
        conn.execute(text("LOCK ingest_spill IN EXCLUSIVE MODE"))
        threads = [threading.Thread(target=house.ingest.takes, args=(one(),)) for _ in range(8)]
        for thread in threads:
            thread.start()
        queue = house.ingest.services.rounds._queue
        wait_until(lambda: len(queue) == 7, 5, "seven that wait for the first one's round")
    for thread in threads:
        thread.join()
    assert (house.stands.rounds - before, house.stands.events) == (2, 9)


def test_what_was_spilled_flows_back_in_its_order(house: House, own_redis: Live) -> None:
    spill_some(house, own_redis, *[one(f"{n}") for n in range(5)], [one("5"), one("6")])
    house.flow_all()
    events = [
        event
        for entry in house.bench.take()
        for segment in entry.decode(Envelope).segments
        for event in segment.events
    ]
    assert [event.message for event in events] == list("0123456")
    assert [event.key for event in events] == sorted((e.key for e in events), key=lambda key: key[1])


def test_a_redis_that_hangs_costs_no_202_and_what_lies_in_its_socket_is_taken_once(
    house: House, own_redis: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell whether the round is in, and once the server goes on, it is."""
    monkeypatch.setattr(bound, "MEMORY_EVERY", 60.0)  # so that the append itself is what hangs
    monkeypatch.setattr(accept, "AWAY", 60.0)
    assert house.ingest.takes(one("before")) == "queued"
    with stopped(own_redis):
        assert house.ingest.takes(one("hung")) == "spilled"
        assert house.ingest.takes(one("at once")) == "spilled"
        with house.bench.sql() as conn:
            sent = list(
                conn.execute(text("SELECT sent_at IS NOT NULL FROM ingest_spill ORDER BY id")).scalars()
            )
    assert sent == [True, False], "the second was not sent: Redis is not asked again so soon"
    house.settle()
    assert house.messages() == ["at once", "before", "hung"]


@pytest.mark.parametrize("remembers", [True, False], ids=["soon", "after ten minutes"])
def test_a_round_that_went_in_and_was_not_answered_ends_once(
    house: House, monkeypatch: pytest.MonkeyPatch, remembers: bool
) -> None:
    """The same ids, stamps and items travel; when its id is forgotten the audit's key tells, and the books say so."""
    answer_lost(house, monkeypatch)
    told = house.ingest.post([one("a"), one("b", event_id=str(uuid4()))]).get_json()
    assert told["spilled"]
    assert books.read(house.bench.redis).events["queued"] == 2, "it is in all the same"
    if not remembers:
        house.forget_rounds()
    house.settle()
    rows = house.bench.rows()
    assert [(row.message, row.batch_id, row.item) for row in rows] == [
        ("a", told["batch_id"], 0),
        ("b", told["batch_id"], 1),
    ]
    again = {} if remembers else {"duplicate": 2}
    assert house.bench.events == {"accepted": 2 + sum(again.values()), "settled": 2} | again


def answer_lost(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis takes the next append, and its answer is lost, as often as it is asked."""
    stream = house.ingest.services.ingest_stream
    append = stream._append

    def silent(options: bytes) -> bytes:
        append(options)
        raise redis.TimeoutError("its answer was lost")

    house.ingest.services.inlet._check_memory()
    monkeypatch.setattr(stream, "_append", silent)
    monkeypatch.setattr(accept, "AWAY", 0.0)


def test_a_late_round_that_did_not_go_in_is_the_only_one(house: House, own_redis: Live) -> None:
    spill_some(house, own_redis, [one("a"), one("b")])
    with house.bench.sql() as conn:
        conn.execute(text("UPDATE ingest_spill SET sent_at = now()"))
    house.forget_rounds()
    house.settle()
    assert [(row.message, row.item) for row in house.bench.rows()] == [("a", -LATE), ("b", 1 - LATE)]
    assert house.bench.events == {"accepted": 2, "settled": 2}


@pytest.mark.parametrize("in_time", [True, False])
def test_a_repeat_is_known_again_if_it_flows_back_within_the_window(
    own_redis: Live, database_url: str, in_time: bool
) -> None:
    """The bound that docs/reliability.md states: Redis' memory of the first one runs on during the outage."""
    with house_on(own_redis.url, database_url, ingest_dedup_window=60.0 if in_time else 1.5) as house:
        assert house.ingest.takes(one("a", event_id="own")) == "queued"
        spill_some(house, own_redis, one("a", event_id="own"), one("a", event_id="own"))
        time.sleep(0 if in_time else 1.5)
        house.settle()
        assert house.messages() == (["a"] if in_time else ["a", "a"]), "of two that were spilled one is known"


# ---- those who let it flow back


class Died(BaseException):
    """The worker is killed here."""


@pytest.mark.parametrize("remembers", [True, False], ids=["soon", "after ten minutes"])
@pytest.mark.parametrize("evaluated", [True, False], ids=["evaluated meanwhile", "still queued"])
def test_a_flow_back_that_dies_between_append_and_delete_doubles_nothing(
    house: House, own_redis: Live, monkeypatch: pytest.MonkeyPatch, remembers: bool, evaluated: bool
) -> None:
    spill_some(house, own_redis, one("a"), [one("b"), one("c", event_id="own")])

    def dies(*_ids: Any) -> None:
        raise Died

    rows = house.bench.services.spill_rows
    with monkeypatch.context() as patch:
        patch.setattr(rows, "remove", dies)
        with pytest.raises(Died):
            house.flow()
    assert house.stands.events == books.read(house.bench.redis).events["accepted"] == 3
    if evaluated:
        house.bench.run()
    for _ in range(1 if remembers else 2):
        if not remembers:
            house.forget_rounds()
            with monkeypatch.context() as patch, contextlib.suppress(Died):
                patch.setattr(rows, "remove", dies)
                house.flow()
    house.settle()
    assert house.messages() == ["a", "b", "c"]
    assert house.bench.events["settled"] == 3
    assert house.bench.events.get("duplicate", 0) == (0 if remembers else 6)


def test_two_workers_at_once_bring_each_round_back_once(house: House, own_redis: Live) -> None:
    spill_some(house, own_redis, *[one(str(n)) for n in range(40)])
    found: list[Flowed] = []

    def work(bench: Bench) -> None:
        while house.stands.rounds:
            found.append(house.flow(bench, slice_=0.02))

    threads = [threading.Thread(target=work, args=(bench,)) for bench in (house.bench, house.other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(flow.rounds for flow in found) == 40
    house.settle()
    assert house.messages() == sorted(map(str, range(40)))
    assert house.bench.events == {"accepted": 40, "settled": 40}


def test_one_worker_at_a_time_lets_rounds_flow_back_and_a_dead_ones_lock_is_free(
    house: House, own_redis: Live
) -> None:
    spill_some(house, own_redis, one())
    with pytest.raises(StoreDown), house.other.services.spill_rows.alone() as mine:
        assert mine
        assert house.flow().ended == "another worker is at it"
        assert house.stands.rounds == 1
        with house.bench.sql() as conn:
            conn.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database ="
                     " (SELECT oid FROM pg_database WHERE datname = current_database())")
            )  # fmt: skip
        wait_until(lambda: house.flow().ended == "empty", 5)
    house.settle()


def test_where_the_queue_is_full_rounds_wait_and_come_when_there_is_room(
    own_redis: Live, database_url: str
) -> None:
    with house_on(own_redis.url, database_url, ingest_max_depth=3) as house:
        spill_some(house, own_redis, one("a"), [one("b"), one("c"), one("d")])
        flow = house.flow()
        assert flow.ended.startswith("the ingest queue is full")
        assert (flow.rounds, flow.set_aside, house.stands.events) == (1, 0, 3)
        house.settle()
        assert house.messages() == list("abcd")


def test_a_redis_that_is_full_keeps_rounds_waiting(house: House, own_redis: Live) -> None:
    spill_some(house, own_redis, one("a"))
    house.bench.redis.config_set("maxmemory", 1)
    assert "full" in house.flow().ended or "memory" in house.flow().ended
    assert house.stands.rounds == 1
    house.bench.redis.config_set("maxmemory", 0)
    house.settle()
    assert house.messages() == ["a"]


def test_a_full_queue_or_a_full_redis_is_no_outage_and_nothing_is_spilled(
    own_redis: Live, database_url: str
) -> None:
    with house_on(own_redis.url, database_url, ingest_max_depth=1) as house:
        assert house.ingest.takes(one()) == "queued"
        assert "full" in house.ingest.refuses(one())["detail"]
        used = int(house.bench.redis.info("memory")["used_memory"])
        house.bench.redis.config_set("maxmemory", int(used / 0.85))
        wait_until(lambda: "Redis is nearly full" in house.ingest.refuses(one())["detail"], 5)
        assert house.stands.rounds == 0


def test_what_is_fresh_waits_behind_no_more_than_a_few_thousand_that_flow_back(
    house: House, own_redis: Live
) -> None:
    spill_some(house, own_redis, *[[one()] * 4 for _ in range(5)])
    assert house.flow(deep_enough=8).ended == "slice"
    assert books.read(house.bench.redis).events["queued"] == 8
    house.settle()


def test_a_small_queue_is_left_half_to_what_is_fresh(own_redis: Live, database_url: str) -> None:
    with house_on(own_redis.url, database_url, ingest_max_depth=8) as house:
        spill_some(house, own_redis, *[one() for _ in range(8)])
        assert house.flow().ended == "slice"
        back(house)
        assert house.stands.events >= 4
        house.settle()


def test_a_round_that_cannot_go_in_is_set_aside_with_its_reason_and_its_neighbours_go_on(
    house: House, own_redis: Live
) -> None:
    spill_some(house, own_redis, one("a"), one("b"))
    with house.bench.sql() as conn:
        conn.execute(
            text("UPDATE ingest_spill SET data = 'damaged' WHERE id = (SELECT min(id) FROM ingest_spill)")
        )
    assert house.flow().set_aside == 1
    assert (house.stands.rounds, house.stands.set_aside) == (1, 1)
    assert finding(house).level is Level.BAD
    assert "decoded" in finding(house).says
    house.bench.run()
    assert house.messages() == ["b"]


def test_a_round_that_no_queue_has_room_for_is_set_aside_until_the_limit_is_raised(
    own_redis: Live, database_url: str
) -> None:
    with house_on(own_redis.url, database_url, ingest_max_depth=2) as house:
        spill_some(house, own_redis, [one("a"), one("b"), one("c")], one("d"))
        house.flow()
        assert "INGEST_MAX_DEPTH" in house.stands.reason
        house.bench.run()
        assert house.messages() == ["d"]
        with house_on(own_redis.url, database_url) as larger:
            larger.change(due_at=text("now()"))
            larger.settle()
        assert house.messages() == list("abcd")


def test_a_batch_reads_each_row_a_few_times_at_most_whatever_the_statistics_say(
    engine: Engine,
) -> None:
    """They are those of a queue: empty when they were taken. Once that cost 20 s with 400,000 rows."""
    fill = text(
        "INSERT INTO ingest_spill (round_id, events, bytes, data)"
        " SELECT 'r', 1, 500, 'x' FROM generate_series(1, :n)"
    )
    read = text(
        "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'ingest_spill'"
    )
    with engine.begin() as conn:
        conn.execute(fill, {"n": 3000})
        conn.execute(text("DELETE FROM ingest_spill"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.execute(text("ANALYZE ingest_spill"))
    with engine.begin() as conn:
        conn.execute(fill, {"n": 6000})
    with engine.begin() as conn:
        assert len(marked(conn)) == ROUNDS
        assert conn.execute(read).scalar_one() < 30_000


# ---- repeats


def test_an_idempotency_key_that_is_repeated_during_and_after_the_outage_adds_nothing(
    house: House, own_redis: Live
) -> None:
    body = [one("a"), one("b", event_id="own")]
    spill_some(house, own_redis, body, body, Idempotency_Key="k")
    assert house.stands.events == 4, "who is right is for the append to say"
    house.flow_all()
    with house.bench.sql() as conn:
        assert standing(conn).rounds == 0
    wait_until(lambda: house.ingest.takes(body, Idempotency_Key="k") == "queued", 10)
    house.settle()
    assert house.messages() == ["a", "b"]
    assert house.bench.events == {"accepted": 2, "settled": 2}


def test_a_key_that_was_known_before_the_outage_is_known_when_it_flows_back(
    house: House, own_redis: Live
) -> None:
    first = house.ingest.post(one("a"), Idempotency_Key="k").get_json()
    spill_some(house, own_redis, one("a"), Idempotency_Key="k")
    house.settle()
    assert house.messages() == ["a"]
    back(house)
    again = house.ingest.post(one("a"), Idempotency_Key="k").get_json()
    assert again["batch_id"] == first["batch_id"]


@pytest.mark.parametrize("key", [{}, {"Idempotency_Key": "k"}], ids=["plain", "with a key"])
def test_an_event_id_that_is_repeated_before_during_or_after_the_outage_is_one_row(
    house: House, own_redis: Live, key: dict[str, str]
) -> None:
    known, new = one("known", event_id="x"), one("new", event_id="y")
    house.ingest.takes(known)
    spill_some(house, own_redis, [known, new, one("c")], **key)
    spill_some(house, own_redis, [new, one("d")], **key)
    house.flow_all()
    back(house)
    assert house.ingest.post(new).get_json()["duplicates"] == 1
    house.settle()
    assert [message for message in house.messages() if message != "back again"] == ["c", "d", "known", "new"]
    assert house.bench.events["duplicate"] == 3


# ---- both gone, and the cap


def test_both_gone_is_a_503_and_each_is_found_again_without_a_restart(
    own_redis: Live, own_postgres: Live
) -> None:
    upgrade(own_postgres.url)
    with house_on(own_redis.url, own_postgres.url) as house:
        assert house.ingest.takes(one("a")) == "queued"
        own_redis.kill()
        assert house.ingest.takes(one("b")) == "spilled"
        own_postgres.kill()
        assert "spill" in house.ingest.refuses(one("no"))["detail"]
        house.ingest.refuses(one("no"))
        assert house.ingest.get("/readyz").status_code == 503
        assert set(house.ingest.get("/readyz").get_json()["needs"]) == {"redis", "spill", "keys"}

        own_postgres.start()
        wait_until(lambda: house.ingest.post(one("c")).status_code == 202, 10, "PostgreSQL to be found again")
        with stopped(own_postgres):
            house.ingest.refuses(one("no"))
            assert house.ingest.get("/readyz").status_code == 503
        wait_until(lambda: house.ingest.post(one("d")).status_code == 202, 10, "PostgreSQL to be found again")

        own_redis.start()
        wait_until(lambda: house.ingest.takes(one("e")) == "queued", 10, "Redis to be found again")
        house.settle()
        assert set(house.messages()) == set("abcde"), "nothing that was refused"
        assert len(house.messages()) == house.bench.events["settled"]


@contextlib.contextmanager
def hung_sessions(url: str) -> Iterator[int]:
    """The web process' sessions are stopped; the server takes new ones. How many they were."""
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'mutt-ingest'")
        pids = [pid for (pid,) in cursor.fetchall()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield len(pids)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def keeps(spill: Spill, name: str) -> bool:
    try:
        spill.keep(name, 1, b"x", sent=False, deadline=time.monotonic() + 1)
    except Unavailable:
        return False
    return True


def recovers(spill: Spill) -> None:
    wait_until(lambda: keeps(spill, "later"), 8, "a spill to go through")
    assert keeps(spill, "at once")
    wait_until(lambda: spill._free._value == CONNECTIONS, 3, "every place to be free again")


def test_sessions_that_hang_in_the_pool_give_their_places_back(own_redis: Live, own_postgres: Live) -> None:
    """All four: whoever spills next waits a few seconds, and not for ever."""
    upgrade(own_postgres.url)
    with house_on(own_redis.url, own_postgres.url) as house:
        spill = house.ingest.services.spill
        with contextlib.ExitStack() as stack:
            for _ in range(CONNECTIONS):
                stack.enter_context(spill._engine.connect())
        with hung_sessions(own_postgres.url) as count:
            assert count == CONNECTIONS
            recovers(spill)


def test_sessions_that_hang_at_work_give_their_places_back(own_redis: Live, own_postgres: Live) -> None:
    """The second that they have is not the address' to lengthen."""
    upgrade(own_postgres.url)
    waiting = text(
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'ingest_spill_size'::regclass"
    )
    with house_on(own_redis.url, own_postgres.url + "?options=-c%20statement_timeout%3D60s") as house:
        spill = house.ingest.services.spill
        with contextlib.ExitStack() as stack:
            for _ in range(CONNECTIONS):
                stack.enter_context(spill._engine.connect())
        with (
            house.bench.sql() as conn,
            ThreadPoolExecutor(CONNECTIONS) as pool,
            contextlib.ExitStack() as stack,
        ):
            conn.execute(text("LOCK ingest_spill_size IN EXCLUSIVE MODE"))
            kept = [pool.submit(keeps, spill, f"{n}") for n in range(CONNECTIONS)]
            wait_until(lambda: conn.execute(waiting).scalar_one() == CONNECTIONS, 5, "four sessions at work")
            assert stack.enter_context(hung_sessions(own_postgres.url)) == CONNECTIONS
            conn.rollback()
            assert not any(one.result() for one in kept)
            recovers(spill)


def test_what_postgres_answers_too_late_is_not_committed(house: House, own_redis: Live) -> None:
    """Its sender was told 503, and sends it again."""
    own_redis.kill()
    house.ingest.takes(one())
    with house.bench.sql() as conn:
        conn.execute(text("LOCK ingest_spill IN EXCLUSIVE MODE"))
        house.ingest.refuses(one("late"))
    free = house.ingest.services.spill._free
    wait_until(lambda: free._value == 4, 5, "every connection to be free again")
    assert house.stands.rounds == 1


def test_a_full_spill_refuses_and_takes_again_once_it_has_flowed_back(
    own_redis: Live, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with house_on(own_redis.url, database_url, ingest_spill_bytes=10_000) as house:
        own_redis.kill()
        replies = [house.ingest.post(one())]
        while replies[-1].status_code == 202:
            assert len(replies) < 100
            replies.append(house.ingest.post(one()))
        assert replies[-1].status_code == 503
        assert "INGEST_SPILL_BYTES" in replies[-1].get_json()["detail"]
        assert 9000 < house.stands.bytes <= 10_000
        assert "full" in house.ingest.get("/readyz").get_json()["needs"]["spill"]
        own_redis.start()
        house.flow_all()
        own_redis.kill()
        wait_until(lambda: house.ingest.post(one()).status_code == 202, 5, "the spill to be found empty")
        own_redis.start()
        house.settle()
        assert house.bench.events["settled"] == len(replies)


def test_an_ingest_without_a_spill_asks_nothing_of_postgres(own_redis: Live) -> None:
    """As always: its PostgreSQL is nowhere, and is not missed."""
    nowhere = "postgresql://mutt@127.0.0.1:1/mutt"
    ingest = Ingest(own_redis.url, nowhere, ingest_spill=False)
    assert ingest.takes(one()) == "queued"
    own_redis.kill()
    ingest.refuses(one())
    assert ingest.get("/readyz").get_json()["needs"].keys() == {"redis"}
    assert ingest.gauges()
    assert not {"spill", "engine"} & vars(ingest.services).keys()


def test_an_ingest_that_began_without_redis_is_not_ready_until_it_has_read_the_keys(
    house: House, own_redis: Live
) -> None:
    """It can't tell who may send; one that read them goes on with its copy."""
    key = "a key in Redis"
    house.bench.redis.hset(names.KEYS, hashlib.sha256(key.encode()).hexdigest(), "them")
    assert house.ingest.post(one(), key).status_code == 202
    own_redis.kill()
    assert house.ingest.post(one(), key).get_json()["spilled"]
    assert house.ingest.get("/readyz").status_code == 200

    late = Ingest(own_redis.url, house.ingest.settings.database_url)
    ready = late.get("/readyz")
    needs = ready.get_json()["needs"]
    assert (ready.status_code, needs["spill"]) == (503, "ok")
    assert "Redis" in needs["keys"]
    assert late.takes(one()) == "spilled", "with the key that the environment brings"
    refused = late.post(one(), key)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
    assert "they are in Redis" in refused.get_json()["detail"]
    assert "asked again every 2 s" in refused.get_json()["detail"]

    own_redis.start()
    wait_until(lambda: late.get("/readyz").status_code == 200, 10, "the keys to be read")
    assert late.get("/readyz").get_json()["needs"] == {"redis": "ok", "spill": "ok", "keys": "ok"}
    own_redis.kill()
    assert late.post(one(), key).status_code == 202
    assert late.get("/readyz").status_code == 200
    late.close()


# ---- who knows of it


def finding(house: House) -> Finding:
    (found,) = [one for one in examine(house.bench.services) if one.what == "spill"]
    return found


def test_the_books_the_probe_the_gauges_and_the_doctor_know_what_stands_in_the_spill(
    house: House, own_redis: Live
) -> None:
    assert house.ingest.takes(one("a")) == "queued"
    house.bench.run()
    report, _ = observe(house.bench.services, deep=False)
    assert (report.spilled, report.at_rest, report.balanced) == (0, True, True)
    assert finding(house).level is Level.OK

    own_redis.kill()
    assert house.ingest.takes([one("b"), one("c")]) == "spilled"
    ready = house.ingest.get("/readyz")
    assert (ready.status_code, ready.get_json()["needs"]["spill"]) == (200, "ok")
    assert ready.get_json()["needs"]["redis"] != "ok"
    gauges = house.ingest.gauges()
    assert gauges["mutt_spill_events"] == gauges["mutt_events_spilled_total"] == 2
    assert gauges["mutt_spill_bytes"] > 0
    assert gauges["mutt_events_accepted_total"] == 3

    own_redis.start()
    report, _ = observe(house.bench.services, deep=False)
    assert (report.spilled, report.at_rest, report.balanced) == (2, False, True)
    said = finding(house)
    assert said.level is Level.WARN
    assert "2 events in 1 row" in said.says
    seen = spilled(house.bench.services)
    assert seen is not None
    assert (seen.rounds, seen.events, seen.set_aside) == (1, 2, 0)

    house.settle()
    report, _ = observe(house.bench.services, deep=True)
    assert (report.spilled, report.at_rest, report.balanced) == (0, True, True)


# ---- replicas


@contextlib.contextmanager
def replica_of(primary: Live) -> Iterator[Live]:
    """A replica that has everything."""

    def follows() -> bool:
        client.set("a write", "to wait for")
        return bool(client.wait(1, 100) == 1)

    port = primary.url.rpartition(":")[2].partition("/")[0]
    with connect(primary.url) as client, scratch(memory()) as directory:
        client.config_set("repl-diskless-sync-delay", 0)
        with live_redis(directory, extra={"replicaof": f"127.0.0.1 {port}"}) as replica:
            wait_until(follows, 20, "the replica to follow")
            yield replica


def promote(replica: Live) -> None:
    """As Sentinel would."""
    with connect(replica.url) as client:
        client.replicaof("NO", "ONE")


def test_what_was_answered_with_replicas_stands_on_the_one_that_is_promoted(
    own_redis: Live, database_url: str
) -> None:
    ingest = Ingest(own_redis.url, database_url, ingest_spill=False, ingest_wait_replicas=1)
    with replica_of(own_redis) as replica:
        with Posting(ingest) as posting:
            wait_until(lambda: len(posting.accepted) > 100, 20, "posts before")
            own_redis.kill()
            wait_until(lambda: 503 in posting.statuses, 10)
        promote(replica)
        with house_on(replica.url, database_url, ingest_wait_replicas=0) as promoted:
            promoted.settle()
            posting.check(promoted.messages())


def test_over_a_failover_with_a_spill_ingest_goes_on_and_everything_ends_once(
    own_redis: Live, database_url: str
) -> None:
    with replica_of(own_redis) as replica:
        ingest = Ingest(own_redis.url, database_url, ingest_wait_replicas=1)
        with Posting(ingest) as posting:
            wait_until(lambda: len(posting.accepted) > 100, 20, "posts before")
            own_redis.kill()
            before = len(posting.accepted)
            wait_until(lambda: len(posting.accepted) > before + 50, 20, "posts that are spilled")
        promote(replica)
        with house_on(replica.url, database_url, ingest_wait_replicas=0) as promoted:
            promoted.settle()
            posting.check(promoted.messages())
        ingest.close()


def test_what_no_replica_has_is_spilled_and_flows_back_once_when_one_has_it(
    own_redis: Live, database_url: str
) -> None:
    with (
        replica_of(own_redis) as replica,
        house_on(own_redis.url, database_url, ingest_wait_replicas=1) as house,
    ):
        assert house.ingest.takes(one("a")) == "queued"
        replica.kill()
        assert house.ingest.takes(one("b")) == "spilled"
        assert house.ingest.takes(one("c")) == "spilled"
        assert re.search(r"0 of 1 replicas have it: .+ INGEST_WAIT_REPLICAS", house.flow().ended)
        assert house.stands.rounds == 2, "PostgreSQL keeps what only one Redis has"
        replica.start()
        house.settle()
        assert house.messages() == ["a", "b", "c"]
        assert house.bench.events == {"accepted": 3, "settled": 3}
