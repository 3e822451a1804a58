"""Keys in the address (``?key=…``), for senders that can set no header: SNS, Azure's action groups, Google's webhooks.

An address is written down on its way: by a server's access log, in the ``Location`` of a redirect. So a key is taken
out of it before anybody here sees it; whether it counts there is its own grant's to say (``Source.in_address``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from flask import Flask

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: What a key is called there: our own word, Splunk's, RFC 6750's (CloudEvents), Google's.
NAMES = frozenset((b"key", b"token", b"access_token", b"auth_token"))

#: Where it stands in the WSGI environment from then on.
_TAKEN = "mutt.key_in_address"

_BETWEEN = re.compile("[&;]")


def take_keys(app: Flask) -> None:
    """No address that ``app``, or its server's access log, sees holds a key."""
    inner = app.wsgi_app

    def without(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # In place: gunicorn's access log reads the same environment after the answer.
        if query := environ.get("QUERY_STRING"):
            _take(environ, query)
        if referer := environ.get("HTTP_REFERER"):  # Go's clients send the address that redirected them
            environ["HTTP_REFERER"] = referer.partition("?")[0]
        return inner(environ, start_response)

    app.wsgi_app = without  # type: ignore[method-assign]  # Flask's own way to wrap an application


def key_in_address(environ: Mapping[str, Any]) -> bytes | None:
    """The key that stood in this request's address; None: there was none."""
    found: bytes | None = environ.get(_TAKEN)
    return found


def _take(environ: WSGIEnvironment, query: str) -> None:
    kept, keys = [], []
    for part in _BETWEEN.split(query):
        name, _, value = part.partition("=")
        if unquote_to_bytes(name).lower() in NAMES:
            keys.append(unquote_to_bytes(value.encode("latin-1", "replace")))
        else:
            kept.append(part)
    if not keys:
        return
    environ[_TAKEN] = keys[0]
    environ["QUERY_STRING"] = left = "&".join(kept)
    for name in ("RAW_URI", "REQUEST_URI"):
        if name in environ:
            path = environ[name].partition("?")[0]
            environ[name] = f"{path}?{left}" if left else path
