"""How long the admin's pages take, and how much its threads work: what the pulse says of it."""

from __future__ import annotations

import time

from flask import Flask, Response, g, request

from mutt.meter import Meters

#: Health checks come every few seconds, and are no pages: they would make the pages look quick.
_UNCOUNTED = ("static", "favicon", "health.healthz", "health.readyz")


def measure(app: Flask, meters: Meters) -> None:
    """Count each request to ``app`` from its first line here to its answer; what is streamed after that is no work."""
    meter = meters["admin"]
    app.extensions["meters"] = "admin", meters

    @app.before_request
    def begin() -> None:
        g.began = time.monotonic()
        meter.busy.begin()

    @app.after_request
    def end(response: Response) -> Response:
        if "began" in g and request.endpoint not in _UNCOUNTED:
            meter.did(1, [time.monotonic() - g.began])
            meter.refused += response.status_code == 503
        return response

    @app.teardown_request
    def gone(_error: BaseException | None) -> None:
        meter.busy.end()
