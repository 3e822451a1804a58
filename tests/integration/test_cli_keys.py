"""``mutt keys``: a key is made, seen, rotated and revoked in a shell; its text alone stands on standard output."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine

from mutt import keyring
from mutt.cli import cli, common
from mutt.cli.keys import NoKey, NotTold
from mutt.errors import Refused, SettingsError, StoreDown
from mutt.grant import digest_of
from mutt.source import Source
from mutt.streams.connect import connect
from mutt.streams.keys import KeysCopy
from tests.admin_client import notes_of

Run = Callable[..., Result]


@pytest.fixture
def run(database_url: str, redis_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("REDIS_URL", redis_url)
    common.services.cache_clear()

    def invoke(command: str, *arguments: object) -> Result:
        who = () if command in ("list", "show") else ("--who", "admin")
        return CliRunner().invoke(cli, ["keys", command, *map(str, arguments), *who])

    yield invoke
    common.services().engine.dispose()
    common.services.cache_clear()


@pytest.fixture
def copy(redis_url: str) -> KeysCopy:
    return KeysCopy(connect(redis_url))


def text_of(result: Result) -> str:
    """The key that was printed: the one line on standard output."""
    assert result.exit_code == 0, result.output
    [line] = result.stdout.splitlines()
    assert line not in result.stderr
    return line


def test_a_key_is_made_seen_rotated_and_revoked(run: Run, copy: KeysCopy, engine: Engine) -> None:
    """Each change is in Redis at once, and in the history; listed and shown is everything but what opens."""
    first = text_of(
        run("make", "site-7", "--format", "syslog", "--quota", 600, "--expires", "90d", "--note", "rack")
    )
    grant = (copy.read() or {})[digest_of(first.encode())]
    assert (grant.name, grant.scopes, grant.formats, grant.quota) == ("site-7", ("ingest",), ("syslog",), 600)
    [listed] = json.loads(run("list", "--json").stdout)
    assert (listed["state"], listed["quota"], listed["note"], listed["last_used_at"]) == (
        "live",
        600,
        "rack",
        None,
    )
    second = text_of(run("rotate", "site-7"))
    assert set(copy.read() or {}) == {digest_of(key.encode()) for key in (first, second)}
    third = run("rotate", "site-7")
    assert isinstance(third.exception, Refused) and third.stdout == ""
    shown = run("show", "site-7", "--json").stdout
    newest, older = json.loads(shown)["secrets"]
    assert (newest["hint"], older["hint"]) == (second[-4:], first[-4:])
    assert newest["expires_at"] > older["expires_at"], "it lasts as long as the one before was given"
    assert run("revoke", "site-7", "--hint", first[-4:]).exit_code == 0
    assert list(copy.read() or {}) == [digest_of(second.encode())]
    changed = run(
        "change", "site-7", "--format", "all", "--quota", 0, "--scope", "ingest", "--scope", "management"
    )
    assert changed.exit_code == 0, changed.output
    grant = (copy.read() or {})[digest_of(second.encode())]
    assert (grant.scopes, grant.formats, grant.quota) == (("ingest", "management"), (), None)
    assert run("revoke", "site-7", "--reason", "it leaked").exit_code == 0
    assert copy.read() == {}
    assert json.loads(run("list", "--json").stdout) == []
    said = [
        shown,
        *(
            run(*asked).output
            for asked in (("list", "--all"), ("list", "--all", "--json"), ("show", "site-7"))
        ),
    ]
    assert all("site-7" in one and first not in one and second not in one for one in said)
    noted = notes_of(engine)
    assert [note.operation for note in noted] == ["CREATE", *["UPDATE"] * 4]
    assert noted[-1].reason == "it leaked"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("make", "Site"), Refused),
        (("make", "site", "--format", "pigeon"), Refused),
        (("make", "site", "--quota", "0"), Refused),
        (("make", "site", "--expires", "soon"), SystemExit),
        (("make", "site", "--scope", "all"), SystemExit),
        (("show", "site"), NoKey),
        (("rotate", "site"), NoKey),
        (("revoke", "site"), NoKey),
        (("change", "site"), NoKey),
    ],
)
def test_what_cannot_be_is_an_error_and_prints_no_key(
    run: Run, arguments: tuple[str, ...], error: type
) -> None:
    result = run(*arguments)
    assert result.exit_code != 0 and isinstance(result.exception, error)
    assert result.stdout == ""


def test_a_hint_that_fits_no_live_text_is_an_error(run: Run) -> None:
    text_of(run("make", "site"))
    assert isinstance(run("revoke", "site", "--hint", "none").exception, NoKey)


def test_a_rotation_without_overlap_ends_the_old_text_now(run: Run, copy: KeysCopy) -> None:
    text_of(run("make", "site"))
    new = text_of(run("rotate", "site", "--overlap", "0", "--expires", "never"))
    assert list(copy.read() or {}) == [digest_of(new.encode())]


def test_a_key_that_was_made_is_printed_though_postgresql_went_away_behind_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could read it again."""

    def away(_: object) -> None:
        raise StoreDown("gone")

    monkeypatch.setattr(keyring, "publish", away)
    assert text_of(run("make", "site-7"))


