"""The shell's commands on a real Redis, PostgreSQL, ingest and Moog simulator."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from werkzeug.serving import make_server

from mutt import names
from mutt.cli import cli, common, dlq
from mutt.cli.show import settle, show
from mutt.errors import MuttError, Refused
from mutt.gauges import RedisGauges
from mutt.moogsim.script import Behaviour, Step
from mutt.moogsim.server import Simulator
from mutt.services import Services
from mutt.settings import Settings
from mutt.store.tables import alerts, audit_ledger, config_audit_log
from mutt.streams.keys import KeysCopy
from mutt.web.ingest import make_ingest

KEY = "test-key"
NOWHERE_REDIS, NOWHERE_POSTGRES = "redis://:sekret@127.0.0.1:9/0", "postgresql://mutt:sekret@127.0.0.1:9/mutt"

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def silent(_queue: str, **_labels: Any) -> None:
    """Nobody listens for doorbells here: the tests work the queues themselves."""


class Shell:
    """Runs commands as typed beside a stack, and works its queues when told to."""

    def __init__(self, environ: pytest.MonkeyPatch, settings: dict[str, str]) -> None:
        self.environ = environ
        self.set(**settings)
        self.services = Services(Settings.from_env(), silent)

    def set(self, **settings: str) -> None:
        for name, value in settings.items():
            self.environ.setenv(name, value)
        common.services.cache_clear()

    def __call__(self, *arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(cli, list(arguments), input=stdin)

    def json(self, *arguments: str, code: int = 0) -> Any:
        result = self(*arguments, "--json")
        assert result.exit_code == code, (result.output, result.exception)
        return json.loads(result.stdout)

    def evaluate(self) -> None:
        self._drain("ingest_queue", self.services.evaluator.evaluate_entries)

    def forward(self) -> None:
        """Until no alert waits in a lane."""
        ends = time.monotonic() + 20
        while self.services.alert_stream.size():
            assert time.monotonic() < ends, "alerts still wait"
            self.services.forwarder.forward_turn()
        self.record()

    def record(self) -> None:
        self._drain("delivery_queue", self.services.recorder.record_outcomes)

    def _drain(self, queue: str, work: Callable[..., Any]) -> None:
        held = self.services.held(queue)
        while entries := held.take(500).entries:
            held.settle(work(entries))

    def sql(self, statement: sa.Executable) -> Any:
        with self.services.engine.begin() as conn:
            result = conn.execute(statement)
            return result.all() if result.returns_rows else None


@pytest.fixture
def moog() -> Iterator[Simulator]:
    simulator = Simulator().start()
    yield simulator
    simulator.stop()


@pytest.fixture
def shell(
    redis_url: str, database_url: str, moog: Simulator, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Shell]:
    settings = {
        "REDIS_URL": redis_url,
        "DATABASE_URL": database_url,
        "INGEST_API_KEY": KEY,
        "MOOG_URL": moog.enterprise_url,
        "MOOG_API_KEY": "moog-key",
    }
    made = Shell(monkeypatch, settings)
    KeysCopy(made.services.redis).publish({})
    yield made
    made.services.engine.dispose()
    made.services.redis.close()
    common.services.cache_clear()


@contextlib.contextmanager
def listening(app: Wsgi) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def ingest(shell: Shell) -> Iterator[str]:
    with listening(make_ingest(Services(Settings.from_env(), silent, web=True))) as url:
        yield url


class Flaky:
    """In front of ingest: refuses each batch once, then takes it and loses the answer, then is well."""

    def __init__(self, app: Wsgi) -> None:
        self._app, self.attempts = app, dict[str, int]()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        key = environ["HTTP_IDEMPOTENCY_KEY"]
        attempt = self.attempts[key] = self.attempts.get(key, 0) + 1
        if attempt == 1:
            environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            start_response("503 Service Unavailable", [("Retry-After", "0")])
            return [b""]
        if attempt == 2:
            list(self._app(environ, lambda *_: None))
            start_response("500 Internal Server Error", [])
            return [b""]
        return self._app(environ, start_response)


# ---- send


def test_what_is_sent_is_accepted_and_the_books_balance(shell, ingest):
    sent = shell.json("send", "--url", ingest, "--count", "250", "--rate", "5000")
    assert (sent["accepted"], sent["batches"], sent["errors"]) == (250, 3, 0)
    shell.evaluate()
    books = shell.json("ledger", "--deep")
    assert (
        books["events"]["settled"] == books["postgres"]["audit_rows"] == books["walked"]["audit_keys"] == 250
    )
    assert (books["state"], books["lost"], books["double"]) == ("balanced", 0, 0)


def test_a_batch_that_is_refused_or_whose_answer_is_lost_is_taken_once(shell):
    flaky = Flaky(make_ingest(Services(Settings.from_env(), silent, web=True)))
    with listening(flaky) as url:
        sent = shell.json("send", "--url", url, "--count", "50", "--batch", "10")
    assert (sent["accepted"], sent["errors"]) == (50, 0)
    # A busy ingest may have said "not now" once more.
    assert sent["retries"] == sum(flaky.attempts.values()) - 5 >= 10
    assert min(flaky.attempts.values()) == 3
    assert shell.json("ledger")["events"]["accepted"] == 50


def test_without_retry_a_refusal_is_an_error_and_the_exit_code_says_so(shell):
    flaky = Flaky(make_ingest(Services(Settings.from_env(), silent, web=True)))
    with listening(flaky) as url:
        sent = shell.json("send", "--url", url, "--count", "20", "--batch", "10", "--no-retry", code=1)
    assert (sent["accepted"], sent["errors"]) == (0, 2)


def test_a_wrong_key_ends_it_at_once_and_says_why(shell, ingest):
    arguments = ("--url", ingest, "--count", "1000", "--batch", "1", "--connections", "1", "--key", "wrong")
    sent = shell.json("send", *arguments, code=1)
    assert (sent["accepted"], sent["errors"]) == (0, 1)
    assert any(reason.startswith("401") for reason in sent["reasons"])


def test_nobody_listening_is_given_up_after_the_patience(shell):
    sent = shell.json("send", "--url", "http://127.0.0.1:9", "--count", "1", "--patience", "0.3", code=1)
    assert sent["errors"] == 1
    assert sent["retries"] >= 1
    assert list(sent["reasons"]) == ["no answer from http://127.0.0.1:9/ingest/native: Connection refused"]


def test_somebody_who_waits_for_an_address_is_told_once_why_and_how_long(shell):
    told = shell("send", "--url", "http://127.0.0.1:9", "--count", "3", "--batch", "1", "--patience", "0.3")
    assert told.output.count("Connection refused; trying again, for up to 0.3 s a batch") == 1


def test_a_file_without_an_event_is_said_to_be_empty(shell, ingest, tmp_path):
    file = tmp_path / "empty.ndjson"
    file.touch()
    result = shell("send", str(file), "--url", ingest)
    assert isinstance(result.exception, MuttError)
    assert str(result.exception) == f"{file} holds no event: nothing was sent"


def test_lines_from_a_pipe_and_a_bad_item_among_good_ones(shell, ingest):
    lines = '{"hostname":"a","message":"m"}\n{"hostname":"","message":"m"}\n'
    result = shell("send", "-", "--url", ingest, "--json", stdin=lines)
    sent = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (sent["accepted"], sent["rejected"]) == (1, 1)
    assert sent["reasons"] == {"hostname: is empty: name the device that it happened on": 1}


def test_send_without_an_address_says_what_to_do(shell):
    result = shell("send")
    assert isinstance(result.exception, MuttError)
    assert "--url" in str(result.exception)


# ---- ledger, queues


def balanced_at(shell: Shell, ingest: str, count: int = 10) -> None:
    shell.json("send", "--url", ingest, "--count", str(count), "--generator", "unmatched")
    shell.evaluate()


def test_a_row_that_is_missing_is_lost_and_one_too_many_is_double(shell, ingest):
    balanced_at(shell, ingest)
    shell.sql(sa.update(audit_ledger).values(rows=audit_ledger.c.rows - 1))
    assert shell.json("ledger", code=1)["lost"] == 1
    shell.sql(sa.update(audit_ledger).values(rows=audit_ledger.c.rows + 2))
    assert shell.json("ledger", code=1)["double"] == 1


def test_what_is_queued_is_in_flight_and_waiting_for_it_has_an_end(shell, ingest):
    shell.json("send", "--url", ingest, "--count", "5")
    assert shell.json("ledger")["state"] == "in flight"
    assert shell.json("ledger", "--wait", "0.3", code=1)["at_rest"] is False


def test_waiting_ends_when_the_events_are_settled(shell, ingest):
    shell.json("send", "--url", ingest, "--count", "5", "--generator", "unmatched")
    worker = threading.Thread(target=shell.evaluate)
    worker.start()
    assert shell.json("ledger", "--wait", "20", "--deep")["state"] == "balanced"
    worker.join()


def test_with_postgresql_away_redis_side_is_still_shown(shell, ingest):
    balanced_at(shell, ingest)
    shell.set(DATABASE_URL=NOWHERE_POSTGRES)
    books = shell.json("ledger")
    assert (books["postgres"], books["lost"], books["balanced"]) == (None, None, True)
    assert "PostgreSQL can't be asked" in shell("ledger").output


@pytest.mark.parametrize("command", [("ledger",), ("queues",), ("dlq", "list")])
def test_with_redis_away_a_sentence_says_so_without_the_password(shell, command):
    shell.set(REDIS_URL=NOWHERE_REDIS)
    result = shell(*command)
    assert isinstance(result.exception, MuttError)
    assert re.match(r"Redis can't be asked: .+[^.]\. Start it .+ REDIS_URL", str(result.exception))
    assert "sekret" not in str(result.exception) + result.output


@pytest.mark.parametrize("command", [("partitions", "list"), ("rules", "export")])
def test_with_postgresql_away_a_sentence_says_so_without_the_password(shell, command):
    shell.set(DATABASE_URL=NOWHERE_POSTGRES)
    result = shell(*command)
    assert isinstance(result.exception, MuttError)
    assert re.match(r"PostgreSQL can't be asked: .+[^.]\. Start it .+ DATABASE_URL", str(result.exception))
    assert "sekret" not in str(result.exception) + result.output


def test_queues_show_the_storms_that_go_on(shell):
    """What holds alerts now is named, with how many."""
    told = {"policy": 1, "name": "Core", "by": "host", "value": "core-1", "team": "NETO", "count": 42, "begun": 1,
            "first": 1, "last": 2, "worst": 5, "window_ms": 60000, "touched": 1}  # fmt: skip
    shell.services.redis.hset(names.STORM + "1:x", mapping=told)
    shell.services.redis.zadd(names.NOISE_DUE, {"storm:1:x": 1})
    [storm] = shell.json("queues")["storms"]
    assert (storm["name"], storm["key"], storm["held"]) == ("Core", "host core-1", 42)
    assert "42 alerts held" in shell("queues").output


def test_queues_show_depth_doorbells_breaker_and_budget(shell, ingest):
    shell.json("send", "--url", ingest, "--count", "7")
    seen = shell.json("queues")
    depths = {queue["queue"]: queue["entries"] for queue in seen["queues"]}
    assert depths["ingest_queue"] == 1
    assert set(seen["doorbells"]) == {"alerts", "moog", "housekeeping", "maintenance", "backtests"}
    assert (seen["breaker"]["state"], seen["budget"]["used"], seen["budget"]["limit"]) == ("closed", 0, 50)
    assert "ingest_queue" in shell("queues").output


def test_alerts_behind_others_of_their_signature_are_in_the_figures(shell):
    shell.services.redis.hset(names.BEHIND_COUNTS, mapping={"critical": 41, "info": 0})
    seen = {queue["queue"]: queue for queue in shell.json("queues")["queues"]}
    assert (seen["alert_queue:critical"]["behind"], seen["alert_queue:info"]["behind"]) == (41, 0)
    assert "41" in shell("queues").output
    [metric] = [
        one for one in RedisGauges(shell.services).collect() if one.name == "mutt_queue_depth"
    ]  # fmt: skip
    assert {s.labels["queue"]: s.value for s in metric.samples}["alert_queue:critical"] == 41


def test_a_simulator_whose_port_is_taken_says_so(shell, moog):
    result = shell("moogsim", "--port", str(moog.port))
    assert isinstance(result.exception, MuttError)
    assert f"can't listen on 127.0.0.1:{moog.port}: Address already in use" in str(result.exception)


# ---- the samples of `mutt up`


@contextlib.contextmanager
def working(*steps: Callable[[], None]) -> Iterator[None]:
    """Meanwhile somebody works the queues."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.05):
            for step in steps:
                step()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        stop.set()
        worker.join()


