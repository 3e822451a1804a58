"""Metrics: the docs list all of them, their labels are closed sets, and the objectives have their edges."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mutt.gauges import KINDS
from mutt.listen import counts
from mutt.metrics import BUCKETS, HELD_FOR, LAGS, REFUSED_FOR, STEPS, Ingested, Metrics

DOCS = (Path(__file__).parents[2] / "docs/metrics.md").read_text()

#: name -> type and labels.
Listed = dict[str, tuple[str, tuple[str, ...]]]


def exported() -> Listed:
    """What a process tells, by what Prometheus sees of it."""
    made = [one for one in vars(Metrics()).values() if hasattr(one, "_labelnames")]
    told = {
        one._name + "_total" * (one._type == "counter"): (one._type, tuple(one._labelnames)) for one in made
    }
    for name, kind in {**KINDS, **counts.KINDS}.items():
        told[name + "_total" * kind.counts] = ("counter" if kind.counts else "gauge", kind.labels)
    return told


def documented() -> Listed:
    rows = re.findall(r"^\| `(mutt_\w+)` \| (\w+) \| ?(.*?) ?\| .+ \|$", DOCS, re.M)
    return {name: (kind, tuple(re.findall("`(.+?)`", labels))) for name, kind, labels in rows}


def test_the_docs_list_every_metric_with_its_type_and_its_labels() -> None:
    assert documented() == exported()


def test_everything_that_is_registered_is_an_attribute_that_the_docs_test_sees() -> None:
    metrics = Metrics()
    names = {one.name for one in metrics.registry.collect()}
    assert names == {one._name for one in vars(metrics).values() if hasattr(one, "_labelnames")}


@pytest.mark.parametrize("edge", [0.5, 2.0])
def test_an_objective_of_latency_has_its_edge(edge: float) -> None:
    assert edge in BUCKETS
    assert list(BUCKETS) == sorted(BUCKETS)


def samples(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """A metric's values by its labels' values."""
    return {
        tuple(sample.labels[label] for label in sorted(sample.labels)): sample.value
        for metric in metrics.registry.collect()
        for sample in metric.samples
        if sample.name == name
    }


def answer(status: int | None, reason: str, started: float | None = 1.0) -> Any:
    return SimpleNamespace(moog_status=status, reason=reason, started_at=started)


def test_moogs_answer_is_counted_timed_and_its_alerts_lag_told() -> None:
    metrics = Metrics()
    metrics.moog_answer(answer(200, "ok"), 0.3, [1.5, -0.1])
    metrics.moog_answer(answer(None, "expired", None), 0.0, [])
    assert samples(metrics, "mutt_moog_requests_total") == {("ok", "200"): 1, ("expired", "none"): 1}
    assert samples(metrics, "mutt_step_seconds_count") == {("forward",): 1}
    assert samples(metrics, "mutt_lag_seconds_count") == {("forward",): 2}
    assert samples(metrics, "mutt_lag_seconds_sum") == {("forward",): 1.5}


@pytest.mark.parametrize(("status", "label"), [(299, "2xx"), (599, "5xx"), (999, "9xx"), (404, "404")])
def test_a_status_that_moog_makes_up_is_no_label_of_its_own(status: int, label: str) -> None:
    metrics = Metrics()
    metrics.moog_answer(answer(status, "ok"), 0.1, [])
    assert samples(metrics, "mutt_moog_requests_total") == {("ok", label): 1}


def test_what_holds_an_alert_is_one_of_a_few_words() -> None:
    metrics = Metrics()
    metrics.alerts_held(["storm:7", "storm:8", "dedup", "whatever came from somewhere"])
    assert samples(metrics, "mutt_alerts_held_total") == {("storm",): 2, ("dedup",): 1, ("other",): 1}
    assert {"storm", "dedup"} <= set(HELD_FOR)


def test_steps_are_a_closed_set() -> None:
    metrics = Metrics()
    metrics.ingested(Ingested(seconds=[0.1]))
    counts = {"events": 1, "audited": 1, "duplicates": 0, "parked": 0, "alerts": 0}
    metrics.evaluated_batch(counts, 0.1, -0.5)
    metrics.recorded_batch(1, [], 0.1)
    metrics.moog_answer(answer(200, "ok"), 0.1, [1.0])
    assert {step for (step,) in samples(metrics, "mutt_step_seconds_count")} == set(STEPS)
    assert {step for (step,) in samples(metrics, "mutt_lag_seconds_count")} == set(LAGS)
    assert len(set(REFUSED_FOR)) == len(REFUSED_FOR)
