"""Syslog over UDP (RFC 5426): a datagram is a message."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from pathlib import Path

from mutt.listen.counts import Counts
from mutt.listen.framing import GROWS, fitting
from mutt.listen.relay import Relay
from mutt.listen.wire import bound, plain_address

log = logging.getLogger("mutt.listen")

#: Bytes that the kernel is asked to keep for us while we are busy, and that no datagram has more of.
KERNEL_BUFFER, DATAGRAM = 16 << 20, 65_535

#: A datagram of nothing else is no message.
BLANK = b"\r\n\0 "

#: Datagrams read before others have their turn.
TURN = 512

#: Seconds that the end reads on: what lay in the socket by then is read, and who floods it is not waited for.
GOODBYE = 1.0


class UdpListener:
    """Gives each datagram to ``relay``; where that has no room, or the kernel had none, it is lost and counted.

    Of one of which ingest would make more than ``most`` bytes the rest is left out.
    """

    def __init__(
        self,
        host: str,
        port: int,
        relay: Relay,
        name: str = "LISTEN_SYSLOG_UDP",
        *,
        most: int = DATAGRAM * GROWS,
    ) -> None:
        self.counts, self._relay, self._most = Counts(), relay, most
        self._socket = bound(host, port, socket.SOCK_DGRAM, name)
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        self._buffer = memoryview(bytearray(DATAGRAM))
        self._ask_for_room()

    def _ask_for_room(self) -> None:
        for option in (getattr(socket, "SO_RCVBUFFORCE", socket.SO_RCVBUF), socket.SO_RCVBUF):
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, option, KERNEL_BUFFER)
                break
            except PermissionError:
                continue

    async def start(self) -> None:
        """Begin to read."""
        granted = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # Linux tells it doubled
        if granted < KERNEL_BUFFER:
            told = "the kernel keeps %s bytes for UDP while this process is busy; with sysctl net.core.rmem_max=%s more"
            log.warning(told, granted, KERNEL_BUFFER)
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    async def stop(self) -> None:
        """Take what is here, and nothing more."""
        self._take_what_is_here()
        self.look()
        self._socket.close()

    def _take_what_is_here(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        end = time.monotonic() + GOODBYE
        while self._read() and time.monotonic() < end:
            pass

    def look(self) -> None:
        """See how many datagrams the kernel has lost."""
        self.counts.unread = max(self.counts.unread, lost(self._socket))

    def _read(self) -> bool:
        """Read a turn's worth. Is there more?"""
        now, put, receive, buffer = time.time(), self._relay.put, self._socket.recvfrom_into, self._buffer
        received = no_room = 0
        try:
            for received in range(1, TURN + 1):  # noqa: B007 read behind the loop
                size, (peer, *_) = receive(buffer)
                data = bytes(buffer[:size])
                if size * GROWS > self._most:
                    data = self._fitting(data)
                if data.strip(BLANK) and not put(data, plain_address(peer), now):
                    no_room += 1
            return True
        except BlockingIOError:
            received -= 1
            return False
        finally:
            self.counts.received += received
            self.counts.no_room += no_room

    def _fitting(self, data: bytes) -> bytes:
        found = fitting(data, self._most)
        self.counts.cut += found is not data
        return found


def lost(listening: socket.socket) -> int:
    """Datagrams that the kernel has thrown away for want of room; 0 where it does not tell."""
    inode = str(os.fstat(listening.fileno()).st_ino)
    table = Path("/proc/net/udp6" if listening.family == socket.AF_INET6 else "/proc/net/udp")
    try:
        rows = [row.split() for row in table.read_text().splitlines()[1:]]
    except OSError:
        return 0
    return next((int(row[-1]) for row in rows if row[9] == inode), 0)
