"""Sealing: what SEALING_KEY sealed it opens, and nobody else; of several keys the first seals and each opens."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mutt.errors import SettingsError
from mutt.sealing import Sealer, new_key
from mutt.settings import Settings

OLD, NEW = new_key(), "0123456789abcdef" * 4

secrets = st.text(st.characters(exclude_categories=("Cs",)), max_size=100)


@given(secrets)
def test_a_sealed_secret_is_had_back_and_is_never_sealed_alike(secret: str) -> None:
    sealer = Sealer(OLD)
    first, second = sealer.seal(secret), sealer.seal(secret)
    assert first != second
    assert sealer.open(first) == sealer.open(second) == secret.encode()
    assert len(secret) < 8 or secret not in first


@given(secrets)
def test_a_new_key_opens_what_the_old_one_sealed_and_seals_it_anew(secret: str) -> None:
    sealed = Sealer(OLD).seal(secret)
    both = Sealer(f"{NEW}\n{OLD}")
    assert both.open(sealed) == secret.encode()
    renewed = both.renew(sealed)
    assert Sealer(NEW).open(renewed) == secret.encode()
    for sealer, text in ((Sealer(OLD), renewed), (Sealer(NEW), sealed)):
        for step in (sealer.open, sealer.renew):
            with pytest.raises(SettingsError):
                step(text)


def test_a_changed_text_is_not_opened() -> None:
    sealed = Sealer(OLD).seal("the secret of a source")
    for changed in (
        sealed[:-2],
        sealed[:50] + ("A" if sealed[50] != "A" else "B") + sealed[51:],
        "",
        "x",
        "é",
    ):
        with pytest.raises(SettingsError):
            Sealer(OLD).open(changed)


def test_without_a_key_it_says_which_setting_is_missing() -> None:
    for step in (Sealer("").need, lambda: Sealer("").seal("x"), lambda: Sealer("").open("x")):
        with pytest.raises(SettingsError) as caught:
            step()
        assert caught.value.name == "SEALING_KEY"


@pytest.mark.parametrize(
    "given", [f"{NEW},{OLD}", f" {NEW} , {OLD}\n", f"{NEW}\n{OLD}\n"], ids=["comma", "blanks", "lines"]
)
def test_keys_are_parted_by_commas_or_lines_also_in_a_file(given: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(given)
    for env in ({"SEALING_KEY": given}, {"SEALING_KEY_FILE": str(file)}):
        settings = Settings.from_env(env)
        assert settings.sealing_key.split() == [NEW, OLD]
        assert NEW not in repr(settings)


def test_a_key_in_a_file_is_renewed_without_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(OLD)
    settings = Settings.from_env({"SEALING_KEY_FILE": str(file)})
    sealer = Sealer(lambda: settings.current("sealing_key", at_once=True))
    sealed = sealer.seal("the secret of a source")
    file.write_text(f"{NEW}\n{OLD}\n")
    assert sealer.open(sealed) == b"the secret of a source"
    renewed = sealer.renew(sealed)
    file.write_text(NEW)
    assert sealer.open(renewed) == b"the secret of a source"
    with pytest.raises(SettingsError):
        sealer.open(sealed)


@pytest.mark.parametrize(
    "bad",
    ["secret", OLD[:-1], NEW[:-1], NEW + "0", f"{NEW},?"],
    ids=["a word", "a character less", "a digit less", "a digit more", "a question mark"],
)
def test_a_bad_key_stops_the_start_and_is_not_repeated(bad: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"SEALING_KEY": bad})
    assert caught.value.name == "SEALING_KEY"
    assert bad not in str(caught.value)


def test_compose_gives_the_key_to_who_seals_or_opens_and_to_nobody_else(tmp_path: Path) -> None:
    """An operator's shell seals as the admin does. And the key that its script makes is one."""
    docker = Path(__file__).parents[2] / "docker"
    services = yaml.safe_load((docker / "compose.yaml").read_text())["services"]
    holders = {name for name, one in services.items() if "sealing_key" in one.get("secrets", ())}
    assert holders == {"ingest", "admin", "cli"}
    shutil.copy(docker / "redis.acl", tmp_path)
    script = shutil.copy(docker / "make-secrets", tmp_path)
    subprocess.run(["sh", script], check=True, capture_output=True, timeout=30)
    settings = Settings.from_env({"SEALING_KEY_FILE": str(tmp_path / "secrets/sealing_key")})
    assert Sealer(settings.sealing_key).seal("x")
