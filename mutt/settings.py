"""Settings: the environment, read once, typed, into one frozen value. Nothing else reads ``os.environ``.

A bad value stops the start with its name, its value and what was expected. Every secret may also come from a
file named by ``NAME_FILE``. ``REDIS_URL``, ``DATABASE_URL`` and the other addresses that are not set come from
``MUTT_HOME/up.json``, so that a command typed beside ``mutt up`` finds the stack.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mutt.errors import SettingsError

Reader = Callable[[str, str], Any]

#: Which settings may be filled from ``up.json``, and under which key it keeps them.
FROM_UP = {
    "REDIS_URL": "redis_url",
    "DATABASE_URL": "database_url",
    "INGEST_API_KEY": "api_key",
    "MOOG_URL": "moog_url",
    "ADMIN_USER": "admin_user",
    "ADMIN_PASSWORD": "admin_password",
    "PROMETHEUS_MULTIPROC_DIR": "metrics_dir",
}

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
    ingest_wait_replicas: int = _setting("0", whole(0))

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
    evaluate_claim: float = _setting("60s", span())  #: a holder silent for longer has lost its entries
    unhandled_threshold: int = _setting("100", whole(1))
    unhandled_window: float = _setting("86400s", span())
    unhandled_default_team: str = _setting("NETO", text)

    audit_retention_days: int = _setting("90", whole(1))
    audit_archive_years: int = _setting("7", whole(0))
    config_audit_days: int = _setting("365", whole(1))

    admin_user: str = _setting("admin", text)
    admin_password: str = _setting("", text, secret=True)
    secret_key: str = _setting("", text, secret=True)  #: signs the admin's sessions
    flower_url: str = _setting("", text)

    metrics_port: int = _setting("0", whole(0, 65535))  #: a worker's own /metrics; 0: none
    metrics_dir: str = _setting("", text, env="PROMETHEUS_MULTIPROC_DIR")
    log_format: str = _setting("json", one_of("json", "text"))
    log_level: str = _setting("info", one_of("debug", "info", "warning", "error"))

    @property
    def forward_claim(self) -> float:
        """Seconds of silence after which an alert's holder has lost it."""
        return self.moog_timeout + 10.0

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Read the environment. Raises :class:`SettingsError`. ``overrides`` are values, for tests."""
        env = os.environ if env is None else env
        up = _read_up(Path(env.get("MUTT_HOME") or "~/.mutt").expanduser())
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            if field.name in overrides:
                values[field.name] = overrides[field.name]
                continue
            name = field.metadata["env"] or field.name.upper()
            given = _given(name, env, field.metadata["secret"])
            if given is None and name in FROM_UP:
                given = up.get(FROM_UP[name])
            raw = field.metadata["default"] if given is None or given == "" else given
            values[field.name] = raw if raw == "" else field.metadata["reader"](name, raw)
        values["broker_url"] = values["broker_url"] or values["redis_url"]
        values["database_read_url"] = values["database_read_url"] or values["database_url"]
        return cls(**values)

    def need(self, *names: str) -> None:
        """Refuse to start without these settings (by field name). Raises :class:`SettingsError`."""
        for name in names:
            if not getattr(self, name):
                raise SettingsError(name.upper(), "", "a value: set it, or start `mutt up` first")


def inherited() -> dict[str, str]:
    """This process' environment, for the processes that it starts."""
    return dict(os.environ)


def _given(name: str, env: Mapping[str, str], secret: bool) -> str | None:
    if secret and env.get(name + "_FILE"):
        file = Path(env[name + "_FILE"])
        try:
            return file.read_text().strip()
        except OSError as error:
            raise SettingsError(name + "_FILE", str(file), f"a readable file ({error.strerror})") from None
    return env.get(name)


def _read_up(home: Path) -> dict[str, str]:
    try:
        found = json.loads((home / "up.json").read_text())
    except (OSError, ValueError):
        return {}
    return (
        {k: str(v) for k, v in found.items() if isinstance(v, str | int)} if isinstance(found, dict) else {}
    )
