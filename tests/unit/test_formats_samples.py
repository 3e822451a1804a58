"""Every format has samples of what its sender posts, and reads them as written down beside them.

To write down a new sample's events: ``MUTT_WRITE_SAMPLES=1 pytest tests/unit/test_formats_samples.py``, then read them.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from mutt.event import Event
from mutt.formats import registry
from mutt.formats.base import Context, JsonFormat, Parsed

SAMPLES = Path(__file__).parent.parent / "samples"
CONTEXT = Context(datetime(2026, 3, 4, 9, 30, tzinfo=UTC), "key-1", 65536, "192.0.2.1")

#: Read when the suite starts: the tests themselves run in a clean environment.
WRITE = bool(os.environ.get("MUTT_WRITE_SAMPLES"))

samples = sorted(path for path in SAMPLES.glob("*/*") if not path.name.endswith(".expected.json"))


def shown(parsed: Parsed) -> dict[str, object]:
    """What a sample's expectation holds: no random ids, no raw, no defaults."""
    return {
        "events": [
            _event(event, position in parsed.identified) for position, event in enumerate(parsed.events)
        ],
        "rejected": [
            {"index": item.index, "field": item.field, "reason": item.reason} for item in parsed.rejected
        ],
    }


def _event(event: Event, identified: bool) -> dict[str, object]:
    hidden = {"received_at", "raw"} | (set() if identified else {"event_id"})
    found = json.loads(msgspec.json.encode(msgspec.structs.asdict(event)))
    return {key: value for key, value in found.items() if key not in hidden and value not in (None, {}, [])}


@pytest.mark.parametrize("name", registry.FORMATS)
def test_every_format_has_a_sample(name: str) -> None:
    assert list((SAMPLES / name).glob("*.expected.json")), f"put a sample into tests/samples/{name}/"


@pytest.mark.parametrize("path", samples, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_sample_becomes_the_events_beside_it(path: Path) -> None:
    found = registry.get(path.parent.name)
    assert found is not None, f"no format named {path.parent.name}"
    parsed = registry.parse(found, path.read_bytes(), CONTEXT)
    expected = path.parent / f"{path.stem}.expected.json"
    if WRITE:
        expected.write_text(json.dumps(shown(parsed), indent=1, ensure_ascii=False) + "\n")
    assert shown(parsed) == json.loads(expected.read_text())


@pytest.mark.parametrize("path", samples, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_sample_is_read_alike_where_the_request_names_no_format(path: Path) -> None:
    named = registry.parse(registry.FORMATS[path.parent.name], path.read_bytes(), CONTEXT)
    body = path.read_bytes()
    sniffed = registry.parse(registry.sniff(body, "application/x-www-form-urlencoded"), body, CONTEXT)
    assert shown(sniffed) == shown(named)


def test_each_json_format_but_native_says_by_which_keys_it_is_known() -> None:
    for found in registry.FORMATS.values():
        if isinstance(found, JsonFormat) and found.name != "native":
            assert found.marks, f"{found.name} would never be asked"
