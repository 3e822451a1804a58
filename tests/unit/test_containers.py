"""The containers of compose: no more power than their role needs, and no port beyond this machine."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from mutt.cli.roles import roles
from mutt.store import privileges
from mutt.streams import acl

DOCKER = Path(__file__).parents[2] / "docker"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: told for name, told in SERVICES.items() if told["image"] == "mutt"}


@pytest.mark.parametrize("name", OURS)
def test_a_container_of_ours_has_a_root_that_is_read_only_and_no_power(name: str) -> None:
    told = OURS[name]
    assert told["read_only"] is True
    assert told["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in told["security_opt"]
    assert not {"privileged", "cap_add", "user", "pid", "network_mode", "devices"} & told.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_a_port_is_published_to_this_machine_alone(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))
    assert "no-new-privileges:true" in SERVICES[name]["security_opt"]


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_what_watches_is_asked_for_pinned_and_writes_into_its_volume_alone(name: str) -> None:
    told = SERVICES[name]
    assert told["profiles"] == ["watch"]
    assert told["read_only"] is True
    assert told["cap_drop"] == ["ALL"]
    assert re.search(r":v?\d+\.\d+\.\d+$", told["image"])
    files = [volume for volume in told["volumes"] if volume.startswith("./")]
    assert all(volume.endswith(":ro") and (DOCKER / volume.split(":")[0]).exists() for volume in files)


def test_prometheus_finds_every_service_of_ours_that_tells_metrics() -> None:
    """By its name, so that each replica is asked; beat, flower and the simulator have no such port."""
    told = yaml.safe_load((DOCKER / "prometheus/prometheus.yaml").read_text())
    (found,) = told["scrape_configs"][0]["dns_sd_configs"]
    silent = {"migrate", "beat", "flower", "cli", "moogsim"}
    assert set(found["names"]) == OURS.keys() - silent
    assert str(found["port"]) == COMPOSE["x-environment"]["METRICS_PORT"]


def test_the_image_runs_as_a_user_that_is_not_root() -> None:
    """By its number, which an orchestrator can check."""
    users = re.findall(r"^USER (\S+)$", (DOCKER / "Dockerfile").read_text(), re.M)
    assert users
    assert int(users[-1]) > 0


def test_each_service_has_the_secrets_of_its_role_and_no_other() -> None:
    """At Redis and at PostgreSQL, as far as its role needs them; the owner's are the migrations' alone."""
    for name, told in OURS.items():
        if name in ("migrate", "moogsim"):
            continue
        mounted = {one["target"]: one["source"] for one in told["secrets"] if isinstance(one, dict)}
        expected = {"redis_url": f"redis_url_{name}"}
        if name in privileges.ROLES:
            expected["database_url"] = f"database_url_{name}"
        assert mounted == expected
        assert not {"database_url", "redis_password", "postgres_password"} & {
            one for one in told["secrets"] if isinstance(one, str)
        }
    assert "secrets" not in OURS["moogsim"]


def test_every_secret_that_is_mounted_is_made(made: Path) -> None:
    assert COMPOSE["secrets"].keys() <= {file.name for file in made.iterdir()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that docker/make-secrets makes."""
    copy = tmp_path_factory.mktemp("docker")
    for name in ("make-secrets", "redis.acl"):
        shutil.copy(DOCKER / name, copy)
    for _ in range(2):
        subprocess.run(["sh", copy / "make-secrets"], check=True, capture_output=True)
    return copy / "secrets"


def test_the_acl_is_the_one_that_mutt_prints_with_the_hashes_of_the_passwords(made: Path) -> None:
    """The template in the repository is up to date, and a second run of make-secrets changes nothing."""
    printed = CliRunner().invoke(roles, ["redis", "--template"]).output
    assert (DOCKER / "redis.acl").read_text() == printed
    secrets = {role: acl.hashed((made / f"redis_{role}").read_text()) for role in acl.ROLES}
    default = acl.hashed((made / "redis_password").read_text())
    assert (made / "redis.acl").read_text() == acl.file(secrets, default=default)
    for role in acl.ROLES:
        password = (made / f"redis_{role}").read_text()
        assert hashlib.sha256(password.encode()).hexdigest() in secrets[role]
        assert (made / f"redis_url_{role}").read_text() == f"redis://{role}:{password}@redis:6379/0"
