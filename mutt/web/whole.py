"""A request's body, whole: one that ends before its Content-Length is refused, and so is one that is too large."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask, current_app, request
from werkzeug.exceptions import RequestEntityTooLarge

from mutt.errors import RejectedBody

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def take_whole_bodies(app: Flask) -> None:
    """No half of a body reaches ``app``.

    gunicorn says ``wsgi.input_terminated``, but its body also ends where the sender went away (as its own workers read
    it), and Werkzeug then looks no further. Without that word Werkzeug counts.
    """
    inner = app.wsgi_app

    def counted(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("CONTENT_LENGTH"):
            environ.pop("wsgi.input_terminated", None)
        return inner(environ, start_response)

    app.wsgi_app = counted  # type: ignore[method-assign]  # Flask's own way to wrap an application


def whole_body() -> bytes:
    """The body of this request. Raises :class:`RejectedBody` where it is larger than the application takes."""
    try:
        return request.get_data(cache=False)
    except RequestEntityTooLarge:
        most = current_app.config["MAX_CONTENT_LENGTH"]
        raise RejectedBody("body", f"is larger than {most} bytes: send it in parts", 413) from None
