"""``mutt up``: what it plans, what it is told, and how it says what waits."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mutt.cli.queues import Breaker
from mutt.cli.show import waiting
from mutt.cli.up import check_given, shown_key, wanted
from mutt.embedded.home import Home
from mutt.embedded.postgres import PostgresServer
from mutt.embedded.process import Process
from mutt.embedded.redis import RedisServer
from mutt.embedded.stack import PORTS, Sizes, Stack
from mutt.errors import MuttError, SettingsError
from mutt.settings import Settings
from mutt.streams.books import ALERTS, EVENTS, Books

CLOSED = Breaker("closed", "", 0, 0.0, 0.0)
OPEN = Breaker("open", "connection", 10, 300.0, 0.0)
REAL = "https://moog.example/events"


def planned(home: Path, **environ: str) -> Stack:
    made = Home(home).make()
    environ = {"MUTT_HOME": str(home), **environ}
    return Stack(made, made.secrets(), Settings.from_env(environ), environ, Sizes(), PORTS)


def processes(stack: Stack) -> dict[str, Process]:
    told = stack.up(None, None)
    simulator = stack.simulator(told)
    listed = [
        *stack.workers(told),
        *stack.doors(told),
        stack.ingest(told),
        *([simulator] if simulator else []),
    ]
    return {process.name: process for process in listed}


def test_every_process_starts_where_no_module_lies(tmp_path):
    """A clone named mutt in the directory in which somebody types `mutt up` would pass for the package."""
    started_in = {process.cwd for process in processes(planned(tmp_path)).values()}
    assert started_in == {tmp_path / "run"}
    assert list((tmp_path / "run").iterdir()) == []


def test_up_json_tells_the_settings_that_differ_and_no_process_own(tmp_path):
    told = planned(tmp_path, MOOG_RATE_LIMIT="20", MOOG_TURN="1", METRICS_PORT="9000").up(None, None)
    settings = told["settings"]
    assert isinstance(settings, dict)
    assert settings["MOOG_RATE_LIMIT"] == "20"
    assert not {"MOOG_TURN", "METRICS_PORT", "MUTT_ROLE", "REDIS_URL"} & settings.keys()


def test_a_worker_by_hand_has_the_key_that_the_simulator_is_sent(tmp_path):
    stack = planned(tmp_path)
    stack.home.write_up({**stack.up(None, None), "redis_url": "redis://r/0"})
    assert Settings.from_env({"MUTT_HOME": str(tmp_path)}).moog_api_key == stack.secrets.moog_key


@pytest.mark.parametrize(
    ("environ", "timeout"),
    [({}, 10.0), ({"MOOG_BREAKER_TIMEOUT": "20s"}, 20.0), ({"MOOG_URL": REAL}, 300.0)],
)
def test_the_simulators_breaker_asks_again_soon(tmp_path, environ, timeout):
    worker = processes(planned(tmp_path, **environ))["moog1"]
    assert Settings.from_env(worker.env).moog_breaker_timeout == timeout


def test_flower_does_not_count_into_our_metrics(tmp_path):
    made = processes(planned(tmp_path))
    with_directory = {name for name, one in made.items() if "PROMETHEUS_MULTIPROC_DIR" in (one.env or {})}
    assert made.keys() - with_directory == {"flower"}


def test_each_process_is_told_its_own_way_into_a_private_server_and_no_other(tmp_path):
    """Those who need no PostgreSQL get none; the owner's password is nobody's; up.json tells the shell's alone."""
    stack = planned(tmp_path)
    servers = RedisServer(tmp_path, tmp_path, 1, "owner-r"), PostgresServer(None, tmp_path, 2, "owner-p")
    told = stack.up(*servers)
    roles = (
        "ingest",
        "admin",
        "alerts",
        "moog",
        "housekeeping",
        "backtests",
        "beat",
        "flower",
        "moogsim",
        "cli",
    )
    made = {role: stack.environment(told, role) for role in roles}
    users = {role: (user_of(env["REDIS_URL"]), user_of(env["DATABASE_URL"])) for role, env in made.items()}
    assert users == {
        role: (role, f"mutt_{role}")
        for role in ("ingest", "admin", "alerts", "housekeeping", "backtests", "cli")
    } | {"moog": ("moog", None), "beat": ("beat", None), "flower": ("flower", None), "moogsim": (None, None)}
    assert not [role for role, env in made.items() if "owner-" in str(env)]
    passwords = [
        urlsplit(env[name]).password for env in made.values() for name in ("REDIS_URL", "DATABASE_URL")
    ]
    known = [password for password in passwords if password]
    assert len(set(known)) == len(known) == 15
    assert (told["redis_url"], told["database_url"]) == (
        made["cli"]["REDIS_URL"],
        made["cli"]["DATABASE_URL"],
    )


def user_of(url: str) -> str | None:
    return urlsplit(url).username


def test_servers_that_are_given_are_for_all_as_they_are_given(tmp_path):
    """Who they let in is not ours to say."""
    given = {"REDIS_URL": "redis://r/0", "DATABASE_URL": "postgresql://p/mutt"}
    stack = planned(tmp_path, **given)
    told = stack.up(None, None)
    for role in ("ingest", "moog", "beat", "cli"):
        env = stack.environment(told, role)
        assert {name: env[name] for name in given} == given
    assert told["owner_url"] == given["DATABASE_URL"]


