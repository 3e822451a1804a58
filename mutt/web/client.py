"""A sender's connection, as the worker has it."""

from __future__ import annotations

import errno
import socket
from typing import Any


class Client(socket.socket):
    """A sender's connection. One that does not read its answer is one that went away."""

    def sendall(self, data: Any, flags: int = 0) -> None:
        try:
            super().sendall(data, flags)
        except TimeoutError:
            raise BrokenPipeError(errno.EPIPE, "the sender does not read its answer") from None
