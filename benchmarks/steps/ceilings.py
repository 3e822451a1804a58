"""What stands below MUTT, by itself: bare WSGI, pipelined XADD, PostgreSQL's own COPY of the same rows."""

from __future__ import annotations

import time
from collections.abc import Sequence

import redis
import zstandard

from benchmarks import corpus, subjects
from benchmarks.bench import Bench, Step, throughput
from benchmarks.figures import Figure
from benchmarks.rows import ROWS, Writer
from benchmarks.runs import Cost, Meter, alive
from benchmarks.site import Failed, Site

COPY, WSGI = "server-side COPY", "bare WSGI"
XADD, XADD_PACKED = "pipelined XADD, an event each", f"pipelined XADD, x{ROWS} packed"

_STREAM = "bench:xadd"


def run(bench: Bench) -> None:
    """All of them."""
    bare_wsgi(bench)
    _bare_wsgi(bench, f"{WSGI}, gthread", "--worker-class", "gthread")
    _appended(bench, XADD, [event.body for event in corpus.events(20 * ROWS)], ROWS)
    packed_xadd(bench)
    server_side_copy(bench)


def bare_wsgi(bench: Bench) -> Figure:
    """Single POSTs to an application that does nothing, behind gunicorn with MUTT's settings and worker class."""
    return bench.report.best(WSGI, "") or _bare_wsgi(bench, WSGI)


def packed_xadd(bench: Bench) -> Figure:
    """The same events as batches, compressed beforehand, into the same Redis."""
    return bench.report.best(XADD_PACKED, "") or _packed(bench)


def server_side_copy(bench: Bench) -> Figure:
    """PostgreSQL reads the same rows from a file into the same table."""
    return bench.report.best(COPY, "") or _copied(bench)


def _bare_wsgi(bench: Bench, name: str, *options: str) -> Figure:
    with alive(bench.site, bench.loader, subjects.bare_wsgi(bench.site, *options)) as running:
        runs = bench.shorter(0.5).repeated(1, lambda requests: running.accepted(1, requests))
    return bench.report.add(throughput(name, "", runs, unit="requests/s"))


def _packed(bench: Bench) -> Figure:
    bodies = [event.body for event in corpus.events(40 * ROWS)]
    batches = [b"".join(bodies[first : first + ROWS]) for first in range(0, len(bodies), ROWS)]
    # The level that MUTT packs its entries with.
    pack = zstandard.ZstdCompressor(level=1).compress
    return _appended(bench, XADD_PACKED, [pack(batch) for batch in batches], 4, ROWS)


def _appended(bench: Bench, name: str, entries: Sequence[bytes], pipelined: int, events: int = 1) -> Figure:
    """``events`` are in each of the entries."""
    seconds = bench.plan.seconds / 4
    runs = [_append(bench.site, entries, pipelined, seconds, events) for _ in range(bench.plan.times + 1)]
    note = f"{pipelined} entries a round trip, one client, each answer awaited"
    return bench.report.add(throughput(name, "", runs[1:], note=note))


def _append(site: Site, entries: Sequence[bytes], pipelined: int, seconds: float, events: int) -> Cost:
    """Append for so many seconds. Raises Failed if an entry is missing."""
    site.reset()
    with redis.Redis.from_url(site.redis_url) as client:
        connection = client.connection_pool.get_connection()
        # Made beforehand: the ceiling is Redis', not the client's.
        made = [
            b"".join(connection.pack_commands([("XADD", _STREAM, "*", "d", entry) for entry in some]))
            for some in (entries[at : at + pipelined] for at in range(0, len(entries), pipelined))
        ]
        meter, cpu = Meter({"redis": site.roles["redis"]}), time.process_time()
        started, rounds = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            connection.send_packed_command([made[rounds % len(made)]])
            for _ in range(pipelined):
                connection.read_response()
            rounds += 1
        taken, cpu = time.perf_counter() - started, time.process_time() - cpu
        client.connection_pool.release(connection)
        if client.xlen(_STREAM) != rounds * pipelined:
            raise Failed(f"{client.xlen(_STREAM)} entries of {rounds * pipelined} were appended")
        cost = meter.cost(rounds * pipelined * events, taken, {"client": cpu})
    site.reset()
    return cost


def _copied(bench: Bench) -> Figure:
    with Writer(bench.site) as writer:
        writer.write(writer.batches(round(bench.plan.seconds * 20_000)))
    path = f"{bench.site.ask('SHOW data_directory')[0][0]}/bench.copy"
    bench.site.execute(f"COPY (SELECT * FROM event_audit_log) TO '{path}'")
    runs = [_copy(bench.site, path) for _ in range(bench.plan.times + 1)][1:]
    bench.site.reset()
    note = "one statement, one commit"
    return bench.report.add(throughput(COPY, "", runs, unit="rows/s", note=note))


def _copy(site: Site, path: str) -> Cost:
    count = site.rows()
    site.reset()
    meter, started = Meter({"postgres": site.roles["postgres"]}), time.perf_counter()
    site.execute(f"COPY event_audit_log FROM '{path}'")
    taken = time.perf_counter() - started
    if site.rows() != count:
        raise Failed(f"{site.rows()} rows of {count} were copied")
    return meter.cost(count, taken, {})


STEP = Step(run, order=0)
