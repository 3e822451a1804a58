"""What tests of whoever sends to ingest have in common."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.answering import Answering


@pytest.fixture
def ingest() -> Iterator[Answering]:
    """An ingest that answers as told."""
    with Answering() as answering:
        yield answering


@pytest.fixture
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends tries again at once."""
    for name, seconds in {
        "client.client.FIRST_WAIT": 0.01,
        "client.client.MOST_WAIT": 0.02,
        "listen.sender.FIRST_WAIT": 0.01,
        "listen.sender.MOST_WAIT": 0.02,
        "listen.sender.DISK_AGAIN": 0.01,
        "listen.relay.DISK_AGAIN": 0.01,
        "listen.sender.LOOK": 0.05,
    }.items():
        monkeypatch.setattr(f"mutt.{name}", seconds)