def shown(
    shell: Shell, ingest: str, capsys: pytest.CaptureFixture[str], *, to_rest: bool
) -> dict[str, list[int]]:
    """The table, by what was sent."""
    show(shell.services, ingest, KEY, common.console, lambda: False, to_rest=to_rest)
    rows = (
        re.match(r"(.*?) {2,}(\d[\d ]*)$", line.rstrip()) for line in capsys.readouterr().out.splitlines()
    )
    return {row[1]: [int(n) for n in row[2].split()] for row in rows if row}


def test_the_samples_come_to_rest_and_each_group_is_accounted_for(shell, ingest, capsys):
    with working(shell.evaluate, shell.forward):
        table = shown(shell, ingest, capsys, to_rest=True)
    assert table["a storm without a rule"] == [240, 240, 0, 0, 0, 0]
    assert table["all"][0] == table["all"][1] == 379
    assert settle(shell.services, lambda: False).good


def test_an_open_breaker_keeps_no_table_back_and_is_named(shell, ingest, capsys):
    balanced_at(shell, ingest, 500)
    shell.json("send", "--url", ingest, "--count", "40", "--generator", "critical")
    until = round((time.time() + 300) * 1e6)
    breaker = {"state": "open", "reason": "connection", "until": until, "generation": 1}
    shell.services.redis.hset(names.BREAKER, mapping=breaker)
    with working(shell.evaluate):
        table = shown(shell, ingest, capsys, to_rest=False)
        verdict = settle(shell.services, lambda: False, patience=0)
    assert table["all"][:2] == [379, 379], "the samples alone, and not what waited before them"
    assert table["all"][2] > table["all"][3] == 0
    assert not verdict.good
    assert "alerts wait: the breaker is open (connection), asks again in 5 min" in verdict.says


