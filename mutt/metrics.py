"""Metrics: what this process counts, by the names that dashboards rely on.

With ``PROMETHEUS_MULTIPROC_DIR`` set, processes of one machine add up in that directory, and any of them can show
the sum. Queue depths and the like are read from Redis when they are asked for (``web/health``).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import prometheus_client as prometheus

from mutt import tally

#: Seconds. The objectives (docs/metrics.md) need their edges here: 0.5 and 2.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)

#: The steps that are timed: a closed set. ``ingest``: a request; ``evaluate``, ``record``: a take; ``forward``: a
#: request to Moog.
STEPS = ("ingest", "evaluate", "forward", "record")

#: The steps whose lag is: from acceptance to evaluated, and to delivered at Moog.
LAGS = ("evaluate", "forward")

#: Statuses of Moog's that HTTP knows; others are counted as their hundred.
_KNOWN = frozenset(map(int, HTTPStatus))


#: Why alerts are kept from Moog: a closed set.
HELD_FOR = ("maintenance", "threshold", "dedup", "flapping", "storm", "cleared")


#: Why requests to ingest are refused: a closed set. ``http``: what is no post of events at all.
REFUSED_FOR = (
    "no_key",
    "unknown_key",
    "in_address",
    "signature",
    "scope",
    "format",
    "quota",
    "unknown_format",
    "bad",
    "too_large",
    "unavailable",
    "error",
    "http",
)


class Levels(NamedTuple):
    """The share of requests that were not MUTT's fault, and the bucket (seconds) within which 99 % were answered.

    None: nothing was counted, or it took longer than the last bucket.
    """

    availability: float | None
    p99: float | None


@dataclasses.dataclass(slots=True)
class Ingested:
    """What requests to ingest add to the metrics: of one, or of many that share a round."""

    requests: Counter[tuple[int, str]] = dataclasses.field(default_factory=Counter)  #: by status and format
    refused: Counter[str] = dataclasses.field(default_factory=Counter)  #: by a word of REFUSED_FOR
    accepted: int = 0  #: events
    spilled: int = 0  #: of them
    rejected: int = 0  #: items
    seconds: list[float] = dataclasses.field(default_factory=list)  #: that each took


class Metrics:
    """One process' counters. ``directory`` is where processes add up, or empty."""

    def __init__(self, directory: str = "") -> None:
        self.directory = directory
        self.registry = prometheus.CollectorRegistry()
        if directory:
            Path(directory).mkdir(parents=True, exist_ok=True)
            tally.fold(
                directory
            )  # also where nobody ever reads: a process that starts makes up for one that ended
        on: Mapping[str, Any] = {"registry": self.registry}
        counter, histogram = prometheus.Counter, prometheus.Histogram
        self.requests = counter("mutt_ingest_requests", "Requests to ingest", ["status", "format"], **on)
        self.refused = counter("mutt_ingest_refused", "Requests to ingest refused", ["reason"], **on)
        self.accepted = counter("mutt_events_accepted", "Events accepted", **on)
        self.spilled = counter("mutt_events_spilled", "Events accepted into the spill", **on)
        self.flowed_back = counter("mutt_events_flowed_back", "Events that left the spill", **on)
        self.rejected = counter("mutt_events_rejected", "Items rejected", **on)
        self.evaluated = counter("mutt_events_evaluated", "Events evaluated", **on)
        self.duplicates = counter("mutt_events_duplicate", "Events that were there already", **on)
        self.parked = counter("mutt_events_parked", "Events parked in the dead letters", **on)
        self.alerts = counter("mutt_alerts", "Alerts raised", **on)
        self.audit_rows = counter("mutt_audit_rows", "Audit rows written", **on)
        self.recorded = counter("mutt_outcomes_recorded", "Outcomes written", **on)
        self.held = counter("mutt_alerts_held", "Alerts kept from Moog", ["reason"], **on)
        self.moog = counter("mutt_moog_requests", "Requests to Moog", ["status", "reason"], **on)
        self.budget_wait = histogram(
            "mutt_budget_wait_seconds", "Waited for the budget, a turn", buckets=BUCKETS, **on
        )
        self.seconds = histogram("mutt_step_seconds", "Time a step took", ["step"], buckets=BUCKETS, **on)
        self.lag = histogram("mutt_lag_seconds", "From acceptance to here", ["step"], buckets=BUCKETS, **on)

    def moog_answer(self, answer: Any, seconds: float, ages: Iterable[float]) -> None:
        """One request to Moog, its answer, how long it took, and how old the alerts are that it delivered."""
        self.moog.labels(_status(answer.moog_status), str(answer.reason)).inc()
        if answer.started_at is not None:  # else nothing was sent
            self.seconds.labels("forward").observe(seconds)
        lag = self.lag.labels("forward")
        for age in ages:
            lag.observe(max(0.0, age))

    def recorded_batch(self, outcomes: int, reasons: Iterable[str], seconds: float) -> None:
        """One commit of record; ``reasons`` of those that were held."""
        self.recorded.inc(outcomes)
        self.alerts_held(reasons)
        self.seconds.labels("record").observe(seconds)

    def alerts_held(self, reasons: Iterable[str]) -> None:
        """Alerts whose being held was written, by reason (``storm:7`` counts as storm)."""
        for kind, n in Counter(reason.partition(":")[0] for reason in reasons).items():
            self.held.labels(kind if kind in HELD_FOR else "other").inc(n)

    def ingested(self, counts: Ingested) -> None:
        """One request to ingest, or all that share a round."""
        for (status, format_), n in counts.requests.items():
            self.requests.labels(str(status), format_).inc(n)
        for reason, n in counts.refused.items():
            self.refused.labels(reason).inc(n)
        for counter, n in (
            (self.accepted, counts.accepted),
            (self.spilled, counts.spilled),
            (self.rejected, counts.rejected),
        ):
            if n:
                counter.inc(n)
        took = self.seconds.labels("ingest")
        for seconds in counts.seconds:
            took.observe(seconds)

    def evaluated_batch(self, counts: Mapping[str, int], seconds: float, lag: float) -> None:
        """One commit of evaluate; ``lag``: how long ago the first of its entries was accepted."""
        self.evaluated.inc(counts["events"])
        self.audit_rows.inc(counts["audited"])
        self.duplicates.inc(counts["duplicates"])
        self.parked.inc(counts["parked"])
        self.alerts.inc(counts["alerts"])
        self.seconds.labels("evaluate").observe(seconds)
        self.lag.labels("evaluate").observe(max(0.0, lag))

    def ingest_levels(self) -> Levels:
        """Of all requests to ingest that the processes of this machine counted."""
        try:
            families = self._families()
        except TimeoutError:
            return Levels(None, None)
        asked = failed = 0.0
        buckets: dict[float, float] = {}
        for metric in families:
            for sample in metric.samples:
                if sample.name == "mutt_ingest_requests_total":
                    asked += sample.value
                    failed += sample.value if sample.labels["status"].startswith("5") else 0
                if sample.name == "mutt_step_seconds_bucket" and sample.labels["step"] == "ingest":
                    buckets[float(sample.labels["le"])] = sample.value
        if not asked:
            return Levels(None, None)
        within = sorted((le, n) for le, n in buckets.items())
        most = within[-1][1] if within else 0
        p99 = next((le for le, n in within if most and n >= 0.99 * most and le != float("inf")), None)
        return Levels(1 - failed / asked, p99)

    def exposition(self, *collectors: Any) -> bytes:
        """All that is known, in Prometheus' text format."""
        registry = prometheus.CollectorRegistry()
        for collector in (_Made(self._families()), *collectors):
            registry.register(collector)
        return prometheus.generate_latest(registry)

    def _families(self) -> Iterable[Any]:
        """What the processes of this machine counted, or this one."""
        return tally.collect(self.directory) if self.directory else self.registry.collect()


class _Made:
    """Families that are known already."""

    def __init__(self, families: Iterable[Any]) -> None:
        self._families = families

    def collect(self) -> Iterable[Any]:
        return self._families

    def describe(self) -> Iterable[Any]:
        """Nothing: it need not be asked to know what it has."""
        return ()


def _status(status: int | None) -> str:
    if status is None or status in _KNOWN:
        return str(status or "none")
    return f"{status // 100}xx"
