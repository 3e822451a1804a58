"""Names in Redis, each written once: the queues, the books, what stands where."""

from __future__ import annotations

import dataclasses

from mutt.alert import LANES
from mutt.settings import Settings

LEDGER = "mutt:ledger"
#: The ledger of a server that leaves, and that it was added to home's (streams/books.py).
LEDGER_LEAVING, LEDGER_JOINED = "mutt:ledger:leaving", "mutt:ledger:joined:"
SUSPECTS = "mutt:suspected"
#: What followed an entry of another server is done, and what is left to do there (streams/spread.py).
SETTLED = "mutt:settled:"
STANDING = "mutt:alerts:standing"
HOLDERS = "mutt:alerts:holders"
OUTSIDE = "mutt:alerts:outside"
#: How many stand behind an alert of their signature, a lane; and the signatures that a more urgent lane carries.
BEHIND_COUNTS = "mutt:alerts:behind"
OUTSIDE_OF = "mutt:alerts:outside_of"
LIFTED = "mutt:alerts:lifted"
#: Noise control: of each signature, of each storm, which are remembered, and what is due (streams/signatures.lua).
NOISE_OF, STORM = "mutt:noise:of:", "mutt:storm:"
NOISE_KEPT, NOISE_DUE = "mutt:noise:kept", "mutt:noise:due"
TRIES = "mutt:alerts:tries"
#: New kinds of unhandled events within the window; beyond entry.KINDS they are not counted.
UNHANDLED_KINDS = "mutt:unhandled_kinds"
DOCTOR = "mutt:doctor"
TURNS = "mutt:turns"
BEHIND = "mutt:behind:"
DROPS = "mutt:drops"
BREAKER = "mutt:breaker:moog"
BUDGET = "mutt:rate_limit:moog"
LOCK = "mutt:lock:moog"
RULES_VERSION = "mutt:rules:version"
#: The API keys as ingest reads them (streams/keys.py): all, those that sign, when each was used; and of each that has
#: a quota what was counted.
KEYS, KEYS_SIGNED, KEYS_USED = "mutt:keys", "mutt:keys:signed", "mutt:keys:used"
QUOTA = "mutt:quota:"
#: What processes of ingest say of those who send (streams/sources.py), and how each stands since that was last read.
SOURCES, SOURCES_NOW = "mutt:sources", "mutt:sources:now"
#: Of the admin: tries to log in, and sessions that were ended before their time.
LOGIN, SESSIONS_ENDED = "mutt:login:", "mutt:admin:ended:"
DLQ_INGEST, DLQ_ALERTS, DLQ_MOOG = "mutt:dlq:ingest", "mutt:dlq:alerts", "mutt:dlq:moog"
DLQS = {"ingest": DLQ_INGEST, "alerts": DLQ_ALERTS, "moog": DLQ_MOOG}
#: Orders about letters that workers carry out, a queue, and the last one of each that ended.
LETTER_ORDERS, LETTER_ORDERS_ENDED = "mutt:dlq:orders", "mutt:dlq:orders:ended"
LETTER_LOCK = "mutt:dlq:lock:"
INGEST_STREAM = "mutt:ingest_queue"
DELIVERY_STREAM = "mutt:delivery_queue"
LANE_STREAMS = tuple(f"mutt:alert_queue:{lane}" for lane in LANES)

#: What a probe writes, to see that Redis takes writes: it may be full, or a replica after a failover.
READY = "mutt:ready"

#: Somebody knows of rounds in PostgreSQL's spill: the tick asks for their flow back. Known for so many seconds.
SPILLED = "mutt:spilled"
SPILLED_S = 60

#: A back-test waits: the tick rings for it. The jobs themselves are in PostgreSQL.
BACKTESTS = "mutt:backtests"

#: The pulse (mutt/pulse): what processes say of themselves, a hash a role; the readings of the last minute and of the
#: last hour, the newest first; and who reads next.
PULSE_OF = "mutt:pulse:of:"
PULSE_SAMPLES, PULSE_POINTS, PULSE_TURN = "mutt:pulse:samples", "mutt:pulse:points", "mutt:pulse:turn"
#: How far the export of a search is, by its id.
EXPORTS = "mutt:admin:export:"

#: One consumer group each; the name says who reads.
GROUP = "mutt"

#: A bell that nobody renews falls silent, and the tick rings again. Milliseconds.
BELL_MS = 2000


@dataclasses.dataclass(frozen=True)
class Queue:
    """One queue: its streams (the most urgent first) and the task that its doorbell calls."""

    name: str
    streams: tuple[str, ...]
    task: str
    celery_queue: str
    claim: float  #: seconds of silence after which a holder has lost its entries

    @property
    def bell(self) -> str:
        return f"mutt:bell:{self.name}"

    @property
    def tick(self) -> str:
        return f"mutt:tick:{self.name}"


def queues(settings: Settings) -> dict[str, Queue]:
    """Every queue by name, in the order of the flow."""
    listed = (
        Queue("ingest_queue", (INGEST_STREAM,), "mutt.alerts.evaluate", "alerts", settings.evaluate_claim),
        Queue("alert_queue", LANE_STREAMS, "mutt.moog.forward", "moog", settings.forward_claim),
        Queue(
            "delivery_queue",
            (DELIVERY_STREAM,),
            "mutt.housekeeping.record",
            "housekeeping",
            settings.evaluate_claim,
        ),
    )
    return {queue.name: queue for queue in listed}
