"""deploy/systemd: units that systemd takes, with no more power than they need, each with its role's secrets."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import yaml

import celeryconfig
from mutt.settings import Settings
from mutt.store import privileges
from mutt.streams import acl
from mutt.web.gunicorn import graceful_timeout
from tests.servers import lacking

ROOT = Path(__file__).parents[2]
SYSTEMD = ROOT / "deploy" / "systemd"
UNITS = {re.sub(r"^mutt-|@?\.service$", "", path.name): path for path in SYSTEMD.glob("mutt-*.service")}
COMPOSE = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
ROLES = ("ingest", "admin", "alerts", "moog", "housekeeping", "backtests", "beat", "flower")

#: Where the units say that MUTT is installed.
BIN = "/opt/mutt/.venv/bin"

#: What `systemd-analyze security` calls OK ends at 5; a service without any of it has 9.6.
EXPOSED = 2.0


def said(role: str) -> dict[str, list[str]]:
    """What a unit's file says, by name; a name may stand there several times."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in UNITS[role].read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found[name].append(value)
    return found


def environment(role: str) -> dict[str, str]:
    return dict(one.partition("=")[::2] for line in said(role)["Environment"] for one in line.split())


def seconds(span: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(s|min)", span).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "min": 60}[unit]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The units as on a host where MUTT is installed as here, with an instance of each template."""
    copy = tmp_path_factory.mktemp("systemd") / "units"
    shutil.copytree(SYSTEMD, copy)
    for unit in list(copy.glob("*.service")):
        text = unit.read_text().replace(BIN, str(Path(sys.executable).parent))
        unit.write_text(text)
        if "@" in unit.name:
            unit.with_name(unit.name.replace("@", "@1")).write_text(text)
    return copy


def analyzed(installed: Path, *argv: str) -> str:
    analyze = shutil.which("systemd-analyze") or lacking("systemd-analyze is not installed (package systemd)")
    units = sorted(map(str, installed.glob("mutt-*.service")))
    env = {"SYSTEMD_UNIT_PATH": f"{installed}:", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [analyze, *argv, *units], env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return done.stdout + done.stderr


def test_systemd_takes_every_unit_without_a_word(installed: Path) -> None:
    assert analyzed(installed, "verify", "--man=no", str(installed / "mutt.target")) == ""


def test_systemd_finds_little_that_a_unit_exposes(installed: Path) -> None:
    limit = str(int(EXPOSED * 10))
    found = analyzed(installed, "security", "--offline=true", "--no-pager", f"--threshold={limit}")
    levels = [float(level) for level in re.findall(r"exposure level for \S+: ([\d.]+)", found)]
    assert len(levels) == len(list(installed.glob("mutt-*.service")))
    assert max(levels) <= EXPOSED


def test_every_role_has_a_unit() -> None:
    assert UNITS.keys() == {*ROLES, "migrate", "listen"}


def test_who_listens_has_neither_redis_nor_postgresql_and_keeps_what_waits() -> None:
    assert said("listen")["LoadCredential"] == ["ingest_key:/etc/mutt/secrets/ingest_key"]
    told = environment("listen")
    assert told["LISTEN_BUFFER"].removeprefix("%S/") in said("listen")["StateDirectory"]
    assert not {"REDIS_URL_FILE", "DATABASE_URL_FILE"} & told.keys()


@pytest.mark.parametrize("role", ROLES)
def test_a_unit_runs_its_role_as_compose_does(role: str) -> None:
    """But for where it listens, how many it is, and the files it may write."""
    own = re.sub(r"-(c|s|n|-bind) \S+", "", said(role)["ExecStart"][0].removeprefix(f"{BIN}/"))
    theirs = re.sub(r"-(c|s|n|-bind) \S+", "", " ".join(map(str, COMPOSE[role]["command"])))
    assert own.split() == theirs.split()


@pytest.mark.parametrize("role", ROLES)
def test_a_unit_has_its_roles_secrets_alone(role: str) -> None:
    kept = dict(one.split(":") for one in said(role)["LoadCredential"])
    assert kept["redis_url"] == f"/etc/mutt/secrets/redis_url_{role}"
    assert role in acl.ROLES
    expected = f"/etc/mutt/secrets/database_url_{role}" if role in privileges.ROLES else None
    assert kept.get("database_url") == expected
    read = {value.removeprefix("%d/") for name, value in environment(role).items() if name.endswith("_FILE")}
    assert read == kept.keys()
    assert read == {one if isinstance(one, str) else one["target"] for one in COMPOSE[role]["secrets"]}


@pytest.mark.parametrize("role", UNITS)
def test_every_setting_that_a_unit_names_exists(role: str) -> None:
    known = {field.metadata["env"] or field.name.upper() for field in dataclasses.fields(Settings)}
    known |= {f"{name}_FILE" for name in known}
    assert environment(role).keys() <= known


def test_the_example_of_settings_is_one() -> None:
    lines = (SYSTEMD / "mutt.env").read_text().splitlines()
    Settings.from_env(dict(line.partition("=")[::2] for line in lines if line and not line.startswith("#")))


def test_a_unit_has_longer_to_end_than_its_work_may_take() -> None:
    limits = {
        "alerts": celeryconfig.task_annotations["mutt.alerts.evaluate"]["time_limit"],
        **dict.fromkeys(("moog", "housekeeping", "backtests"), celeryconfig.task_time_limit),
        **dict.fromkeys(("ingest", "admin"), graceful_timeout),
    }
    for role, limit in limits.items():
        assert seconds(said(role)["TimeoutStopSec"][0]) > limit, role
        assert seconds(COMPOSE[role]["stop_grace_period"]) > limit, role


def test_who_reads_archives_in_compose_is_the_user_who_writes_them() -> None:
    """Of several units that name one dynamic user each is that user: nobody else can read what it writes."""
    composed = {
        role
        for role, service in COMPOSE.items()
        if any(volume.startswith("archive:") for volume in service.get("volumes", []))
    }
    assert {role for role in UNITS if said(role)["User"] == ["mutt-archive"]} == composed
    for role in composed:
        assert said(role)["StateDirectory"] == ["mutt"]
        assert environment(role)["MUTT_HOME"] == "%S/mutt"


def test_prometheus_asks_each_service_at_its_port_and_gives_it_its_role() -> None:
    (job,) = yaml.safe_load((ROOT / "docker" / "prometheus" / "hosts.yaml").read_text())["scrape_configs"]
    asked = {
        (one["labels"]["role"], int(target.rpartition(":")[2]))
        for one in job["static_configs"]
        for target in one["targets"]
    }
    ports = {role: environment(role)["METRICS_PORT"] for role in UNITS if "METRICS_PORT" in environment(role)}
    units = [
        ("alerts", "1"),
        ("alerts", "2"),
        ("moog", "1"),
        *((role, "") for role in ports if "%i" not in ports[role]),
    ]
    assert asked == {(role, int(ports[role].replace("%i", i))) for role, i in units}


def test_no_two_services_of_a_host_want_the_same_port_of_metrics() -> None:
    ports = [environment(role)["METRICS_PORT"] for role in UNITS if "METRICS_PORT" in environment(role)]
    assert len(set(ports)) == len(ports) == 7
