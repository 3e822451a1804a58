"""Settings: the environment, read once, typed, into one frozen value. Nothing else reads ``os.environ``.

A bad value stops the start with its name, its value and what was expected. Every secret may also come from a
file named by ``NAME_FILE``; when that changes, :meth:`Settings.current` says so. ``REDIS_URL``, ``DATABASE_URL`` and
the other addresses that are not set come from ``MUTT_HOME/up.json``, so that a command typed beside ``mutt up`` finds
the stack; and so do the settings that it was started with, so that a worker typed beside it behaves as its own do.

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
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

from mutt.errors import SettingsError, StackGone
from mutt.secretfile import SecretFile

Reader = Callable[[str, str], Any]
Network = IPv4Network | IPv6Network

#: Which settings may be filled from ``up.json``, and under which key it keeps them.
FROM_UP = {
    "REDIS_URL": "redis_url",
    "DATABASE_URL": "database_url",
    "INGEST_API_KEY": "api_key",
    "INGEST_URL": "ingest",
    "MOOG_URL": "moog_url",
    "ADMIN_USER": "admin_user",
    "ADMIN_PASSWORD": "admin_password",
    "MANAGEMENT_API_KEY": "management_key",
    "PROMETHEUS_MULTIPROC_DIR": "metrics_dir",
}

#: Which setting (by field name) holds where another one is not set.
STANDS_IN = {
    "stream_url": "redis_url",
    "stream_urls": "stream_url",
    "broker_url": "redis_url",
    "database_read_url": "database_url",
    "ingest_key": "ingest_api_key",
}

#: One process' own, and no part of how a stack behaves.
_OWN = frozenset({"MUTT_HOME", "MUTT_ROLE", "METRICS_HOST", "METRICS_PORT"})

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


def moog_address(name: str, text: str) -> str:
    """Where Moog is; it has no say in anything else, and holds no login. The error does not repeat it."""
    found = str(url("http", "https")(name, text))
    if "@" in urlsplit(found).netloc:
        expected = "an address alone: MOOG_USER and MOOG_API_KEY hold the rest"
        raise SettingsError(name, urlsplit(found).scheme + "://…", expected)
    return found


def url(*schemes: str) -> Reader:
    """An address with one of ``schemes``. The value may hold a password, so the error does not repeat it."""

    def read(name: str, text: str) -> str:
        scheme = text.partition("://")[0].lower() if "://" in text else ""
        shown = f"{scheme}://…" if re.fullmatch("[a-z][a-z0-9+.-]{0,20}", scheme) else "…"
        if scheme not in schemes:
            expected = "an address that begins with " + " or ".join(s + "://" for s in schemes)
            raise SettingsError(name, shown, expected)
        if not _hosts_are_whole(text):
            expected = "host:port; in a user or a password / is %2F, ? is %3F, # is %23, @ is %40, [ is %5B, ] is %5D"
            raise SettingsError(name, shown, expected)
        return text

    return read


def _hosts_are_whole(address: str) -> bool:
    """Else a piece of a password is taken for a port, and stands in the error of whoever reads it."""
    try:
        hosts = urlsplit(address).netloc.rpartition("@")[2].split(",")
        for host in hosts:
            _ = urlsplit(f"//{host}").port
    except ValueError:
        return False
    return True


def sealing(name: str, text: str) -> str:
    """Keys that seal, parted by commas or blanks; read, they stand one in a line. The error repeats none."""
    keys = text.replace(",", " ").split()
    if not all(_is_sealing_key(key) for key in keys):
        expected = "keys as `mutt keys sealing-key` makes them: 32 bytes in url-safe base64, or 64 hexadecimal digits"
        raise SettingsError(name, "…", expected)
    return "\n".join(keys)


def _is_sealing_key(key: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z0-9_-]{43}=|[0-9a-fA-F]{64}", key))


def networks(name: str, text: str) -> tuple[Network, ...]:
    """Addresses and networks, comma separated; ``none``: there are none. One that holds everybody is refused."""
    expected = "addresses and networks such as 10.0.0.7, 192.168.8.0/22, fd00::/8; not everybody's; or none"
    if text.strip().lower() == "none":
        return ()
    try:
        found = tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        raise SettingsError(name, text, expected) from None
    if not found or any(network.prefixlen == 0 for network in found):
        raise SettingsError(name, text, expected)
    return found


def hosts(name: str, text: str) -> tuple[str, ...]:
    """Names of hosts, comma separated, each with a port or without."""
    found = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    if not all(re.fullmatch(r"[a-z0-9.-]+(:[0-9]{1,5})?", one) for one in found):
        raise SettingsError(name, text, "hosts, such as sns.example or localhost:4566, without https://")
    return found


def safe_url(name: str, text: str) -> str:
    """An address by https, or by http on this machine: what goes there is nobody else's to read."""
    try:
        parts = urlsplit(text)
        complete = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        complete = False
    plain = complete and "@" not in parts.netloc and not parts.query and not parts.fragment
    here = plain and parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not here and not (plain and parts.scheme == "https"):
        expected = "an https:// address (http:// only on this machine), without a user, ? or #"
        raise SettingsError(name, "…" if "@" in text else text, expected)
    return text


