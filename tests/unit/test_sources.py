"""Sources: what processes hear comes to one picture; clocks, fields and habits are told from it; silence is judged."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mutt.event import Event, State
from mutt.formats.base import Parsed, Rejected
from mutt.sources import clock, learn, silent
from mutt.sources.clock import Minute
from mutt.sources.fields import GONE_AFTER, ONCE, Formed, grown
from mutt.sources.heard import (
    FIELDS,
    FORMATS,
    REASONS,
    TAGS,
    Gathering,
    Heard,
    Looked,
    Refusal,
    Report,
    fields_of,
    joined,
)
from mutt.sources.learn import DAY
from mutt.sources.observed import HOLE, Gathered, Listening, Observed, folded
from mutt.sources.silent import GRACE, LEARNED, LEARNING, OFF, SET, Wanted
from mutt.sources.view import Seen, ordered, told

NOON = 1_790_000_000.0 // DAY * DAY + DAY / 2
UNWATCHED = Wanted("probe")


def event(at: float = NOON, behind: float = 0.0, **fields: object) -> Event:
    received = datetime.fromtimestamp(at, UTC)
    plain = {
        "event_id": uuid4(),
        "received_at": received,
        "occurred_at": received - timedelta(seconds=behind),
    }
    return Event(hostname="core-1", message="down", **{**plain, **fields})  # type: ignore[arg-type]


def parsed(*events: Event, bad: int = 0, format_: str = "native") -> Parsed:
    rejected = [Rejected(i, "hostname", "is missing", "{}") for i in range(bad)]
    return Parsed(list(events), rejected, [], format_)


def heard(first: float, last: float = 0.0, events: int = 1, **more: object) -> Heard:
    told = {"requests": 1, "events": events, "at": last or first, "first": first, "last": last or first}
    return Heard(**{**told, **more})  # type: ignore[arg-type]


def spoken(*times: float, every: float = 5.0, until: float = 0.0) -> list[tuple[float, Report]]:
    """Reports of one process that listens all the time, of a source that speaks at these times."""
    end, found, rest = until or max(times), [], sorted(times)
    at = min(times)
    while at <= end + every:
        mine = [one for one in rest if one <= at]
        rest = rest[len(mine) :]
        found.append((at, Report(at, {"probe": heard(mine[0], mine[-1], len(mine))} if mine else {})))
        at += every
    return found


# ---- what one process hears


def test_a_process_counts_what_it_takes_and_why_it_takes_the_rest_not() -> None:
    gathering = Gathering(lambda: NOON)
    gathering.took([("probe", parsed(event(), event(), bad=1), 90), ("probe", parsed(event()), 10)])
    gathering.failed("probe", "body", "is no JSON", size=3)
    gathering.over_quota("probe")
    gathering.turned_away("other")
    found = gathering.take()
    probe = found["probe"]
    assert (probe.requests, probe.events, probe.refused, probe.failed, probe.over_quota) == (4, 3, 2, 1, 1)
    assert (probe.bytes, probe.first, probe.last) == (103, NOON, NOON)
    assert [(one.field, one.n) for one in probe.why] == [("body", 1), ("hostname", 1)]
    assert (found["other"].events, found["other"].turned_away) == (0, NOON)
    assert gathering.take() == {}


def test_what_could_not_be_told_is_told_with_what_came_since() -> None:
    gathering = Gathering(lambda: NOON)
    gathering.took([("probe", parsed(event()), 10)])
    untold = gathering.take()
    gathering.took([("probe", parsed(event()), 10), ("other", parsed(event()), 10)])
    gathering.give_back(untold)
    found = gathering.take()
    assert {name: one.events for name, one in found.items()} == {"probe": 2, "other": 1}
    assert found["probe"].formats["native"].events == 2


def test_no_sender_makes_it_remember_without_end() -> None:
    now = itertools.count(NOON)
    gathering = Gathering(lambda: float(next(now)))
    for i in range(300):
        tags = {f"{i}-{'x' * 400}": "1", str(i): "2"}
        gathering.took([("probe", parsed(event(tags=tags), format_=f"f{i % 20}"), 1)])
        gathering.failed("probe", "body", f"{i}" * 400)
    found = gathering.take()["probe"]
    assert len(found.formats) == FORMATS
    assert max(len(one.fields) for one in found.formats.values()) <= FIELDS
    assert len(found.why) == REASONS
    known = folded({}, Listening(), [(NOON, Report(NOON, {"probe": found}))])[0]["probe"]
    assert len(msgspec.msgpack.encode(known)) < 64 << 10


def test_of_an_event_with_a_great_many_tags_the_first_are_looked_at() -> None:
    names = list(fields_of(event(tags={f"t{i}": "1" for i in range(9_000)})))
    assert names == [f"tags.t{i}" for i in range(TAGS)]


def test_fields_and_times_are_looked_at_now_and_then() -> None:
    gathering = Gathering(lambda: NOON)
    for _ in range(50):
        gathering.took([("probe", parsed(event(behind=7, severity=3, tags={"site": "a"})), 1)])
    found = gathering.take()["probe"]
    assert found.formats["native"] == Looked(50, 1, {"time": 1, "severity": 1, "tags.site": 1})
    assert (found.least, found.most) == (7.0, 7.0)


# ---- all of them together

times = st.lists(st.floats(NOON, NOON + 3600), min_size=1, max_size=30)


@settings(max_examples=15)
@given(times, st.integers(1, 3))
def test_it_is_the_same_picture_however_many_processes_heard_it(at: list[float], processes: int) -> None:
    quiet = [(NOON + 10 * i, Report(NOON + 10 * i)) for i in range(366)]
    apart = [(t + 5, Report(t + 5, {"probe": heard(t)})) for t in at]
    theirs = []
    for (tick, process), mine in itertools.groupby(
        sorted((int(t // 5), i % processes, t) for i, t in enumerate(at)), key=lambda one: one[:2]
    ):
        whole = functools.reduce(joined, [heard(t) for *_, t in mine])
        theirs.append((tick * 5 + 5, Report(tick * 5 + 5, {"probe": whole})))
        assert process < processes
    mine_, _ = folded({}, Listening(), [*apart, *quiet])
    together, listening = folded({}, Listening(), [*theirs, *quiet])
    known, also = mine_["probe"], together["probe"]
    assert also.events == known.events == len(at)
    assert (also.event_at, also.first_at) == (max(at), min(at))
    assert also.pauses[-1].longest == pytest.approx(known.pauses[-1].longest, abs=5.0)
    assert listening.since == NOON


@settings(max_examples=15)
@given(times, st.floats(-900, 900))
def test_who_only_looks_sees_the_same_picture(at: list[float], off: float) -> None:
    """However a minute's reports are gathered, whatever the clock of one of the processes says."""
    looked = {"native": Looked(1, 1, {"severity": 1})}
    reports = [(NOON + 10 * i, Report(NOON + 10 * i)) for i in range(370)]
    for t in at:
        theirs = heard(
            t + off, formats=looked, least=1.0, most=2.0, why=[Refusal("body", "no JSON", t + off)]
        )
        reports.append((t + 5, Report(t + 5 + off, {"probe": theirs})))
    whole, listening = folded({}, Listening(), reports)
    gathered = Gathered()
    for when, report in sorted(reports, key=lambda one: one[0]):
        gathered.add(when, report)
    seen, listens = folded({}, Listening(), gathered.reports())
    assert listens == listening
    assert sum(1 for _, one in gathered.reports() if one.heard) <= 62
    assert gathered.events() == {"probe": len(at)}
    known, also = whole["probe"], seen["probe"]
    assert also.pauses[-1].longest == pytest.approx(known.pauses[-1].longest, abs=60.0)
    assert also.formats["native"].share("severity") == 1.0
    counts = ("requests", "events", "minutes", "times")
    assert [getattr(also, name) for name in counts] == [getattr(known, name) for name in counts]
    moments = ("first_at", "heard_at", "event_at")
    assert [getattr(also, name) for name in moments] == [getattr(known, name) for name in moments]
    assert [(one.reason, one.n) for one in also.why] == [(one.reason, one.n) for one in known.why]


