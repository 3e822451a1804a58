"""``mutt keys sign``: how a source signs is said at a shell; its secret is sealed, and stands on no argument."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Connection, Engine

from mutt.cli import cli, common
from mutt.cli.keys import NoKey
from mutt.errors import RuleError, SettingsError
from mutt.grant import Signing
from mutt.sealing import Sealer, new_key
from mutt.settings import Settings
from mutt.store import keys
from mutt.store.engine import transaction
from mutt.streams.connect import connect
from mutt.streams.keys import KeysCopy
from mutt.web.signatures import PRESETS
from tests.admin_client import notes_of

Run = Callable[..., Result]

OLD, NEW = new_key(), new_key()
SECRET = "a secret that the source gave"


@pytest.fixture
def run(database_url: str, redis_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("REDIS_URL", redis_url)
    with transaction(engine) as conn:
        keys.make(conn, "deploys", ["ingest"], changed_by="ada")

    def invoke(*arguments: str, sealing: str = OLD, given: str | None = None) -> Result:
        monkeypatch.setenv("SEALING_KEY", sealing)
        common.services.cache_clear()
        result = CliRunner().invoke(cli, ["keys", *arguments], input=given)
        common.services().engine.dispose()
        return result

    yield invoke
    common.services.cache_clear()


def signing_of(engine: Engine) -> Signing:
    with transaction(engine) as conn:
        found = keys.find(conn, "deploys").signing
    assert found
    return found


def test_a_secret_comes_from_a_file_or_the_standard_input_and_ingest_knows_of_it(
    run: Run, engine: Engine, redis_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    for source, given in ((str(file), None), ("-", SECRET)):
        done = run(
            "sign", "deploys", "--preset", "github", "--secret-file", source, "--who", "admin", given=given
        )
        assert (done.exit_code, done.stdout) == (0, ""), done.output
        signing = signing_of(engine)
        assert (signing.header, signing.prefix) == ("X-Hub-Signature-256", "sha256=")
        assert Sealer(OLD).open(signing.secret) == SECRET.encode()
        assert (KeysCopy(connect(redis_url)).read_signed() or {})["deploys"].signing == signing
    assert SECRET not in str(notes_of(engine))


def test_a_secret_that_is_made_stands_alone_on_standard_output_once(run: Run, engine: Engine) -> None:
    done = run("sign", "deploys", "--header", "X-Sig", "--algorithm", "sha512", "--encoding", "base64")
    assert Sealer(OLD).open(signing_of(engine).secret) == done.stdout.strip().encode()
    again = run("sign", "deploys", "--preset", "slack", "--tolerance", "60")
    assert (again.exit_code, again.stdout) == (0, "")
    signing = signing_of(engine)
    assert (signing.header, signing.tolerance) == ("X-Slack-Signature", 60)
    assert Sealer(OLD).open(signing.secret) == done.stdout.strip().encode()


def test_signing_is_taken_away(run: Run, engine: Engine, redis_url: str) -> None:
    assert run("sign", "deploys", "--preset", "github").exit_code == 0
    assert run("unsign", "deploys", "--who", "admin", "--reason", "moved").exit_code == 0
    with transaction(engine) as conn:
        assert keys.find(conn, "deploys").signing is None
    assert KeysCopy(connect(redis_url)).read_signed() == {}
    assert notes_of(engine)[-1].reason == "moved"


def test_what_can_not_be_is_refused(run: Run) -> None:
    assert isinstance(run("sign", "nobody", "--preset", "github").exception, NoKey)
    assert isinstance(run("unsign", "nobody").exception, NoKey)
    assert run("sign", "deploys").exit_code == 2
    refused = run("sign", "deploys", "--header", "X-A", "--template", "{timestamp}{body}").exception
    assert isinstance(refused, RuleError)
    assert refused.field == "template"
    short = run("sign", "deploys", "--preset", "github", "--secret-file", "-", given="short").exception
    assert isinstance(short, RuleError)
    assert short.field == "secret"


def test_without_a_sealing_key_it_says_how_to_make_one(run: Run) -> None:
    refused = run("sign", "deploys", "--preset", "github", sealing="").exception
    assert isinstance(refused, SettingsError)
    assert refused.name == "SEALING_KEY"
    made = run("sealing-key", sealing="").stdout.strip()
    assert Settings.from_env({"SEALING_KEY": made}).sealing_key == made


def test_nothing_is_begun_where_ingest_can_not_be_told(
    run: Run, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a secret is kept that nobody was shown."""
    monkeypatch.delenv("REDIS_URL")
    assert isinstance(run("sign", "deploys", "--preset", "github").exception, SettingsError)
    with transaction(engine) as conn:
        assert keys.find(conn, "deploys").signing is None


def test_a_sealing_key_is_renewed_without_losing_a_secret(run: Run, engine: Engine) -> None:
    secret = run("sign", "deploys", "--preset", "github").stdout.strip().encode()
    assert run("reseal", sealing=f"{NEW},{OLD}").exit_code == 0
    sealed = signing_of(engine).secret
    assert Sealer(NEW).open(sealed) == secret
    with pytest.raises(SettingsError):
        Sealer(OLD).open(sealed)
    assert isinstance(run("reseal", sealing=OLD).exception, SettingsError)


def test_a_secret_that_is_set_while_all_are_sealed_anew_stays(
    run: Run, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read before it is not written over it."""
    assert run("sign", "deploys", "--preset", "github").exit_code == 0

    left = [1]

    def meanwhile(look: Callable[[Connection], Any]) -> Callable[[Connection], Any]:
        def looked(conn: Connection) -> Any:
            found = look(conn)
            if not left:
                return found
            left.pop()
            with transaction(engine) as other:
                signing = msgspec.structs.replace(PRESETS["slack"], secret=Sealer(OLD).seal(SECRET))
                keys.sign_with(other, "deploys", signing, changed_by="bob")
            return found

        return looked

    for name in ("listed", "names"):
        monkeypatch.setattr(keys, name, meanwhile(getattr(keys, name)))
    assert run("reseal", sealing=f"{NEW},{OLD}").exit_code == 0
    assert Sealer(NEW).open(signing_of(engine).secret) == SECRET.encode()
