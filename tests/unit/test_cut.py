"""A text that was cut says where, and how long it was; one that fits is left alone."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutt import cut

CUT = re.compile(r"(?P<kept>.*) \[cut: (?P<n>\d+) of (?P<whole>\d+) characters\]", re.S)

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=0, max_size=40).map(lambda text: text * 20)


@pytest.mark.parametrize(
    ("shorten", "size"), [(cut.to_characters, len), (cut.to_bytes, lambda text: len(text.encode()))]
)
@given(text=texts, most=st.integers(64, 1000))
def test_a_text_is_kept_whole_up_to_its_limit_and_says_where_it_was_cut(
    shorten: Callable[[str, int], str], size: Callable[[str], int], text: str, most: int
) -> None:
    found = shorten(text, most)
    assert size(found) <= most
    if size(text) <= most:
        assert found == text
    else:
        told = CUT.fullmatch(found)
        assert told
        assert text.startswith(told["kept"])
        assert (int(told["n"]), int(told["whole"])) == (len(told["kept"]), len(text))
        assert size(found) > most - 10, "no more than needed is left out"
