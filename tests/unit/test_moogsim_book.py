"""What the simulator notes, and how it is told what to do."""

from __future__ import annotations

import msgspec
import pytest

from mutt.moogsim.book import Book, most_in_window
from mutt.moogsim.script import Behaviour, Script, Step
from mutt.moogsim.wire import REQUIRED, BadBody, Came, authorised, dialect_of, read


def came(signature="s", event_id="e", severity=4):
    return Came(
        signature=signature, event_id=event_id, severity=severity, source="h", description="d", event={}
    )


def note(book, *events, at=0.0, status=200, taken=True):
    book.add(events, at=at, time=at, status=status, taken=taken)


@pytest.mark.parametrize(
    ("starts", "most"),
    [
        ([], 0),
        ([5.0], 1),
        ([0.0, 0.5, 0.999], 3),
        ([0.0, 1.0], 1),  # a period apart is no crowd
        ([0.0, 0.9, 1.0, 1.1, 1.89], 4),
    ],
)
def test_the_most_in_a_window_is_found_wherever_it_lies(starts, most):
    assert most_in_window(starts, 1.0) == most


def test_a_repeat_is_the_same_event_under_the_same_signature():
    book = Book()
    note(book, came("a", "1"), came("a", "2"), came("b", "1"))
    note(book, came("a", "1"))
    assert (book.stats()["duplicates"], book.stats()["signatures"]) == (1, 2)


def test_what_moog_refused_is_noted_but_not_taken():
    book = Book()
    note(book, came(), status=500, taken=False)
    note(book, came())
    stats = book.stats()
    assert (stats["events"], stats["taken"], stats["duplicates"]) == (2, 1, 0)
    assert stats["by_status"] == {"200": 1, "500": 1}


def test_requests_are_counted_by_what_the_script_made_of_them():
    book = Book()
    note(book, came())
    for behaviour in (Behaviour.DRIP, Behaviour.HANGUP_AFTER, Behaviour.DRIP):
        book.add([came()], at=0.0, time=0.0, status=200, taken=True, behaviour=behaviour)
    assert book.stats()["by_behaviour"] == {"drip": 2, "hangup_after": 1, "ok": 1}
    book.reset()
    assert book.stats()["by_behaviour"] == {}


def test_a_clear_folds_into_its_alert():
    book = Book()
    note(book, came("a", "1", 5), came("a", "2", 0), came("b", "3", 2))
    states = {alert["signature"]: (alert["state"], alert["count"]) for alert in book.alerts()}
    assert states == {"a": ("clear", 2), "b": ("open", 1)}


def test_the_book_is_bounded_and_its_counts_go_on():
    book = Book(keep=10)
    for n in range(100):
        note(book, came(str(n), str(n)), at=n / 100)
    assert len(book.received()) == len(book.alerts()) == 10
    assert len(book.starts) <= 20
    assert book.stats()["requests"] == book.stats()["signatures"] == 100


def test_the_peak_outlives_the_starts_that_made_it():
    book = Book(keep=10)
    for n in range(15):
        note(book, at=n / 100)
    for n in range(100):
        note(book, at=10.0 + n)
    assert book.stats()["max_in_window"] == 15


def test_starts_are_sorted_however_their_requests_ended():
    book = Book()
    for at in (3.0, 1.0, 2.0):
        note(book, at=at)
    assert book.starts == [1.0, 2.0, 3.0]
    assert (book.stats()["first_at"], book.stats()["last_at"]) == (1.0, 3.0)


def test_received_can_be_limited_and_asked_for_one_signature():
    book = Book()
    note(book, came("a", "1"), came("b", "2"), came("a", "3"))
    assert [r.came.event_id for r in book.received(limit=2)] == ["2", "3"]
    assert [r.came.event_id for r in book.received(signature="a")] == ["1", "3"]
    assert book.received(limit=0) == []


def test_a_step_lasts_for_its_times_then_the_next_then_ok():
    script = Script([Step("500", times=2), Step("429", times=1)])
    assert [script.next().behaviour for _ in range(4)] == ["500", "500", "429", "ok"]


def test_a_step_without_times_lasts():
    script = Script([Step("503")])
    assert {script.next().behaviour for _ in range(5)} == {"503"}
    script.set()
    assert script.next().behaviour == script.now.behaviour == "ok"


@pytest.mark.parametrize(
    "given", ['{"behaviour":"418"}', '{"behavior":"ok"}', '{"behaviour":"ok","times":"x"}']
)
def test_a_step_with_a_slip_is_refused(given):
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(given, type=Step)


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/events/webhook_webhook1", "enterprise"),
        ("/events/generic_generic1?x=1", "enterprise"),
        ("/v1/integrations/events", "cloud"),
        ("/redirected", None),
        ("/", None),
    ],
)
def test_the_path_names_the_dialect(path, dialect):
    assert dialect_of(path) == dialect


ENTERPRISE = {"signature": "s", "severity": 5, "custom_info": {"event_id": "e"}}
CLOUD = {"source": "h", "check": "c", "severity": "Critical", "description": "d", "tags": {"event_id": "e"}}


@pytest.mark.parametrize(
    ("dialect", "body", "signatures"),
    [
        ("enterprise", {"events": [ENTERPRISE, ENTERPRISE]}, ["s", "s"]),
        ("enterprise", ENTERPRISE, ["s"]),
        ("cloud", [CLOUD | {"deduplication_key": "k"}], ["k"]),
        ("cloud", CLOUD, ["h::c"]),  # what Moog makes of it without a key
    ],
)
def test_both_dialects_read_as_the_same_value(dialect, body, signatures):
    events = read(dialect, msgspec.json.encode(body))
    assert [event.signature for event in events] == signatures
    assert {(event.event_id, event.severity) for event in events} == {("e", 5)}


@pytest.mark.parametrize("body", [b"", b"{", b"7", b"[7]", b"\xff"])
@pytest.mark.parametrize("dialect", REQUIRED)
def test_what_is_no_event_is_refused(dialect, body):
    with pytest.raises(BadBody):
        read(dialect, body)


@pytest.mark.parametrize(
    ("dialect", "event", "name"),
    [("enterprise", ENTERPRISE, name) for name in REQUIRED["enterprise"]]
    + [("cloud", CLOUD, name) for name in REQUIRED["cloud"]],
)
def test_a_required_field_that_is_missing_is_named(dialect, event, name):
    with pytest.raises(BadBody, match=name):
        read(dialect, msgspec.json.encode({**event, name: None}))


@pytest.mark.parametrize(
    ("headers", "lets_in"),
    [
        ({"Authorization": "Bearer k3y"}, True),
        ({"authorization": "Basic dXNlcjprM3k="}, True),
        ({"apikey": "k3y"}, True),
        ({}, False),
        ({"apiKey": "schlüssel"}, False),
        ({"Authorization": "Basic ???"}, False),
    ],
)
def test_a_key_is_taken_from_each_header_that_moog_knows(headers, lets_in):
    assert authorised(headers, "k3y") is lets_in
