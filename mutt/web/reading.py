"""What a page read from the replica: the rows, and, where it is behind or away, a sentence on the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from flask import Response, g
from sqlalchemy import Connection

from mutt.services import Services

T = TypeVar("T")

#: The reply's header that says of an answer for programs what a page says in a sentence.
HEADER = "X-Read-Note"


def read(services: Services, ask: Callable[[Connection], T]) -> T:
    """What ``ask`` finds on the replica. It may be called twice. Raises ``StoreDown``."""
    found, source = services.reader.read(ask)
    note(source.says)
    return found


def note(*sentences: str) -> None:
    """Say these on the page."""
    for sentence in sentences:
        if sentence and sentence not in notes():
            g.read_notes = [*notes(), sentence]


def notes() -> list[str]:
    """What is to be said on this page."""
    return list(g.get("read_notes", ()))


def headed(response: Response) -> Response:
    """Say it in the reply, too."""
    if found := notes():
        response.headers[HEADER] = " ".join(found).encode("ascii", "replace").decode()
    return response
