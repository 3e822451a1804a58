"""Explain: what it says of an event is what the workers did with it, wherever the event came to stand."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID, uuid4, uuid5

import msgspec
import orjson
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, update

from mutt import names
from mutt.alert import Alert
from mutt.budget.arithmetic import Budget
from mutt.cli import cli
from mutt.event import Event, Varbind
from mutt.explain.facts import Explanation
from mutt.explain.gather import Explainer
from mutt.formats.base import ID_SPACE, Rejected
from mutt.grant import BOOTSTRAP, INGEST
from mutt.moogsim.script import MARKER
from mutt.moogsim.server import Simulator
from mutt.rules.evaluate import evaluate
from mutt.store import devices, keys, rulebook
from mutt.store.tables import alerts, ruleset_versions
from mutt.streams.letters import Letters
from tests.bench import Bench, benches, clear, event
from tests.forwarding import Works, turns_until
from tests.unit.test_rules_trace import LIKELY, RULESETS

BY = {"changed_by": "test"}


@pytest.fixture
def bench(redis_url: str, database_url: str) -> Iterator[Bench]:
    with benches(redis_url, database_url, ingest_api_key="k") as made:
        yield made[0]


def explained(bench: Bench, one: Event | str) -> Explanation:
    return Explainer(bench.services).event(one if isinstance(one, str) else str(one.event_id))


def judged(bench: Bench, *events: Event) -> None:
    bench.append(*events)
    bench.run()


def only_alert(bench: Bench) -> Alert:
    return next(alert for lane in ("critical", "major", "minor", "info") for alert in bench.lane(lane))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LIKELY, min_size=1, max_size=8), RULESETS)
def test_it_agrees_with_what_the_workers_did_under_the_rules_of_then(
    bench: Bench, likely: list[Event], rules: list
) -> None:
    """Events through the evaluator into PostgreSQL; explained after the rules changed: same rule, handling, team."""
    events = [
        event(one.message, one.hostname, severity=one.severity, source=one.source, program=one.program,
              trap_oid=one.trap_oid, tags=one.tags, raw=one.raw, varbinds=(Varbind("1.2", "x"),),
              default_team=one.default_team, environment=one.environment)
        for one in likely
    ]  # fmt: skip
    with bench.sql() as conn:
        for rule in rulebook.list_rules(conn):
            rulebook.delete_rule(conn, rule.id, **BY)
        for rule in rules:
            values = {name: value for name, value in msgspec.to_builtins(rule).items() if value is not None}
            savepoint = conn.begin_nested()
            try:
                rulebook.save_rule(conn, values, **BY)
                savepoint.commit()
            except rulebook.RuleError:
                savepoint.rollback()  # a rule that nobody can save
        devices.set_hosts(conn, ["10.*"], **BY)
        devices.set_teams(conn, {"core-*": "Core"}, **BY)
        live = rulebook.load(conn, "NETO")
    judged(bench, *events)
    with bench.sql() as conn:
        rulebook.save_rule(conn, {"match_string": "i", "priority": -1, "prod_handling": "Ignore"}, **BY)
        devices.set_hosts(conn, [], **BY)
    rows = {row.event_id: row for row in bench.rows()}
    for one in events:
        verdict, row, found = evaluate(one, live), rows[one.event_id], explained(bench, one)
        assert found.found == "audited" and found.row is not None and found.then is not None
        assert (verdict.rule_id, verdict.handling, verdict.team) == (
            row.matched_rule_id,
            row.handling,
            row.team,
        )
        assert found.then.verdict == verdict
        assert (found.row.rule_id, found.row.handling, found.row.team) == (
            verdict.rule_id, verdict.handling, verdict.team,
        )  # fmt: skip
        assert [told.rule_id for told in found.then.tried if told.decides] == (
            [] if verdict.rule_id is None else [verdict.rule_id]
        )
        assert (
            bool([alert for alert in found.alerts if alert.event_id == str(one.event_id)]) is verdict.forward
        )
        assert not [note for note in found.notes if "once more" in note]


def test_an_unhandled_event_says_how_far_its_kind_is_from_an_alert(bench: Bench) -> None:
    told = event("port 12 flaps", "lb-1")
    judged(bench, told, event("port 13 flaps", "lb-1"))
    found = explained(bench, told)
    assert found.answer.startswith("It did not alert because no rule matched; of its kind 2 of the 100 came")
    assert found.counted and (found.counted.count, found.counted.template) == (2, "port <*> flaps")
    assert found.counted.left_s > 86_000


def test_an_ignored_event_says_by_which_rule_and_which_pattern(bench: Bench) -> None:
    told = event("ERROR x", "dev-router1")
    judged(bench, told)
    found = explained(bench, told)
    assert found.answer == (
        "It did not alert because rule 2 ERROR has it ignored; "
        "dev-router1 is a development host by 'dev-router1'."
    )


def test_what_todays_rules_would_do_otherwise_is_said(bench: Bench) -> None:
    told = event("ERROR x")
    judged(bench, told)
    assert explained(bench, told).changed == ""
    with bench.sql() as conn:
        rulebook.save_rule(conn, {"prod_handling": "Ignore"}, rule_id=2, **BY)
    assert "Today rule 2 would decide: Ignore" in explained(bench, told).changed


def test_a_clear_without_a_raise_says_so_and_one_with_it_is_told_on_both(bench: Bench) -> None:
    alone = clear("LINK-DOWN is over", clear_key="k1")
    judged(bench, alone)
    assert "no open alert was found" in explained(bench, alone).answer
    down, up = event("LINK-DOWN x", clear_key="k2"), clear("LINK-DOWN is over", clear_key="k2")
    judged(bench, down, up)
    (story,) = explained(bench, down).alerts
    assert story.cleared_event == str(up.event_id)
    (ends,) = explained(bench, up).alerts
    assert (ends.alert_id, ends.state) == (story.cleared_by, "clear")
    assert ends.place and ends.place.where == "behind" and story.alert_id in ends.place.says


def test_an_alert_that_waits_says_where_it_stands(bench: Bench) -> None:
    first, second, behind = event("CRITICAL a", "h1"), event("CRITICAL b", "h2"), event("CRITICAL c", "h2")
    judged(bench, first, second, behind)
    places = [explained(bench, one).alerts[0].place for one in (first, second, behind)]
    assert [place.where for place in places if place] == ["lane", "lane", "behind"]
    assert places[1] and "1 before it" in places[1].says
    assert explained(bench, first).answer.startswith("It has not reached Moog yet. The alert waits.")


def test_an_alert_outside_of_a_full_lane_says_so(redis_url: str, database_url: str) -> None:
    with benches(redis_url, database_url, alert_queue_max=1) as (bench,):
        events = [event("LINK-DOWN x", f"h{n}", severity=6) for n in range(3)]
        with bench.sql() as conn:
            rulebook.save_rule(conn, {"moog_severity": 1}, rule_id=3, **BY)
        judged(bench, *events)
        places = [explained(bench, one).alerts[0].place for one in events]
        assert [place.where for place in places if place] == ["lane", "outside", "outside"]


def test_each_attempt_is_told_and_the_open_breaker_and_the_dead_letter(bench: Bench, redis_url: str) -> None:
    told = event(f"CRITICAL {MARKER}")
    judged(bench, told)
    works = Works(bench.redis, Budget(limit=100, period=0.1, threshold=1000), claim=0.1, patience=2.0)
    works.lift_fence()
    with Simulator() as moog:
        moog.behave("401")
        forwarder = works.forwarder(moog.enterprise_url, sleep=lambda _: None)
        forwarder.forward_turn()
        bench.record()
        found = explained(bench, told)
        assert [(one.kind, one.moog_status) for one in found.alerts[0].attempts] == [("auth", 401)]
        assert found.alerts[0].place and "breaker is open (auth)" in found.alerts[0].place.says
        moog.behave("bad_marked")
        bench.redis.delete(names.BREAKER, names.LOCK)
        works.lift_fence()
        turns_until(forwarder, lambda: works.letters())
    bench.record()
    found = explained(bench, told)
    assert found.answer.startswith("It did not reach Moog. The alert is a dead letter")
    assert [one.kind for one in found.alerts[0].attempts] == ["auth", "refused"]
    place = found.alerts[0].place
    assert place and (place.where, place.queue) == ("letter", "moog") and place.letter


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("maintenance:3", "maintenance window 3 was open"),
        ("threshold", "fewer events"),
        ("dedup", "repeats an alert"),
        ("storm:2", "(policy 2)"),
        ("flapping", "flaps"),
        ("cleared", "clear came before"),
    ],
)
def test_what_held_an_alert_back_is_said(bench: Bench, reason: str, says: str) -> None:
    told = event("CRITICAL x")
    judged(bench, told)
    with bench.sql() as conn:
        conn.execute(update(alerts).values(status="cancelled", reason=reason))
    answer = explained(bench, told).answer
    assert (
        answer.startswith("It did not reach Moog. The alert was held back and not sent:") and says in answer
    )


def test_what_noise_control_held_back_says_so_on_its_way_and_at_its_end(bench: Bench) -> None:
    with bench.sql() as conn:
        rulebook.save_rule(conn, {"dedup_window": 600}, rule_id=1, **BY)
    first, repeat = event("CRITICAL x"), event("CRITICAL x")
    judged(bench, first, repeat)
    place = explained(bench, repeat).alerts[0].place
    assert place and place.where == "held"
    bench.record()
    assert "it repeats an alert" in explained(bench, repeat).answer
    assert explained(bench, first).answer.startswith("It has not reached Moog yet.")


def test_an_event_that_still_waits_is_found_in_the_queue(bench: Bench) -> None:
    told = event()
    bench.append(event(), told)
    found = explained(bench, told)
    assert (found.found, found.place and found.place.where) == ("queued", "queue")
    assert "waits for evaluation" in found.answer and found.now and found.now.rule_id == 1
    bench.take()
    assert "a worker has it" in explained(bench, told).answer


def test_an_event_that_was_parked_or_rejected_is_found_in_the_dead_letters(bench: Bench) -> None:
    told = event("bad\0")  # PostgreSQL refuses it
    judged(bench, told)
    found = explained(bench, told)
    assert (found.found, found.place and found.place.queue) == ("parked", "alerts"), found.answer
    letters = Letters(bench.redis, bench.services.ingest_stream)
    own = str(uuid4())
    letters.keep_rejected(
        "k", [Rejected(0, "message", "is empty", f'{{"event_id": "{own}"}}')], most_bytes=10_000
    )
    found = explained(bench, own)
    assert (found.found, found.place and found.place.queue) == ("rejected", "ingest")
    assert "message: is empty" in found.answer


def test_an_id_that_nobody_knows_is_not_found(bench: Bench) -> None:
    found = explained(bench, str(uuid4()))
    assert (found.found, found.then) == ("nowhere", None)
    assert "neither in the ingest queue nor in the dead letters" in found.answer


def test_a_senders_own_id_is_looked_for_under_each_key(bench: Bench) -> None:
    own = event(event_id=uuid5(uuid5(ID_SPACE, BOOTSTRAP.name), "ticket-7"))
    theirs = event(event_id=uuid5(uuid5(ID_SPACE, "probe"), "ticket-8"))
    judged(bench, own, theirs)
    with bench.sql() as conn:
        keys.make(conn, "probe", [INGEST], changed_by="anna")
        keys.revoke(conn, "probe", changed_by="anna")
    found = explained(bench, "ticket-7")
    assert found.event_id == str(own.event_id) and "bootstrap, probe" in found.notes[0]
    assert explained(bench, "ticket-8").event_id == str(theirs.event_id)


def test_one_id_that_was_audited_twice_has_both_rows(bench: Bench) -> None:
    event_id = uuid4()
    first, second = event("ERROR a", event_id=event_id), event("CRITICAL b", event_id=event_id)
    judged(bench, first)
    judged(bench, second)
    found = explained(bench, str(event_id))
    assert found.row and found.row.received_at == second.received_at
    assert [row.received_at for row in found.others] == [first.received_at]
    older = Explainer(bench.services).event(str(event_id), first.received_at)
    assert older.row and older.row.rule_id == 2


def test_without_redis_and_without_the_version_it_tells_what_is_left(bench: Bench, database_url: str) -> None:
    told = event("CRITICAL x")
    judged(bench, told)
    with bench.sql() as conn:
        conn.execute(delete(ruleset_versions))
    alone = Bench("redis://127.0.0.1:1", database_url)
    try:
        found = explained(alone, told)
    finally:
        alone.close()
    assert found.found == "audited" and found.then is None and found.now is not None
    assert any("can't be read again" in note for note in found.notes)
    assert any("Redis does not answer" in note for note in found.notes)


def test_mutt_explain_says_it_at_the_shell(
    bench: Bench, redis_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = event("ERROR [bold]x", "dev-router1", program="p")
    judged(bench, told)
    monkeypatch.setattr("mutt.cli.explain.services", lambda: bench.services)
    said = CliRunner().invoke(cli, ["explain", str(told.event_id)])
    assert said.exit_code == 0, said.output
    assert said.output.startswith("It did not alert because rule 2 ERROR has it ignored")
    assert "[bold]x" in said.output
    told_json = orjson.loads(CliRunner().invoke(cli, ["explain", str(told.event_id), "--json"]).stdout)
    assert UUID(told_json["event_id"]) == told.event_id and told_json["then"]["rule_id"] == 2
    assert CliRunner().invoke(cli, ["explain", str(uuid4())]).exit_code == 1
