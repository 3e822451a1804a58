"""Bare WSGI: what a request costs before anything is done with it (``benchmarks.bare:application``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Reads the body and says 202."""
    environ["wsgi.input"].read()
    start_response("202 ACCEPTED", [("Content-Type", "application/json"), ("Content-Length", "2")])
    return [b"{}"]
