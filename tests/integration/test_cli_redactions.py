"""``mutt rules redactions``: listed, tried, added, switched and removed from a shell."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine

from mutt.cli import cli, common
from mutt.cli.redactions import NoRedaction
from mutt.errors import RuleError
from tests.admin_client import notes_of

Run = Callable[..., Result]

WHY = ("--who", "admin", "--reason", "CHG-7")


@pytest.fixture
def run(database_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setenv("DATABASE_URL", database_url)
    common.services.cache_clear()
    yield lambda *given, **more: CliRunner().invoke(cli, ["rules", "redactions", *given], **more)
    common.services().engine.dispose()
    common.services.cache_clear()


def test_from_adding_to_removing(run: Run, engine: Engine) -> None:
    """What is added acts on what is tried; off it does not; each change is in the history."""
    added = run("add", "passwords", r"(password)=\S+", "--replacement", r"\1=[x]", *WHY)
    assert added.exit_code == 0, added.output
    assert run("add", "--common", "card numbers", "--off", *WHY).exit_code == 0
    [first, second] = json.loads(run("list", "--json").stdout)
    assert (first["name"], first["replacement"], second["is_active"]) == ("passwords", r"\1=[x]", False)
    assert "[x]" in run("list").stdout
    line = "password=abc 4111 1111 1111 1111\n"
    assert run("test", input=line).stdout == "password=[x] 4111 1111 1111 1111\n"
    assert run("turn", "card numbers", "on", *WHY).exit_code == 0
    assert run("test", input=line).stdout == "password=[x] [card]\n"
    assert run("remove", "passwords", *WHY).exit_code == 0
    assert run("test", input=line).stdout == "password=abc [card]\n"
    assert [note.operation for note in notes_of(engine)] == ["CREATE", "CREATE", "UPDATE", "DELETE"]


def test_a_draft_needs_no_server(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern can be tried where nothing runs."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    common.services.cache_clear()
    found = run("test", "--pattern", "a(b)", "--replacement", r"\1", input='{"x": "\\u0061b"}\n')
    assert (found.exit_code, found.stdout) == (0, '{"x": "b"}\n')


def test_what_can_not_be_is_said(run: Run) -> None:
    """Names that there are not, patterns that can't be, words that are missing."""
    assert isinstance(run("remove", "nobody", *WHY).exception, NoRedaction)
    assert isinstance(run("add", "--common", "nothing", *WHY).exception, NoRedaction)
    assert isinstance(run("add", "n", "x*", *WHY).exception, RuleError)
    assert run("add", *WHY).exit_code == 2
    assert "card numbers" in run("list", "--common").stdout