# ---- dead letters


@pytest.fixture
def refused(shell: Shell, ingest: str, moog: Simulator) -> list[str]:
    """Two alerts that Moog refused; the ids of their letters."""
    moog.script.set(Step(Behaviour.BAD_MARKED))
    event = '{"hostname":"h%d","message":"CRITICAL MOOG-REFUSES","severity":1}\n'
    assert shell("send", "-", "--url", ingest, stdin=event % 1 + event % 2).exit_code == 0
    shell.evaluate()
    shell.forward()
    return [json.loads(line)["id"] for line in shell("dlq", "show", "moog", "--json").stdout.splitlines()]


def statuses(shell: Shell) -> list[str]:
    return sorted(row.status for row in shell.sql(sa.select(alerts.c.status)))


def test_letters_are_counted_by_reason_and_shown_whole(shell, refused):
    assert shell.json("dlq", "list") == {"ingest": {}, "alerts": {}, "moog": {"refused": 2}}
    letter = shell.json("dlq", "show", "moog", refused[0])
    assert letter["payload"]["hostname"] == "h1"
    assert shell.json("ledger")["postgres"]["alerts"]["parked"] == 2


def test_a_replayed_alert_waits_again_is_delivered_and_the_books_balance(shell, refused, moog):
    moog.script.set()
    assert shell("dlq", "replay", "moog", "--all").exit_code == 0
    assert statuses(shell) == ["waiting", "waiting"]
    assert shell.json("ledger", "--deep")["alerts"]["waiting"] == 2
    shell.forward()
    assert statuses(shell) == ["delivered", "delivered"]
    assert shell.json("ledger", "--deep")["balanced"]