def site(name: str, text: str) -> str:
    """A safe address without a path."""
    found = safe_url(name, text).removesuffix("/")
    if urlsplit(found).path:
        raise SettingsError(name, text, "an address without a path, such as https://mutt.example.net")
    return found


def pairs_of(*words: str) -> Reader:
    """``name=word`` for each; comma separated, or by semicolons where a name holds a comma."""

    def read(name: str, text: str) -> tuple[tuple[str, str], ...]:
        parts = [part.rpartition("=") for part in text.split(";" if ";" in text else ",") if part.strip()]
        found = tuple((key.strip(), word.strip().lower()) for key, _, word in parts)
        if any(not key or word not in words for key, word in found):
            raise SettingsError(
                name, text, f"pairs such as netops={words[0]}; one of {', '.join(words)} in each"
            )
        return found

    return read


def share(name: str, text: str) -> float:
    """A part of the whole, from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise SettingsError(name, text, "a share from 0 (none) to 1 (all), such as 0.01")
    return value


def headers(name: str, text: str) -> tuple[tuple[str, str], ...]:
    """``name=value`` for each header, parted by commas or lines. The error repeats none."""
    pairs = [part.strip().partition("=") for part in re.split(r"[,\n]", text) if part.strip()]
    found = tuple((key.strip(), value.strip()) for key, _, value in pairs)
    if not all(
        re.fullmatch(r"[A-Za-z0-9-]+", key) and re.fullmatch("[!-~][ -~]*", value) for key, value in found
    ):
        raise SettingsError(name, "…", "headers such as authorization=Bearer KEY, parted by commas or lines")
    return found


def collector(name: str, text: str) -> str:
    """Where traces go: an address alone. The error does not repeat it."""
    found = str(url("http", "https")(name, text))
    parts = urlsplit(found)
    if "@" in parts.netloc or parts.query or parts.fragment or not parts.hostname:
        expected = "an address alone, such as http://collector:4318: TRACE_HEADERS holds what it asks for"
        raise SettingsError(name, parts.scheme + "://…", expected)
    return found


def text(_name: str, value: str) -> str:
    return value


def path(_name: str, value: str) -> Path:
    return Path(value).expanduser()


def pem(name: str, text: str) -> str:
    """The absolute path of a PEM file. Who uses the file says what is wrong with it: not every process needs it."""
    if not Path(text).expanduser().is_absolute():
        raise SettingsError(name, text, "an absolute path: processes run in directories of their own")
    return str(Path(text).expanduser())


#: The schemes of an address that mean RabbitMQ.
RABBITMQ = ("amqp", "amqps")


def broker_address(name: str, text: str) -> str:
    """Where doorbells go: a Redis or a RabbitMQ. What MUTT asks of either is not in its address."""
    if text.partition("://")[0].lower() not in RABBITMQ:
        return redis_address(name, text, others=RABBITMQ)
    found = str(url(*RABBITMQ)(name, text))
    if "?" in found:
        raise SettingsError(
            name,
            f"{urlsplit(found).scheme}://…?…",
            "amqp://user:password@host:5672/vhost and nothing behind it: amqps:// always checks certificate and host"
            " name; BROKER_CA names a CA of your own, BROKER_CERT and BROKER_KEY the certificate that MUTT shows",
        )
    return found


def redis_address(name: str, text: str, others: Sequence[str] = ()) -> str:
    """Where a Redis is. Its certificate is checked, always: an address has no say in that.

    ``others`` are schemes that the error offers, too.
    """
    found = str(url("redis", "rediss", "sentinel", "sentinels", "unix", *others)(name, text))
    asked = [key for key, _ in parse_qsl(urlsplit(found).query) if key.startswith("ssl")]
    if asked:
        raise SettingsError(
            name,
            f"…{asked[0]}=…",
            "an address without that: rediss:// always checks certificate and host name; REDIS_CA names a CA of"
            " your own, REDIS_CERT and REDIS_KEY the certificate that MUTT shows",
        )
    return found


def redis_addresses(name: str, text: str) -> str:
    """Where several are, parted by commas or blanks; read, they stand one in a line. ``?drain=on`` is of the queue."""
    found = [redis_address(name, one) for one in re.split(r"[\s,]+(?=[a-z]+://)", text.strip(", \t\n"))]
    asked = [value for one in found for key, value in parse_qsl(urlsplit(one).query) if key == "drain"]
    if set(asked) - {"on"}:
        raise SettingsError(
            name, "…drain=…", "?drain=on behind a server that takes nothing new in, or nothing"
        )
    if len(asked) == len(found):
        raise SettingsError(name, "…?drain=on", "one server at least that does not drain")
    return "\n".join(found)


def _setting(default: str, reader: Reader, *, secret: bool = False, env: str = "") -> Any:
    # The default is written as the environment would write it, and goes through the same reader.
    told = {"default": default, "reader": reader, "secret": secret, "env": env}
    return dataclasses.field(metadata=told, repr=not secret)


_postgres = url("postgresql", "postgres", "postgresql+psycopg2")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Every knob of MUTT. Durations are seconds, sizes bytes."""

    _files: ClassVar[Mapping[str, SecretFile]] = {}  # of this instance, where it has any

    mutt_home: Path = _setting("~/.mutt", path)
    mutt_role: str = _setting("", text)  #: shown in logs: ingest, alerts, moog …

    redis_url: str = _setting("", redis_address, secret=True)
    stream_url: str = _setting(
        "", redis_address, secret=True
    )  #: where MUTT's data stands; default: redis_url
    stream_urls: str = _setting("", redis_addresses, secret=True)  #: the ingest queue's; default: stream_url
    broker_url: str = _setting("", broker_address, secret=True)  #: Redis or RabbitMQ; default: redis_url
    redis_ca: str = _setting("", pem)  #: PEM; empty: the system's CAs
    redis_cert: str = _setting("", pem)  #: PEM that a Redis with mutual TLS asks for
    redis_key: str = _setting("", pem)
    broker_ca: str = _setting("", pem)  #: PEM, of a RabbitMQ; empty: the system's CAs
    broker_cert: str = _setting("", pem)  #: PEM that a RabbitMQ with mutual TLS asks for
    broker_key: str = _setting("", pem)
    database_url: str = _setting("", _postgres, secret=True)
    database_read_url: str = _setting(
        "", _postgres, secret=True
    )  #: a replica for pages; default: database_url
    database_owner_url: str = _setting("", _postgres, secret=True)  #: for migrations; default: database_url
    database_ca: str = _setting("", pem)  #: PEM; set: sslmode=verify-full
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

    ingest_url: str = _setting("", url("http", "https"))  #: where listeners post to
    ingest_key: str = _setting("", text, secret=True)  #: their API key; default: ingest_api_key
    ingest_ca: str = _setting("", pem)  #: PEM; empty: the system's CAs
    listen_host: str = _setting("0.0.0.0", text)  # noqa: S104 listeners are for the network
    listen_syslog_udp: int = _setting("5514", whole(0, 65535))  #: 0: none
    listen_syslog_tcp: int = _setting("5514", whole(0, 65535))
    listen_syslog_tls: int = _setting("6514", whole(0, 65535))  #: only where TLS_CERT is set
    listen_connections: int = _setting("1000", whole(1))
    listen_snmptrap_udp: int = _setting("1162", whole(1, 65535))
    listen_snmptrap_versions: str = _setting("1 2c 3", text)
    listen_snmptrap_communities: str = _setting("", text, secret=True)  #: of v1 and v2c; empty: any is good
    listen_snmptrap_users: str = _setting(
        "", text, secret=True
    )  #: of v3, as snmptrapd.conf's createUser has them
    listen_buffer: Path = _setting("", path)  #: default: mutt_home / "listen"
    listen_buffer_bytes: int = _setting("1GiB", size)
    aws_sns_hosts: tuple[str, ...] = _setting("", hosts)  #: beside Amazon's own, as host or host:port
    aws_sns_ca: str = _setting("", pem)  #: PEM; empty: public CAs

    moog_url: str = _setting("", moog_address)
    moog_dialect: str = _setting("enterprise", one_of("enterprise", "cloud"))
    moog_api_key: str = _setting("", text, secret=True)
    moog_ca: str = _setting("", pem)  #: PEM; empty: the system's CAs
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
    silence_learned: bool = _setting(
        "on", flag
    )  #: watch also sources of which nobody said how often they speak

    audit_retention_days: int = _setting("90", whole(1))
    audit_archive_years: int = _setting("7", whole(0))
    audit_archive_dir: Path = _setting("", path)  #: default: mutt_home / "archive"
    audit_archive_memory: int = _setting("512MiB", size)  #: for one question to the archives
    audit_archive_threads: int = _setting("2", whole(1, 64))
    config_audit_days: int = _setting("365", whole(1))

    admin_user: str = _setting("admin", text)
    admin_password: str = _setting("", text, secret=True)
    management_api_key: str = _setting("", text, secret=True)  #: of the management API; empty: no key is good
    secret_key: str = _setting("", text, secret=True)  #: signs the admin's sessions
    sealing_key: str = _setting("", sealing, secret=True)  #: seals the secrets of signed webhooks
    session_idle: float = _setting("4h", span())  #: since a page was last used
    session_max: float = _setting("24h", span())  #: since the login
    flower_url: str = _setting("", text)
    metrics_url: str = _setting("", text)

    admin_url: str = _setting("", site)  #: as browsers see it; OIDC providers send them back there
    oidc_issuer: str = _setting("", safe_url)  #: empty: nobody logs in by OpenID Connect
    oidc_client_id: str = _setting("", text)
    oidc_client_secret: str = _setting("", text, secret=True)  #: empty: a public client
    oidc_name: str = _setting("single sign-on", text)  #: what the button calls it
    oidc_scopes: str = _setting("openid profile email", text)
    oidc_role_claim: str = _setting("groups", text)
    oidc_roles: tuple[tuple[str, str], ...] = _setting("", pairs_of("viewer", "operator", "admin"))
    oidc_ca: str = _setting("", text)  #: a file of certificates, instead of the system's
    oidc_timeout: float = _setting("5s", span())
    oidc_only: bool = _setting("off", flag)  #: users with a password stay out, but for ADMIN_USER

    trusted_proxies: tuple[Network, ...] = _setting("none", networks)  #: whose word on the sender counts
    proxy_headers: str = _setting("x-forwarded", one_of("x-forwarded", "forwarded"))  #: that they write

    metrics_host: str = _setting("127.0.0.1", text)  #: where the port of metrics listens
    metrics_port: int = _setting("0", whole(0, 65535))  #: a process' own /metrics; 0: none
    trace_url: str = _setting("", collector)  #: an OTLP/HTTP collector; empty: no traces
    trace_share: float = _setting("0.01", share)  #: of the requests whose sender does not say
    trace_headers: tuple[tuple[str, str], ...] = _setting("", headers, secret=True)  #: for the collector
    trace_ca: str = _setting("", pem)  #: PEM; empty: the system's CAs
    tls_cert: str = _setting("", pem)  #: PEM; set: ingest and admin speak HTTPS only
    tls_key: str = _setting("", pem)
    tls_client_ca: str = _setting("", pem)  #: PEM; set: who has no certificate of it is turned away

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
        files: dict[str, SecretFile] = {}
        for field in dataclasses.fields(cls):
            if field.name in overrides:
                values[field.name] = overrides[field.name]
                continue
            name, secret = _name(field), field.metadata["secret"]
            source = env if _given(name, env, secret) is not None else stack
            given = _given(name, source, secret)
            raw = field.metadata["default"] if given is None or given == "" else given
            value = values[field.name] = raw if raw == "" else field.metadata["reader"](name, raw)
            if place := _file(name, source, secret):
                files[field.name] = SecretFile(name, place, field.metadata["reader"], value)
        for one, other in STANDS_IN.items():
            if not values[one]:
                values[one] = values[other]
                files.pop(one, None)
                if other in files:
                    files[one] = files[other]
        values["audit_archive_dir"] = values["audit_archive_dir"] or values["mutt_home"] / "archive"
        values["listen_buffer"] = values["listen_buffer"] or values["mutt_home"] / "listen"
        made = cls(**values)
        object.__setattr__(made, "_files", files)
        return made

    def current(self, name: str, *, at_once: bool = False) -> Any:
        """A setting (by field name); of a secret from a file, what the file says now, looked at once a second.

        ``at_once``: looked at now, for who connects seldom and must not be refused over an old password.
        """
        found = self._files.get(name)
        return found.current(at_once=at_once) if found else getattr(self, name)

    def variable(self, name: str) -> str:
        """Which variable a setting (by field name) comes from: its own, or the one that stands in for it."""
        other = STANDS_IN.get(name)
        if other and getattr(self, name) == getattr(self, other):
            return self.variable(other)
        return name.upper()

    def need(self, *names: str) -> None:
        """Refuse to start without these settings (by field name). Raises :class:`SettingsError`."""
        for name in names:
            if not getattr(self, name):
                if read_up(self.mutt_home, gone=True):
                    raise StackGone(self.mutt_home)
                name = STANDS_IN.get(name, name)
                raise SettingsError(name.upper(), "", "a value: set it, or start `mutt up` first")


