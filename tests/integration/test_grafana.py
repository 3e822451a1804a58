"""The dashboard: every expression is one that Prometheus understands, about metrics that MUTT tells."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from tests.integration.test_prometheus_rules import GROUPS, promtool, run
from tests.unit.test_metrics import exported

assert promtool  # a fixture

DOCKER = Path(__file__).parents[2] / "docker"
DASHBOARD: dict[str, Any] = json.loads((DOCKER / "grafana/mutt.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel.get("targets", ())]

#: What Prometheus has by itself, and its own words in expressions.
THEIRS = {"up", "ALERTS"}
RECORDED = {rule["record"] for group in GROUPS for rule in group["rules"] if "record" in rule}


def named(expression: str) -> set[str]:
    """The metrics that an expression names."""
    return set(re.findall(r"\bmutt[_:][\w:]+", expression)) | {
        one for one in THEIRS if re.search(rf"\b{one}\b[{{(]", expression)
    }


def known() -> set[str]:
    histograms = {name for name, (kind, _) in exported().items() if kind == "histogram"}
    parts = {name + part for name in histograms for part in ("_bucket", "_sum", "_count")}
    return (exported().keys() - histograms) | parts | RECORDED | THEIRS


def test_every_metric_that_a_panel_or_a_rule_names_is_told() -> None:
    rules = [rule["expr"] for group in GROUPS for rule in group["rules"]]
    for expression in [*EXPRESSIONS, *rules]:
        assert named(expression) <= known(), expression
    assert exported().keys() & {one for expression in EXPRESSIONS for one in named(expression)}


def test_every_expression_of_the_dashboard_parses(promtool: str, tmp_path: Path) -> None:
    """As a recording rule, with what Grafana fills in."""
    filled = [one.replace("$__rate_interval", "1m") for one in EXPRESSIONS]
    rules = [{"record": f"panel:{n}", "expr": one} for n, one in enumerate(filled)]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    run(promtool, "check", "rules", str(file))


def test_the_dashboard_is_whole_and_nothing_on_it_covers_anything_else() -> None:
    assert (DASHBOARD["uid"], DASHBOARD["title"]) == ("mutt", "MUTT")
    ids = [panel["id"] for panel in PANELS]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_it_has_a_row_for_each_thing_that_people_ask_about() -> None:
    rows = [panel["title"] for panel in PANELS if panel["type"] == "row"]
    assert rows == ["Flow", "Budget and Moog", "Workers", "Stores", "Objectives", "Dead letters"]


def test_every_panel_asks_the_source_that_is_chosen_above_and_says_what_it_shows() -> None:
    for panel in PANELS:
        if panel["type"] == "row":
            continue
        assert panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["targets"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_compose_shows_it() -> None:
    """The provisioned source is compose's Prometheus, and the dashboard lies where Grafana is told to look."""
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    (source,) = yaml.safe_load((DOCKER / "grafana/provisioning/datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((DOCKER / "grafana/provisioning/dashboards/mutt.yaml").read_text())[
        "providers"
    ]
    mounted = [volume.split(":")[1] for volume in services["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/mutt.json" in mounted