def test_a_process_whose_clock_is_wrong_heard_it_when_redis_took_the_report() -> None:
    found, _ = folded({}, Listening(), [(NOON, Report(NOON - 900, {"probe": heard(NOON - 903)}))])
    assert found["probe"].event_at == pytest.approx(NOON - 3, abs=0.1)


def test_rates_and_shares_are_of_the_last_hour() -> None:
    reports = [
        (NOON + 60 * i, Report(NOON + 60 * i, {"probe": heard(NOON + 60 * i, events=30, refused=10)}))
        for i in range(90)
    ]
    known = folded({}, Listening(), reports)[0]["probe"]
    now = NOON + 60 * 90 - 1
    hour, later = known.hour(now), known.hour(now + 7200)
    assert hour.rate(5) == pytest.approx(0.5, rel=0.01)
    assert hour.rate(60) == pytest.approx(0.5, rel=0.01)
    assert hour.refused == pytest.approx(0.25)
    assert hour.events[:-1] == (30,) * 59
    assert later.rate(60) == later.refused == 0.0


# ---- clocks


@settings(max_examples=15)
@given(
    st.floats(-5000, 5000),
    st.lists(st.lists(st.floats(0, 20), min_size=2, max_size=5), min_size=30, max_size=60),
    st.integers(0, 4),
)
def test_a_clock_is_told_from_what_comes_late(off: float, delays: list[list[float]], odd: int) -> None:
    """The least of a minute is the clock's; a few minutes that came late, or of another time, change nothing."""
    minutes: tuple[Minute, ...] = ()
    for i, delay in enumerate(delays):
        late = 1800.0 if i < odd else 0.0
        minutes = clock.noted(minutes, NOON + 60 * i, off + min(delay) + late, off + max(delay) + late)
    found = clock.judged(minutes)
    assert found is not None
    assert off <= found.behind <= off + 20
    assert found.late <= 40 or odd > len(delays) // clock.SHARE


