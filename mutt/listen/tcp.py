"""Syslog over TCP (RFC 6587) and TLS (RFC 5425)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from asyncio import sslproto
from collections.abc import Callable
from typing import cast

from mutt.listen.books import Trouble
from mutt.listen.counts import Counts
from mutt.listen.framing import Framer
from mutt.listen.relay import Relay
from mutt.listen.wire import bound, keep_alive, plain_address
from mutt.tls import ServerFiles

log = logging.getLogger("mutt.listen")

#: Seconds for a TLS handshake, and for a TLS connection to end.
HANDSHAKE, FAREWELL = 10.0, 2.0

#: Seconds that a message which was begun may take to be whole. Between messages a connection may be silent for ever.
WHOLE = 60.0

#: Seconds between two looks: at the slow ones, and at those that wait for room.
LOOK, ROOM = 1.0, 0.05

#: Bytes of messages that are not whole, of all connections. Beyond them who holds more than an equal share is hung up
#: on: strangers could open many connections, and begin a large message on each.
PARTIAL = 64 << 20

#: Bytes that a TLS connection is read by, and that it keeps while it is not read. asyncio's own buffer is 256 KiB for
#: each, also for one that is silent: a thousand would not fit into the half GiB of deploy/systemd's unit.
SECURE = 32 << 10

#: Connections that the kernel keeps until they are accepted; seconds to the next try where no file can be opened.
BACKLOG, ACCEPT_AGAIN = 1024, 1.0

#: Seconds that open connections have at the end to be read empty; so many looks in which nothing comes are enough, and
#: so many seconds between two. Looks, not time: a process that had no processor meanwhile has seen nothing.
GOODBYE = 1.0
QUIET, GLANCE = 5, 0.02


class TcpListener:
    """Gives each message to ``relay``; where that has no room, its senders wait.

    ``most`` bytes may a message have, ``connections`` may there be at once. ``tls``: what is spoken above TCP.
    """

    def __init__(
        self,
        host: str,
        port: int,
        relay: Relay,
        *,
        name: str,
        most: int,
        connections: int,
        tls: ServerFiles | None = None,
    ) -> None:
        if tls:
            sslproto.SSLProtocol.max_size = SECURE
        self.counts, self.relay, self.most = Counts(), relay, most
        self._most_connections, self._tls = connections, tls
        self._socket = bound(host, port, socket.SOCK_STREAM, name)
        self.port: int = self._socket.getsockname()[1]
        self.open = set[Connection]()
        self.last_data = 0.0
        self.opening = set[Connection]()  # in their handshake
        self._ending = False
        self._welcoming = set[asyncio.Task[None]]()
        self._tasks = list[asyncio.Task[None]]()
        self.partial = 0  # bytes
        self.trouble = Trouble()

    async def start(self) -> None:
        """Begin to accept."""
        self._socket.setblocking(False)
        self._socket.listen(BACKLOG)
        self._tasks.append(asyncio.create_task(self._accept()))
        for work, every in ((Connection.hurry, LOOK), (Connection.go_on, ROOM)):
            self._tasks.append(asyncio.create_task(self._each(work, every)))

    async def stop(self) -> None:
        """Accept nothing more, take what is here, and hang up."""
        if not self._ending:
            self._ending = True
            asyncio.get_running_loop().remove_reader(self._socket)
            # Whom the loop has accepted by now is welcomed first: with the task that waits for him he would be dropped.
            await asyncio.sleep(0)
        self._tasks[0].cancel()
        self._accept_who_is_here()
        end, quiet = time.monotonic() + GOODBYE, 0
        while (self.open or self.opening) and quiet < QUIET and time.monotonic() < end:
            before = self.last_data
            await asyncio.sleep(GLANCE)
            quiet = quiet + 1 if self.last_data == before else 0
        for task in (*self._tasks, *self._welcoming):
            task.cancel()
        for connection in list(self.open):
            connection.end()
        await asyncio.sleep(0)
        self._socket.close()

    def pause(self) -> None:
        """There is no room: read of nobody, or each would bring a little more into memory."""
        for connection in self.open:
            connection.pause()

    def look(self) -> None:
        """Are there new certificates? Raises what ended a task, for it would be an error of ours: who is paused would
        never be read again."""
        for task in self._tasks:
            if task.done():
                task.result()
        if self._tls:
            self._tls.look()

    async def _accept(self) -> None:
        """Not asyncio's own server: that counts nobody before the handshake, and where no file can be opened logs a
        thousand tracebacks a second."""
        loop, warned = asyncio.get_running_loop(), False
        while not self._ending:
            try:
                sock, _ = await loop.sock_accept(self._socket)
            except OSError as error:
                if not warned:
                    log.warning("no connection can be accepted, so who comes waits: %s", error.strerror)
                warned = True
                await asyncio.sleep(ACCEPT_AGAIN)
                continue
            warned = False
            self._welcome(sock)
            await asyncio.sleep(0)  # who waits is accepted without a turn of the loop

    def _accept_who_is_here(self) -> None:
        """What they have sent lies in the kernel, and they believe that it has come."""
        with contextlib.suppress(OSError):  # BlockingIOError: nobody is left
            for _ in range(BACKLOG):
                self._welcome(self._socket.accept()[0])

    def _welcome(self, sock: socket.socket) -> None:
        if len(self.open) + len(self.opening) >= self._most_connections:
            self.counts.turned_away += 1
            told = "a connection to port %s is turned away, for %s stand: LISTEN_CONNECTIONS may be more"
            self.trouble.say("turned away", told, self.port, self._most_connections)
            sock.close()
            return
        connection = Connection(self)
        self.opening.add(connection)
        welcoming = asyncio.create_task(self._open(connection, sock))
        self._welcoming.add(welcoming)
        welcoming.add_done_callback(self._welcoming.discard)

    async def _open(self, connection: Connection, sock: socket.socket) -> None:
        sock.setblocking(False)
        try:
            peer = plain_address(str(sock.getpeername()[0]))
            keep_alive(sock)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                sock,
                ssl=self._tls.context if self._tls else None,
                ssl_handshake_timeout=HANDSHAKE if self._tls else None,
                ssl_shutdown_timeout=FAREWELL if self._tls else None,
            )
        except ssl.SSLError as error:
            told = "the TLS handshake with %s failed: %s"
            self.trouble.say("handshake", told, peer, error.reason or error)
        except OSError as error:  # who has gone meanwhile
            log.debug("no connection: %s", error)
        finally:
            self.opening.discard(connection)

    async def _each(self, work: Callable[[Connection], None], every: float) -> None:
        while True:
            await asyncio.sleep(every)
            for connection in list(self.open):
                work(connection)


class Connection(asyncio.Protocol):
    """One sender."""

    def __init__(self, listener: TcpListener) -> None:
        self._listener = listener
        self._framer = Framer(listener.most)
        self._waiting = list[bytes]()  # for room
        self._begun_at = 0.0  # when the message began that is not whole
        self._held, self._paused = 0, False
        self._peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._peer = plain_address(str((transport.get_extra_info("peername") or ["unknown"])[0]))
        self._listener.opening.discard(self)
        self._listener.open.add(self)
        self._listener.counts.connections += 1
        if limit := getattr(transport, "set_read_buffer_limits", None):  # TLS
            limit(SECURE)
        if not self._listener.relay.has_room:
            self.pause()

    def data_received(self, data: bytes) -> None:
        self._listener.last_data = now = time.monotonic()
        messages = self._framer.feed(data)
        if not self._framer.is_partial:
            self._begun_at = 0.0
        elif messages or not self._begun_at:
            self._begun_at = now
        self._take(messages)
        self._hold(self._framer.held)

    def _hold(self, size: int) -> None:
        listener = self._listener
        grown, self._held = size - self._held, size
        listener.partial += grown
        if grown > 0 and listener.partial > PARTIAL and size > PARTIAL // len(listener.open):
            listener.trouble.say(
                "partial", "%s began a message when too many were begun: hung up", self._peer
            )
            self.close()

    def connection_lost(self, _error: Exception | None) -> None:
        if self in self._listener.open:
            counts = self._listener.counts
            self._listener.open.discard(self)
            counts.connections -= 1
            waiting, self._waiting = self._waiting, []
            self._take(waiting + self._framer.rest())
            counts.received += len(self._waiting)
            counts.no_room += len(self._waiting)
            counts.cut += self._framer.cut
            self._hold(0)

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    def end(self) -> None:
        """Take what is here, and hang up at once: over TLS a farewell would be waited for."""
        self._transport.abort()
        self.connection_lost(None)

    def pause(self) -> None:
        """Read no more of it until there is room."""
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def hurry(self) -> None:
        """Hang up on who began a message and does not go on."""
        if self._begun_at and time.monotonic() > self._begun_at + WHOLE and not self._paused:
            told = "%s began a message and did not end it within %g s: hung up"
            self._listener.trouble.say("slow", told, self._peer, WHOLE)
            self.close()

    def go_on(self) -> None:
        """Try again what found no room."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self._take(waiting)
        if self._paused and self._listener.relay.has_room and not self._transport.is_closing():
            self._paused = False
            self._begun_at = self._begun_at and time.monotonic()  # it is not its fault that this took so long
            self._transport.resume_reading()

    def _take(self, messages: list[bytes]) -> None:
        relay, now = self._listener.relay, time.time()
        for index, message in enumerate(messages):
            if not (relay.has_room and relay.put(message, self._peer, now)):
                self._wait(messages[index:])
                messages = messages[:index]
                break
        self._listener.counts.received += len(messages)

    def _wait(self, messages: list[bytes]) -> None:
        self._waiting += messages
        self._listener.pause()
