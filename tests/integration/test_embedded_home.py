"""MUTT_HOME: one stack at a time, secrets that stay, files for their owner alone."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mutt.embedded.home import AlreadyRunning, Home
from mutt.errors import MuttError
from mutt.sealing import Sealer
from mutt.settings import Settings

HOLD = """
import sys, time
from pathlib import Path
from mutt.embedded.home import Home
with Home(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").make()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_the_same_at_the_next_start_and_its_owners_alone(home: Home) -> None:
    first = home.secrets()
    assert home.secrets() == first
    assert mode(home.path / "secrets.json") == 0o600
    assert len(bytes.fromhex(first.api_key)) * 8 == 256
    assert (
        len({first.api_key, first.secret_key, first.moog_key, first.redis_password, first.postgres_password})
        == 5
    )


def test_the_key_that_seals_is_one_that_the_settings_take(home: Home) -> None:
    key = home.secrets().sealing_key
    assert Sealer(Settings.from_env({"SEALING_KEY": key}).sealing_key).seal("x")


def test_a_secret_added_by_a_later_version_leaves_the_others_alone(home: Home) -> None:
    (home.path / "secrets.json").write_text(json.dumps({"api_key": "kept", "unknown": "kept too"}))
    assert home.secrets().api_key == "kept"
    assert json.loads((home.path / "secrets.json").read_text())["unknown"] == "kept too"


def test_secrets_are_not_shown(home: Home) -> None:
    secrets = home.secrets(token=lambda size: f"shh{size}")
    assert "shh" not in repr(secrets)


def test_damaged_secrets_are_not_replaced(home: Home) -> None:
    (home.path / "secrets.json").write_text("{")
    with pytest.raises(MuttError, match=r"secrets.json is damaged"):
        home.secrets()


def test_up_json_is_replaced_whole_and_read_by_settings(home: Home) -> None:
    for number in range(3):
        home.write_up({"redis_url": f"redis://127.0.0.1:{number}/0", "processes": {"redis": number}})
    assert mode(home.path / "up.json") == 0o600
    assert Settings.from_env({"MUTT_HOME": str(home.path)}).redis_url == "redis://127.0.0.1:2/0"
    assert [path.name for path in home.path.iterdir()] == ["up.json"]
    home.clear_up()
    home.clear_up()
    assert Settings.from_env({"MUTT_HOME": str(home.path)}).redis_url == ""


def test_directories_for_running_are_closed_to_others(home: Home) -> None:
    assert mode(home.directory("run")) == 0o700
    assert mode(home.log("ingest").parent) == 0o700


def test_the_holder_is_named_and_the_lock_goes_with_it(home: Home) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home.path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert holder.stdout
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(
        AlreadyRunning, match=f"already runs in {home.path} .process {holder.pid}."
    ) as refused:
        with home.lock():
            pass
    assert refused.value.pid == holder.pid
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with home.lock():
        assert (home.path / "up.lock").read_text() == str(os.getpid())


def test_a_start_waits_while_the_remains_of_a_killed_one_are_cleared(home: Home) -> None:
    """The reaper holds a dead supervisor's lock; here a descriptor that someone else still has open does."""
    with home.lock() as descriptor:
        (home.path / "up.lock").write_text("4194304")  # beyond any process id
        argv = ["sh", "-c", "read told; sleep 0.3"]
        cleaner = subprocess.Popen(argv, stdin=subprocess.PIPE, pass_fds=[descriptor])
    with pytest.raises(AlreadyRunning):
        with home.lock(clearing=0.1):
            pass
    assert cleaner.stdin
    cleaner.stdin.close()
    with home.lock(clearing=10):
        assert cleaner.wait(5) == 0