@pytest.mark.parametrize(
    ("behind", "wrong", "zone"),
    [(2.0, False, False), (90.0, True, False), (-75.0, True, False), (3605.0, True, True), (-19_790.0, True, True)],
)  # fmt: skip
def test_a_clock_is_wrong_from_a_minute_on_and_may_be_a_zone(behind: float, wrong: bool, zone: bool) -> None:
    minutes = [Minute(i, behind, behind + 1) for i in range(10)]
    found = clock.judged(minutes)
    assert found is not None and (found.is_wrong, found.is_zone) == (wrong, zone)
    assert clock.judged(minutes[:4]) is None


# ---- fields


def fed(
    rows: Sequence[Sequence[str]], every: float = 10.0, before: Formed | None = None, at: float = NOON
) -> Formed:
    """Events one after the other, each with these fields."""
    formed = before or Formed()
    for i, row in enumerate(rows):
        formed = grown(formed, Looked(1, 1, dict.fromkeys(row, 1)), at + i * every)
    return formed


def test_a_field_that_most_had_and_none_has_now_has_gone() -> None:
    formed = fed([["severity", "tags.site"]] * 120)
    assert formed.gone() == []
    without = fed([["severity"]] * 59, before=formed, at=NOON + 1200)
    assert without.gone() == []  # for less than ten minutes
    without = fed([["severity"]] * 10, before=without, at=NOON + 1790)
    assert without.gone() == ["tags.site"]
    assert without.share("tags.site") == 1.0
    assert fed([["tags.site"]], before=without, at=NOON + 1900).gone() == []


@pytest.mark.parametrize(
    "rows",
    [
        [["a"]] * 60 + [[]] * 100,  # it was not known for long
        [["a"], [], []] * 60 + [[]] * 100,  # a third had it
        ([["a"]] * 100 + [[]] * 80) * 3 + [[]] * 80,  # it comes and goes
    ],
    ids=["new", "rare", "in turns"],
)
def test_a_field_that_may_well_be_missing_has_not_gone(rows: list[list[str]]) -> None:
    assert fed(rows).gone() == []


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 90), st.sampled_from([[], ["a"], ["a", "b"], ["b"]])), max_size=12),
    st.floats(0, 2 * GONE_AFTER),
)
def test_who_does_not_read_the_fields_of_a_minute_knows_where_one_may_have_vanished(
    minute: list[tuple[int, list[str]]], quiet: float
) -> None:
    """Where it says that none may have, the same have vanished as when all fields are read."""
    known = grown(Formed(), Looked(200, 200, {"a": 180, "b": 120}), NOON)
    known = grown(known, Looked(60, 60, {"a": 60}), NOON + 1)
    whole, brief, at = known, known, NOON + quiet
    for i, (events, fields) in enumerate(minute):
        whole = grown(whole, Looked(events, events, dict.fromkeys(fields, events)), at + i)
        brief = grown(brief, Looked(events), at + i)
    if not known.may_go(sum(events for events, _ in minute), at + len(minute)):
        assert whole.gone() == brief.gone() == []


