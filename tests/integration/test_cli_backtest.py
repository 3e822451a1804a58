"""``mutt rules backtest``: a draft over the past, at a shell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from mutt.cli import cli
from mutt.cli.common import services
from mutt.store import rulebook
from tests.bench import Bench, event
from tests.integration.test_backtest_jobs import SLOW
from tests.waiting import wait_until


@pytest.fixture
def bench(redis_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("DATABASE_URL", database_url)
    services.cache_clear()
    made = Bench(redis_url, database_url)
    yield made
    made.close()
    services().engine.dispose()
    services.cache_clear()


@pytest.fixture
def shell(bench: Bench) -> Callable[..., Result]:
    return lambda *arguments: CliRunner().invoke(cli, ["rules", "backtest", *arguments])


@pytest.fixture
def draft(tmp_path: Path) -> str:
    file = tmp_path / "draft.yaml"
    file.write_text("- name: fans\n  match_string: fan failed\n  prod_handling: Page_only\n")
    return str(file)


def test_a_file_is_tried_and_told_in_a_few_lines_or_as_json(
    shell: Callable[..., Result], bench: Bench, draft: str
) -> None:
    bench.append(event("fan failed", "core-1"), event("well"))
    bench.run()
    result = shell(draft)
    assert result.exit_code == 0, result.output
    assert "2 events: 1 matched by the draft (0 before), 1 newly" in result.stdout
    assert "core-1: fan failed" in result.stdout
    told = json.loads(shell(draft, "--json", "--since", "1h", "--host", "core-*").stdout)
    assert (told["events"], told["matched"], told["new_requests"]) == (2, 1, 1)
    assert json.loads(shell(draft, "--json", "--host", "edge-*").stdout)["events"] == 0


def test_a_rule_is_tried_as_it_stands_or_with_other_values(
    shell: Callable[..., Result], bench: Bench
) -> None:
    """As it stands against what was decided then; with changes against what it is now."""
    with bench.sql() as conn:
        rule = next(rule for rule in rulebook.list_rules(conn) if rule.match_string == "CRITICAL")
    bench.append(event("CRITICAL disk"), event("disk"))
    bench.run()
    with bench.sql() as conn:
        rulebook.save_rule(conn, {"prod_handling": "Ignore"}, rule_id=rule.id, changed_by="test")
    told = json.loads(shell("--rule", str(rule.id), "--json").stdout)
    assert [(one["old"][1], one["new"][1]) for one in told["changes"]] == [(rule.prod_handling, "Ignore")]
    told = json.loads(shell("--rule", str(rule.id), "--set", "match_string=disk", "--json").stdout)
    assert (told["matched"], told["matched_before"], told["newly"]) == (2, 1, 1)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 2),
        (("--rule", "4711"), 2),
        (("--rule", "1", "--set", "priority"), 2),
        (("{draft}", "--rule", "1"), 2),
        (("{draft}", "--set", "priority=1"), 2),
        (("{draft}", "--since", "soon"), 2),
        (("{draft}", "--since", "2026-03-04T10:00Z", "--until", "2026-03-04T09:00"), 1),
        (("{draft}", "--host", "10.0.0.0/99"), 1),
    ],
)
def test_what_can_not_be_asked_ends_with_a_sentence(
    shell: Callable[..., Result], draft: str, arguments: tuple[str, ...], code: int
) -> None:
    result = shell(*(one.format(draft=draft) for one in arguments))
    assert result.exit_code == code, result.output
    assert result.exception is None or not isinstance(result.exception, AssertionError | TypeError)


STOPPED = """
import sys
from mutt.store import past
past._ROWS = sys.argv.pop(1)
from mutt.cli import main
main()
"""


def test_ctrl_c_cancels_while_postgresql_searches(bench: Bench, draft: str) -> None:
    """The command ends, and so does what it asked of PostgreSQL."""

    def searches() -> bool:
        query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY (SELECT pg_sleep%' AND state = 'active'"
        with bench.sql() as conn:
            return bool(conn.execute(text(query + " AND datname = current_database()")).scalar_one())

    argv = [sys.executable, "-c", STOPPED, SLOW, "rules", "backtest", draft]
    with subprocess.Popen(argv, env=dict(os.environ), stderr=subprocess.PIPE, text=True) as command:
        wait_until(searches, 30, "the search to begin")
        command.send_signal(signal.SIGINT)
        _, said = command.communicate(timeout=10)
    assert command.returncode == 130, said
    assert "cancelled" in said
    wait_until(lambda: not searches(), 5, "PostgreSQL to stop")