def test_a_dropped_alert_is_dropped_everywhere_for_a_reason_that_is_kept(shell, refused):
    assert shell("dlq", "drop", "moog", refused[0], "--reason", "a test").exit_code == 0
    shell.record()
    assert statuses(shell) == ["dropped", "parked"]
    assert shell.json("ledger", "--deep")["alerts"]["dropped"] == 1
    record = json.loads(shell.services.redis.hget("mutt:drops", f"moog:{refused[0]}"))
    assert (record["reason"], bool(record["who"])) == ("a test", True)


def test_every_letter_can_be_dropped_at_once(shell, refused):
    result = shell("dlq", "drop", "moog", "--all", "--reason", "a test")
    assert result.output == "2 letters (2 events or alerts) dropped\n"
    shell.record()
    assert statuses(shell) == ["dropped", "dropped"]


def test_listed_as_json_each_letter_tells_what_it_holds(shell, refused):
    listed = [json.loads(line) for line in shell("dlq", "show", "moog", "--json").stdout.splitlines()]
    assert [letter["payload"]["hostname"] for letter in listed] == ["h1", "h2"]


@pytest.mark.parametrize("width", [80, 200])
def test_an_id_is_whole_in_a_list_of_any_width(shell, refused, monkeypatch, width):
    monkeypatch.setattr(common.console, "width", width)
    lines = shell("dlq", "show", "moog").output.splitlines()
    assert all(any(letter in line for line in lines) for letter in refused)
    assert max(map(len, lines)) <= width