def test_names_that_came_once_keep_no_field_out_for_longer_than_an_hour() -> None:
    """Nor does one that came twice go, or one that is among more new ones than there is room for."""
    formed = grown(Formed(), Looked(FIELDS, FIELDS, {f"tags.{i}": 1 for i in range(FIELDS)}), NOON)
    formed = grown(formed, Looked(1, 1, {"tags.0": 1, "severity": 1}), NOON + 60)
    assert "severity" not in formed.fields
    fresh = {f"tags.new{i}": 1 for i in range(FIELDS)}
    formed = grown(formed, Looked(9, 9, {**fresh, "severity": 9}), NOON + ONCE)
    assert len(formed.fields) == FIELDS
    assert formed.fields["tags.0"].n == 2
    assert formed.fields["severity"].n == 9


def test_a_field_that_went_a_week_ago_is_forgotten() -> None:
    formed = fed([["a", "b"]] * 120)
    later = fed([["b"]] * 100, before=formed, at=NOON + 8 * DAY)
    assert set(later.fields) == {"b"}


# ---- habits


def pauses(*daily: float, first: float = NOON) -> tuple[learn.Day, ...]:
    found: tuple[learn.Day, ...] = ()
    for i, longest in enumerate(daily):
        found = learn.noted(found, first + i * DAY, longest)
    return found


@settings(max_examples=20)
@given(st.lists(st.floats(0, 3 * DAY), min_size=7, max_size=40))
def test_what_is_learned_is_more_than_every_pause_but_the_longest_of_two_weeks(daily: list[float]) -> None:
    found = learn.expected(pauses(*daily))
    assert found is not None
    late = sorted(daily[-28:], reverse=True)
    assert found >= max(learn.FLOOR, 2 * late[2]) if len(late) > 2 else True
    assert sum(one >= found for one in late) <= 2


@pytest.mark.parametrize(
    ("daily", "expected"),
    [
        ([60.0] * 6, None),
        ([60.0] * 7, learn.FLOOR),
        ([36_000.0] * 7, 72_000.0),
        ([9e4, *[3600.0] * 13], 7200.0),  # one fault in two weeks
        ([9e4, *[3600.0] * 6, 9e4, *[3600.0] * 6], 18e4),  # every weekend
    ],
    ids=["six days", "a week", "nights", "a fault", "weekends"],
)
def test_a_week_of_habits_is_needed(daily: list[float], expected: float | None) -> None:
    assert learn.expected(pauses(*daily)) == expected


def test_a_source_that_speaks_once_a_week_is_not_learned() -> None:
    found: tuple[learn.Day, ...] = ()
    for i in range(20):
        found = learn.noted(found, NOON + i * 7 * DAY, 7 * DAY)
    assert learn.expected(found) is None


def test_a_pause_in_which_nobody_listened_is_no_habit() -> None:
    before, listening = folded({}, Listening(), spoken(NOON, NOON + 60))
    after, listening = folded(before, listening, spoken(NOON + 5000, NOON + 5100))
    assert after["probe"].pauses[-1].longest == pytest.approx(100, abs=5)
    assert listening.since == NOON + 5000


def test_a_restart_in_the_night_leaves_the_night_a_habit() -> None:
    found, listening = folded({}, Listening(), [])
    for day in range(9):
        at = NOON + day * DAY
        until_restart, after_it = spoken(at, at + 3600, until=at + 9 * 3600), spoken(at + 12 * 3600)
        silent_until_morning = [(one.at, Report(one.at, {})) for _, one in after_it]
        for reports in (until_restart, silent_until_morning):
            more, listening = folded(found, listening, reports)
            found |= more
    assert found["probe"].pauses[-1].longest == pytest.approx(8 * 3600, abs=10)
    assert learn.expected(found["probe"].pauses) == pytest.approx(16 * 3600, abs=20)


def test_a_pause_in_which_mutt_turned_it_away_is_no_habit() -> None:
    reports = spoken(NOON, NOON + 600)
    away = Heard(requests=1, at=NOON + 300, turned_away=NOON + 300)
    found, _ = folded({}, Listening(), [*reports, (NOON + 301, Report(NOON + 301, {"probe": away}))])
    assert found["probe"].pauses[-1].longest < 10


