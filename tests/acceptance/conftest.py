"""Stacks for the acceptance tests: one that the quiet tests share, and a way to start others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import scratch
from tests.stack import QUICK, Stack, running


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The stack that tests share which kill nothing."""
    with scratch() as directory, running(directory / "home", QUICK) as stack:
        yield stack
