"""The load generator, a process of its own: ``python -m benchmarks.load`` takes orders and answers with what it saw.

One thread, plain sockets, bodies made beforehand: it must cost little, for it shares the machine with what it
measures. At a fixed rate each request has a time at which it is due, and its latency counts from there, sent late or
not: a server that stalls can't hide the requests that had to wait.
"""

from __future__ import annotations

import collections
import itertools
import math
import re
import select
import socket
import subprocess
import sys
import time
from array import array
from collections.abc import Sequence
from types import TracebackType
from urllib.parse import urlsplit

import msgspec

from benchmarks import corpus
from benchmarks.bodies import FORMS, body

#: Distinct events; requests go round them. (MUTT gives each an id of its own.)
POOL = 20_000

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Order(msgspec.Struct, frozen=True):
    """What to send. ``rate`` is in requests a second; 0: each connection sends as soon as it has an answer."""

    url: str
    key: str
    requests: int
    size: int = 1  #: events a request
    connections: int = 16
    rate: float = 0.0
    pool: int = POOL
    form: str = "array"  #: one of :data:`benchmarks.bodies.FORMS`
    length: int = 0  #: bytes of an event; 0: the corpus' own 540


class Sent(msgspec.Struct, frozen=True):
    """What came of it. Times are the machine's monotonic clock, in seconds; latencies are milliseconds."""

    started: float
    ended: float
    cpu: float  #: seconds that the generator itself used
    statuses: dict[str, int]
    p50: float
    p99: float
    p999: float
    late_p99: float  #: how late requests left; near p99: the generator or its connections are the limit


class Connection:
    """One keep-alive connection with at most one request under way."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.due = 0.0
        self._out = memoryview(b"")
        self._in = b""

    def fileno(self) -> int:
        return self.socket.fileno()

    def begin(self, request: bytes, due: float) -> bool:
        """Send ``request``; True if all of it left at once."""
        self.due, self._out, self._in = due, memoryview(request), b""
        return self.go_on()

    def go_on(self) -> bool:
        """Send what is left; True if that was all."""
        try:
            self._out = self._out[self.socket.send(self._out) :]
        except BlockingIOError:
            return False
        return not self._out

    def receive(self) -> str:
        """The status, once the whole answer is there; until then ''. Raises ConnectionError."""
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the server closed a connection that was in use")
        self._in += data
        head = self._in.find(b"\r\n\r\n")
        length = _LENGTH.search(self._in, 0, head) if head >= 0 else None
        if length is None or len(self._in) < head + 4 + int(length[1]):
            return ""
        return self._in[9:12].decode()


class Generator:
    """Carries out one order."""

    def __init__(self, order: Order, requests: Sequence[bytes]) -> None:
        self._order, self._requests = order, itertools.cycle(requests)
        address = urlsplit(order.url)
        made = [Connection(address.hostname or "", address.port or 80) for _ in range(order.connections)]
        self._idle = collections.deque(made)
        self._sending: set[Connection] = set()
        self._waiting: set[Connection] = set()
        self._sent = 0
        self._latencies, self._late = array("d"), array("d")
        self._statuses: collections.Counter[str] = collections.Counter()

    def run(self) -> Sent:
        """Send everything and wait for every answer."""
        cpu, started = time.process_time(), time.monotonic()
        while len(self._latencies) < self._order.requests:
            next_due = self._begin_due(started)
            wait = 30.0 if next_due == math.inf else max(0.0, next_due - time.monotonic())
            readable, writable, _ = select.select(self._waiting, self._sending, (), wait)
            if not readable and not writable and next_due == math.inf:
                raise TimeoutError("no answer within 30 s")
            self._sending -= {connection for connection in writable if connection.go_on()}
            for connection in readable:
                self._receive(connection)
        ended = time.monotonic()
        for connection in self._idle:
            connection.socket.close()
        taken, late = sorted(self._latencies), sorted(self._late)
        p50, p99, p999 = (_share(taken, share) * 1000 for share in (0.5, 0.99, 0.999))
        cpu = time.process_time() - cpu
        return Sent(started, ended, cpu, dict(self._statuses), p50, p99, p999, _share(late, 0.99) * 1000)

    def _begin_due(self, started: float) -> float:
        """Begin what is due and has a connection; when the next one will be due (inf: an answer comes first)."""
        order = self._order
        while self._idle and self._sent < order.requests:
            now = time.monotonic()
            due = started + self._sent / order.rate if order.rate else now
            if due > now:
                return due
            connection = self._idle.popleft()
            self._sent += 1
            self._late.append(now - due)
            if not connection.begin(next(self._requests), due):
                self._sending.add(connection)
            self._waiting.add(connection)
        return math.inf

    def _receive(self, connection: Connection) -> None:
        status = connection.receive()
        if status:
            self._latencies.append(time.monotonic() - connection.due)
            self._statuses[status] += 1
            self._waiting.discard(connection)
            self._idle.append(connection)


def _share(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def requests(order: Order) -> list[bytes]:
    """Whole HTTP requests, head and body, as many as the pool of events gives."""
    events = [event.body for event in corpus.events(max(order.pool, order.size), length=order.length)]
    firsts = range(0, len(events) - order.size + 1, order.size)
    return [_request(order, body(events[first : first + order.size], order.form)) for first in firsts]


def _request(order: Order, content: bytes) -> bytes:
    address = urlsplit(order.url)
    head = (
        f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nX-API-KEY: {order.key}\r\n"
        f"{FORMS[order.form]}Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


class Loader:
    """The generator's process, for whoever measures: ``with Loader() as loader: loader.send(order)``."""

    def __enter__(self) -> Loader:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, where: TracebackType | None) -> None:
        self._process.communicate()

    def send(self, order: Order) -> Sent:
        """Carry out ``order``. Raises RuntimeError if the generator died; its own words are on standard error."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load generator ended")
        return msgspec.json.decode(line, type=Sent)


def main() -> None:
    """Orders from standard input, a line each, answers to standard output."""
    known: dict[Order, list[bytes]] = {}
    for line in sys.stdin.buffer:
        order = msgspec.json.decode(line, type=Order)
        bodies = msgspec.structs.replace(order, requests=0, connections=0, rate=0.0)
        if bodies not in known:
            known = {bodies: requests(order)}
        sys.stdout.buffer.write(msgspec.json.encode(Generator(order, known[bodies]).run()) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
