"""What a format costs beside native JSON: looking at a body and reading it, by processor time, alternating.

``python -m benchmarks.formats [NAME …]``; without names: all that have a JSON sample. A body holds the events of the
format's first sample over and over; the native one says the same: each field by its native name, each tag a key.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import orjson

from mutt.event import Event, State
from mutt.formats import registry
from mutt.formats.base import Context
from mutt.formats.body import split
from mutt.formats.objects import JsonFormat

SAMPLES = Path(__file__).parent.parent / "tests" / "samples"
CONTEXT = Context(datetime(2026, 3, 4, 9, 30, tzinfo=UTC), "benchmark", 1 << 18, "192.0.2.1")

#: Events of a body, bodies a measurement, measurements of each.
EVENTS, BODIES, ROUNDS = 500, 8, 15


def read(body: bytes) -> list[Event]:
    """As ingest does, where the request names no format."""
    return registry.parse(registry.sniff(body, "application/json"), body, CONTEXT).events


def body_of(sample: bytes, found: JsonFormat) -> bytes:
    """About EVENTS events, as a sender puts so many together: in its own wrapping, or as an array."""
    items = [orjson.loads(bytes(piece)) for piece in split(sample) if isinstance(piece, msgspec.Raw)]
    first = items[0]
    if found.inside and isinstance(first.get(found.inside), list):
        inner = first[found.inside]
        return orjson.dumps(first | {found.inside: inner * (EVENTS // len(inner))})
    return orjson.dumps(items * (EVENTS // len(items)))


def native(event: Event) -> dict[str, Any]:
    """What ``event`` says, as a native sender writes it."""
    said: dict[str, Any] = {
        "hostname": event.hostname,
        "message": event.message,
        "timestamp": event.occurred_at.isoformat().replace("+00:00", "Z"),
        "severity": event.severity,
        "facility": event.facility,
        "program": event.program,
        "state": None if event.state is State.RAISE else event.state,
        "clear_key": event.clear_key,
    }
    return {key: value for key, value in said.items() if value is not None} | event.tags


def cost(work: Callable[[], object]) -> float:
    """Seconds of processor time."""
    began = time.process_time()
    for _ in range(BODIES):
        work()
    return time.process_time() - began


def compare(path: Path, found: JsonFormat) -> str:
    body = body_of(path.read_bytes(), found)
    events = read(body)
    if not events:
        return f"{found.name:24} is not known by the looks of {path.name}"
    plain = orjson.dumps([native(event) for event in events])
    seconds: list[tuple[float, float]] = []
    for turn in range(ROUNDS):
        took = {
            first: cost(lambda first=first: read(first))
            for first in ([body, plain] if turn % 2 else [plain, body])
        }
        seconds.append((took[body], took[plain]))
    theirs, ours = (
        statistics.median(column) / len(events) / BODIES * 1e6 for column in zip(*seconds, strict=True)
    )
    spread = sorted(one / other - 1 for one, other in seconds)
    sizes = f"{len(body) / len(events):.0f} and {len(plain) / len(events):.0f} bytes"
    return (
        f"{found.name:24} {theirs:6.2f} us an event, native {ours:6.2f}: {theirs / ours - 1:+.0%}"
        f" ({spread[1]:+.0%} to {spread[-2]:+.0%}); {sizes}"
    )


def main(names: list[str]) -> None:
    for name, found in registry.FORMATS.items():
        if not isinstance(found, JsonFormat) or name == "native" or (names and name not in names):
            continue
        bodies = sorted(path for path in (SAMPLES / name).glob("*.json") if path.suffixes == [".json"])
        for path in bodies[:1]:
            print(compare(path, found))


if __name__ == "__main__":
    main(sys.argv[1:])
