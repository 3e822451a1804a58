"""A TCP proxy between a test's process and a server: it can be slow, silent, or gone, as a network is."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

CHUNK = 1 << 16


class Proxy:
    """Passes bytes on to ``target``. ``url`` is the server's address by way of this proxy."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "", parts.port or 0)
        self._flows, self._jitter = threading.Event(), 0.0
        self._flows.set()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        login, at, _ = parts.netloc.rpartition("@")
        self.url = urlunsplit(parts._replace(netloc=f"{login}{at}127.0.0.1:{self.port}"))
        self._accept()

    def _accept(self) -> None:
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def _serve(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                try:
                    far = socket.create_connection(self._target, 5)
                except OSError:
                    near.close()
                    continue
                far.settimeout(None)
                for one in (near, far):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._pairs.append((near, far))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                self._flows.wait()
                if self._jitter:
                    time.sleep(random.uniform(0, self._jitter))
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def shake(self, jitter: float) -> None:
        """Hold each piece back for up to so many seconds."""
        self._jitter = jitter

    def silence(self) -> None:
        """The server's host is gone without a word: connections stand, new ones are taken, and nothing comes back."""
        self._flows.clear()

    def speak(self) -> None:
        self._flows.set()

    def refuse(self) -> None:
        """Nobody listens any more, and every connection is cut."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Cut every connection."""
        pairs, self._pairs = self._pairs, []
        for one in (one for pair in pairs for one in pair):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def listen(self) -> None:
        """Listen again, where :meth:`refuse` left off."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._accept()


@contextlib.contextmanager
def proxied(url: str) -> Iterator[Proxy]:
    """A proxy to the server at ``url``."""
    proxy = Proxy(url)
    try:
        yield proxy
    finally:
        proxy.speak()
        proxy.refuse()
