"""Where a login leads back to: a path of ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutt.web.back import path_of, safe_next

addresses = st.one_of(
    st.text(max_size=20), st.text(st.sampled_from("/\\:.?#@[] \t\r\n\x00ahtps"), max_size=20)
)


@pytest.mark.parametrize("target", ["/", "/rules/", "/rules/?q=a%20b&page=2", "/audit/#x", "/rules/?q=//x"])
def test_a_page_of_ours_is_come_back_to(target: str) -> None:
    assert safe_next(target) == target


@given(addresses)
def test_whatever_is_asked_for_it_is_a_path_that_a_browser_cannot_take_for_a_host(target: str) -> None:
    found = safe_next(target)
    assert found == "/" or (found == target and target[0] == "/" and target[1:2] not in ("/", "\\"))
    assert not any(ord(character) <= 0x20 or character in "\\\x7f" for character in found)


@given(addresses)
def test_whatever_a_browser_says_of_where_it_is_it_comes_back_to_a_path(address: str) -> None:
    assert safe_next(path_of(address)).startswith("/")
