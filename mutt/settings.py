"""Settings: the environment, read once, typed, into one frozen value. Nothing else reads ``os.environ``.

A bad value stops the start with its name, its value and what was expected. Every secret may also come from a
file named by ``NAME_FILE``. ``REDIS_URL``, ``DATABASE_URL`` and the other addresses that are not set come from
``MUTT_HOME/up.json``, so that a command typed beside ``mutt up`` finds the stack; and so do the settings that this
stack was started with, so that a worker typed beside it behaves as its own do.

``eval "$(mutt env)"`` leaves its mark: what it put into a shell is not taken for what somebody set there, so that it
can't outlive its stack, or lead into another.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mutt.errors import SettingsError, StackGone

Reader = Callable[[str, str], Any]

#: Which settings may be filled from ``up.json``, and under which key it keeps them.
FROM_UP = {
    "REDIS_URL": "redis_url",
    "DATABASE_URL": "database_url",
    "INGEST_API_KEY": "api_key",
    "MOOG_URL": "moog_url",
    "ADMIN_USER": "admin_user",
    "ADMIN_PASSWORD": "admin_password",
    "MANAGEMENT_API_KEY": "management_key",
    "PROMETHEUS_MULTIPROC_DIR": "metrics_dir",
}

#: One process' own, and no part of how a stack behaves.
_OWN = frozenset({"MUTT_HOME", "MUTT_ROLE", "METRICS_PORT"})

#: The mark of ``mutt env``: of which home it spoke, and which variables it set, each with a hash of its value.
MARK_HOME, MARK_SET = "MUTT_ENV_OF", "MUTT_ENV_SET"

_SIZES = {
    "": 1,
    "b": 1,
    "k": 1 << 10,
    "kib": 1 << 10,
    "m": 1 << 20,
    "mib": 1 << 20,
    "g": 1 << 30,
    "gib": 1 << 30,
}
_SPANS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def whole(low: int = 0, high: int | None = None) -> Reader:
    """A whole number from ``low`` to ``high``."""

    def read(name: str, text: str) -> int:
        expected = f"a whole number of at least {low}" + (f" and at most {high}" if high is not None else "")
        try:
            value = int(text)
        except ValueError:
            raise SettingsError(name, text, expected) from None
        if value < low or (high is not None and value > high):
            raise SettingsError(name, text, expected)
        return value

    return read


def size(name: str, text: str) -> int:
    """Bytes: a whole number, or one with KiB, MiB or GiB."""
    found = re.fullmatch(r"\s*(\d+)\s*([a-zA-Z]*)\s*", text)
    if not found or found[2].lower() not in _SIZES:
        raise SettingsError(name, text, "bytes, such as 16777216 or 16MiB")
    return int(found[1]) * _SIZES[found[2].lower()]


def span(low: float = 0.0) -> Reader:
    """Seconds above ``low``: a number, or one with ms, s, m, h or d."""

    def read(name: str, text: str) -> float:
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
        if not found or found[2].lower() not in _SPANS or float(found[1]) * _SPANS[found[2].lower()] <= low:
            raise SettingsError(name, text, f"seconds above {low:g}, such as 1, 250ms or 5m")
        return float(found[1]) * _SPANS[found[2].lower()]

    return read


def flag(name: str, text: str) -> bool:
    """On or off."""
    value = {
        "1": True,
        "on": True,
        "yes": True,
        "true": True,
        "0": False,
        "off": False,
        "no": False,
        "false": False,
    }
    if text.strip().lower() not in value:
        raise SettingsError(name, text, "on or off")
    return value[text.strip().lower()]


def one_of(*choices: str) -> Reader:
    """One of a closed set of words."""

    def read(name: str, text: str) -> str:
        if text.strip().lower() not in choices:
            raise SettingsError(name, text, "one of " + ", ".join(choices))
        return text.strip().lower()

    return read


def url(*schemes: str) -> Reader:
    """An address with one of ``schemes``. The value may hold a password, so the error does not repeat it."""

    def read(name: str, text: str) -> str:
        if urlsplit(text).scheme not in schemes:
            shown = urlsplit(text).scheme + "://…" if "://" in text else "…"
            raise SettingsError(
                name, shown, "an address that begins with " + " or ".join(s + "://" for s in schemes)
            )
        return text

    return read


def sealing(name: str, text: str) -> str:
    """Keys that seal, parted by commas or blanks; read, they stand one in a line. The error repeats none."""
    keys = text.replace(",", " ").split()
    if not all(_is_sealing_key(key) for key in keys):
        expected = "keys as `mutt keys sealing-key` makes them: 32 bytes in url-safe base64, or 64 hexadecimal digits"
        raise SettingsError(name, "…", expected)
    return "\n".join(keys)


def _is_sealing_key(key: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z0-9_-]{43}=|[0-9a-fA-F]{64}", key))


def text(_name: str, value: str) -> str:
    return value


def path(_name: str, value: str) -> Path:
    return Path(value).expanduser()


def _setting(default: str, reader: Reader, *, secret: bool = False, env: str = "") -> Any:
    # The default is written as the environment would write it, and goes through the same reader.
    told = {"default": default, "reader": reader, "secret": secret, "env": env}
    return dataclasses.field(metadata=told, repr=not secret)


_redis = url("redis", "rediss", "sentinel", "unix")
_postgres = url("postgresql", "postgres", "postgresql+psycopg2")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Every knob of MUTT. Durations are seconds, sizes bytes."""

    mutt_home: Path = _setting("~/.mutt", path)
    mutt_role: str = _setting("", text)  #: shown in logs: ingest, alerts, moog …

    redis_url: str = _setting("", _redis, secret=True)
    broker_url: str = _setting("", _redis, secret=True)  #: default: redis_url
    database_url: str = _setting("", _postgres, secret=True)
    database_read_url: str = _setting(
        "", _postgres, secret=True
    )  #: a replica for pages; default: database_url
    db_pool_min: int = _setting("2", whole(0))
    db_pool_max: int = _setting("10", whole(1))

    ingest_api_key: str = _setting("", text, secret=True)  #: bootstrap key
    ingest_max_body: int = _setting("16MiB", size)
    ingest_max_event: int = _setting("256KiB", size)
    ingest_max_depth: int = _setting("1000000", whole(1))  #: events
    ingest_max_bytes: int = _setting("1GiB", size)
    ingest_dedup_window: float = _setting("1h", span())
    ingest_dlq_bytes: int = _setting("1MiB", size)  #: rejected items kept, a key
    request_timeout: float = _setting("10s", span(0.1))  #: for a request's head; its body has longer
    ingest_wait_replicas: int = _setting("0", whole(0))
    ingest_spill: bool = _setting("off", flag)  #: into PostgreSQL while Redis is away
    ingest_spill_bytes: int = _setting("1GiB", size)

    moog_url: str = _setting("", url("http", "https"))
    moog_dialect: str = _setting("enterprise", one_of("enterprise", "cloud"))
    moog_api_key: str = _setting("", text, secret=True)
    moog_user: str = _setting("", text)  #: Enterprise with Basic auth; empty: Bearer
    moog_rate_limit: int = _setting("50", whole(1))
    moog_rate_period: float = _setting("1s", span())
    moog_turn: int = _setting("1", whole(1))
    moog_batch_size: int = _setting("1", whole(1))
    moog_timeout: float = _setting("10s", span())
    moog_breaker_threshold: int = _setting("10", whole(1))
    moog_breaker_timeout: float = _setting("300s", span())

    alert_queue_max: int = _setting("100000", whole(1))  #: entries a lane
    cancel_cleared: bool = _setting("on", flag)  #: send neither a raise that is unsent nor its clear
    evaluate_claim: float = _setting("60s", span())  #: a holder silent for longer has lost its entries
    unhandled_threshold: int = _setting("100", whole(1))
    unhandled_window: float = _setting("86400s", span())
    unhandled_default_team: str = _setting("NETO", text)

    audit_retention_days: int = _setting("90", whole(1))
    audit_archive_years: int = _setting("7", whole(0))
    config_audit_days: int = _setting("365", whole(1))

    admin_user: str = _setting("admin", text)
    admin_password: str = _setting("", text, secret=True)
    management_api_key: str = _setting("", text, secret=True)  #: of the management API; empty: no key is good
    secret_key: str = _setting("", text, secret=True)  #: signs the admin's sessions
    sealing_key: str = _setting("", sealing, secret=True)  #: seals the secrets of signed webhooks
    flower_url: str = _setting("", text)

    metrics_port: int = _setting("0", whole(0, 65535))  #: a worker's own /metrics; 0: none
    metrics_dir: str = _setting("", text, env="PROMETHEUS_MULTIPROC_DIR")
    log_format: str = _setting("json", one_of("json", "text"))
    log_level: str = _setting("info", one_of("debug", "info", "warning", "error"))

    @property
    def work_most(self) -> float:
        """Seconds that PostgreSQL may keep a worker waiting over one take: less than the claim on it lasts.

        A claim of less than 40 s is for tests: there a slow PostgreSQL costs entries their holder.
        """
        return max(30.0, self.evaluate_claim * 0.75)

    @property
    def forward_claim(self) -> float:
        """Seconds of silence after which an alert's holder has lost it."""
        return self.moog_timeout + 10.0

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Read the environment. Raises :class:`SettingsError`. ``overrides`` are values, for tests."""
        env = _chosen(os.environ if env is None else env)
        stack = _of_stack(read_up(_home(env)), env)
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            if field.name in overrides:
                values[field.name] = overrides[field.name]
                continue
            name, secret = _name(field), field.metadata["secret"]
            given = _given(name, env, secret)
            if given is None:
                given = _given(name, stack, secret)
            raw = field.metadata["default"] if given is None or given == "" else given
            values[field.name] = raw if raw == "" else field.metadata["reader"](name, raw)
        values["broker_url"] = values["broker_url"] or values["redis_url"]
        values["database_read_url"] = values["database_read_url"] or values["database_url"]
        return cls(**values)

    def need(self, *names: str) -> None:
        """Refuse to start without these settings (by field name). Raises :class:`SettingsError`."""
        for name in names:
            if not getattr(self, name):
                if read_up(self.mutt_home, gone=True):
                    raise StackGone(self.mutt_home)
                raise SettingsError(name.upper(), "", "a value: set it, or start `mutt up` first")


def _name(field: dataclasses.Field[Any]) -> str:
    return str(field.metadata["env"] or field.name.upper())


def _variables(field: dataclasses.Field[Any]) -> tuple[str, ...]:
    """The variables that may hold it; the first wins."""
    name = _name(field)
    return (name + "_FILE", name) if field.metadata["secret"] else (name,)


def _given(name: str, env: Mapping[str, str], secret: bool) -> str | None:
    if secret and env.get(name + "_FILE"):
        file = Path(env[name + "_FILE"])
        try:
            return file.read_text().strip()
        except OSError as error:
            raise SettingsError(name + "_FILE", str(file), f"a readable file ({error.strerror})") from None
    return env.get(name)


def inherited() -> dict[str, str]:
    """This process' environment, for the processes that it starts in whatever directory; without ``mutt env``'s."""
    env = _without(os.environ, marked(os.environ))
    for field in dataclasses.fields(Settings):
        file = _variables(field)[0]
        if file.endswith("_FILE") and env.get(file):
            env[file] = str(Path(env[file]).absolute())
    if env.get("PYTHONPATH"):
        env["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, env["PYTHONPATH"].split(os.pathsep)))
    return env


def shared(env: Mapping[str, str]) -> dict[str, str]:
    """Of an environment, what another process needs to behave the same, beside what ``FROM_UP`` names."""
    found: dict[str, str] = {}
    for field in dataclasses.fields(Settings):
        if _name(field) in FROM_UP or _name(field) in _OWN:
            continue
        variable = next((name for name in _variables(field) if env.get(name)), "")
        if variable and env[variable] != field.metadata["default"]:
            found[variable] = env[variable]
    return found


def exported(up: Mapping[str, Any], home: Path) -> dict[str, str]:
    """What ``mutt env`` sets in a shell, its mark included."""
    told = {**_told(up), "MUTT_HOME": str(home), "APP": "mutt"}
    hashes = " ".join(
        f"{name}={_hash(value)}" for name, value in told.items() if name not in ("MUTT_HOME", "APP")
    )
    return {**told, MARK_HOME: str(home), MARK_SET: hashes}


def marked(env: Mapping[str, str] | None = None) -> list[str]:
    """Which variables still hold what ``mutt env`` set."""
    env = os.environ if env is None else env
    pairs = (pair.partition("=") for pair in env.get(MARK_SET, "").split())
    return [name for name, _, hash_ in pairs if name in env and _hash(env[name]) == hash_]


def read_up(home: Path, *, gone: bool = False) -> dict[str, Any]:
    """``up.json`` of the stack that runs in ``home``; empty: none does. ``gone``: of one that was killed."""
    try:
        found = json.loads((home / "up.json").read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return found if _killed(found) is gone else {}


def _killed(up: Mapping[str, Any]) -> bool:
    """Is its supervisor no more? Who asked for a stop, and got it, leaves no ``up.json``."""
    pid = up.get("processes", {}).get("supervisor")
    if pid is None:
        return False
    with contextlib.suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
    return False


def _home(env: Mapping[str, str]) -> Path:
    return Path(env.get("MUTT_HOME") or "~/.mutt").expanduser().absolute()


def _chosen(env: Mapping[str, str]) -> Mapping[str, str]:
    """``env`` without what ``mutt env`` set there, where its home can be asked anew, or is another one.

    Elsewhere (in a container, say) it is all there is.
    """
    home = _home(env)
    if env.get(MARK_HOME) == str(home) and not (home / "up.lock").exists():
        return env
    return _without(env, marked(env))


def _without(env: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name not in {MARK_HOME, MARK_SET, *names}}


def _told(up: Mapping[str, Any]) -> dict[str, str]:
    """What ``up.json`` says, as variables."""
    addresses = {name: str(up[key]) for name, key in FROM_UP.items() if up.get(key)}
    return {**addresses, **up.get("settings", {})}


def _of_stack(up: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, str]:
    """What a process with ``env`` takes from the running stack: who works on another Redis only the addresses."""
    told = _told(up)
    if _given("REDIS_URL", env, True) in (None, told.get("REDIS_URL")):
        return told
    return {name: value for name, value in told.items() if name in FROM_UP}


def _hash(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()[:12]
