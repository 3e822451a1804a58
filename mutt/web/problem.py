"""Errors as RFC 9457 problem documents: which field, what is wrong, and when to ask again."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson

from mutt.web.answer import Answer
from mutt.web.headers import DATA_LINES

#: The media type of a problem document.
TYPE = "application/problem+json"


def document(status: int, detail: str) -> dict[str, Any]:
    """What every problem document says."""
    title = HTTPStatus(status).phrase
    return {"type": "about:blank", "title": title, "status": status, "detail": detail}


def problem(
    status: int, detail: str, *, correlation_id: str = "", retry_after: int | None = None, **more: Any
) -> Answer:
    """One problem document."""
    body = document(status, detail) | more
    if correlation_id:
        body["correlation_id"] = correlation_id
    headers = {}
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="mutt"'
    return Answer(status, orjson.dumps(body), TYPE, headers)


def last_words(status: int, detail: str, retry_after: int | None = None) -> bytes:
    """One problem document as a whole HTTP/1.1 answer, behind which the connection is closed."""
    body = orjson.dumps(document(status, detail))
    again = "" if retry_after is None else f"Retry-After: {retry_after}\r\n"
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {TYPE}\r\n"
        f"Content-Length: {len(body)}\r\n{again}{DATA_LINES}Connection: close\r\n\r\n"
    )
    return head.encode() + body
