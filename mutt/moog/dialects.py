"""Dialects: how each Moog wants an alert written; the field maps are data.

Enterprise is the webhook tile and the REST LAM (``{"events": […]}``), Cloud the events API (an array).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec
import orjson

from mutt import cut
from mutt.alert import Alert, Told
from mutt.errors import SettingsError

Field = Callable[[Alert], Any]

MANAGER = "MUTT"
#: Enterprise's documented limit of a description, in bytes. Its bus carries 128 KB an alert in all.
ENTERPRISE_TEXT = 64 * 1024
#: What is left for the raw text beside a description of full length, in bytes.
RAW_TEXT = 32 * 1024
#: Cloud's documented limit of a source and of a description, in characters.
CLOUD_TEXT = 32_500
CLOUD_SEVERITY = ("clear", "unknown", "warning", "minor", "major", "critical")


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """One way to write alerts: ``fields`` maps each of Moog's names to what an alert has for it."""

    name: str
    fields: Mapping[str, Field]
    wrap: Callable[[list[dict[str, Any]]], Any]
    authorise: Callable[[str, str], dict[str, str]]

    def body(self, alerts: Sequence[Alert]) -> bytes:
        """One request's JSON."""
        return orjson.dumps(
            self.wrap([{name: read(a) for name, read in self.fields.items()} for a in alerts])
        )

    def headers(self, secret: str, user: str = "") -> dict[str, str]:
        """One request's headers; without a ``secret`` none that authorise.

        Raises :class:`SettingsError`, which doesn't show the secret, where no header can carry it.
        """
        fixed = {"Content-Type": "application/json", "Accept": "application/json"}
        return fixed | (self.authorise(secret, user) if secret else {})


def _extras(alert: Alert) -> dict[str, Any]:
    said = {
        "event_id": str(alert.event_id),
        "rule_id": alert.rule_id,
        "handling": alert.handling,
        "environment": alert.environment,
    }
    if isinstance(alert, Told):
        said |= {"repeats": alert.repeats, "repeats_since": alert.repeats_since.isoformat()}
    return said


def _custom_info(alert: Alert) -> dict[str, Any]:
    return _extras(alert) | {"raw": cut.to_bytes(alert.raw, RAW_TEXT)}


def _tags(alert: Alert) -> dict[str, str]:
    # Cloud takes neither nested nor empty tags, and knows no field for the correlation id.
    said = _extras(alert) | {
        "correlation_id": alert.correlation_id,
        "raw": cut.to_characters(alert.raw, CLOUD_TEXT),
    }
    return {name: str(value) for name, value in said.items() if value not in (None, "")}


def _printable(secret: str) -> str:
    # What http.client refuses it would show in its error.
    if not (secret.isascii() and secret.isprintable()) or secret != secret.strip():
        raise SettingsError("MOOG_API_KEY", "…", "printable ASCII without blanks around it")
    return secret


def _enterprise_auth(secret: str, user: str) -> dict[str, str]:
    if not user:
        return {"Authorization": f"Bearer {_printable(secret)}"}
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()}


def _cloud_auth(secret: str, _user: str) -> dict[str, str]:
    return {"apiKey": _printable(secret)}


ENTERPRISE = Dialect(
    name="enterprise",
    fields={
        "signature": attrgetter("signature"),
        "source_id": attrgetter("hostname"),
        "external_id": attrgetter("correlation_id"),
        "manager": lambda _: MANAGER,
        "source": attrgetter("hostname"),
        "class": attrgetter("team"),
        "agent": attrgetter("source"),
        "agent_location": attrgetter("environment"),
        "type": attrgetter("type"),
        "severity": attrgetter("severity"),
        "description": lambda a: cut.to_bytes(a.description, ENTERPRISE_TEXT),
        "agent_time": lambda a: int(a.occurred_at.timestamp()),
        "custom_info": _custom_info,
    },
    wrap=lambda events: {"events": events},
    authorise=_enterprise_auth,
)

CLOUD = Dialect(
    name="cloud",
    fields={
        "source": lambda a: a.hostname[:CLOUD_TEXT],
        "check": attrgetter("type"),
        "severity": lambda a: CLOUD_SEVERITY[a.severity],
        "description": lambda a: cut.to_characters(a.description, CLOUD_TEXT),
        "deduplication_key": attrgetter("signature"),
        "time": lambda a: int(a.occurred_at.timestamp() * 1000),
        "manager": lambda _: MANAGER,
        "class": attrgetter("team"),
        "type": attrgetter("type"),
        "tags": _tags,
    },
    wrap=lambda events: events,
    authorise=_cloud_auth,
)

DIALECTS = {dialect.name: dialect for dialect in (ENTERPRISE, CLOUD)}
