"""No text of others, wherever a log line holds it, forges a line, breaks its JSON or reaches a terminal raw."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import threading
from collections.abc import Iterator

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mutt.logs import NAMED, Gathered, configure, correlated
from mutt.settings import Settings
from tests.waiting import wait_until

HOSTILE = (
    'x\n{"event": "forged", "level": "critical"}',
    "x\r\n2026-01-01 [error] forged",
    "\x1b[2J\x1b[31mred\x07",
    "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg",
    "\u202egnp.exe\u2066\u200b\ufeff",
    '","level":"critical","x":"',
    "\ud800 half \udfff",
    "nul\x00%s%d{}",
)
texts = st.text() | st.sampled_from(HOSTILE)


class Logs:
    """What this process logs, as lines."""

    def __init__(self, form: str, stream: io.StringIO) -> None:
        self._stream = stream
        configure(Settings.from_env({}, log_format=form), "tests")
        [self.handler] = logging.getLogger().handlers

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Without pytest's own handlers: half a character in a report ends a process of its workers."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(logging.getLogger(), "handlers", [self.handler])
            yield

    def taken(self) -> str:
        said = self._stream.getvalue()
        self._stream.seek(0)
        self._stream.truncate()
        return said


@pytest.fixture(scope="module", params=["json", "text"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def logs(form: str) -> Iterator[Logs]:
    root = logging.getLogger()
    before = root.handlers[:], root.level, sys.excepthook, threading.excepthook
    with pytest.MonkeyPatch.context() as patch:
        stream = io.StringIO()
        patch.setattr(sys, "stderr", stream)
        yield Logs(form, stream)
    root.handlers[:], root.level, sys.excepthook, threading.excepthook = before
    logging.captureWarnings(False)


def is_one_record(said: str, form: str) -> None:
    """One line that begins a record, and behind it only what is indented; nothing of it is a control character."""
    assert said.endswith("\n")
    lines = said[:-1].split("\n")
    assert all(line.isprintable() for line in lines), said
    if form == "json":
        assert len(lines) == 1
        assert isinstance(orjson.loads(lines[0]), dict)
        assert lines[0].isascii()
    else:
        assert all(line.startswith("    ") for line in lines[1:]), said
        assert "[error" in lines[0]


@given(
    text=texts,
    more=texts,
    where=st.sampled_from(["message", "argument", "field", "error", "gunicorn", "celery"]),
)
@example(text=HOSTILE[0], more=HOSTILE[1], where="error")
@example(text=HOSTILE[6], more=HOSTILE[6], where="field")
@pytest.mark.hypothesis
def test_one_record_is_one_record_whatever_it_holds(
    logs: Logs, form: str, text: str, more: str, where: str
) -> None:
    """In the message, an argument, a field, an error and its cause, of our loggers and of others'."""
    log = logging.getLogger({"gunicorn": "gunicorn.error", "celery": "celery.worker"}.get(where, "mutt.test"))
    with logs.alone():
        _log(log, text, more, where)
    is_one_record(logs.taken(), form)


def _log(log: logging.Logger, text: str, more: str, where: str) -> None:
    if where == "field":
        log.error(
            "told",
            extra={"theirs": text, "deep": {"of": [more, 1e400]}, "bytes": more.encode(errors="replace")},
        )
    elif where == "error":
        try:
            try:
                raise RuntimeError(text)
            except RuntimeError as error:
                raise ValueError(more) from error
        except ValueError:
            log.exception("failed for %s", text)
    elif where == "message":
        log.error(text.replace("%", "%%"))
    else:
        log.error("of %s: %r", text, more)


def test_what_can_not_be_written_is_told_of(logs: Logs, form: str) -> None:
    """A record with the wrong arguments, and one whose fields are no JSON."""
    wrong = logging.LogRecord("mutt.test", logging.ERROR, "", 1, "%d", ("x\ny",), None)
    odd = logging.LogRecord("mutt.test", logging.ERROR, "", 1, "told", (), None)
    odd.deep = {(1, "\n"): 2}
    for record in (wrong, odd):
        logs.handler.handle(record)  # by itself: pytest's own handler would raise
        is_one_record(logs.taken(), form)


def test_the_end_of_a_thread_and_of_the_process_are_records(logs: Logs, form: str) -> None:
    """With their traceback, as all else; a warning too."""

    def fails() -> None:
        raise RuntimeError(HOSTILE[0])

    thread = threading.Thread(target=fails)
    thread.start()
    thread.join()
    is_one_record(logs.taken(), form)
    try:
        fails()
    except RuntimeError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    is_one_record(logs.taken().replace("[critical", "[error"), form)
    logging.getLogger("py.warnings").error("%s", HOSTILE[0])
    is_one_record(logs.taken(), form)


def test_a_field_of_a_record_comes_back_as_it_was(logs: Logs, form: str) -> None:
    """What is escaped in JSON is not lost."""
    text = "".join(HOSTILE[:6])
    logging.getLogger("mutt.test").error("told", extra={"theirs": text})
    said = logs.taken()
    if form == "json":
        assert json.loads(said)["theirs"] == text


def test_a_line_names_each_correlation_id_once_and_no_more_than_a_take_has() -> None:
    assert correlated(["b", "a", "b"]) == {"correlation_ids": ["b", "a"]}
    many = correlated(str(n) for n in range(NAMED + 7))
    assert many == {"correlation_ids": [str(n) for n in range(NAMED)], "correlation_ids_more": 7}


def test_what_comes_fast_is_one_line_and_what_comes_alone_is_there_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [100.0]
    gathered = Gathered(logging.getLogger("mutt.test"), "accepted", every=60.0, monotonic=lambda: now[0])
    told = lambda: [(one.requests, one.correlation_ids) for one in caplog.records]  # noqa: E731
    with caplog.at_level(logging.INFO):
        gathered.add(["a"], requests=1)
        assert told() == [(1, ["a"])]
        gathered.add(["b"], requests=1)
        gathered.add(["c", "b"], requests=2)
        assert len(told()) == 1
        now[0] += 60
        gathered.add(["d"], requests=1)
        assert told()[1:] == [(4, ["b", "c", "d"])]
        gathered.add(["e"], requests=1)
        gathered.tell()
        gathered.tell()
        assert told()[2:] == [(1, ["e"])]


def test_what_nothing_follows_is_told_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    gathered = Gathered(logging.getLogger("mutt.test"), "accepted", every=0.02)
    with caplog.at_level(logging.INFO):
        for name in "ab":
            gathered.add([name], requests=1)
        wait_until(lambda: len(caplog.records) == 2, 5, "the second line")