def test_a_letter_is_shown_with_what_it_means_and_what_it_holds(shell, refused):
    said = shell("dlq", "show", "moog", refused[0]).output
    for wanted in ("Moog refused this alert", "Moog's status", "400", '"hostname": "h1"', "first queued"):
        assert wanted in said


def test_what_a_sender_wrote_moves_no_cursor(shell, ingest):
    item = json.dumps({"hostname": "\x1b[2J\u202e", "message": ""})
    good = '{"hostname":"h","message":"m"}'
    shell("send", "-", "--url", ingest, stdin=f"{item}\n{good}\n")
    (letter,) = [json.loads(line) for line in shell("dlq", "show", "ingest", "--json").stdout.splitlines()]
    said = shell("dlq", "show", "ingest", letter["id"]).output
    assert "\x1b" not in said and "\u202e" not in said and "hostname" in said


def test_a_letter_is_tried_against_the_present_rules(shell, refused):
    before = shell.json("ledger", "--deep")
    trial = shell.json("dlq", "try", "moog", refused[0])
    assert (trial["outcome"], trial["handling"]) == ("audited", "Page_and_ticket")
    assert trial["alerts"][0]["hostname"] == "h1"
    assert "CRITICAL" in shell("dlq", "try", "moog", refused[0]).output
    assert shell.json("ledger", "--deep") == before


def test_a_copy_of_an_alert_takes_its_place(shell, refused, moog):
    moog.script.set()
    copy = shell.json(
        "dlq", "edit", "moog", refused[0], "--set", "description=CRITICAL fan", "--reason", "words"
    )
    assert copy["changed"] == ["description"]
    shell.forward()
    assert statuses(shell) == ["delivered", "dropped", "parked"]
    assert shell.json("ledger", "--deep")["balanced"]
    (note,) = shell.sql(sa.select(config_audit_log).where(config_audit_log.c.table_name == "mutt:dlq:moog"))
    assert (note.operation, note.record_id, note.reason) == ("EDIT", refused[0], "words")


