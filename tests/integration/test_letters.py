"""Dead letters on real servers: shown, sent again and given up; the books move with each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import orjson
import pytest

from mutt import codec, names
from mutt.alert import Alert, Outcome, Status
from mutt.entry import Entry, Move, deliver, flat, leave_lane, park, short_hash
from mutt.event import Event
from mutt.streams import books
from mutt.streams.letters import AT_ONCE, Letters, NotReplayable
from tests.bench import Bench, benches, event


@pytest.fixture
def bench(redis_url: str, database_url: str) -> Iterator[Bench]:
    with benches(redis_url, database_url, alert_queue_max=5) as (made,):
        yield made


@pytest.fixture
def letters(bench: Bench) -> Letters:
    return bench.services.letters


def replay(letters: Letters, queue: str, ids: Sequence[str] | None = None) -> list[Entry]:
    """Send these letters again, or all."""
    return letters.replay(queue, letters.read(queue, standing(letters, queue) if ids is None else ids))


def drop(letters: Letters, queue: str, ids: Sequence[str], *, reason: str, who: str) -> list[Entry]:
    return letters.drop(queue, letters.read(queue, ids), reason=reason, who=who)


def standing(letters: Letters, queue: str) -> list[str]:
    return [letter.id for letter in letters.listed(queue)]


def too_severe(n: int = 0) -> Event:
    """PostgreSQL has no room for its severity, until somebody widens the column."""
    return event(f"CRITICAL {n}", severity=99_999)


def mend(bench: Bench) -> None:
    with bench.sql() as conn:
        conn.exec_driver_sql("ALTER TABLE event_audit_log ALTER severity TYPE integer")


def alert_books(bench: Bench) -> dict[str, int]:
    return {name: n for name, n in books.read(bench.redis).alerts.items() if n}


def refuse(bench: Bench, alert: Alert) -> None:
    """Moog refuses this alert: what forward does then."""
    lane = f"mutt:alert_queue:{alert.lane}"
    (entry,) = [e for e in lane_entries(bench, lane) if e.fields[b"id"].decode() == str(alert.alert_id)]
    outcome = Outcome(
        alert=alert, status=Status.PARKED, attempts=1, at=datetime.now(UTC), moog_status=400, reason="no"
    )
    letter = park(names.DLQ_MOOG, entry, flat(entry.fields), {"reason": "refused", "moog_status": 400})
    counts = {"alerts.waiting": -1, "alerts.parked": 1}
    bench.services.alert_stream.settle([Move(entry, counts, [leave_lane(alert), deliver(outcome), letter])])


def lane_entries(bench: Bench, lane: str) -> list[Entry]:
    group = bench.redis.xreadgroup(names.GROUP, "test", {lane: ">"}) if bench.redis.exists(lane) else []
    assert group is not None
    return [Entry(lane, id_, 1, fields) for id_, fields in books.entries(bench.redis, lane)]


@pytest.fixture
def refused(bench: Bench) -> Alert:
    """An alert of the lane ``minor`` that stands in the dead letters; its row says so."""
    bench.append(event("ERROR disk", severity=3))
    bench.run()
    (alert,) = bench.lane("minor")
    bench.redis.xgroup_create("mutt:alert_queue:minor", names.GROUP, "0")
    refuse(bench, alert)
    record(bench)
    return alert


def record(bench: Bench) -> None:
    held = bench.services.held("delivery_queue")
    while entries := held.take(500).entries:
        held.settle(bench.services.recorder.record_outcomes(entries))


# ---- events


def test_a_letter_shows_what_it_is_and_why(bench: Bench, letters: Letters) -> None:
    sent = too_severe()
    bench.append(sent)
    bench.run()
    (letter,) = letters.listed("alerts", payload=True)
    assert (letter.queue, letter.events, letter.attempts) == ("alerts", 1, 1)
    assert letter.reason == "refused by PostgreSQL"
    assert "smallint" in letter.detail
    assert letter.about == str(sent.event_id)
    assert datetime.fromisoformat(letter.at).tzinfo
    (shown,) = letter.payload["segments"][0]["events"]
    assert shown["message"] == "CRITICAL 0"


def test_a_parked_event_whose_cause_is_mended_is_audited_when_it_is_sent_again(
    bench: Bench, letters: Letters
) -> None:
    sent = too_severe()
    bench.append(sent, event("quiet"), batch="b-7")
    bench.run()
    mend(bench)
    assert len(replay(letters, "alerts")) == 1
    assert bench.events == {"accepted": 2, "settled": 1, "queued": 1}
    bench.run()
    (row,) = [row for row in bench.rows() if row.event_id == sent.event_id]
    assert (row.batch_id, row.severity, row.received_at) == ("b-7", 99_999, sent.received_at)
    assert len(bench.alerts()) == 1
    assert list(letters.listed("alerts")) == []
    bench.check()


def test_a_letter_whose_cause_stands_is_parked_again(bench: Bench, letters: Letters) -> None:
    bench.append(too_severe())
    bench.run()
    replay(letters, "alerts")
    bench.run()
    assert bench.events == {"accepted": 1, "parked": 1}
    bench.check()


def test_a_letter_that_came_with_another_copy_of_its_event_is_a_duplicate(
    bench: Bench, letters: Letters
) -> None:
    sent = too_severe()
    for _ in range(2):
        bench.append(sent)
        bench.run()
    mend(bench)
    replay(letters, "alerts")
    bench.run()
    assert bench.events == {"accepted": 2, "settled": 1, "duplicate": 1}
    bench.check()


def test_only_the_named_letters_go_and_each_goes_once(bench: Bench, letters: Letters) -> None:
    bench.append(*[too_severe(n) for n in range(4)])
    bench.run()
    first, second, *_ = (letter.id for letter in letters.listed("alerts"))
    assert [entry.id for entry in replay(letters, "alerts", [first])] == [first]
    assert replay(letters, "alerts", [first]) == []
    assert [e.id for e in drop(letters, "alerts", [first, second], reason="r", who="w")] == [second]
    assert bench.events == {"accepted": 4, "queued": 1, "parked": 2, "dropped": 1}
    assert books.read(bench.redis).off_events == 0


def test_many_letters_go_in_several_steps(bench: Bench, letters: Letters) -> None:
    bench.append(*[too_severe(n) for n in range(AT_ONCE + 20)])
    bench.run()
    mend(bench)
    assert len(replay(letters, "alerts")) == AT_ONCE + 20
    bench.run()
    assert bench.events == {"accepted": AT_ONCE + 20, "settled": AT_ONCE + 20}
    bench.check()


def test_an_entry_that_could_not_be_decoded_goes_out_and_comes_back_whole(
    bench: Bench, letters: Letters
) -> None:
    bench.append_fields(["v", "0", "n", 7, "id", "", "d", b"later"], 7, 5)
    bench.run()
    (letter,) = letters.listed("alerts", payload=True)
    assert letter.events == 7
    assert "version" in letter.payload
    replay(letters, "alerts")
    assert bench.events == {"accepted": 7, "queued": 7}
    bench.run()
    assert bench.events == {"accepted": 7, "parked": 7}
    bench.check()


def test_a_drop_is_in_the_books_and_says_who_and_why(bench: Bench, letters: Letters) -> None:
    bench.append(too_severe())
    bench.run()
    (letter,) = letters.listed("alerts")
    drop(letters, "alerts", [letter.id], reason="a test device", who="ann")
    assert bench.events == {"accepted": 1, "dropped": 1}
    record_ = orjson.loads(bench.redis.hget(names.DROPS, f"alerts:{letter.id}"))
    assert (record_["reason"], record_["who"], record_["n"]) == ("a test device", "ann", 1)
    assert datetime.fromisoformat(record_["at"]).tzinfo
    bench.check()


def test_what_a_sender_sent_wrong_is_not_mutts_to_send_again(letters: Letters) -> None:
    with pytest.raises(NotReplayable):
        replay(letters, "ingest")


# ---- alerts


def test_a_refused_alert_goes_to_its_lane_again(bench: Bench, letters: Letters, refused: Alert) -> None:
    assert alert_books(bench) == {"raised": 1, "parked": 1}
    (letter,) = letters.listed("moog", payload=True)
    assert (letter.reason, letter.payload["signature"]) == ("refused", refused.signature)
    assert len(replay(letters, "moog")) == 1
    assert bench.lane("minor") == [refused]
    assert alert_books(bench) == {"raised": 1, "waiting": 1}
    assert "alert_queue" in bench.rung
    bench.check()


def test_a_refused_alert_that_is_sent_again_while_its_outcome_is_recorded_stands_once(
    bench: Bench, letters: Letters, refused: Alert
) -> None:
    """Record has committed and not settled when the operator comes; what it settles then is the old end."""
    held = bench.services.held("delivery_queue")
    fields, _ = codec.encode(
        Outcome(alert=refused, status=Status.PARKED, attempts=1, at=datetime.now(UTC)),
        about=str(refused.alert_id),
    )
    bench.redis.xadd(names.DELIVERY_STREAM, dict(zip(fields[::2], fields[1::2], strict=True)))
    bench.redis.hset(names.STANDING, str(refused.alert_id), "delivery")
    moves = bench.services.recorder.record_outcomes(held.take(500).entries)
    assert len(replay(letters, "moog")) == 1
    held.settle(moves)
    assert bench.redis.hget(names.STANDING, str(refused.alert_id)) not in (None, b"delivery")
    assert not bench.redis.exists(f"mutt:alerts:done:{refused.alert_id}")


def test_a_refused_alert_goes_into_a_full_lane_too(bench: Bench, letters: Letters, refused: Alert) -> None:
    bench.append(*[event("ERROR x", f"host-{n}", severity=3) for n in range(9)])
    bench.run()
    assert len(bench.lane("minor")) == 5
    replay(letters, "moog")
    assert bench.lane("minor")[-1] == refused
    assert alert_books(bench) == {"raised": 10, "waiting": 10}
    bench.check()


def test_a_letter_that_is_sent_again_leaves_the_marks_of_what_is_outside(
    bench: Bench, letters: Letters, refused: Alert
) -> None:
    """They hold back the clear of an alert of its signature that is outside of this lane."""
    mark = f"{short_hash(refused.signature)} minor"
    bench.redis.hset(names.OUTSIDE_OF, mark, 1)
    bench.redis.hset(names.OUTSIDE, "minor", 1)
    replay(letters, "moog")
    assert bench.lane("minor") == [refused]
    assert bench.redis.hget(names.OUTSIDE_OF, mark) == b"1"


def test_a_refused_alert_waits_behind_another_of_its_signature(
    bench: Bench, letters: Letters, refused: Alert
) -> None:
    bench.append(event("ERROR disk again", severity=3))
    bench.run()
    replay(letters, "moog")
    (first,) = bench.lane("minor")
    assert bench.behind(first) == [refused]
    bench.check()


def test_a_refused_alert_that_is_dropped_is_in_the_books(
    bench: Bench, letters: Letters, refused: Alert
) -> None:
    (letter,) = letters.listed("moog")
    drop(letters, "moog", [letter.id], reason="r", who="w")
    assert alert_books(bench) == {"raised": 1, "dropped": 1}
    bench.check()


def test_one_letter_that_cannot_be_read_holds_up_no_other(
    bench: Bench, letters: Letters, refused: Alert
) -> None:
    bench.redis.xadd(names.DLQ_MOOG, {"v": "9", "n": 1, "id": "x", "d": b"?", "why": b"not json"})
    assert [letter.reason for letter in letters.listed("moog", payload=True)] == ["refused", ""]
    assert len(replay(letters, "moog")) == 1
    assert bench.lane("minor") == [refused]
    assert [letter.about for letter in letters.listed("moog")] == ["x"]


def test_an_outcome_that_could_not_be_recorded_is_recorded_when_it_is_sent_again(
    bench: Bench, letters: Letters, refused: Alert
) -> None:
    replay(letters, "moog")
    with bench.sql() as conn:
        conn.exec_driver_sql("ALTER TABLE alerts ALTER moog_status TYPE smallint")
    outcome = Outcome(
        alert=refused, status=Status.DELIVERED, attempts=1, at=datetime.now(UTC), moog_status=70_000
    )
    (entry,) = lane_entries(bench, "mutt:alert_queue:minor")
    counts = {"alerts.waiting": -1, "alerts.delivered": 1}
    bench.services.alert_stream.settle([Move(entry, counts, [leave_lane(refused), deliver(outcome)])])
    record(bench)
    (letter,) = letters.listed("moog", payload=True)
    assert letter.reason == "refused by PostgreSQL"
    assert letter.payload["alert"]["signature"] == refused.signature
    bench.check()
    with bench.sql() as conn:
        conn.exec_driver_sql("ALTER TABLE alerts ALTER moog_status TYPE integer")
    replay(letters, "moog")
    record(bench)
    assert [alert.status for alert in bench.alerts()] == ["delivered"]
    bench.check()
