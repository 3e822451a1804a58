"""What rsyslog's omprog runs: each message is taken once, and none is forgotten that MUTT has not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.answering import Answering, Told, refusal

SCRIPT = Path(__file__).parents[2] / "examples" / "rsyslog" / "mutt-omprog"


class Omprog:
    """The program as rsyslog talks to it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.key = folder / "key"
        self.key.write_text("first\n")
        argv = [sys.executable, str(SCRIPT), f"{url}/ingest/rsyslog", str(self.key)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.read() == "OK"

    def read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def forgets(self, number: int) -> bool:
        """Hand it a message. Is rsyslog to forget it?"""
        assert self.process.stdin is not None
        self.process.stdin.write(f'{{"msg":"{number}"}}\n')
        self.process.stdin.flush()
        return self.read() == "OK"


@pytest.fixture
def omprog(ingest: Answering, tmp_path: Path) -> Iterator[Omprog]:
    made = Omprog(ingest.url, tmp_path)
    yield made
    made.process.communicate(timeout=10)


def test_a_message_that_was_not_taken_comes_again_under_its_name(ingest: Answering, omprog: Omprog) -> None:
    ingest.script = [
        Told(503),
        Told(takes=True, cut=True),
    ]  # a kept connection that is cut is made anew at once
    assert [omprog.forgets(number) for number in (1, 1, 2)] == [False, True, True]
    names = [request.headers["idempotency-key"] for request in ingest.requests]
    assert names[0] == names[1] == names[2] != names[3]
    assert ingest.items == [{"msg": "1"}, {"msg": "2"}]


def test_a_connection_that_was_closed_while_nothing_came_delays_nothing(
    ingest: Answering, omprog: Omprog
) -> None:
    assert omprog.forgets(1)
    ingest.stop()
    ingest.start()
    assert omprog.forgets(2)
    assert ingest.items == [{"msg": "1"}, {"msg": "2"}]


def test_a_key_that_was_changed_is_used_at_once(ingest: Answering, omprog: Omprog) -> None:
    ingest.script = [refusal(401)]
    assert not omprog.forgets(1)
    omprog.key.write_text("second\n")
    assert omprog.forgets(1)
    assert [request.headers["x-api-key"] for request in ingest.requests] == ["first", "second"]


@pytest.mark.parametrize(
    ("answer", "forgets"),
    [
        (refusal(400), True),
        (
            Told(400, {"Content-Type": "application/problem+json"}, {"detail": "headers: a line is not"}),
            False,
        ),
        (Told(400, body={}), False),
        (Told(413, body={}), True),
    ],
    ids=["MUTT's", "its server's", "a proxy's", "too large"],
)
def test_only_what_is_refused_for_good_is_let_go(
    ingest: Answering, omprog: Omprog, answer: Told, forgets: bool
) -> None:
    ingest.script = [answer]
    assert omprog.forgets(1) is forgets