def _name(field: dataclasses.Field[Any]) -> str:
    return str(field.metadata["env"] or field.name.upper())


def _variables(field: dataclasses.Field[Any]) -> tuple[str, ...]:
    """The variables that may hold it; the first wins."""
    name = _name(field)
    return (name + "_FILE", name) if field.metadata["secret"] else (name,)


def _file(name: str, env: Mapping[str, str], secret: bool) -> Path | None:
    """The file that holds it, made absolute: who reads it again may have changed directories."""
    return Path(env[name + "_FILE"]).absolute() if secret and env.get(name + "_FILE") else None


def _given(name: str, env: Mapping[str, str], secret: bool) -> str | None:
    if place := _file(name, env, secret):
        try:
            return place.read_text().strip()
        except OSError as error:
            raise SettingsError(name + "_FILE", str(place), f"a readable file ({error.strerror})") from None
        except UnicodeDecodeError:
            raise SettingsError(name + "_FILE", str(place), "a file of text in UTF-8") from None
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


def offer(name: str, value: str) -> None:
    """Set a variable that another library reads of this process' environment, where nothing stands in it."""
    if not os.environ.get(name):
        os.environ[name] = value


def shared(env: Mapping[str, str]) -> dict[str, str]:
    """Of an environment, what another process needs to behave the same, beside what ``FROM_UP`` names.

    Of what that names, the files: what stands in them may change.
    """
    found: dict[str, str] = {}
    for field in dataclasses.fields(Settings):
        if _name(field) in _OWN:
            continue
        variables = _variables(field)[: -1 if _name(field) in FROM_UP else None]
        variable = next((name for name in variables if env.get(name)), "")
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
    if all(
        _given(name, env, True) in (None, told.get(name))
        for name in ("REDIS_URL", "STREAM_URL", "STREAM_URLS")
    ):
        return told
    return {name: value for name, value in told.items() if name in FROM_UP}


def _hash(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()[:12]
