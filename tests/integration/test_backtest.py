"""A back-test says what live evaluation would say, event by event."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, text

from mutt.backtest.compare import Kind
from mutt.backtest.draft import Draft
from mutt.backtest.run import NOW, THEN, Question, Watch, run
from mutt.backtest.tally import Result
from mutt.errors import Refused, RuleError
from mutt.event import Event, State
from mutt.rules.evaluate import evaluate
from mutt.rules.rule import Handling, MatchType, Verdict
from mutt.store import devices, past, rulebook
from mutt.store.tables import alert_rules
from tests.bench import Bench, clear, event

SAID: dict[str, Any] = {"changed_by": "test"}


@pytest.fixture
def bench(redis_url: str, database_url: str) -> Iterator[Bench]:
    made = Bench(redis_url, database_url)
    with made.sql() as conn:
        conn.execute(delete(alert_rules))
    yield made
    made.close()


def judge(bench: Bench, *events: Event) -> None:
    """Live: through the stream, the Evaluator and the store."""
    bench.append(*events)
    bench.run()


def save(bench: Bench, rule_id: int | None = None, **data: Any) -> int:
    with bench.sql() as conn:
        return rulebook.save_rule(conn, data, rule_id=rule_id, **SAID).id


def backtest(bench: Bench, draft: Draft, **asked: Any) -> Result:
    now = datetime.now(UTC)
    wanted = {"since": now - timedelta(days=1), "until": now + timedelta(hours=1), **asked}
    engine = bench.services.engine
    return run(Question(draft, **wanted), bench.settings, engine, bench.services.read_engine, Watch())


words = st.sampled_from(["alpha", "beta", "STRASSE", "straße", "a\tb", "back\\slash", "new\nline", "7", "K"])
texts = st.lists(words, min_size=1, max_size=2).map(" ".join)
hosts = st.sampled_from(["core-1", "core-2", "Edge-1", "10.1.2.3"])
events = st.builds(
    lambda **told: event(told.pop("text"), **told),
    text=texts,
    hostname=hosts,
    severity=st.none() | st.integers(0, 7),
    source=st.sampled_from(["syslog", "native"]),
    program=st.sampled_from([None, "", "sshd"]),
    facility=st.sampled_from([None, "local7"]),
    trap_oid=st.sampled_from([None, "1.3.6.1", "1.3.6.10", "1.3.6.1.4"]),
    tags=st.dictionaries(st.sampled_from(["site", "rack"]), words, max_size=2),
    raw=texts,
    state=st.sampled_from([State.RAISE, State.RAISE, State.CLEAR]),
    clear_key=st.sampled_from([None, "eth0"]),
    default_team=st.sampled_from([None, "Web"]),
    environment=st.sampled_from([None, None, "development", "production"]),
)
rules = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["one", "two", "three"]),  # so that an import changes what stands
        "match_type": st.sampled_from(list(MatchType)),
        "match_string": words,
        "trap_oid": st.sampled_from(["1.3.6.1", "1.3.6"]),
        "field": st.sampled_from(["message", "message", "hostname", "program", "source", "raw", "tags.site"]),
        "priority": st.integers(1, 3),
        "prod_handling": st.sampled_from(list(Handling)),
        "dev_handling": st.sampled_from(list(Handling)),
        "team_assignment": st.sampled_from(["NETO", "Core"]),
        "is_active": st.sampled_from([True, True, False]),
    },
    optional={
        "syslog_severity": st.integers(0, 7),
        "hostname": st.sampled_from(["core-*", "10.1.0.0/16", "edge-1"]),
        "source": st.sampled_from(["syslog", "NATIVE"]),
        "program": st.just("SSHD"),
        "tags": st.just({"site": "alpha"}),
        "moog_severity": st.integers(0, 5),
        "dedup_window": st.just(60),
    },
).map(
    lambda rule: {
        **rule,
        "match_string": "" if rule["match_type"] is MatchType.OID_PREFIX else
        (rule["match_string"].replace("\\", "\\\\") if rule["match_type"] is MatchType.REGEX else rule["match_string"]),
        "trap_oid": rule["trap_oid"] if rule["match_type"] is MatchType.OID_PREFIX else None,
    }
)  # fmt: skip
development = st.sets(st.sampled_from(["core-2", "edge-*", "10.0.0.0/8"]), max_size=1)


def kind(verdict: Verdict) -> Kind:
    return Kind(verdict.rule_id, verdict.handling, verdict.team or "", verdict.moog_severity)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_a_back_test_says_of_each_event_what_live_evaluation_says(bench: Bench, data: st.DataObject) -> None:
    """Events judged live under one version after another; then a draft is tried: all differences, and no other ones."""
    with bench.sql() as conn:
        conn.execute(
            text(
                "TRUNCATE event_audit_log, alert_rules, development_hosts, device_teams, recent_clears, alerts"
            )
        )
    begun = datetime.now(UTC) - timedelta(hours=1)
    judged: list[Event] = []
    for _ in range(data.draw(st.integers(1, 3), "versions")):
        with bench.sql() as conn:
            rulebook.import_rules(
                conn,
                data.draw(st.lists(rules, max_size=4), "rules"),
                replace=data.draw(st.booleans()),
                **SAID,
            )
            for host in data.draw(development, "development"):
                devices.add_host(conn, host, **SAID)
        new = data.draw(st.lists(events, max_size=12), "events")
        judge(bench, *new) if new else None
        judged += new
    with bench.sql() as conn:
        # As if that version had been there for long: what it and later ones judged is trusted.
        conn.execute(
            text(
                "UPDATE ruleset_versions SET at = '2020-01-01' "
                "WHERE version = (SELECT max(version) - :n FROM ruleset_versions)"
            ),
            {"n": data.draw(st.integers(0, 2))},
        )
        standing = rulebook.list_rules(conn)
    if standing and data.draw(st.booleans(), "change one"):
        changed = data.draw(st.sampled_from(standing))
        draft = Draft.of_rule(data.draw(rules, "draft"), changed.id)
    elif data.draw(st.booleans(), "one more"):
        draft = Draft.of_rule(data.draw(rules, "draft"))
    else:
        draft = Draft.of_file(
            data.draw(st.lists(rules, min_size=1, max_size=3), "draft"), replace=data.draw(st.booleans())
        )
    with bench.sql() as conn:
        last = rulebook.last_id(conn)
        ours, theirs, drafted = rulebook.load_drafted(conn, "NETO", lambda rules: draft.among(rules, last))
    pairs = [(evaluate(one, ours), evaluate(one, theirs)) for one in judged]
    told = backtest(bench, draft, since=begun)
    counted = Counter((kind(old), kind(new)) for old, new in pairs if kind(old) != kind(new))
    assert {(change.old, change.new): change.events for change in told.changes} == counted
    assert (told.events, told.changed) == (len(judged), counted.total())
    ids = drafted.ids
    assert told.matched == sum(new.rule_id in ids for _, new in pairs)
    assert told.matched_before == sum(old.rule_id in ids for old, _ in pairs)
    raises = [pair for pair, one in zip(pairs, judged, strict=True) if one.state is State.RAISE]
    assert told.old_alerts == sum(old.forward for old, _ in raises)
    assert told.new_alerts == sum(new.forward for _, new in raises)
    then = backtest(bench, draft, since=begun, baseline=THEN)
    assert then.new_alerts == told.new_alerts
    was = Counter(
        (row.matched_rule_id, row.handling, new.rule_id, new.handling)
        for row in bench.rows()
        for one, (_, new) in zip(judged, pairs, strict=True)
        if one.event_id == row.event_id
        and (row.matched_rule_id, row.handling, row.team) != (new.rule_id, new.handling, new.team)
    )
    said = Counter[tuple[Any, ...]]()
    for change in then.changes:
        said[change.old.rule_id, change.old.handling, change.new.rule_id, change.new.handling] += (
            change.events
        )
    assert said == was


def test_the_rules_that_stand_change_nothing(bench: Bench) -> None:
    """Judged under a ruleset, then tried with the same one: no event changes, whatever it is compared with."""
    save(bench, match_string="CRITICAL", prod_handling="Page_only")
    judge(bench, event("CRITICAL disk"), event("all is well"), clear(clear_key="disk"))
    with bench.sql() as conn:
        draft = Draft.of_file(rulebook.export(conn), replace=True)
    for baseline in (NOW, THEN):
        told = backtest(bench, draft, baseline=baseline)
        assert (told.events, told.matched, told.matched_before, told.changes) == (3, 1, 1, [])


def test_a_new_rule_is_told_with_samples_hosts_and_hours(bench: Bench) -> None:
    """What it takes from whom, where, when, and which events to look at."""
    other = save(bench, match_string="disk", prod_handling="Ignore", priority=50, name="disks")
    lone = event("fan failed", "core-1")
    judge(bench, lone, event("disk fan", "core-2"), event("disk", "core-2"), event("well", "core-3"))
    draft = Draft.of_rule(
        {"match_string": "fan", "prod_handling": "Page_only", "priority": 5, "name": "fans"}
    )
    told = backtest(bench, draft)
    assert (told.events, told.matched, told.newly, told.no_longer, told.changed) == (4, 2, 2, 0, 2)
    by_old = {change.old.rule_id: change for change in told.changes}
    assert set(by_old) == {None, other}
    (sample,) = by_old[None].samples
    assert (sample.event_id, sample.hostname, sample.message) == (str(lone.event_id), "core-1", "fan failed")
    assert told.names == {other: "disks", by_old[other].new.rule_id: "fans"}
    assert [(host.hostname, host.matched) for host in told.hosts] == [("core-1", 1), ("core-2", 1)]
    (hour,) = told.hours.values()
    assert (hour.events, hour.old_alerts, hour.new_alerts, hour.changed) == (4, 0, 2, 2)
    assert (told.old_requests, told.new_requests, hour.new_requests) == (0, 2, 2)
    assert told.new_peak_hour.budget == 50 * 3600
    assert msgspec.convert(msgspec.to_builtins(told, str_keys=True), Result, strict=False) == told


def test_a_clear_is_a_request_where_its_raise_was_one(bench: Bench) -> None:
    """Moog hears of the end of what it heard of, and of nothing else."""
    judge(bench, event("fan failed", clear_key="fan"), clear(clear_key="fan"), clear(clear_key="disk"))
    told = backtest(bench, Draft.of_rule({"match_string": "fan failed"}))
    assert (told.old_requests, told.new_alerts, told.new_requests) == (0, 1, 2)


@pytest.mark.parametrize(("host", "seen"), [("core-1", 1), ("CORE-*", 2), ("10.0.0.0/8", 1), ("none", 0)])
def test_a_host_filter_takes_names_globs_and_networks(bench: Bench, host: str, seen: int) -> None:
    judge(bench, *(event(hostname=name) for name in ("core-1", "core-2", "10.1.1.1", "edge")))
    assert backtest(bench, Draft.of_rule({"match_string": "disk"}), host=host).events == seen


@pytest.mark.parametrize(
    "host", ["'; DROP TABLE alert_rules; --", "%s %(x)s {}", "http://169.254.169.254/", "\\"]
)
def test_a_filter_is_a_value_whatever_it_holds(bench: Bench, host: str) -> None:
    """It is compared with host names; no server ever reads it."""
    judge(bench, event(hostname=host), event())
    save(bench, match_string="disk")
    try:
        told = backtest(bench, Draft.of_rule({"match_string": "disk"}), host=host)
    except RuleError as error:
        assert error.field == "host"  # what has a slash is to be a network
    else:
        assert told.events == 1
    with bench.sql() as conn:
        assert len(rulebook.list_rules(conn)) == 1


def test_only_the_events_of_the_time_are_looked_at(bench: Bench) -> None:
    """The beginning belongs to it, the end does not."""
    noon = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
    judge(bench, *(event(received_at=noon + timedelta(seconds=s)) for s in (-1, 0, 59, 60)))
    draft = Draft.of_rule({"match_string": "disk"})
    assert backtest(bench, draft, since=noon, until=noon + timedelta(minutes=1)).events == 2


def test_rows_without_context_are_counted(bench: Bench) -> None:
    """They are judged by their columns, and it is said of how many that was so."""
    judge(bench, event(program="sshd"), event())
    with bench.sql() as conn:
        conn.execute(text("UPDATE event_audit_log SET context = NULL"))
    told = backtest(bench, Draft.of_rule({"match_string": "sshd", "field": "program"}))
    assert (told.events, told.bare, told.matched) == (2, 2, 0)


def test_what_mutt_said_itself_stays_as_it_is(bench: Bench) -> None:
    """No rule is asked of it, not of a row either that was written without a context."""
    judge(bench, *(event("odd 1", "core-9") for _ in range(100)))
    bench.run()
    assert sum(row.handling == "Meta" for row in bench.rows()) == 1
    for _ in range(2):
        told = backtest(bench, Draft.of_rule({"match_string": "events within"}))
        assert (told.events, told.matched, told.old_alerts, told.new_alerts) == (101, 0, 1, 1)
        with bench.sql() as conn:
            conn.execute(text("UPDATE event_audit_log SET context = NULL"))


def test_what_can_not_be_asked_is_refused_by_its_field(bench: Bench) -> None:
    """A rule that is gone, a rule that can't be, an end before the beginning, a baseline that is none."""
    draft = Draft.of_rule({"match_string": "disk"})
    now = datetime.now(UTC)
    for field, asked in (
        ("since", {"since": now, "until": now}),
        ("since", {"since": datetime.min.replace(tzinfo=UTC)}),
        ("until", {"until": datetime.max.replace(tzinfo=UTC)}),
        ("baseline", {"baseline": "tomorrow"}),
        ("host", {"host": "10.0.0.0/99"}),
        ("rule_id", {"draft": Draft.of_rule({"match_string": "disk"}, 4711)}),
    ):
        with pytest.raises(Refused) as caught:
            backtest(bench, asked.pop("draft", draft), **asked)
        assert caught.value.field == field
    with pytest.raises(RuleError) as wrong:
        Draft.of_file(
            [{"match_string": "x"}, {"name": "looks ahead", "match_type": "regex", "match_string": "(?=x)"}]
        )
    assert wrong.value.field == "rule looks ahead: match_string"


