"""Sealing: what SEALING_KEY sealed it opens, and nobody else; of several keys the first seals and each opens."""

from __future__ import annotations

from pathlib import Path

import pytest
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


@pytest.mark.parametrize("given", [f"{NEW},{OLD}", f" {NEW} , {OLD}\n", f"{NEW}\n{OLD}\n"])
def test_keys_are_parted_by_commas_or_lines_also_in_a_file(given: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(given)
    for env in ({"SEALING_KEY": given}, {"SEALING_KEY_FILE": str(file)}):
        settings = Settings.from_env(env)
        assert settings.sealing_key.split() == [NEW, OLD]
        assert NEW not in repr(settings)


@pytest.mark.parametrize("bad", ["secret", OLD[:-1], NEW[:-1], NEW + "0", f"{NEW},?"])
def test_a_bad_key_stops_the_start_and_is_not_repeated(bad: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"SEALING_KEY": bad})
    assert caught.value.name == "SEALING_KEY"
    assert bad not in str(caught.value)
