"""What listeners have seen, and how it is told: to Prometheus, and in a line of the log."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from mutt.listen.relay import Relay
from mutt.scrape import Kind, Values, families


@dataclass
class Counts:
    """Of one listener, since the start."""

    received: int = 0  #: messages
    cut: int = 0  #: messages that were longer than may be
    no_room: int = 0  #: messages that were lost, for the buffer was full
    unread: int = 0  #: datagrams that the kernel lost, for its own buffer was full
    dropped: int = 0  #: datagrams that hold nothing that is taken here, or come from who may not send
    turned_away: int = 0  #: connections, for there were too many
    connections: int = 0  #: that stand now


#: Every metric of listeners by its name: what the docs list.
KINDS: Mapping[str, Kind] = {
    "mutt_listen_received": Kind("Messages received", ("listener",), counts=True),
    "mutt_listen_cut": Kind("Messages that were longer than may be", ("listener",), counts=True),
    "mutt_listen_lost": Kind("Messages lost", ("listener", "reason"), counts=True),
    "mutt_listen_dropped": Kind(
        "Datagrams dropped for what they hold or who sent them", ("listener",), counts=True
    ),
    "mutt_listen_turned_away": Kind("Connections turned away", ("listener",), counts=True),
    "mutt_listen_connections": Kind("Connections that stand", ("listener",)),
    "mutt_listen_kept": Kind("Records written to disk", counts=True),
    "mutt_listen_sent": Kind("Records that ingest took", counts=True),
    "mutt_listen_refused": Kind("Records that ingest will never take", counts=True),
    "mutt_listen_aside": Kind("Records that stand aside, for they are not let through to ingest"),
    "mutt_listen_retries": Kind("Requests to ingest that were sent again", counts=True),
    "mutt_listen_waiting": Kind("Records that wait for ingest"),
    "mutt_listen_waiting_bytes": Kind("Bytes of them on disk"),
    "mutt_listen_waiting_seconds": Kind("Age of the oldest of them"),
}

#: Why messages are lost, by the field that counts it.
REASONS = {"no_room": "no_room", "unread": "kernel"}


def text(counts: Mapping[str, Counts], relay: Relay) -> bytes:
    """What Prometheus is told; ``counts`` by the names of listeners."""
    told = {**_of_listeners(counts), **_of_relay(relay)}
    registry = CollectorRegistry()
    registry.register(_Told(families(told, KINDS)))
    return generate_latest(registry)


def line(counts: Mapping[str, Counts], relay: Relay) -> dict[str, Any]:
    """The same for a line of the log."""
    books = relay.books
    return {
        **{name: asdict(one) for name, one in counts.items()},
        "sent": books.sent,
        "refused": books.refused,
        "waiting": relay.waiting,
        "waiting_bytes": relay.waiting_bytes,
        **({"aside": relay.aside} if relay.aside else {}),
        **({"trouble": books.trouble} if books.trouble else {}),
    }


class _Told:
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _of_listeners(counts: Mapping[str, Counts]) -> dict[str, Values]:
    fields = ("received", "cut", "dropped", "turned_away", "connections")
    told: dict[str, Values] = {
        f"mutt_listen_{field}": {(name,): getattr(one, field) for name, one in counts.items()}
        for field in fields
    }
    told["mutt_listen_lost"] = {
        (name, reason): getattr(one, field)
        for name, one in counts.items()
        for field, reason in REASONS.items()
    }
    return told


def _of_relay(relay: Relay) -> dict[str, Values]:
    books = relay.books
    said = {
        "kept": books.kept,
        "sent": books.sent,
        "refused": books.refused,
        "aside": relay.aside,
        "retries": books.retries,
        "waiting": relay.waiting,
        "waiting_bytes": relay.waiting_bytes,
        "waiting_seconds": relay.age(time.time()),
    }
    return {f"mutt_listen_{name}": {(): value} for name, value in said.items()}