def test_a_bad_copy_names_the_field_and_the_fix(shell, refused):
    for given, says in (
        ("severity=9", "write 1"),
        ("colour=red", "there are: hostname"),
        ("hostname=", "is empty"),
    ):
        error = shell("dlq", "edit", "moog", refused[0], "--set", given).exception
        assert isinstance(error, MuttError)
        assert given.partition("=")[0] in str(error) and says in str(error)
    assert statuses(shell) == ["parked", "parked"]


def test_an_editor_opens_on_what_may_be_changed(shell, refused, moog):
    shell.environ.setenv("EDITOR", "sed -i s/MOOG-REFUSES/fan/")
    shell.environ.delenv("VISUAL", raising=False)
    assert "changed: description" in shell("dlq", "edit", "moog", refused[0]).output
    shell.environ.setenv("EDITOR", "true")
    assert "nothing was saved" in shell("dlq", "edit", "moog", refused[1]).output
    shell.record()
    assert statuses(shell) == ["dropped", "parked", "waiting"]


def test_a_rejected_item_is_mended_and_taken(shell, ingest):
    shell("send", "-", "--url", ingest, stdin='{"hostname":"h","message":"m"}\n{"message":"CRITICAL fan"}\n')
    (letter,) = [json.loads(line) for line in shell("dlq", "show", "ingest", "--json").stdout.splitlines()]
    assert "hostname" in str(shell("dlq", "edit", "ingest", letter["id"], "--set", "program=x").exception)
    assert shell("dlq", "edit", "ingest", letter["id"], "--set", "hostname=r9").exit_code == 0
    assert shell.json("dlq", "list")["ingest"] == {}
    shell.evaluate()
    assert shell.json("ledger", "--deep")["events"]["settled"] == 2


def test_letters_of_one_reason_go_and_the_others_stay(shell, refused):
    assert shell("dlq", "drop", "moog", "--reason-is", "no such reason", "--reason", "r").exit_code
    assert "2 letters" in shell("dlq", "drop", "moog", "--reason-is", "refused", "--reason", "r").output


def test_a_replay_that_waits_says_why_and_ends_with_ctrl_c(shell, refused, monkeypatch):
    shell.services.redis.hset(names.BREAKER, "state", "open")
    show = dlq._Progress.show

    def and_ctrl_c(*told):
        show(*told)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as soon:
        soon.setattr(dlq._Progress, "show", and_ctrl_c)
        result = shell("dlq", "replay", "moog", "--all")
    assert result.exit_code == 130
    assert "waits: Moog's breaker is open" in result.stderr
    assert "0 letters" in result.stdout and "2 letters stand where they were" in result.stderr
    assert statuses(shell) == ["parked", "parked"]
    assert shell("dlq", "replay", "moog", "--all", "--now").exit_code == 0
    assert statuses(shell) == ["waiting", "waiting"]


def test_a_letter_that_is_gone_is_named(shell, refused):
    shell("dlq", "drop", "moog", refused[0], "--reason", "a test")
    result = shell("dlq", "drop", "moog", refused[0], "--reason", "a test")
    assert refused[0] in str(result.exception)


def test_with_postgresql_away_no_alert_is_moved(shell, refused):
    shell.set(DATABASE_URL=NOWHERE_POSTGRES)
    assert isinstance(shell("dlq", "replay", "moog", "--all").exception, MuttError)
    assert shell.json("dlq", "list", "moog") == {"moog": {"refused": 2}}


def test_replay_wants_names_or_all_and_never_moves_everything_by_accident(shell, refused):
    assert shell("dlq", "replay", "moog").exit_code == 2
    assert shell("dlq", "drop", "moog", "--reason", "x").exit_code == 2
    assert shell.json("dlq", "list", "moog") == {"moog": {"refused": 2}}


# ---- rules, partitions, doctor


