"""What the list of sources costs who looks: processor time of the page, the API and the look that both share.

``python -m benchmarks.sources``: 500 keys, each heard in every report of the last minute by every process of ingest.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable

import msgspec
from sqlalchemy import delete

from mutt import names, watching
from mutt.grant import INGEST
from mutt.services import Services
from mutt.sources.clock import Minute
from mutt.sources.fields import Field, Formed
from mutt.sources.heard import Heard, Looked, Report
from mutt.sources.learn import Day
from mutt.sources.observed import Count, Observed
from mutt.store import keys
from mutt.store import sources as rows
from mutt.store.engine import transaction
from mutt.store.migrate import upgrade
from mutt.store.tables import api_key_secrets, api_keys
from mutt.web.admin.app import make_admin
from mutt.web.telling import EVERY
from tests.admin_client import log_in, settings_of
from tests.servers import live_postgres, live_redis, scratch

#: Keys, and how often each look is measured.
KEYS, ROUNDS = 500, 9

FIELDS = ("time", "severity", "program", "tags.site", "tags.interface", "tags.vendor")


def known(now: float) -> Observed:
    """A source that was heard all the hour, and for four weeks."""
    minute, day = int(now // 60), int(now // 86_400)
    fields = {name: Field(50_000, 1, 50_000, now) for name in FIELDS}
    return Observed(
        first_at=now - 28 * 86_400,
        heard_at=now,
        event_at=now,
        requests=10**6,
        events=10**6,
        minutes=tuple(Count(minute - 60 + i, 60 + i % 7, i % 2) for i in range(60)),
        formats={"native": Formed(10**6, 50_000, now, fields)},
        times=tuple(Minute(minute - 60 + i, 0.5, 2.0) for i in range(60)),
        pauses=tuple(Day(day - 28 + i, 30.0 + i) for i in range(28)),
    )


def report(at: float) -> bytes:
    """What one process says where it heard them all."""
    looked = Looked(25, 20, dict.fromkeys(FIELDS, 20))
    heard = {
        f"source-{i:03}": Heard(
            requests=25,
            events=25,
            bytes=9_000,
            at=at - 0.2,
            first=at - 4.5,
            last=at - 0.2,
            least=0.5,
            most=1.5,
            formats={"native": looked},
        )
        for i in range(KEYS)
    }
    return msgspec.msgpack.encode(Report(at, heard))


def cost(look: Callable[[], object]) -> float:
    """Milliseconds of processor time, of the look in the middle."""
    look()
    found = []
    for _ in range(ROUNDS):
        began = time.process_time()
        look()
        found.append(time.process_time() - began)
    return statistics.median(found) * 1000


def furnish(of: Services, processes: int) -> None:
    """The keys, what is known of them, and the reports of a minute."""
    now = time.time()
    with transaction(of.engine) as conn:
        for i in range(KEYS):
            keys.make(conn, f"source-{i:03}", [INGEST], changed_by="benchmark")
        rows.keep(conn, {f"source-{i:03}": rows.Stored(known(now - 60)) for i in range(KEYS)})
    with of.redis.pipeline() as pipe:
        for i in range(round(60 / EVERY)):
            at = now - 60 + EVERY * (i + 1)
            for process in range(processes):
                pipe.xadd(names.SOURCES, {"d": report(at)}, id=f"{round(at * 1000)}-{process}")
        pipe.execute()


def main() -> None:
    with scratch() as directory, live_redis(directory) as server, live_postgres(directory) as database:
        upgrade(database.url)
        settings = settings_of(database.url, redis_url=server.url, management_api_key="benchmark")
        of = Services(settings, lambda *_, **__: None, role="admin", web=True)
        app = make_admin(settings, of.engine)
        page, api = app.test_client(), app.test_client()
        log_in(page)

        def look() -> None:
            with transaction(of.engine) as conn:
                watching.look(conn, of)

        gc.collect()  # as the worker does (mutt/web/gunicorn.py)
        gc.freeze()
        bearer = {"Authorization": "Bearer benchmark"}
        looks = {
            "the page": lambda: page.get("/sources/").data,
            "/api/v2/sources": lambda: api.get("/api/v2/sources", headers=bearer).data,
            "the page of one": lambda: page.get("/sources/source-007").data,
            "the look alone": look,
        }
        for processes in (1, 4):
            with transaction(of.engine) as conn:
                conn.execute(delete(api_key_secrets))
                conn.execute(delete(api_keys))
            of.redis.delete(names.SOURCES)
            furnish(of, processes)
            for what, ask in looks.items():
                print(f"{processes} processes of ingest, {what}: {cost(ask):.0f} ms")


if __name__ == "__main__":
    main()
