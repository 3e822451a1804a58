"""Recount: the books made to say what stands, after a restore from backups of two moments, or the loss of one server.

Nothing but the scripts moves the ledger; this is the one exception: made by a person, at rest, noted in the history.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Unpack
from uuid import UUID

import msgspec
import orjson
import redis
from sqlalchemy import select

from mutt import names
from mutt.alert import Status
from mutt.balance import observe
from mutt.errors import Refused, StoreDown
from mutt.services import Services
from mutt.store import alerts as alert_rows
from mutt.store import history
from mutt.store.engine import transaction
from mutt.store.history import Said
from mutt.store.tables import alerts
from mutt.streams import books
from mutt.streams.connect import Client

#: What stands in the reason of an alert that waits again.
REASON = "recount: it was parked, and its dead letter is nowhere"

_MOVES = (
    "events or alerts move: stop ingest, wait until all is evaluated (`mutt ledger --wait 60`), and try again"
)


class Plan(msgspec.Struct, frozen=True):
    """What a recount comes to."""

    before: dict[str, int]  #: the ledger's fields, as they are
    after: dict[str, int]  #: and as they are to be
    letterless: Sequence[UUID]  #: alerts that are parked and have no letter: they are to wait, and so be sent

    @property
    def changes(self) -> dict[str, tuple[int, int]]:
        """What differs: before and after."""
        return {
            name: (self.before[name], n) for name, n in self.after.items() if n != self.before.get(name, 0)
        }


def plan(services: Services) -> Plan:
    """Count what stands. Raises :class:`Refused` where something moves, :class:`StoreDown`, ``redis.RedisError``."""
    report, why = observe(services, deep=True)
    if report.postgres is None:
        raise StoreDown(why)
    if not report.at_rest or isinstance(report.walked, msgspec.UnsetType):
        raise Refused("the books", _MOVES)
    of_alerts = dict(report.postgres["alerts"])
    letterless = _letterless(services)
    of_alerts[Status.PARKED] -= len(letterless)
    of_alerts[Status.WAITING] += len(letterless)
    settled = {
        "settled": int(report.postgres["audit_rows"]),
        "duplicate": report.events["duplicate"],
        "parked": report.walked["parked"],
        "dropped": _dropped(services.redis),
        "queued": report.walked["queued"],
    }
    events = {"accepted": sum(settled.values()), **settled}
    raised = {"raised": sum(of_alerts.values()), **of_alerts}
    return Plan(
        dict(_fields(report.events, report.alerts)),
        dict(_fields(events, {name: raised[name] for name in books.ALERTS})),
        letterless,
    )


def _fields(events: dict[str, int], of_alerts: dict[str, int]) -> Iterator[tuple[str, int]]:
    yield from ((f"events.{name}", n) for name, n in events.items())
    yield from ((f"alerts.{name}", n) for name, n in of_alerts.items())


def _all_fields(*clients: Client) -> dict[str, int]:
    found = books.read(*clients)
    return dict(_fields(found.events, found.alerts))


def _letterless(services: Services) -> list[UUID]:
    parked = select(alerts.c.alert_id).where(alerts.c.status == Status.PARKED)
    with transaction(services.engine) as conn:
        rows = list(conn.execute(parked).scalars())
    letters = {fields.get(b"id", b"").decode() for _, fields in books.entries(services.redis, names.DLQ_MOOG)}
    return [one for one in rows if str(one) not in letters]


def _dropped(client: Client) -> int:
    """Events that somebody gave up."""
    records = client.hscan_iter(names.DROPS)
    return sum(int(orjson.loads(record).get("n", 1)) for id_, record in records if id_.startswith(b"alerts:"))


def apply(services: Services, made: Plan, **said: Unpack[Said]) -> None:
    """Have the ledger say so, and the history who had it. Raises :class:`Refused` where the ledger moved meanwhile."""
    changes = made.changes
    with transaction(services.engine) as conn:
        if made.letterless:
            alert_rows.set_status(conn, made.letterless, Status.WAITING, REASON)
        history.note(
            conn,
            operation="RECOUNT",
            table_name=names.LEDGER,
            record_id="",
            before={name: before for name, (before, _) in changes.items()},
            after={name: after for name, (_, after) in changes.items()},
            **said,
        )
        # Last: if it is refused, the note goes, too.
        _write(services.redis, services.elsewhere, made)


def _write(client: Client, elsewhere: Sequence[Client], made: Plan) -> None:
    """Home's ledger takes the difference: those of ``elsewhere`` balance by themselves, and stay as they are."""
    with client.pipeline(transaction=True) as pipe:
        try:
            pipe.watch(names.LEDGER)
            home, others = _all_fields(pipe), _all_fields(*elsewhere)
            if {name: n + others[name] for name, n in home.items()} != made.before:
                raise Refused("the books", _MOVES)
            pipe.multi()
            pipe.hset(names.LEDGER, mapping={name: n - others[name] for name, n in made.after.items()})
            pipe.execute()
        except redis.WatchError as error:
            raise Refused("the books", _MOVES) from error