def test_what_is_exported_can_be_brought_in_and_the_history_says_by_whom(shell, tmp_path):
    file = tmp_path / "rules.json"
    rules = json.loads(shell("rules", "export").stdout)
    file.write_text(json.dumps([{**rules[0], "priority": 99}]))
    arguments = ("--replace", "--who", "ann", "--reason", "fewer")
    assert shell("rules", "import", str(file), *arguments).exit_code == 0
    after = json.loads(shell("rules", "export").stdout)
    assert [(rule["name"], rule["priority"]) for rule in after] == [(rules[0]["name"], 99)]
    noted = shell.sql(sa.select(config_audit_log).where(config_audit_log.c.changed_by == "ann"))
    assert {(row.operation, row.reason) for row in noted} == {("UPDATE", "fewer"), ("DELETE", "fewer")}


def test_a_file_with_one_bad_rule_changes_nothing(shell, tmp_path):
    file = tmp_path / "rules.json"
    file.write_text(json.dumps([{"match_string": "good"}, {"match_string": "bad", "priority": "?"}]))
    before = shell("rules", "export").stdout
    result = shell("rules", "import", str(file), "--reason", "x")
    assert "rule #2: priority" in str(result.exception)
    assert shell("rules", "export").stdout == before


def test_a_plan_is_shown_and_applied_and_its_version_taken_back(shell, tmp_path):
    """What `plan` says is what `apply` does, once; a plan that is out of date is refused; `restore` takes it back."""
    file = tmp_path / "rules.yaml"
    file.write_text(shell("rules", "export", "--format", "yaml").stdout)
    assert shell.json("rules", "plan", str(file), "--replace")["changes"] == []
    before = shell("rules", "export").stdout
    file.write_text("rules: [{name: ERROR, match_string: ERR, is_active: no}, {match_string: new}]\n")
    planned = shell.json("rules", "plan", str(file))
    assert [(change["operation"], change["name"]) for change in planned["changes"]] == [
        ("UPDATE", "ERROR"),
        ("CREATE", "new"),
    ]
    fields = planned["changes"][0]["fields"]
    assert (fields["match_string"], fields["is_active"]) == (["ERROR", "ERR"], [True, False])
    assert planned["silenced"] == ["ERROR"]
    assert shell("rules", "plan", str(file), "--exit-code").exit_code == 1
    pinned = ("--plan-version", str(planned["version"]), "--reason", "new")
    assert shell("rules", "apply", str(file), *pinned).exit_code == 0
    assert isinstance(shell("rules", "apply", str(file), *pinned).exception, Refused)
    assert shell("rules", "plan", str(file), "--exit-code").exit_code == 0
    newest, *_ = shell.json("rules", "versions")
    assert (newest["why"], newest["counts"]) == (["new"], {"UPDATE alert_rules": 1, "CREATE alert_rules": 1})
    changed = shell.json("rules", "diff", str(planned["version"]), str(newest["version"]))
    assert [change["name"] for change in changed] == ["ERROR", "new"]
    assert "- name: new" in shell("rules", "show", str(newest["version"])).stdout
    back = ("rules", "restore", str(planned["version"]), "--reason", "no")
    assert shell(*back, stdin="n\n").exit_code == 1
    assert shell(*back, stdin="y\n").exit_code == 0
    assert shell("rules", "export").stdout == before
    assert isinstance(shell("rules", "show", "99").exception, MuttError)


def test_apply_asks_before_it_deletes(shell, tmp_path):
    """Without a yes nothing is changed; with one the rules that the file does not name are gone."""
    file = tmp_path / "rules.yaml"
    file.write_text("rules: [{match_string: new}]\n")
    before = shell("rules", "export").stdout
    command = ("rules", "apply", str(file), "--replace", "--reason", "fewer")
    assert shell(*command, stdin="n\n").exit_code == 1
    assert shell("rules", "export").stdout == before
    assert shell(*command, "--yes").exit_code == 0
    assert [rule["name"] for rule in json.loads(shell("rules", "export").stdout)] == ["new"]