def test_while_redis_is_away_a_change_is_kept_and_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was revoked is not gone yet, which is an error; without REDIS_URL nothing is begun."""
    text_of(run("make", "site"))
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    common.services().engine.dispose()
    common.services.cache_clear()
    made = run("make", "other")
    assert text_of(made) and "housekeeping" in made.stderr
    assert isinstance(run("revoke", "site").exception, NotTold)
    assert [key["name"] for key in json.loads(run("list", "--json").stdout)] == ["other"]
    monkeypatch.delenv("REDIS_URL")
    common.services().engine.dispose()
    common.services.cache_clear()
    assert isinstance(run("make", "third").exception, SettingsError)
    assert "third" not in run("list").stdout


def test_what_is_known_of_a_source_is_said_and_taken_away_bit_by_bit(
    run: Run, copy: KeysCopy, tmp_path: Path
) -> None:
    key = text_of(run("make", "billing"))
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("message: title\n")
    said = run(
        "source", "billing", "--team", "Web", "--every", "5m", "--severity", 4, "--mapping-file", mapping
    )
    assert (
        "known of the source of billing: mapping: 1 lines; team: Web; severity: 4; every: 5m" in said.stderr
    )
    assert run("source", "billing", "--format", "mapped", "--in-address", "--severity", "none").exit_code == 0
    known = (copy.read() or {})[digest_of(key.encode())].source
    assert known == Source("mapped", "message: title\n", "Web", every=300.0, in_address=True)
    assert json.loads(run("show", "billing", "--json").stdout)["source"]["team"] == "Web"
    assert "team Web" in run("show", "billing").stdout
    mapping.write_text("message: a b")
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xfb\xff")
    words = (("--format", "pigeon"), ("--severity", "high"), ("--environment", "x"), ("--every", "-3"))
    for wrong in (*words, ("--mapping-file", mapping), ("--mapping-file", binary)):
        refused = run("source", "billing", *wrong).exception
        assert isinstance(refused, Refused), wrong
        assert refused.field == wrong[0].removeprefix("--").removesuffix("-file")
    assert run("source", "billing", "--every", "0").exit_code == 0
    assert json.loads(run("show", "billing", "--json").stdout)["source"]["every"] == 0
    mapping.write_text("")
    gone = (
        "--format",
        "none",
        "--team",
        "none",
        "--every",
        "none",
        "--no-in-address",
        "--mapping-file",
        mapping,
    )
    assert "nothing" in run("source", "billing", *gone).stderr
    assert (copy.read() or {})[digest_of(key.encode())].source == Source()
