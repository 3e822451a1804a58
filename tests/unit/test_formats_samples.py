"""Every format has a page, and samples of what its sender posts; it reads them as written down beside them.

``NAME.headers.json`` beside a sample holds the headers that it came with, where they count; ``NAME.mapping.yaml`` the
mapping of its key (docs/formats/mapped.md). To write down a new sample's events:
``MUTT_WRITE_SAMPLES=1 pytest tests/unit/test_formats_samples.py``, then read them.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mutt.errors import RejectedBody
from mutt.event import Event
from mutt.formats import registry
from mutt.formats.base import Context, JsonFormat, Parsed
from mutt.source import Source

HERE = Path(__file__).parents[2]
SAMPLES, PAGES = HERE / "tests" / "samples", HERE / "docs" / "formats"
CONTEXT = Context(datetime(2026, 3, 4, 9, 30, tzinfo=UTC), "key-1", 65536, "192.0.2.1")

#: Read when the suite starts: the tests themselves run in a clean environment.
WRITE = bool(os.environ.get("MUTT_WRITE_SAMPLES"))

#: Of one sample, so many damaged copies are looked at; which ones is the same each time.
DAMAGED = 120

samples = sorted(
    path
    for path in SAMPLES.glob("*/*")
    if not path.name.endswith((".expected.json", ".headers.json", ".mapping.yaml"))
)
each_sample = pytest.mark.parametrize("path", samples, ids=lambda path: f"{path.parent.name}/{path.name}")


def context_of(path: Path) -> Context:
    """As the sample came: with its headers, of a key with its mapping."""
    headers, mapping = (path.parent / f"{path.stem}.{what}" for what in ("headers.json", "mapping.yaml"))
    known: dict[str, Any] = {}
    if headers.exists():
        known["headers"] = {name.upper(): value for name, value in json.loads(headers.read_text()).items()}
    if mapping.exists():
        known["source"] = Source(mapping=mapping.read_text())
    return msgspec.structs.replace(CONTEXT, **known)


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


@pytest.mark.parametrize("name", registry.FORMATS)
def test_every_format_has_a_page_that_says_where_its_samples_are_from(name: str) -> None:
    page = PAGES / f"{name}.md"
    assert page.exists(), f"write docs/formats/{name}.md"
    assert re.search(r"^\*\*Samples\*\*: \S.{20,}$", page.read_text(), re.M), (
        f"{page.name} must say where its samples come from, in a line **Samples**: …"
    )
    assert f"(formats/{name}.md)" in (HERE / "docs" / "formats.md").read_text(), (
        f"docs/formats.md must list {name}"
    )


def test_every_sample_and_page_is_of_a_format() -> None:
    known = set(registry.FORMATS)
    assert {path.parent.name for path in samples} == known
    assert {path.stem for path in PAGES.iterdir()} == known


@each_sample
def test_a_sample_becomes_the_events_beside_it(path: Path) -> None:
    parsed = registry.parse(registry.FORMATS[path.parent.name], path.read_bytes(), context_of(path))
    expected = path.parent / f"{path.stem}.expected.json"
    if WRITE:
        expected.write_text(json.dumps(shown(parsed), indent=1, ensure_ascii=False) + "\n")
    assert shown(parsed) == json.loads(expected.read_text())


@each_sample
def test_a_sample_is_read_alike_where_the_request_names_no_format(path: Path) -> None:
    body, context = path.read_bytes(), context_of(path)
    named = registry.parse(registry.FORMATS[path.parent.name], body, context)
    found = registry.sniff(body, "application/x-www-form-urlencoded", context.headers)
    sniffed = registry.parse(found, body, context)
    assert shown(sniffed) == shown(named)
    assert sniffed.format == named.format == path.parent.name


def shape(event: Event) -> dict[str, object]:
    """What it says, wherever it stood in a request."""
    return _event(event, identified=False) | {"item": 0}


@each_sample
def test_what_is_kept_of_an_event_is_read_alike_when_it_comes_alone(path: Path) -> None:
    found = registry.FORMATS[path.parent.name]
    known = context_of(path)
    for event in registry.parse(found, path.read_bytes(), known).events:
        context = msgspec.structs.replace(CONTEXT, received_at=event.received_at, source=known.source)
        alone = registry.parse(found, event.raw.encode(), context)
        assert [shape(one) for one in alone.events] == [shape(event)]


@each_sample
def test_a_damaged_sample_costs_items_or_the_body_and_nothing_else(path: Path) -> None:
    found, context = registry.FORMATS[path.parent.name], context_of(path)
    for body in damaged(path.read_bytes()):
        for chosen in (found, registry.sniff(body, "", context.headers)):
            try:
                registry.parse(chosen, body, context)
            except RejectedBody as refusal:
                assert refusal.status in (400, 413, 415)


#: What may stand where something else was expected.
STRANGE: tuple[Any, ...] = (
    None,
    True,
    -1,
    1e300,
    "",
    " ",
    "\0\ud800",
    "x" * 300,
    [],
    [[]],
    [None],
    {},
    {"a": {"b": []}},
)


def damaged(body: bytes) -> Iterator[bytes]:
    """The sample with a mark before it, other line ends, cut off; and with each of its values strange or gone."""
    yield b"\xef\xbb\xbf" + body
    yield body.replace(b"\n", b"\r\n")
    yield body.replace(b"}", b",}")
    yield body.replace(b'"', b'\\"', 1)
    for part in range(1, 8):
        yield body[: len(body) * part // 8]
    try:
        whole = json.loads(body)
    except ValueError:
        return
    spoilt = [(place, value) for place in places(whole) for value in (*STRANGE, ...)]
    for place, value in random.Random(0).sample(spoilt, min(DAMAGED, len(spoilt))):
        yield json.dumps(put(deepcopy(whole), place, value)).encode()


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the values inside ``value`` stand."""
    keys: Any = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield (*above, key)
        yield from places(value[key], (*above, key))


def put(whole: Any, place: tuple[Any, ...], value: Any) -> Any:
    """``whole`` with ``value`` at ``place``; ``...`` takes away what stands there."""
    at = whole
    for key in place[:-1]:
        at = at[key]
    if value is ...:
        del at[place[-1]]
    else:
        at[place[-1]] = value
    return whole


def test_each_json_format_says_by_which_keys_it_is_known() -> None:
    """But for the two that have what nobody else claims."""
    for found in registry.FORMATS.values():
        if isinstance(found, JsonFormat) and found.name not in ("native", "mapped"):
            assert found.marks or found.header, f"{found.name} would never be asked"