def test_the_linter_says_what_is_odd(shell, tmp_path):
    """Of the rules that stand, and of a file; only what is more than a hint makes --exit-code say 1."""
    file = tmp_path / "rules.yaml"
    file.write_text("rules: [{match_string: ERR}, {match_string: ERROR}]\n")
    told = shell.json("rules", "lint", str(file))
    assert ("unreachable", "ERROR") in [(each["kind"], each["rule"]) for each in told["findings"]]
    assert shell("rules", "lint", str(file), "--exit-code").exit_code == 1
    assert {each["level"] for each in shell.json("rules", "lint")["findings"]} == {"info"}
    assert shell("rules", "lint", "--exit-code").exit_code == 0


def test_partitions_are_made_and_listed(shell):
    assert "made event_audit_log_" in shell("partitions", "ensure", "--ahead", "6").output
    assert shell("partitions", "ensure", "--ahead", "6").output == "every month is there\n"
    listed = shell.json("partitions", "list")
    assert len(listed["partitions"]) == 7
    assert listed["default_rows"] == 0


def levels(findings: list[dict[str, str]]) -> dict[str, str]:
    return {found["what"]: found["level"] for found in findings}


def test_the_doctor_finds_a_fresh_stack_well_and_asks_moog_for_nothing(shell, moog):
    # The suite's PostgreSQL does not wait for its disk, which the doctor must not like.
    found = levels(shell.json("doctor", code=1))
    assert {what for what, level in found.items() if level == "bad"} <= {
        f"PostgreSQL {name}" for name in ("fsync", "full_page_writes", "synchronous_commit")
    }
    assert found["Moog, connection"] == found["books"] == found["PostgreSQL schema"] == "ok"
    assert found["Redis appendfsync"] == "ok"
    assert moog.received == []


def test_the_doctor_looks_on_when_a_server_is_away_and_tells_no_password(shell):
    shell.set(REDIS_URL=NOWHERE_REDIS, DATABASE_URL=NOWHERE_POSTGRES, MOOG_URL="http://127.0.0.1:9/")
    result = shell("doctor", "--json")
    assert result.exit_code == 1
    found = levels(json.loads(result.stdout))
    assert found == {"Redis": "bad", "PostgreSQL": "bad", "Moog, connection": "bad"}
    assert "sekret" not in result.output


def test_the_doctor_compares_the_clocks(shell):
    found = levels(shell.json("doctor", code=1))
    assert (found["clock of Redis"], found["clock of PostgreSQL"]) == ("ok", "ok")


# ---- what an operator may get wrong with letters


def refusal(result: Result) -> str:
    """What a command said no with; `mutt` prints it and exits with 2."""
    assert isinstance(result.exception, MuttError), result.exception
    return str(result.exception)


@pytest.mark.parametrize("queue", ["moog", "ingest"])
def test_a_file_that_is_no_utf8_is_refused_with_a_sentence(shell, refused, ingest, tmp_path, queue):
    shell("send", "-", "--url", ingest, stdin='{"hostname":"h","message":"m"}\n{"message":"CRITICAL fan"}\n')
    (id_, *_) = [json.loads(line)["id"] for line in shell("dlq", "show", queue, "--json").stdout.splitlines()]
    bad = tmp_path / "bad.json"
    bad.write_bytes(b'{"description": "\xff"}')
    result = shell("dlq", "edit", queue, id_, "--file", str(bad))
    assert "no UTF-8" in refusal(result)
    result = shell("dlq", "edit", queue, id_, "--set", "message=\udcff")
    assert refusal(result)


@pytest.mark.parametrize("rate", ["nan", "inf", "1e309"])
def test_a_rate_is_a_number(shell, refused, rate):
    result = shell("dlq", "replay", "moog", "--all", "--rate", rate)
    assert "rate" in refusal(result)
    assert statuses(shell) == ["parked", "parked"]


@pytest.mark.parametrize("how", [("replay",), ("drop", "--reason", "r")])
def test_a_reason_that_no_letter_has_is_not_nothing_to_do(shell, refused, how):
    result = shell("dlq", how[0], "moog", "--reason-is", "refusd", *how[1:])
    assert "reason refusd; there are: refused" in refusal(result)
