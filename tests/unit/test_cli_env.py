"""``mutt env`` and ``up.json``: what a shell beside a stack takes from it, and what it does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mutt.cli import cli, common
from mutt.cli.up import started_as
from mutt.embedded.home import Home
from mutt.errors import MuttError, SettingsError, StackGone
from mutt.settings import Settings, exported, inherited, marked, shared

UP = {
    "redis_url": "redis://127.0.0.1:1/0",
    "database_url": "postgresql://127.0.0.1:2/mutt",
    "api_key": "k",
    "settings": {"MOOG_RATE_LIMIT": "20", "MOOG_API_KEY": "s"},
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return running(tmp_path / "home", UP)


def running(home: Path, up: dict[str, Any], pid: int | None = None) -> Path:
    """A home in which process ``pid`` (this one) is the supervisor."""
    home.mkdir(exist_ok=True)
    (home / "up.lock").touch()
    (home / "up.json").write_text(json.dumps({**up, "processes": {"supervisor": pid or os.getpid()}}))
    return home


@pytest.fixture
def dead() -> int:
    """The id of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def shell(home: Path, **more: str) -> dict[str, str]:
    """The environment of a shell in which ``eval "$(mutt env)"`` was typed."""
    return {**exported(json.loads((home / "up.json").read_text()), home), **more}


def test_what_is_not_set_comes_from_the_stack_that_runs(home):
    found = Settings.from_env({"MUTT_HOME": str(home)})
    assert (found.redis_url, found.moog_rate_limit, found.moog_api_key) == (UP["redis_url"], 20, "s")


def test_what_is_set_wins(home):
    assert Settings.from_env({"MUTT_HOME": str(home), "MOOG_RATE_LIMIT": "5"}).moog_rate_limit == 5


def test_who_works_on_another_redis_has_settings_of_their_own(home):
    found = Settings.from_env({"MUTT_HOME": str(home), "REDIS_URL": "redis://elsewhere/0"})
    assert found.moog_rate_limit == 50


def test_a_shell_behaves_as_its_stack_does(home):
    env = shell(home)
    assert (env["MOOG_RATE_LIMIT"], env["REDIS_URL"], env["INGEST_API_KEY"]) == ("20", UP["redis_url"], "k")
    assert Settings.from_env(env).moog_rate_limit == 20


def test_a_shell_follows_its_stack_to_other_addresses(home):
    env = shell(home)
    running(home, {**UP, "redis_url": "redis://127.0.0.1:3/0"})
    assert Settings.from_env(env).redis_url == "redis://127.0.0.1:3/0"


def test_a_shell_of_one_stack_does_not_lead_another_home_into_it(home, tmp_path):
    env = shell(home, MUTT_HOME=str(tmp_path / "other"))
    assert Settings.from_env(env).redis_url == ""


def test_what_somebody_set_after_it_is_theirs(home):
    env = shell(home, REDIS_URL="redis://mine/0", MOOG_RATE_LIMIT="7")
    found = Settings.from_env(env)
    assert (found.redis_url, found.moog_rate_limit) == ("redis://mine/0", 7)


def test_where_the_home_is_not_the_variables_are_all_there_is(home):
    env = shell(home)
    (home / "up.json").unlink()
    assert Settings.from_env(env).redis_url == "", "it was stopped here"
    (home / "up.lock").unlink()
    assert Settings.from_env(env).redis_url == UP["redis_url"], "as in a container"


def test_processes_do_not_inherit_what_mutt_env_set(home, monkeypatch):
    for name, value in shell(home, MOOG_TIMEOUT="3s").items():
        monkeypatch.setenv(name, value)
    env = inherited()
    assert not {"REDIS_URL", "MOOG_RATE_LIMIT", "MUTT_ENV_OF", "MUTT_ENV_SET"} & env.keys()
    assert (env["MOOG_TIMEOUT"], env["MUTT_HOME"]) == ("3s", str(home))
    assert {"REDIS_URL", "DATABASE_URL"} <= set(marked())


