"""Passwords: which may be chosen, and what their hashes cost."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher, Type, extract_parameters

from mutt import passwords
from mutt.errors import Refused

GOOD = "correct horse battery staple"


@pytest.mark.parametrize(
    "password",
    ["", "a" * 11, "é" * 513, "a" * 1025, "u\u0308\u0304" * 400, "ada.lovelace@x", " ADA.Lovelace@X "],
)
def test_what_is_too_short_too_long_or_the_name_is_refused(password: str) -> None:
    """With the field's name, so that the form can say it there."""
    with pytest.raises(Refused) as caught:
        passwords.check(password, "ada.lovelace@x")
    assert caught.value.field == "password"


@pytest.mark.parametrize(
    "password", [GOOD, "a" * 12, "1" * 1024, "пароль пароль", "密码密码密码密码密码密码", " " * 12]
)
def test_no_rule_says_what_a_password_is_made_of(password: str) -> None:
    passwords.check(password, "ada")


def test_a_hash_is_argon2id_and_costs_what_rfc_9106_asks_for() -> None:
    """64 MiB, three passes; and comparing with nobody's costs the same."""
    of_one, of_nobody = (
        extract_parameters(hash_) for hash_ in (passwords.hashed(GOOD), passwords._nobodys())
    )
    assert of_one == of_nobody
    assert (of_one.type, of_one.memory_cost, of_one.time_cost, of_one.salt_len) == (Type.ID, 65536, 3, 16)


def test_only_the_same_password_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """However an é was typed; and nothing is cut to fit."""
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    stored = passwords.hashed("caf\u00e9 caf\u00e9 caf\u00e9")
    assert passwords.verify(stored, "cafe\u0301 cafe\u0301 cafe\u0301")
    assert not passwords.verify(stored, "cafe cafe cafe") and not passwords.verify(None, GOOD)
    longest = passwords.hashed("a" * 1024)
    assert passwords.verify(longest, "a" * 1024) and not passwords.verify(longest, "a" * 2000)
    assert not passwords.verify("no hash", GOOD)


def test_a_hash_of_other_parameters_is_dated() -> None:
    assert passwords.is_dated(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(GOOD))
    assert not passwords.is_dated(passwords.hashed(GOOD))
