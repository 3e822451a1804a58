"""``mutt maintenance``: a window is planned, looked at and ended from a shell."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine

from mutt.cli import cli, common
from mutt.cli.maintenance import NoWindow
from mutt.errors import RuleError
from mutt.store import receipts
from tests.admin_client import notes_of

Run = Callable[..., Result]

WHY = ("--who", "admin", "--reason", "ticket 7")


@pytest.fixture
def run(database_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setenv("DATABASE_URL", database_url)
    common.services.cache_clear()
    yield lambda *arguments: CliRunner().invoke(cli, ["maintenance", *map(str, arguments)])
    common.services().engine.dispose()
    common.services.cache_clear()


def test_a_host_is_put_in_maintenance_and_taken_out(run: Run, engine: Engine) -> None:
    """Begun now, listed as on, ended, and on the receipts; each change is in the history."""
    added = run("add", "--name", "upgrade", "--host", "core-*", "--for", "2h", *WHY)
    assert added.exit_code == 0, added.output
    [window] = json.loads(run("list", "--json").stdout)
    assert (window["hostname"], window["reason"], window["release"]) == ("core-*", "ticket 7", True)
    assert window["on_until"] and window["next"] is None
    assert "upgrade" in run("list").stdout
    receipts.work(engine, len, datetime.now(UTC))
    shown = run("receipts", "--json")
    assert shown.exit_code == 0, shown.exception
    [receipt] = json.loads(shown.stdout)
    assert receipt["ended_at"] is None and "on now" in run("receipts").stdout
    assert run("end", window["id"], *WHY).exit_code == 0
    assert json.loads(run("list", "--json").stdout) == []
    assert "upgrade" in run("list", "--all").stdout
    receipts.work(engine, len, datetime.now(UTC) + timedelta(seconds=1))
    assert "on now" not in run("receipts", window["id"]).stdout
    assert [note.operation for note in notes_of(engine)] == ["CREATE", "UPDATE"]


def test_a_window_recurs_on_the_clock_of_its_time_zone(run: Run) -> None:
    """The local time is given, and the next times follow the rule."""
    times = ("--from", "2030-01-05T02:00", "--to", "2030-01-05T04:00", "--timezone", "Europe/London")
    added = run("add", "--name", "w", "--team", "Core", *times, "--repeat", "FREQ=WEEKLY;BYDAY=SA", *WHY)
    assert added.exit_code == 0, added.output
    [window] = json.loads(run("list", "--json").stdout)
    assert window["next"]["start"] == "2030-01-05T02:00:00+00:00"


def test_what_can_t_be_is_refused_and_says_why(run: Run) -> None:
    """A window without an end, without a scope, and one that is not there or not on."""
    assert run("add", "--name", "w", "--host", "a", *WHY).exit_code == 2
    assert run("add", "--name", "w", "--host", "a", "--for", "soon", *WHY).exit_code == 2
    assert isinstance(run("add", "--name", "w", "--for", "2h", *WHY).exception, RuleError)
    assert isinstance(run("end", 99, *WHY).exception, NoWindow)
    run("add", "--name", "w", "--host", "a", "--from", "2030-01-05T02:00", "--for", "1d", *WHY)
    [window] = json.loads(run("list", "--json").stdout)
    assert isinstance(run("end", window["id"], *WHY).exception, RuleError)
