"""A handler of Python's logging that sends each record to MUTT as an event."""

from __future__ import annotations

import logging
import socket
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .client import GOODBYE, SENDING, Client, SendingThread
from .result import Full

#: From which level on which of syslog's severities: critical, error, warning, notice, informational; below, debug.
SEVERITIES = ((50, 2), (40, 3), (30, 4), (25, 5), (20, 6))
DEBUG = 7

#: What every record has; whatever else stands there came by ``extra``.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "mutt"}


class MuttHandler(logging.Handler):
    """Sends records as events: ``hostname`` and ``program`` name this machine and program unless they are given.

    The message is what the formatter makes of the record: without one, its text and its traceback. ``tags`` are put on
    every event, what came by ``extra=`` on its own; ``extra={"mutt": {…}}`` sets fields of the event itself, such as
    ``state`` and ``clear_key``.

    Whoever logs never waits, and no exception reaches him: where the buffer is full the oldest records go, and are
    counted (``handler.client.counts``). ``when_full="block"`` lets him wait instead. ``options`` are the client's.
    """

    def __init__(
        self,
        url: str,
        key: str | Callable[[], str],
        *,
        hostname: str = "",
        program: str = "",
        tags: dict[str, str] | None = None,
        level: int | str = logging.NOTSET,
        **options: Any,
    ) -> None:
        super().__init__(level)
        self._hostname = hostname or socket.gethostname()
        self._program = program or Path(sys.argv[0]).stem or "python"
        self._tags = dict(tags or {})
        self.client = Client(url, key, **{"format": "native", "when_full": "drop", **options})

    def handle(self, record: logging.LogRecord) -> bool:
        """As logging has it, but for what is logged about sending: that would go round in circles, and wait for the
        handler's lock while its holder waits for room. It may come through a queue, out of another thread."""
        about_sending = isinstance(threading.current_thread(), SendingThread) or record.threadName == SENDING
        if about_sending or self.client.closed:
            return False
        return bool(super().handle(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Put it into the client's buffer."""
        try:
            self.client.send(self.event(record))
        except Full:
            pass  # the client counts it
        except Exception:  # noqa: BLE001 logging's own way: it is told on standard error, and the program goes on
            self.handleError(record)

    def event(self, record: logging.LogRecord) -> dict[str, Any]:
        """What is sent of a record."""
        given = {name: value for name, value in vars(record).items() if name not in _OWN}
        message = self.format(record)
        own = getattr(record, "mutt", None)
        return {
            "hostname": self._hostname,
            "message": message if message.strip() else f"an empty message of {record.name}",
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "severity": severity(record.levelno),
            "program": self._program,
            "source": "python",
            "tags": {"logger": record.name, "level": record.levelname, **self._tags, **given},
            **(own if isinstance(own, dict) else {}),
        }

    def flush(self) -> None:
        """Send what waits, for a few seconds. :mod:`logging` calls it at exit."""
        self.client.flush(GOODBYE)

    def close(self) -> None:
        """Send what waits, for a few seconds. :mod:`logging` calls it at exit."""
        self.client.close()
        super().close()


def severity(level: int) -> int:
    """syslog's 0 to 7 for a level of logging."""
    return next((found for least, found in SEVERITIES if level >= least), DEBUG)
