"""What an event costs once ten million rows are stored, and while a million events wait."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import msgspec

from benchmarks import subjects
from benchmarks.backlog import ROOM, SIZE, Drained, drain, fill, standing, watch
from benchmarks.bench import Bench, Step, throughput
from benchmarks.figures import MUTT, Figure
from benchmarks.rows import Writer
from benchmarks.runs import Alive, Run, alive, order_of
from benchmarks.site import Failed, Site
from benchmarks.usage import used

#: Rows that are written as a worker writes them; the others are made of them.
SEED_ROWS = 100_000

#: Events that wait.
WAITING = 1_000_000
QUICK_SHARE = 0.1

#: The same rows with ids and times of their own, in the order in which they would have come: a month's, so far.
_MORE = """
    INSERT INTO event_audit_log (event_id, received_at, {same})
    SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7'
            || substr(md5(random()::text), 1, 19))::uuid, at, {same}
    FROM (SELECT *, timestamptz '{begin}' + interval '1 microsecond'
                 * ({first} + row_number() OVER ()) * {step} AS at FROM seed) AS made
    ORDER BY at
"""


@dataclass(frozen=True)
class Grown(Site):
    """A site whose rows stay: a run begins with empty queues only, and counts what it has written itself."""

    begun: list[datetime] = field(default_factory=list)

    def reset(self) -> None:
        self.empty_queues()
        self.execute("CHECKPOINT")
        self.begun.append(datetime.now(UTC))

    def rows(self) -> int:
        counted = "SELECT count(*) FROM event_audit_log WHERE source <> 'mutt' AND received_at >="
        return int(self.ask(f"{counted} '{self.begun[-1].isoformat()}'")[0][0])


def run(bench: Bench) -> None:
    """End to end x500 with no rows and with many; then ingest and drain with little and with much that waits."""
    subject = subjects.mutt_itself(bench.site, alerts=bench.plan.alerts, pool=bench.plan.pool, told=ROOM)
    with alive(bench.site, bench.loader, subject) as running:
        base = bench.report.add(throughput("end to end x500, no rows stored", MUTT, _runs(bench, running)))
        count = fill_table(bench.site, bench.plan.stored)
        site = bench.site
        grown = replace(running, site=Grown(site.directory, site.redis_url, site.database_url, site.roles))
        figure = throughput(f"end to end x500, {count:,} rows stored", MUTT, _runs(bench, grown))
        figure = msgspec.structs.replace(figure, note=f"{_size(site) / 1e9:.1f} GB with indexes")
        bench.report.add(figure.as_times(base, "no rows stored"))
        site.reset()
        _waiting(bench, running)


def _size(site: Site) -> float:
    sizes = "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits"
    return float(site.ask(f"{sizes} WHERE inhparent = 'event_audit_log'::regclass")[0][0])


def _runs(bench: Bench, running: Alive) -> list[Run]:
    return bench.repeated(SIZE, lambda requests: running.end_to_end(SIZE, requests))


def fill_table(site: Site, count: int) -> int:
    """Put about ``count`` rows into this month's partition; how many there are. The server makes them by itself."""
    with Writer(site) as writer:
        writer.write(writer.batches(SEED_ROWS))
    site.execute("DROP TABLE IF EXISTS seed")
    site.execute("CREATE UNLOGGED TABLE seed AS SELECT * FROM event_audit_log")
    columns = site.ask(
        "SELECT string_agg(column_name, ', ' ORDER BY ordinal_position) FROM information_schema.columns "
        "WHERE table_name = 'seed' AND column_name NOT IN ('event_id', 'received_at')"
    )
    site.execute("TRUNCATE event_audit_log")
    now = datetime.now(UTC)
    begin = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    step = (now - begin).total_seconds() * 1e6 / max(count, SEED_ROWS)
    rounds = math.ceil(count / SEED_ROWS)
    for number in range(rounds):
        values = {"same": columns[0][0], "begin": begin.isoformat(), "first": number * SEED_ROWS}
        site.execute(_MORE.format(**values, step=f"{step * 0.999:.6f}"))
    site.execute("DROP TABLE seed")
    site.execute("VACUUM ANALYZE event_audit_log")
    site.execute("CHECKPOINT")
    return rounds * SEED_ROWS


def _waiting(bench: Bench, running: Alive) -> None:
    """Accepting and draining, with little that waits and with a million events."""
    count = round(WAITING * (QUICK_SHARE if bench.plan.quick else 1.0))
    few = count // 10
    with standing(running):
        rates = []
        for _ in range(bench.plan.times + 1):
            running.site.reset()
            rates.append(_posted(running, few))
        base = bench.report.add(Figure("ingest x500, nothing waits", MUTT, "events/s", rates[1:]))
        running.site.reset()
        fill(running, count)
        rates = [_posted(running, few) for _ in range(bench.plan.times)]
        many = Figure(f"ingest x500, {count:,} wait", MUTT, "events/s", rates)
        bench.report.add(many.as_times(base, "nothing waits"))
    whole = _drained(running, count + few * bench.plan.times, few)
    small = bench.report.add(_figure(f"drain, {few:,} wait", drain(running, few), few))
    bench.report.add(_figure(f"drain, {count:,} wait", whole, few).as_times(small, f"{few:,} wait"))


def _posted(running: Alive, count: int) -> float:
    sent = running.loader.send(order_of(running.subject, SIZE, count // SIZE))
    if sent.statuses != {"202": count // SIZE}:
        raise Failed(f"requests got {sent.statuses}")
    return count / (sent.ended - sent.started)


def _drained(running: Alive, count: int, few: int) -> Drained:
    """The first ``few`` of ``count`` that wait already; the rest is drained, too."""
    seen: list[tuple[float, dict[str, float]]] = []

    def meanwhile(share: float) -> None:
        if not seen or (len(seen) == 1 and share * count >= few):
            seen.append((share * count, used(running.roles)))

    whole = watch(running, meanwhile)
    (_, before), (_, after) = seen[0], seen[1]
    first = [one for one in whole.progress if one[1] <= few]
    return Drained(first, {role: after[role] - spent for role, spent in before.items()}, whole.others)


def _figure(name: str, drained: Drained, count: int) -> Figure:
    cpu = {role: seconds / count * 1e6 for role, seconds in drained.cpu.items()}
    return Figure(name, MUTT, "events/s drained", [drained.rate()], cpu=cpu, others=drained.others)


STEP = Step(run, order=90, only_named=True)