def test_processes_find_the_same_files_wherever_they_start(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOOG_API_KEY_FILE", "key")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([".", "/lib"]))
    env = inherited()
    assert env["MOOG_API_KEY_FILE"] == str(tmp_path / "key")
    assert env["PYTHONPATH"] == os.pathsep.join([str(tmp_path), "/lib"])


def test_a_secret_that_came_from_a_file_is_told_as_that_file():
    env = {"MOOG_API_KEY": "s", "MOOG_API_KEY_FILE": "/key", "MOOG_TURN": "3", "MOOG_TIMEOUT": "10s"}
    own = {"MUTT_ROLE": "x", "METRICS_PORT": "1", "MUTT_HOME": "/h", "REDIS_URL": "redis://r/0", "PATH": "/"}
    assert shared({**env, **own}) == {"MOOG_API_KEY_FILE": "/key", "MOOG_TURN": "3"}
    assert shared({"REDIS_URL_FILE": "/url", "REDIS_URL": "redis://r/0"}) == {"REDIS_URL_FILE": "/url"}


@pytest.mark.parametrize("command", [("env",), ("queues",), ("ledger",), ("send",), ("dlq", "list")])
def test_of_a_stack_that_was_killed_it_is_said_that_it_is_gone(home, dead, monkeypatch, command):
    env = shell(home)
    running(home, UP, pid=dead)
    for variables in ({"MUTT_HOME": str(home)}, env):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        common.services.cache_clear()
        result = CliRunner().invoke(cli, command)
        assert isinstance(result.exception, StackGone)
        assert str(result.exception) == f"the stack in {home} is gone: start `mutt up`"


@pytest.mark.parametrize("command", [("queues",), ("ledger",), ("dlq", "list"), ("env",)])
def test_without_a_stack_it_is_said_what_to_start(command):
    common.services.cache_clear()
    result = CliRunner().invoke(cli, command)
    assert isinstance(result.exception, MuttError)
    assert "start `mutt up` first" in str(result.exception)


def test_env_is_what_a_shell_can_evaluate_and_takes_back_what_an_earlier_one_set(home, monkeypatch):
    for name, value in shell(home).items():
        monkeypatch.setenv(name, value)
    running(home, {**UP, "settings": {"MOOG_TURN": "2"}, "api_key": "it's"})
    printed = CliRunner().invoke(cli, ["env"]).output
    script = printed + 'echo "$INGEST_API_KEY/$MOOG_TURN/$MOOG_RATE_LIMIT/$APP"; command -v python'
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    # Whoever typed .venv/bin/mutt finds celery by its name afterwards.
    assert said.split() == ["it's/2//mutt", str(Path(sys.executable).parent / "python")]


def test_another_shell_is_told_the_path_that_was_typed():
    assert started_as(".venv/bin/mutt") == ".venv/bin/mutt"
    assert started_as("/a b/mutt") == "'/a b/mutt'"
    assert started_as("/x/mutt/__main__.py") == f"{sys.executable} -m mutt"


def test_a_home_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MuttError, match=r"MUTT_HOME=.*file/home can't be used: Not a directory"):
        Home(tmp_path / "file" / "home").make()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_of_another_user_is_a_sentence(tmp_path):
    (tmp_path / "redis").mkdir(mode=0o500)
    with pytest.raises(MuttError, match="redis is not ours to write"):
        Home(tmp_path).make()


def test_a_setting_that_is_needed_is_named():
    with pytest.raises(SettingsError, match="REDIS_URL"):
        Settings.from_env({}).need("redis_url")


def test_owner_work_goes_to_the_owner(tmp_path):
    """Migrations and roles: DATABASE_OWNER_URL, else the private server's owner beside its stack, else DATABASE_URL."""
    home = running(tmp_path / "home", {**UP, "owner_url": "postgresql://owner@127.0.0.1:2/mutt"})
    beside = {"MUTT_HOME": str(home)}
    assert common.owner_url(Settings.from_env(beside)) == "postgresql://owner@127.0.0.1:2/mutt"
    elsewhere = {**beside, "DATABASE_URL": "postgresql://other/mutt"}
    assert common.owner_url(Settings.from_env(elsewhere)) == "postgresql://other/mutt"
    named = {**elsewhere, "DATABASE_OWNER_URL": "postgresql://me@direct/mutt"}
    assert common.owner_url(Settings.from_env(named)) == "postgresql://me@direct/mutt"
    with pytest.raises(SettingsError):
        common.owner_url(Settings.from_env({"MUTT_HOME": str(tmp_path)}))


def test_data_and_doorbells_stand_in_redis_url_unless_they_are_told_elsewhere():
    one = Settings.from_env({"REDIS_URL": "redis://r/0"})
    assert (one.stream_url, one.broker_url) == ("redis://r/0", "redis://r/0")
    two = Settings.from_env({"REDIS_URL": "redis://r/0", "STREAM_URL": "redis://s/0"})
    assert (two.stream_url, two.broker_url) == ("redis://s/0", "redis://r/0")
    assert (two.variable("stream_url"), two.variable("broker_url")) == ("STREAM_URL", "REDIS_URL")


def test_data_on_another_redis_is_another_stack(home):
    """A shell that names its own has the addresses of the stack beside it, and not its limits."""
    found = Settings.from_env({"MUTT_HOME": str(home), "STREAM_URL": "redis://other/0"})
    assert (found.stream_url, found.broker_url) == ("redis://other/0", UP["redis_url"])
    assert found.moog_rate_limit == 50