def test_the_habits_of_a_key_of_the_environment_that_is_gone_are_forgotten() -> None:
    known = {name: Observed(event_at=NOON, pauses=pauses(*[600.0] * 9)) for name in ("bootstrap", "probe")}
    found, _ = folded(known, Listening(), [(NOON + 60, Report(NOON + 60, {}))])
    assert found == {}
    found, _ = folded(known, Listening(), [(NOON + 60, Report(NOON + 60, {}, bootstrap=False))])
    assert found == {"bootstrap": Observed(event_at=NOON)}


# ---- silence


def standing(*times: float, until: float) -> tuple[Observed, Listening]:
    found, listening = folded({}, Listening(), spoken(*times, until=until))
    return found["probe"], listening


@settings(max_examples=20)
@given(st.floats(60, 7200), st.floats(0, 20_000))
def test_it_is_silent_after_its_time_and_not_before(every: float, quiet: float) -> None:
    observed, now = Observed(event_at=NOON, heard_at=NOON), NOON + quiet
    found = silent.has_fallen_silent(
        Wanted("probe", every), observed, Listening(NOON - DAY, now), now, learns=True
    )
    assert found == (quiet > every + GRACE)


@pytest.mark.parametrize(
    ("wanted", "listening", "observed", "learns"),
    [
        (Wanted("probe", is_live=False, every=60.0), Listening(NOON, NOON + DAY), {}, True),
        (Wanted("probe", every=0.0), Listening(NOON, NOON + DAY), {}, True),
        (UNWATCHED, Listening(NOON, NOON + DAY), {}, True),
        (UNWATCHED, Listening(NOON, NOON + DAY), {"pauses": pauses(*[60.0] * 9)}, False),
        (Wanted("probe", every=60.0), Listening(NOON + DAY - 50, NOON + DAY), {}, True),
        (Wanted("probe", every=60.0), Listening(NOON, NOON + DAY - HOLE - 1), {}, True),
        (Wanted("probe", every=60.0), Listening(NOON, NOON + DAY), {"turned_away": NOON + DAY - 50}, True),
    ],
    ids=["revoked", "may be", "not learned", "not to be learned", "just listened", "nobody listens", "turned away"],
)  # fmt: skip
def test_no_alarm_where_it_need_not_or_could_not_be_heard(
    wanted: Wanted, listening: Listening, observed: dict[str, float], learns: bool
) -> None:
    known = Observed(event_at=NOON, **observed)  # type: ignore[arg-type]
    assert not silent.has_fallen_silent(wanted, known, listening, NOON + DAY, learns=learns)


@pytest.mark.parametrize("outage", [GRACE + 1, 40.0, 59.0])
def test_no_alarm_in_the_moment_after_a_short_outage(outage: float) -> None:
    """Whoever tells first that it listens again does not know yet what the others heard."""
    known, listening = standing(NOON, until=NOON)
    back = listening.until + outage
    wanted = Wanted("probe", every=10.0)
    assert not silent.has_fallen_silent(wanted, known, listening, back, learns=True)
    assert not silent.has_fallen_silent(wanted, known, listening.heard_from(back), back, learns=True)


def test_what_came_since_the_last_report_is_not_missed() -> None:
    known, listening = standing(NOON, until=NOON + 20)
    now = listening.until + 14
    assert not silent.has_fallen_silent(Wanted("probe", every=10.0), known, listening, now, learns=True)


def test_how_often_it_should_be_heard_is_set_or_learned_or_not_known() -> None:
    habits = Observed(pauses=pauses(*[1800.0] * 9))

    def how(
        every: float | None, observed: Observed = habits, learns: bool = True
    ) -> tuple[float | None, str]:
        return silent.expected(Wanted("probe", every), observed, learns=learns)

    assert how(300.0) == (300.0, SET)
    assert how(None) == (3600.0, LEARNED)
    assert how(None, Observed()) == (None, LEARNING)
    assert how(0.0) == how(None, learns=False) == (None, OFF)


