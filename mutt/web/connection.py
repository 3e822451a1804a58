"""A connection as the worker has it: what came on it so far, and the whole request as gunicorn's parser reads it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from gunicorn.http import get_parser
from gunicorn.workers.gthread import TConn
from werkzeug.exceptions import RequestEntityTooLarge

from mutt.web.framing import Framing
from mutt.web.https import SecureClient
from mutt.web.live import Viewer

#: Bytes a second that a body must have, counted from its first.
RATE = 1 << 10

#: Seconds that an answer may take to be sent.
SENDING = 30.0


class Received:
    """A whole request as the parser reads it: behind its last byte is the end."""

    def __init__(self) -> None:
        self._data, self._at = b"", 0

    def give(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def recv(self, size: int) -> bytes:
        found = self._data[self._at : self._at + size]
        self._at += len(found)
        return found

    @property
    def left(self) -> int:
        """Bytes that were not read."""
        return len(self._data) - self._at


class TooLarge:
    """The body of a request that says it is larger than may be: none of it is here, and whoever reads it hears why."""

    def read(self, _size: int = -1) -> bytes:
        raise RequestEntityTooLarge

    readline = read

    def readlines(self, _hint: int = -1) -> list[bytes]:
        raise RequestEntityTooLarge

    def __iter__(self) -> Iterator[bytes]:
        raise RequestEntityTooLarge


class Connection(TConn):
    """A connection, and what came on it so far."""

    parser: Any

    def __init__(self, *args: Any, most: int) -> None:
        super().__init__(*args)
        self._most = most
        self._received = Received()
        self._rest = b""
        self.listened = False  #: does the loop hear when something comes?
        self.data_ready = True  # whenever a thread asks
        self.handed = 0  #: bytes of the request that was last handed over
        self.viewer: Viewer | None = None  #: whom its answer goes on for
        self.greeted = not isinstance(self.sock, SecureClient)  #: is its handshake done, or needs it none?
        self.began = time.monotonic()  #: this request, or to wait for it
        self.framing = Framing(most)

    def take(self) -> bytes:
        """The request, which is whole."""
        request, self._rest = self.framing.taken()
        return request

    def hand_over(self, request: bytes) -> None:
        """Give it to the parser."""
        self._received.give(request)
        self.handed = len(request)

    @property
    def address(self) -> str:
        """Its sender's, as WSGI's REMOTE_ADDR."""
        return self.client[0] if isinstance(self.client, tuple) else "unknown"

    def init(self) -> None:
        """Called in the thread, before each request."""
        self.sock.settimeout(SENDING)
        if self.parser is None:
            self.parser = get_parser(self.cfg, self._received, self.client)

    def next(self) -> bytes:
        """Begin with the next request; what of it is here already. What nobody read of the last one is forgotten."""
        self.began, self.framing = time.monotonic(), Framing(self._most)
        self._received.give(b"")
        if self.parser is not None:
            self.parser.unreader.take_buffered()
            self.parser.mesg = None
        return self._rest

    @property
    def size(self) -> int:
        """Bytes of an unfinished request."""
        return len(self.framing)

    @property
    def agrees(self) -> bool:
        """Does the parser, which has read the head, see the request end where we do? Its body has a length then."""
        here = len(self.parser.unreader.buf.getvalue()) + self._received.left
        return not self.framing.hopeless and bool(self.parser.mesg.body.reader.length == here)

    @property
    def begun(self) -> bool:
        """Did anything of its next request come?"""
        return self.framing.headed or self.size > 0

    def deadline(self, patience: float) -> float:
        """When its sender has been too slow (monotonic)."""
        if not self.greeted:
            return self.began + patience
        if not self.begun:
            return self.began + float(self.cfg.keepalive)
        return self.began + patience + (self.size / RATE if self.framing.headed else 0)
