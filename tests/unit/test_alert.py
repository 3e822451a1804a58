"""An alert's signature: what Moog folds by."""

from __future__ import annotations

import pytest

from mutt.alert import SIGNATURE_MAX, signature


def test_parts_are_joined_as_moog_does_and_what_says_nothing_is_left_out() -> None:
    assert signature("core-1", "rule-7", None, "") == "core-1::rule-7"


@pytest.mark.parametrize("letter", ["x", "é", "\U0001f4a5"], ids=["one byte", "two", "four"])
def test_long_ones_that_differ_only_at_their_end_stay_apart_within_the_length(letter: str) -> None:
    found = [signature("core-1", letter * 800 + end) for end in ("a", "b")]
    assert len(set(found)) == 2
    assert all(SIGNATURE_MAX - 3 <= len(each.encode()) <= SIGNATURE_MAX for each in found)
    longest = "x" * SIGNATURE_MAX
    assert signature(longest) == longest