def test_a_silence_and_its_end_have_one_signature_and_a_key_that_nobody_can_guess() -> None:
    wanted, now = Wanted("probe", 300.0, team="NETO"), datetime.fromtimestamp(NOON + 1000, UTC)
    observed = Observed(event_at=NOON, heard_at=NOON)
    silence, raised = silent.raised(wanted, observed, Listening(NOON - 9, NOON + 1000), now, learns=True)
    again = msgspec.structs.replace(observed, event_at=NOON + 1500)
    assert not silent.is_over(silence, wanted, observed, NOON + 1600, learns=True)
    assert silent.is_over(silence, wanted, again, NOON + 1600, learns=True)
    cleared = silent.cleared(silence, wanted, again, datetime.fromtimestamp(NOON + 1600, UTC))
    assert raised.internal and (raised.hostname, raised.template, raised.team) == (
        "probe",
        "source-silent",
        "NETO",
    )
    assert (cleared.hostname, cleared.template, cleared.instance) == (
        "probe",
        "source-silent",
        raised.instance,
    )
    assert raised.clear_key == cleared.clear_key == str(silence.key)
    assert (raised.state, cleared.state) == (State.RAISE, State.CLEAR)
    assert raised.message == (
        "Source probe is silent: no event of it was accepted for 17 min, and it is set to be heard within 5 min;"
        f" the last came {datetime.fromtimestamp(NOON, UTC):%Y-%m-%d %H:%M:%S} UTC"
    )
    assert cleared.message == "Source probe is heard again, after 25 min"


@pytest.mark.parametrize(
    ("wanted", "over"),
    [(Wanted("probe", 60.0), False), (Wanted("probe", 60.0, is_live=False), True), (Wanted("probe", 0.0), True),
     (Wanted("learned"), False), (Wanted("probe"), True), (Wanted("probe", 7200.0), True)],
    ids=["waited for", "revoked", "may be silent", "learned", "nothing is learned", "has longer now"],
)  # fmt: skip
def test_an_alarm_ends_with_the_waiting(wanted: Wanted, over: bool) -> None:
    silence = silent.Silence(NOON, uuid4())
    observed = Observed(event_at=NOON, pauses=pauses(*[600.0] * 9) if wanted.name == "learned" else ())
    assert silent.is_over(silence, wanted, observed, NOON + 3600, learns=True) is over


# ---- as people see it


def seen(name: str, observed: Observed, *, silent_for: float = 0.0, live: bool = True) -> Seen:
    wanted = Wanted(name, 60.0, is_live=live)
    silence = silent.Silence(NOON - silent_for, uuid4()) if silent_for else None
    return Seen.of(wanted, observed, silent.expected(wanted, observed, learns=True), silence, NOON)


def test_what_is_wrong_comes_first_and_is_a_sentence() -> None:
    refusing = folded({}, Listening(), [(NOON, Report(NOON, {"a": heard(NOON - 1, refused=9)}))])[0]["a"]
    off = Observed(event_at=NOON, times=tuple(Minute(i, 7200.0, 7200.5) for i in range(9)))
    lacks = Observed(event_at=NOON, formats={"native": fed([["severity"]] * 200 + [[]] * 100)})
    found = ordered(
        [
            seen("a-well", Observed(event_at=NOON)),
            seen("b-lacks", lacks),
            seen("c-off", off),
            seen("d-refuses", refusing),
            seen("e-silent", Observed(event_at=NOON - 900), silent_for=900),
            seen("f-gone", off, live=False),
        ]
    )
    assert [one.name for one in found] == ["e-silent", "d-refuses", "c-off", "b-lacks", "a-well", "f-gone"]
    assert [[wrong.kind for wrong in one.wrong] for one in found] == [
        ["silent"], ["refused"], ["clock"], ["fields"], [], [],
    ]  # fmt: skip
    assert seen("heard", Observed(event_at=NOON), silent_for=900).wrong == ()
    assert found[0].wrong[0].says == (
        "no event of it was accepted for 15 min; it is to be heard within 1 min"
    )
    assert "as much as a time zone" in found[2].wrong[0].says
    assert found[3].wrong[0].says == (
        "severity vanished: 100% of its events in native had it, and none has now"
    )


@settings(max_examples=20)
@given(times, st.floats(-9000, 9000))
def test_any_source_can_be_shown(at: list[float], off: float) -> None:
    reports = [(t, Report(t, {"p": heard(t, least=off, most=off + 9, refused=1)})) for t in at]
    known = folded({}, Listening(), reports)[0]["p"]
    shown = seen("p", known)
    assert msgspec.json.decode(msgspec.json.encode(told(shown)))["name"] == "p"
    assert shown.waits and shown.told_clock is not None
