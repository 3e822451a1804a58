"""What fuzzing found once is replayed; and any bytes are taken or refused, as hypothesis makes them up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.targets import CRASHES, SEEDS, TARGETS, WORDS

FOUND = sorted(path for path in CRASHES.iterdir() if path.suffix != ".md")
SAMPLES = sorted(path for folder in SEEDS for path in folder.rglob("*") if path.is_file())


def test_what_once_failed_does_not_fail_again() -> None:
    for path in FOUND:
        TARGETS[path.name.split("-", 1)[0]](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_what_senders_really_post_holds_every_promise(name: str) -> None:
    for path in SAMPLES:
        TARGETS[name](path.read_bytes())


bodies = st.lists(st.sampled_from(WORDS) | st.binary(max_size=3), max_size=14).map(b"".join)


@pytest.mark.parametrize("name", TARGETS)
@given(data=bodies)
def test_any_bytes_are_taken_or_refused(name: str, data: bytes) -> None:
    TARGETS[name](data)
