"""Logs: one JSON object a line (or text for people), with the process' role. Values of secrets never get here.

Much of what is logged was written by others: names, paths, what a server said. None of it can begin a line of its
own, or move a terminal's cursor: JSON is written in ASCII, and text for people has no control characters but its
own line ends, behind which a traceback is indented.
"""

from __future__ import annotations

import atexit
import json
import logging
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog

from mutt.settings import Settings
from mutt.words import printable

#: Libraries that bring handlers of their own, in another shape.
_THEIRS = ("gunicorn.error", "gunicorn.access")

#: What Python writes into JSON and no other reader takes: halves of characters, numbers that are none.
_PYTHONS_OWN = re.compile(r"\\ud|NaN|Infinity")


#: Correlation ids that a line names: about as many as a take of single events has.
NAMED = 500


def correlated(ids: Iterable[str]) -> dict[str, Any]:
    """What a line about many says of whose they are: each correlation id once, the first :data:`NAMED` of them.

    ``correlation_ids_more``: how many more there were.
    """
    each = list(dict.fromkeys(ids))
    more = len(each) - NAMED
    return {"correlation_ids": each[:NAMED]} | ({"correlation_ids_more": more} if more > 0 else {})


class Gathered:
    """A line that is worth one now and then, and comes by the thousand: what follows one within ``every`` seconds is in
    the next.

    The first comes at once, so who posts alone is in the log at once. A line costs ingest as much as a third of a post.
    Threads may share it; make it after the fork.
    """

    def __init__(
        self,
        log: logging.Logger,
        event: str,
        every: float = 0.1,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._event, self._every, self._monotonic = log, event, every, monotonic
        self._lock = threading.Lock()
        self._counts, self._ids = Counter[str](), list[str]()
        self._told_at = float("-inf")
        self._waits = False  #: is somebody about to tell?
        atexit.register(self.tell)

    def add(self, ids: Iterable[str], **counts: int) -> None:
        """More of it happened, to those of these correlation ids."""
        with self._lock:
            self._counts.update(counts)
            self._ids.extend(ids)
            if self._monotonic() - self._told_at >= self._every or len(self._ids) >= NAMED:
                told = self._taken()
            elif self._waits:
                return
            else:
                told, self._waits = None, True
        if told is None:
            timer = threading.Timer(self._every, self.tell)
            timer.daemon = True
            timer.start()
        else:
            self._write(*told)

    def tell(self) -> None:
        """Write what is not written yet."""
        with self._lock:
            self._waits = False
            told = self._taken()
        if told[1]:
            self._write(*told)

    def _taken(self) -> tuple[dict[str, int], list[str]]:
        told = dict(self._counts), self._ids
        self._counts, self._ids, self._told_at = Counter(), [], self._monotonic()
        return told

    def _write(self, counts: Mapping[str, int], ids: Sequence[str]) -> None:
        self._log.info(self._event, extra={**counts, **correlated(ids)})


def configure(settings: Settings, role: str) -> None:
    """Send every log of this process to standard error in one shape, and what ends a thread or the process, too."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Any] = (
        [structlog.processors.JSONRenderer(serializer=_json)]
        if settings.log_format == "json"
        else [_for_people, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, _role(role)],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            *last,
        ],
    )
    handler = _Handler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in _THEIRS:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    # Each task would be two lines of Celery's and one of ours; ours says what it did.
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    sys.excepthook = _process_ended
    threading.excepthook = _thread_ended


class _Handler(logging.StreamHandler):
    """A record that can't be written is told of, in the same shape."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exception()
        if isinstance(error, OSError) or self.stream.closed:
            return  # nobody is there to read it
        told = "a line of the log can't be written: %s"
        instead = logging.LogRecord(
            record.name, logging.ERROR, record.pathname, record.lineno, told, (type(error).__name__,), None
        )
        self.stream.write(self.format(instead) + self.terminator)


def _json(event: Mapping[str, Any], **options: Any) -> str:
    text = json.dumps(event, **options)
    if _PYTHONS_OWN.search(text):
        whole = json.dumps(event, ensure_ascii=False, **options).encode("utf-8", "replace")
        text = json.dumps(json.loads(whole, parse_constant=str))
    return text


def _for_people(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    trace = event.pop("exception", "")
    shown = {name: _on_a_line(value) for name, value in event.items()}
    if trace:
        shown["exception"] = "\n".join("    " + _on_a_line(line) for line in trace.split("\n"))
    return shown


def _on_a_line(value: Any) -> Any:
    if value is None or isinstance(value, (int, float)):
        return value
    return (
        printable(value if isinstance(value, str) else repr(value)).replace("\n", "\\n").replace("\t", "\\t")
    )


def _process_ended(kind: Any, error: BaseException, trace: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        logging.getLogger("mutt").critical("the process ends", exc_info=(kind, error, trace))


def _thread_ended(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        name = args.thread.name if args.thread else "unknown"
        info = (args.exc_type, args.exc_value, args.exc_traceback)
        logging.getLogger("mutt").error("thread %s ends", name, exc_info=info)


def _role(role: str) -> Any:
    def add(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
        event.setdefault("role", role)
        return event

    return add
