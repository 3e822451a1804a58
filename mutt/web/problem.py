"""Errors as RFC 9457 problem documents: which field, what is wrong, and when to ask again."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson
from flask import Response


def problem(
    status: int, detail: str, *, correlation_id: str = "", retry_after: int | None = None, **more: Any
) -> Response:
    """One problem document."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **more,
    }
    if correlation_id:
        body["correlation_id"] = correlation_id
    response = Response(orjson.dumps(body), status, mimetype="application/problem+json")
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = 'Bearer realm="mutt"'
    return response
