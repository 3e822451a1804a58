"""deploy/kubernetes renders, every object is one that Kubernetes and KEDA know, and it says what MUTT needs."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

import celeryconfig
from mutt.settings import Settings
from mutt.store import privileges
from mutt.streams import acl
from mutt.web.gunicorn import graceful_timeout

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
COMPOSE = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
ROLES = ("ingest", "admin", "alerts", "moog", "housekeeping", "backtests", "beat", "flower")
WORKERS = ("alerts", "moog", "housekeeping", "backtests")
OVERLAYS = ("base", "overlays/small", "overlays/large")
KEDA = ROOT / "deploy" / "schemas" / "keda-scaledobject.json"

#: Our ports of HTTP, by role.
HTTP = {"ingest": 8080, "admin": 8081, "flower": 5555}

Object = dict[str, Any]


@cache
def rendered(directory: str) -> tuple[Object, ...]:
    """What `kubectl apply -k` would send."""
    kubectl = shutil.which("kubectl")
    if not kubectl:
        # Not even in CI a fault: Debian has none that knows these kustomizations.
        pytest.skip("kubectl is not installed (1.27 or later)")
    done = subprocess.run(
        [kubectl, "kustomize", directory],
        cwd=KUBERNETES,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The keys of each Secret that deploy/kubernetes/secrets makes of what docker/make-secrets makes."""
    copy = tmp_path_factory.mktemp("secrets")
    shutil.copy(KUBERNETES / "secrets" / "kustomization.yaml", copy)
    subprocess.run([ROOT / "docker" / "make-secrets", copy / "files"], check=True, capture_output=True)
    return {one["metadata"]["name"]: set(one["data"]) for one in rendered(str(copy))}


def named(directory: str, kind: str, name: str) -> Object:
    (found,) = (
        one for one in rendered(directory) if (one["kind"], one["metadata"]["name"]) == (kind, f"mutt-{name}")
    )
    return found


def pods(directory: str) -> Iterator[tuple[str, Object]]:
    """The role and the specification of each pod."""
    for one in rendered(directory):
        if one["kind"] in ("Deployment", "Job"):
            template = one["spec"]["template"]
            yield template["metadata"]["labels"]["mutt/role"], template["spec"]


def main(spec: Object) -> Object:
    (container,) = spec["containers"]
    return container


def environment(container: Object) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container["env"]}


def closed(schema: Object) -> Object:
    """The same that refuses a field which it does not name; a cluster would throw that away without a word."""
    below = {
        name: closed(value)
        if isinstance(value, dict)
        else [closed(one) if isinstance(one, dict) else one for one in value]
        if isinstance(value, list)
        else value
        for name, value in schema.items()
    }
    return {**below, "additionalProperties": False} if isinstance(below.get("properties"), dict) else below


def misspelt(one: Object) -> Object:
    return {**one, "spec": {**one["spec"], "replica": 2}}


@pytest.mark.parametrize("directory", OVERLAYS)
def test_every_object_is_one_that_its_schema_knows(directory: str) -> None:
    for one in rendered(directory):
        if one["apiVersion"].startswith("keda.sh/"):
            jsonschema.validate(one, closed(json.loads(KEDA.read_text())))
        else:
            kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)


