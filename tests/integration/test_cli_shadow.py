"""``mutt rules shadow``: a draft is begun, looked at and ended from a shell."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine

from mutt.cli import cli, common
from mutt.cli.shadow import NoShadow
from mutt.errors import Overtaken, Refused
from mutt.rules.book import NotRules
from mutt.rules.rule import Rule
from mutt.rules.shadow import Kind
from mutt.store import rulebook, shadows
from mutt.store.engine import transaction
from tests.integration.test_admin_shadow import HOUR

Run = Callable[..., Result]

DISK = {"name": "disk", "match_string": "disk"}
WHY = ("--who", "ann", "--reason", "ticket 7")


@pytest.fixture
def run(database_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setenv("DATABASE_URL", database_url)
    common.services.cache_clear()
    yield lambda *arguments: CliRunner().invoke(cli, ["rules", "shadow", *map(str, arguments)])
    common.services().engine.dispose()
    common.services.cache_clear()


def told(run: Run) -> Any:
    return json.loads(run("status", "--json").stdout)


def written(tmp_path: Path, content: Any, name: str = "rules.json") -> Path:
    (tmp_path / name).write_text(json.dumps(content))
    return tmp_path / name


def rules_of(engine: Engine) -> dict[str, Rule]:
    with transaction(engine) as conn:
        return {rule.name: rule for rule in rulebook.list_rules(conn)}


def test_a_file_is_watched_and_promoted(run: Run, engine: Engine, tmp_path: Path) -> None:
    """From the file to the rules in force; status counts what workers noted."""
    begun = run("start", written(tmp_path, [DISK]), "--name", "storage", "--days", 3, *WHY)
    assert begun.exit_code == 0, begun.output
    assert "“storage”: 1 change" in begun.output
    status = told(run)
    with transaction(engine) as conn:
        shadows.count(conn, status["id"], "w", {(HOUR, Kind.SAME): 3, (HOUR, Kind.SKIPPED): 2})
    status = told(run)
    assert (status["status"], status["who"], status["events"]) == ("running", "ann", 3)
    assert status["counts"] == {kind: {"same": 3, "skipped": 2}.get(kind, 0) for kind in Kind}
    assert "3 events looked at" in run("status", status["id"]).output
    assert run("promote", *WHY).exit_code == 0
    assert "disk" in rules_of(engine)
    assert told(run)["status"] == "promoted"


def test_single_rules_are_changed_and_deleted(run: Run, engine: Engine, tmp_path: Path) -> None:
    """--rule says what of a rule is to be different, --delete leaves one out; drop ends it."""
    rules = rules_of(engine)
    error, critical = rules["ERROR"].id, rules["CRITICAL"].id
    file = written(tmp_path, {"priority": 3}, "error.json")
    assert run("start", "--rule", f"{error}={file}", "--delete", critical, *WHY).exit_code == 0
    with transaction(engine) as conn:
        [found] = shadows.newest(conn)
    assert [(change.operation, change.record_id) for change in found.draft] == [
        ("UPDATE", str(error)),
        ("DELETE", str(critical)),
    ]
    assert run("drop", found.id, *WHY).exit_code == 0
    assert (told(run)["status"], rules_of(engine)) == ("dropped", rules)


def test_a_promotion_that_others_overtook_is_refused(run: Run, engine: Engine, tmp_path: Path) -> None:
    """status names the rules beforehand."""
    error = rules_of(engine)["ERROR"].id
    run("start", "--rule", f"{error}={written(tmp_path, {'priority': 3})}", *WHY)
    with transaction(engine) as conn:
        rulebook.save_rule(conn, {"team_assignment": "Other"}, rule_id=error, changed_by="bob")
    assert told(run)["changed_since"] == [f"rule {error} “ERROR”"]
    assert f"rule {error} “ERROR” was changed since" in run("status").output
    assert isinstance(run("promote", *WHY).exception, Overtaken)


@pytest.mark.parametrize(
    ("arguments", "content", "code", "error"),
    [
        ((), None, 2, SystemExit),
        (("--replace",), None, 2, SystemExit),
        (("--rule", "7"), None, 2, SystemExit),
        (("--rule", "7=/nowhere"), None, 2, SystemExit),
        (("--delete", "9999"), None, 1, NoShadow),
        ((), [{"nmae": "x"}], 1, NotRules),
    ],
)
def test_what_can_not_begin_says_why(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], content: Any, code: int, error: type[BaseException]
) -> None:
    """And nothing has begun."""
    file = () if content is None else (written(tmp_path, content),)
    result = run("start", *file, *arguments, *WHY)
    assert (result.exit_code, type(result.exception)) == (code, error), result.output
    assert isinstance(run("status").exception, NoShadow)


def test_a_second_one_does_not_begin(run: Run, tmp_path: Path) -> None:
    """One runs at a time."""
    file = written(tmp_path, [DISK])
    run("start", file, *WHY)
    assert isinstance(run("start", file, *WHY).exception, Refused)
