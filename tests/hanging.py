"""An application that answers when it is told to: for tests of the worker that serves it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: What has to be there before anything but a health check is answered.
GO = "GO"


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    while environ["PATH_INFO"] != "/healthz" and not Path(os.environ["MUTT_HOME"], GO).exists():
        time.sleep(0.01)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
