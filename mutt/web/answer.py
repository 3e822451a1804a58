"""Answer: what a sender is told, whoever writes it down."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple

from mutt.errors import Kind
from mutt.web.headers import DATA_LINES

#: Statuses with their phrases, as a status line has them.
_STATUS = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


class Answer(NamedTuple):
    """Status, body and headers; ``after`` is done when the sender has it, so that he does not wait for that.

    ``why`` and ``kind`` are for who says a refusal in the words of another protocol.
    """

    status: int
    body: bytes
    type: str = "application/json"
    headers: Mapping[str, str] = {}
    after: Callable[[], object] | None = None
    why: str = ""  #: a word of :data:`mutt.metrics.REFUSED_FOR`; empty: it is no refusal
    kind: Kind = Kind.OTHER


def written(answer: Answer, server: str, now: float, *, kept: bool) -> bytes:
    """``answer`` as HTTP/1.1, as gunicorn writes Flask's; ``now`` is seconds since the epoch, ``kept`` whether its
    connection goes on."""
    more = "".join([f"{name}: {value}\r\n" for name, value in answer.headers.items()])
    head = (
        f"HTTP/1.1 {_STATUS[answer.status]}\r\nServer: {server}\r\nDate: {_date(int(now))}\r\n"
        f"Connection: {'keep-alive' if kept else 'close'}\r\nContent-Type: {answer.type}\r\n"
        f"Content-Length: {len(answer.body)}\r\n{DATA_LINES}{more}\r\n"
    )
    return head.encode("latin-1") + answer.body


@functools.lru_cache(maxsize=2)
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)