def test_a_field_that_is_misspelt_would_be_found() -> None:
    wrong = misspelt(named("base", "Deployment", "ingest"))
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)
    wrong = misspelt(named("overlays/large", "ScaledObject", "alerts"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, closed(json.loads(KEDA.read_text())))


def test_every_role_of_compose_is_there() -> None:
    found = {role for role, _ in pods("base")}
    assert found == {*ROLES, "migrate"}
    assert set(ROLES) <= COMPOSE["services"].keys()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_runs_the_command_that_compose_runs(role: str) -> None:
    assert main(dict(pods("base"))[role])["command"] == [
        str(part) for part in COMPOSE["services"][role]["command"]
    ]


@pytest.mark.parametrize("directory", OVERLAYS)
def test_no_pod_has_power(directory: str) -> None:
    for role, spec in pods(directory):
        pod, container = spec["securityContext"], main(spec)
        assert pod["runAsNonRoot"] is True, role
        assert pod["runAsUser"] == 10001
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert spec["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert not any("hostPath" in volume for volume in spec["volumes"])


def test_no_service_can_set_an_option_of_flower() -> None:
    """Of a Service named flower Kubernetes makes FLOWER_PORT, unless it is told not to."""
    assert all(spec["enableServiceLinks"] is False for _, spec in pods("base"))


def test_each_pod_mounts_the_secret_of_its_role_alone(secrets: dict[str, set[str]]) -> None:
    for role, spec in pods("base"):
        mounted = [volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume]
        assert mounted == [f"mutt-{role}"]
        assert f"mutt-{role}" in secrets


def test_every_secret_that_is_named_is_in_its_roles_secret(secrets: dict[str, set[str]]) -> None:
    """And nothing more is: what a role does not read it does not get."""
    shared = named("base", "ConfigMap", "settings")["data"]
    for role, spec in pods("base"):
        told = {**shared, **environment(main(spec))}
        read = {Path(path).name for name, path in told.items() if name.endswith("_FILE") and path}
        more = {f"postgres_{one}" for one in privileges.ROLES} if role == "migrate" else set()
        assert secrets[f"mutt-{role}"] == read | more, role
        assert all(
            Path(path).parent == Path("/run/secrets/mutt")
            for name, path in told.items()
            if name.endswith("_FILE") and path
        )


def test_a_role_logs_in_as_itself_and_only_where_it_has_a_user() -> None:
    made = yaml.safe_load((KUBERNETES / "secrets" / "kustomization.yaml").read_text())["secretGenerator"]
    for one in made:
        role = one["name"].removeprefix("mutt-")
        files = dict(file.rpartition("=")[::2] for file in one["files"])
        redis, postgres = files.get("redis_url"), files.get("database_url")
        assert redis == (f"files/redis_url_{role}" if role in acl.ROLES else None)
        assert postgres == (f"files/database_url_{role}" if role in privileges.ROLES else None)
        assert not any("redis_password" in file or "postgres_password" in file for file in one["files"])


@pytest.mark.parametrize("directory", OVERLAYS)
def test_every_setting_that_is_named_exists(directory: str) -> None:
    known = {field.metadata["env"] or field.name.upper() for field in dataclasses.fields(Settings)}
    known |= {f"{name}_FILE" for name in known}
    told = set(named(directory, "ConfigMap", "settings")["data"])
    for _, spec in pods(directory):
        told |= set(environment(main(spec)))
    assert told - known == {"FLOWER_ADDRESS"}  # Flower's own
    values = {
        name: value
        for name, value in named(directory, "ConfigMap", "settings")["data"].items()
        if not name.endswith("_FILE")
    }
    Settings.from_env(values)


@pytest.mark.parametrize("directory", OVERLAYS)
def test_every_selector_matches_pods_of_its_role_alone(directory: str) -> None:
    labels = {
        one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"]
        for one in rendered(directory)
        if one["kind"] == "Deployment"
    }
    for one in rendered(directory):
        if one["kind"] == "Service":
            selector = one["spec"]["selector"]
        elif one["kind"] == "PodDisruptionBudget":
            selector = one["spec"]["selector"]["matchLabels"]
        else:
            continue
        matched = [name for name, has in labels.items() if selector.items() <= has.items()]
        assert matched == [one["metadata"]["name"]]


@pytest.mark.parametrize("directory", OVERLAYS)
def test_every_port_and_probe_and_volume_that_is_named_exists(directory: str) -> None:
    for role, spec in pods(directory):
        container = main(spec)
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe in container:
                assert container[probe]["httpGet"]["port"] in ports
        if role in HTTP:
            assert ports["http"] == HTTP[role]
        assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in spec["volumes"]}
    for one in rendered(directory):
        if one["kind"] == "Service":
            role = one["metadata"]["name"].removeprefix("mutt-")
            assert [port["port"] for port in one["spec"]["ports"]] == [HTTP[role]]


def test_no_probe_of_a_worker_asks_anything_of_a_server() -> None:
    """An outage of Moog, Redis or PostgreSQL must not restart who waits for its end."""
    for role, spec in pods("base"):
        if role in WORKERS:
            container = main(spec)
            for probe in ("startupProbe", "livenessProbe"):
                assert container[probe]["httpGet"] == {"path": "/healthz", "port": "metrics"}
            assert "readinessProbe" not in container


def test_no_liveness_asks_a_thread_that_may_wait_for_a_server() -> None:
    for role, spec in pods("base"):
        if "livenessProbe" in main(spec) and role != "flower":
            assert main(spec)["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}, role


def test_who_reads_archives_in_compose_has_their_volume_and_one_writes_there() -> None:
    mounted = {
        role: volume.get("readOnly", False)
        for role, spec in pods("base")
        for volume in main(spec)["volumeMounts"]
        if volume["name"] == "archive"
    }
    composed = {
        role: volume.endswith(":ro")
        for role, service in COMPOSE["services"].items()
        for volume in service.get("volumes", [])
        if volume.startswith("archive:/var/lib/mutt")
    }
    assert mounted == composed
    claim = named("base", "PersistentVolumeClaim", "archive")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_prometheus_finds_each_pod_that_tells_metrics_and_gives_it_its_role() -> None:
    (job,) = yaml.safe_load((ROOT / "docker" / "prometheus" / "kubernetes.yaml").read_text())[
        "scrape_configs"
    ]
    keep, role, _ = job["relabel_configs"]
    label = "__meta_kubernetes_pod_label_"
    assert (role["source_labels"], role["target_label"]) == ([label + "mutt_role"], "role")
    assert keep["source_labels"][0] == label + "app_kubernetes_io_name"
    found = set()
    for one in rendered("base"):
        if one["kind"] == "Deployment":
            template = one["spec"]["template"]
            has = template["metadata"]["labels"]
            ports = [port["name"] for port in main(template["spec"]).get("ports", [])]
            if any(f"{has['app.kubernetes.io/name']};{port}" == keep["regex"] for port in ports):
                found.add(has["mutt/role"])
    assert found == {"ingest", "admin", *WORKERS}


def test_ingest_is_ready_while_it_can_take_events_and_alive_while_it_answers() -> None:
    container = main(dict(pods("base"))["ingest"])
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"


def test_a_pod_has_longer_to_end_than_its_work_may_take() -> None:
    """A drain ends within a second, and what PostgreSQL keeps waiting by the task's hard limit."""
    limits = {
        "alerts": celeryconfig.task_annotations["mutt.alerts.evaluate"]["time_limit"],
        **dict.fromkeys(("moog", "housekeeping", "backtests"), celeryconfig.task_time_limit),
    }
    for role, spec in pods("base"):
        grace = spec.get("terminationGracePeriodSeconds", 30)
        if role in limits:
            assert grace > limits[role], role
        elif role in ("ingest", "admin"):
            wait = main(spec)["lifecycle"]["preStop"]["sleep"]["seconds"]
            assert grace > wait + graceful_timeout


@pytest.mark.parametrize("directory", OVERLAYS)
def test_what_must_be_one_is_one_and_what_must_not_be_alone_is_not(directory: str) -> None:
    replicas = {role: named(directory, "Deployment", role)["spec"].get("replicas", 2) for role in ROLES}
    for role in ("beat", "housekeeping", "flower"):
        assert replicas[role] == 1
        assert named(directory, "Deployment", role)["spec"]["strategy"] == {"type": "Recreate"}
    for role in ("ingest", "admin", "alerts", "moog"):
        assert replicas[role] >= 2
        assert named(directory, "PodDisruptionBudget", role)["spec"]["maxUnavailable"] == 1
        assert dict(pods(directory))[role]["topologySpreadConstraints"]


def test_who_scales_is_scaled_by_one_alone_and_forwarders_by_nobody() -> None:
    scaled = {
        one["spec"]["scaleTargetRef"]["name"]: one["kind"]
        for one in rendered("overlays/large")
        if one["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")
    }
    assert scaled == {"mutt-ingest": "HorizontalPodAutoscaler", "mutt-alerts": "ScaledObject"}
    for name in scaled:
        assert "replicas" not in named("overlays/large", "Deployment", name.removeprefix("mutt-"))["spec"]


def test_keda_asks_for_metrics_that_mutt_tells() -> None:
    keda = named("overlays/large", "ScaledObject", "alerts")["spec"]
    told = (ROOT / "mutt" / "gauges.py").read_text()
    for trigger in keda["triggers"]:
        (metric,) = re.findall(r"mutt_\w+", trigger["metadata"]["query"])
        assert f'"{metric}"' in told
        assert trigger["metadata"]["ignoreNullValues"] == "false"
    assert keda["fallback"]["replicas"] >= keda["minReplicaCount"]