@pytest.mark.parametrize(
    ("asked", "moog", "sent"), [(None, "", True), (None, REAL, False), (True, REAL, True), (False, "", False)]
)
def test_samples_page_nobody_who_did_not_ask_for_it(asked, moog, sent, capsys):
    assert wanted(asked, Settings.from_env({}, moog_url=moog)) is sent
    assert ("--samples" in capsys.readouterr().out) is (asked is None and bool(moog))


@pytest.mark.parametrize(
    ("name", "url"),
    [("REDIS_URL", "redis://:sekret@127.0.0.1:9/0"), ("DATABASE_URL", "postgresql://m:sekret@127.0.0.1:9/m")],
)
def test_a_given_server_that_is_not_there_is_named_by_its_variable(name, url):
    with pytest.raises(MuttError, match=f"^{name} is set, and it can't be asked: .*refused") as refused:
        check_given(Settings.from_env({}, **{name.lower(): url}))
    assert "sekret" not in str(refused.value)


def books(queued: int = 0, alerts: int = 0) -> Books:
    return Books(
        dict.fromkeys(EVENTS, 0) | {"queued": queued}, dict.fromkeys(ALERTS, 0) | {"waiting": alerts}
    )


@pytest.mark.parametrize(
    ("now", "breaker", "sentence"),
    [
        (
            books(alerts=11_789),
            OPEN,
            "11,789 alerts wait: the breaker is open (connection), asks again in 5 min",
        ),
        (books(queued=1), OPEN, "1 event waits: see `mutt queues`"),
        (books(queued=2, alerts=1), CLOSED, "2 events and 1 alert wait: see `mutt queues`"),
        (books(), CLOSED, "the last outcomes are on their way to PostgreSQL: see `mutt ledger --wait 30`"),
    ],
)
def test_what_waits_is_said_with_what_it_waits_for(now, breaker, sentence):
    assert waiting(now, breaker) == sentence


def test_the_key_that_was_made_is_shown_at_the_first_start_only(tmp_path: Path) -> None:
    """One that was given is never shown: whoever gave it has it."""
    home = Home(tmp_path / "home").make()
    assert not home.has_secrets
    stack = planned(home.path)
    assert home.has_secrets
    told = stack.up(None, None)
    assert shown_key(stack, told, first=True) == f"X-API-KEY: {stack.secrets.api_key}"
    assert stack.secrets.api_key not in shown_key(stack, told, first=False)
    given = planned(home.path, INGEST_API_KEY="given")
    assert shown_key(given, given.up(None, None), first=True) == "with the key of INGEST_API_KEY"


def test_what_listens_on_this_machine_only_speaks_no_tls(tmp_path):
    stack = planned(tmp_path, TLS_CERT="/c.pem", TLS_KEY="/k.pem", TLS_CLIENT_CA="/ca.pem", REDIS_CA="/r.pem")
    env = processes(stack)["ingest"].env
    assert not {"TLS_CERT", "TLS_KEY", "TLS_CLIENT_CA"} & env.keys()
    assert env["REDIS_CA"] == "/r.pem"


def test_a_ca_for_a_postgresql_that_is_started_here_is_refused(tmp_path):
    with pytest.raises(SettingsError) as refused:
        planned(tmp_path, DATABASE_CA="/ca.pem").postgres()
    assert refused.value.name == "DATABASE_CA"


def test_who_needs_no_redis_is_told_of_none(tmp_path):
    """Nor of the ones that are given for the data or the doorbells."""
    stack = planned(tmp_path, STREAM_URL="redis://:p@data/0", BROKER_URL="redis://:p@broker/0")
    told = stack.up(None, None)
    assert "redis://" not in str(stack.environment(told, "moogsim"))
    assert stack.environment(told, "alerts")["STREAM_URL"] == "redis://:p@data/0"


@pytest.mark.parametrize(
    ("given", "started"),
    [
        ({}, True),
        ({"STREAM_URL": "redis://data/0"}, True),
        ({"BROKER_URL": "redis://broker/0"}, True),
        ({"STREAM_URL": "redis://data/0", "BROKER_URL": "redis://broker/0"}, False),
        ({"REDIS_URL": "redis://r/0"}, False),
    ],
    ids=["nothing", "data", "doorbells", "both", "one for both"],
)
def test_a_redis_is_started_for_what_none_is_given_for(tmp_path, given, started):
    assert (planned(tmp_path, **given).redis() is not None) == started


def test_who_listens_knows_ingest_and_no_server(tmp_path):
    stack = planned(tmp_path, STREAM_URL="redis://:p@data/0", INGEST_API_KEY="k")
    env = stack.listener(stack.up(None, None)).env
    assert (env["INGEST_URL"], env["INGEST_KEY"]) == (stack.url("ingest"), "k")
    assert env["LISTEN_SYSLOG_UDP"] == env["LISTEN_SYSLOG_TCP"] == str(PORTS["syslog"])
    assert not {"STREAM_URL", "TLS_CERT"} & env.keys()
    assert "redis://" not in str(env)
