"""A body that ends before its Content-Length is refused, never taken for the whole."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask import Flask

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
