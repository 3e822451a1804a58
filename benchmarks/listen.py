"""What a message of syslog costs `mutt listen`, on its way from the socket over the disk to ingest.

``python -m benchmarks.listen``: microseconds of processor time a message, beside a process that only receives (over
TCP: and splits lines), and how many are lost at a rate that is kept for some seconds. Ingest is one that answers and
keeps nothing.
"""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mutt.embedded.ports import free_port
from tests.answering import Answering
from tests.servers import scratch
from tests.waiting import wait_until

ROUNDS = 3
#: Messages in a round, datagrams a second while cost is measured, and rates at which losses are counted, for seconds.
COUNTS = {"udp": 40_000, "tcp": 200_000}
RATE, RATES, SECONDS = 10_000, (10_000, 15_000, 20_000, 30_000), 4.0

LINE = b"<189>%d: core-sw-07: *Mar  4 09:00:00.123 UTC: %%LINK-3-UPDOWN: Interface Gi1/0/%d, changed state to down"

BARE = """if True:
    import signal, socket, sys
    kind = socket.SOCK_DGRAM if sys.argv[1] == "udp" else socket.SOCK_STREAM
    sock = socket.socket(socket.AF_INET, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
    sock.bind(("127.0.0.1", int(sys.argv[2])))
    buffer = memoryview(bytearray(1 << 18))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    if kind == socket.SOCK_STREAM:
        sock.listen()
    print("ready", flush=True)
    while True:
        one = sock.accept()[0] if kind == socket.SOCK_STREAM else sock
        while (size := one.recvfrom_into(buffer)[0]):
            if kind == socket.SOCK_STREAM:
                bytes(buffer[:size]).split(b"\\n")
"""


class Process(NamedTuple):
    """A process that hears, and where."""

    pid: int
    port: int
    metrics: int  #: 0: it tells none

    @property
    def seconds(self) -> float:
        """Processor time that its threads have used, to the nanosecond."""
        threads = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(one.read_text().split()[0]) for one in threads) / 1e9

    def told(self, name: str) -> float:
        """A metric, summed over its labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=10) as answer:
            rows = answer.read().decode().splitlines()
        return sum(float(row.rpartition(" ")[2]) for row in rows if row.startswith(name))


@contextmanager
def bare(kind: str) -> Iterator[Process]:
    """One that only receives."""
    port = free_port(19700)
    with subprocess.Popen([sys.executable, "-c", BARE, kind, str(port)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield Process(process.pid, port, 0)
        finally:
            process.kill()


@contextmanager
def listening(kind: str, directory: Path, ingest: str) -> Iterator[Process]:
    """`mutt listen syslog`."""
    port, metrics, log = free_port(19750), free_port(19800), directory / "log"
    env = {
        "MUTT_HOME": str(directory), "INGEST_URL": ingest, "INGEST_KEY": "k", "LISTEN_HOST": "127.0.0.1",
        "METRICS_PORT": str(metrics), "PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "LISTEN_SYSLOG_UDP": "0", "LISTEN_SYSLOG_TCP": "0", f"LISTEN_SYSLOG_{kind.upper()}": str(port),
    }  # fmt: skip
    with log.open("wb") as file:
        argv = [sys.executable, "-m", "mutt.listen", "syslog"]
        with subprocess.Popen(argv, env=env, stdout=file, stderr=file) as process:
            try:
                wait_until(lambda: " listens on port " in log.read_text(), 30, log.read_text())
                yield Process(process.pid, port, metrics)
                process.send_signal(signal.SIGTERM)
                process.wait(20)
            finally:
                process.kill()


def send_udp(port: int, count: int, rate: float) -> None:
    """Datagrams at ``rate`` a second, in bursts of a hundredth of it."""
    began, burst = time.monotonic(), max(1, int(rate / 100))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        for n in range(count):
            sock.send(LINE % (n, n % 48))
            if n % burst == 0:
                time.sleep(max(0.0, began + n / rate - time.monotonic()))


def send_tcp(port: int, count: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        for first in range(0, count, 1000):
            sock.sendall(b"".join(LINE % (n, n % 48) + b"\n" for n in range(first, first + 1000)))


def cost(process: Process, kind: str) -> float:
    """Microseconds of processor time a message, until ingest has all of them."""
    before, sent = process.seconds, process.told("mutt_listen_sent_total") if process.metrics else 0.0
    count = COUNTS[kind]
    if kind == "udp":
        send_udp(process.port, count, RATE)
    else:
        send_tcp(process.port, count)
    if process.metrics:
        wait_until(lambda: process.told("mutt_listen_sent_total") - sent >= count * 0.99, 60, every=0.5)
    else:
        time.sleep(0.5)
    return (process.seconds - before) / count * 1e6


def costs(kind: str, directory: Path, ingest: str) -> None:
    found: dict[str, list[float]] = {"bare": [], "mutt": []}
    with bare(kind) as one, listening(kind, directory, ingest) as other:
        for _ in range(ROUNDS):
            found["bare"].append(cost(one, kind))
            found["mutt"].append(cost(other, kind))
    plain, mutt = (statistics.median(found[name]) for name in ("bare", "mutt"))
    print(
        f"{kind}: {mutt:.1f} us a message ({min(found['mutt']):.1f} to {max(found['mutt']):.1f}), that is"
        f" {1e6 / mutt:,.0f} a second and core; bare {plain:.1f} us: {mutt / plain:.1f} times as much"
    )


def losses(directory: Path, ingest: str) -> None:
    with listening("udp", directory, ingest) as process:
        for rate in RATES:
            received, lost = (
                process.told("mutt_listen_received_total"),
                process.told("mutt_listen_lost_total"),
            )
            count = int(rate * SECONDS)
            began = time.monotonic()
            send_udp(process.port, count, rate)
            took = time.monotonic() - began
            time.sleep(1.5)
            got, gone = (
                process.told("mutt_listen_received_total") - received,
                process.told("mutt_listen_lost_total") - lost,
            )
            print(
                f"udp at {count / took:,.0f} a second for {took:.1f} s: {got:,.0f} of {count:,} heard, {gone:,.0f} lost"
            )


def main() -> None:
    with Answering(keeps=False) as ingest, scratch() as directory:
        for kind in ("udp", "tcp"):
            costs(kind, directory, ingest.url)
        losses(directory, ingest.url)


if __name__ == "__main__":
    main()