def test_a_slice_that_postgresql_breaks_off_is_read_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a replica does: what was counted of it before does not count twice."""
    judge(bench, *(event() for _ in range(5)))
    whole, broken = past._Taker.flush, []

    def flush(taker: past._Taker) -> None:
        whole(taker)
        if taker._each and not broken:
            broken.append(taker)
            with bench.sql() as conn:
                conn.execute(
                    text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY%'")
                )

    monkeypatch.setattr(past, "CHUNK", 2)
    monkeypatch.setattr(past._Taker, "flush", flush)
    told = backtest(bench, Draft.of_rule({"match_string": "disk"}))
    assert (told.events, told.matched, len(broken)) == (5, 5, 1)


def test_what_an_unknown_version_judged_is_judged_anew(bench: Bench) -> None:
    """A rule changed, and a host became one of development, before the first version that is trusted."""
    rule_id = save(bench, match_string="disk", prod_handling="Page_only")
    other = save(bench, match_string="fan", prod_handling="Ticket_only", dev_handling="Ignore")
    judge(bench, event("disk", "core-1"), event("fan", "core-2"))
    save(bench, rule_id, prod_handling="Ignore")
    with bench.sql() as conn:
        devices.add_host(conn, "core-2", **SAID)
    # The last version seems to have been there for long: what the others judged was judged by nobody known.
    with bench.sql() as conn:
        conn.execute(
            text(
                "UPDATE ruleset_versions SET at = '2020-01-01' WHERE version = (SELECT version FROM ruleset_version)"
            )
        )
    told = backtest(bench, Draft.of_rule({"match_string": "nothing"}), baseline=THEN)
    changes = {(one.old.rule_id, one.old.handling, one.new.handling) for one in told.changes}
    assert changes == {(rule_id, "Page_only", "Ignore"), (other, "Ticket_only", "Ignore")}
    assert backtest(bench, Draft.of_rule({"match_string": "nothing"})).changes == []


def test_a_new_rule_is_not_taken_for_one_that_was_deleted(bench: Bench) -> None:
    """What a rule decided that is gone is told as its, though it was the last one."""
    save(bench, match_string="fan")
    gone = save(bench, match_string="disk", prod_handling="Page_only")
    judge(bench, event("disk", "core-1"))
    with bench.sql() as conn:
        rulebook.delete_rule(conn, gone, **SAID)
    draft = Draft.of_rule({"name": "new", "match_string": "disk", "prod_handling": "Page_only"})
    told = backtest(bench, draft, baseline=THEN)
    assert (told.matched, told.matched_before, told.newly) == (1, 0, 1)
    ((old, new),) = [(change.old.rule_id, change.new.rule_id) for change in told.changes]
    assert (old, told.names[new or 0]) == (gone, "new")
    assert new != old


def test_a_stop_after_the_reading_breaks_off_nobody_elses_statement(bench: Bench) -> None:
    """The connection goes back to the pool: the next one who has it is no back-test."""
    judge(bench, event())
    watch, engine = Watch(), bench.services.engine
    now = datetime.now(UTC)
    question = Question(Draft.of_rule({"match_string": "disk"}), now - timedelta(days=1), now)
    run(question, bench.settings, engine, engine, watch)
    stopping = threading.Timer(0.2, watch.stop)
    with bench.sql() as conn:
        stopping.start()
        conn.execute(text("SELECT pg_sleep(0.6)"))
    stopping.join()


def test_a_host_that_moved_between_two_known_versions_is_judged_anew(bench: Bench) -> None:
    """No rule was changed, and still the handling is another one."""
    rule_id = save(bench, match_string="disk", prod_handling="Page_only", dev_handling="Ignore")
    with bench.sql() as conn:
        conn.execute(text("UPDATE ruleset_versions SET at = '2020-01-01'"))
    judge(bench, event("disk", "core-1"))
    with bench.sql() as conn:
        devices.add_host(conn, "core-1", **SAID)
    told = backtest(bench, Draft.of_rule({"match_string": "nothing"}), baseline=THEN)
    assert [(one.old.rule_id, one.old.handling, one.new.handling) for one in told.changes] == [
        (rule_id, "Page_only", "Ignore")
    ]


def test_noise_control_is_replayed_in_the_order_of_the_events(bench: Bench) -> None:
    """Of three repeats within the draft's window one goes to Moog, whatever order their rows stand in."""
    at = datetime.now(UTC).replace(minute=30) - timedelta(hours=2)
    fails = [event("fan failed", received_at=at + timedelta(seconds=s)) for s in (40, 0, 20, 90)]
    judge(bench, *fails)
    told = backtest(bench, Draft.of_rule({"match_string": "fan", "dedup_window": 60}))
    assert (told.new_alerts, told.new_requests, told.new_held) == (4, 2, {"dedup": 2})
    assert (told.new_peak_hour.requests, told.new_peak_minute.requests, told.old_requests) == (2, 1, 0)
