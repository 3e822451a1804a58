"""Wrong: an answer of the API that ends the request."""

from __future__ import annotations

from typing import Any


class Wrong(Exception):
    """An answer that ends the request."""

    def __init__(self, status: int, detail: str, *, retry_after: int | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.detail, self.retry_after, self.more = status, detail, retry_after, more
