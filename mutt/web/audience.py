"""The connections whose answer goes on, as the worker's loop has them: told all at once, waiting for none."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from mutt.web.live import Live, Viewer

#: How an answer in chunks ends.
_END = b"0\r\n\r\n"


class Seat(Protocol):
    """A connection."""

    sock: socket.socket
    viewer: Viewer | None


class Audience:
    """Everything here is called by the loop, but for :meth:`wants`.

    ``received`` is what came on a connection (b"": it hung up); ``leave`` and ``close`` end one, whose answer was, or
    was not, said to be complete.
    """

    def __init__(
        self,
        live: Live,
        poller: selectors.BaseSelector,
        received: Callable[[Any], bytes | None],
        leave: Callable[[Any], None],
        close: Callable[[Any], None],
    ) -> None:
        self._live, self._poller = live, poller
        self._received, self._leave, self._close = received, leave, close
        self._seats: dict[Viewer, Seat] = {}
        self._over = False

    def wants(self, req: Any) -> bool:
        """May the answer to this request go on? Its end must be told in chunks, and the connection may stay."""
        asked = req.method == "GET" and req.path == self._live.path
        return bool(asked and req.version >= (1, 1) and not req.should_close())

    def seat(self, conn: Seat) -> None:
        """The beginning of its answer is sent."""
        assert conn.viewer
        conn.sock.setblocking(False)
        self._seats[conn.viewer] = conn
        self._poller.register(conn.sock, selectors.EVENT_READ, partial(self._hear, conn))
        conn.viewer.seated = True
        if self._over:
            self._finish(conn)

    def tell(self, data: bytes, viewers: Sequence[Viewer], last: bool) -> None:
        """Send ``data`` to those that are still here. Whoever does not take it is far behind: it may come again."""
        chunk = b"%x\r\n%b\r\n%b" % (len(data), data, _END if last else b"")
        for conn in [self._seats[viewer] for viewer in viewers if viewer in self._seats]:
            if not _sent(conn.sock, chunk):
                self._close(conn)
            elif last:
                self._end(conn)

    def forget(self, conn: Seat) -> None:
        """It is closed."""
        if conn.viewer:
            self._seats.pop(conn.viewer, None)
            self._live.gone(conn.viewer)

    def end(self) -> None:
        """The worker stops: so does every answer."""
        self._over = True
        for conn in list(self._seats.values()):
            self._finish(conn)

    def _finish(self, conn: Seat) -> None:
        if _sent(conn.sock, _END):
            self._end(conn)
        else:
            self._close(conn)

    def _end(self, conn: Seat) -> None:
        """Its answer is complete."""
        self.forget(conn)
        self._poller.unregister(conn.sock)
        self._leave(conn)

    def _hear(self, conn: Seat, _sock: socket.socket) -> None:
        """It hung up, or says something, which nobody asked it for."""
        if self._received(conn) == b"":
            self._close(conn)


def _sent(sock: socket.socket, data: bytes) -> bool:
    try:
        return sock.send(data) == len(data)
    except OSError:  # it would have to wait, or nobody is there
        return False
