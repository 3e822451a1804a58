"""Flower has a login and listens on the loopback, however it is started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mutt.errors import SettingsError
from mutt.flower import behind_login, is_flower
from mutt.settings import Settings

BY_HAND = ["/venv/bin/celery", "-A", "mutt", "flower"]


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set, so that they are put back as they were."""
    for name in ("BASIC_AUTH", "AUTH", "ADDRESS", "MAX_TASKS", "PURGE_OFFLINE_WORKERS"):
        monkeypatch.setenv(f"FLOWER_{name}", "")


def settings(password: str = "s3cret") -> Settings:
    return Settings.from_env({}, admin_password=password)


@pytest.mark.parametrize(
    ("argv", "is_it"),
    [
        (BY_HAND, True),
        (["/venv/lib/celery/__main__.py", "-A", "mutt", "flower", "--port=1"], True),
        (["/venv/bin/celery", "-A", "mutt", "worker", "-Q", "alerts"], False),
        (["/venv/bin/mutt", "send", "flower"], False),
    ],
)
def test_flower_is_known_by_its_command(argv: list[str], is_it: bool) -> None:
    assert is_flower(argv) is is_it


def test_without_a_word_the_login_is_the_admins_and_the_address_the_loopback() -> None:
    behind_login(BY_HAND, settings())
    assert os.environ["FLOWER_BASIC_AUTH"] == "admin:s3cret"
    assert os.environ["FLOWER_ADDRESS"] == "127.0.0.1"


@pytest.mark.parametrize("option", ["--basic-auth=ann:x", "--basic_auth=ann:x", "--auth=.*@example.com"])
def test_another_login_stands(option: str) -> None:
    behind_login([*BY_HAND, option], settings(""))
    assert not os.environ["FLOWER_BASIC_AUTH"]


def test_what_was_said_in_the_environment_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWER_BASIC_AUTH", "ann:x")
    monkeypatch.setenv("FLOWER_ADDRESS", "0.0.0.0")
    behind_login(BY_HAND, settings())
    assert (os.environ["FLOWER_BASIC_AUTH"], os.environ["FLOWER_ADDRESS"]) == ("ann:x", "0.0.0.0")


def test_what_it_keeps_is_limited_unless_somebody_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    behind_login(BY_HAND, settings())
    assert (os.environ["FLOWER_MAX_TASKS"], os.environ["FLOWER_PURGE_OFFLINE_WORKERS"]) == ("10000", "3600")
    monkeypatch.setenv("FLOWER_MAX_TASKS", "500")
    monkeypatch.setenv("FLOWER_PURGE_OFFLINE_WORKERS", "")
    behind_login([*BY_HAND, "--purge-offline-workers=60"], settings())
    assert (os.environ["FLOWER_MAX_TASKS"], os.environ["FLOWER_PURGE_OFFLINE_WORKERS"]) == ("500", "")


@pytest.mark.parametrize(("password", "name"), [("", "FLOWER_BASIC_AUTH"), ("a,b", "ADMIN_PASSWORD")])
def test_without_a_login_that_works_it_does_not_start(password: str, name: str) -> None:
    """An empty one lets everyone in, and Flower takes a comma for the end of one login."""
    with pytest.raises(SettingsError) as refused:
        behind_login(BY_HAND, settings(password))
    assert refused.value.name == name


def test_the_command_ends_with_a_sentence_where_nobody_could_log_in(tmp_path: Path) -> None:
    env = {
        "PATH": os.environ["PATH"],
        "MUTT_HOME": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    argv = [sys.executable, "-m", "celery", "-A", "mutt", "flower", "--port=0"]
    done = subprocess.run(
        argv, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert done.stderr.startswith("mutt: FLOWER_BASIC_AUTH=")
    assert "Traceback" not in done.stderr
