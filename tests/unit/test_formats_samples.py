"""Every format has a page, and samples of what its sender posts; it reads them as written down beside them.

``NAME.headers.json`` beside a sample holds the headers that it came with, where they count; ``NAME.mapping.yaml`` the
mapping of its key (docs/formats/mapped.md). To write down a new sample's events:
``MUTT_WRITE_SAMPLES=1 pytest tests/unit/test_formats_samples.py``, then read them.
"""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from msgspec import Raw

from mutt.errors import RejectedBody
from mutt.event import Event
from mutt.formats import registry
from mutt.formats.base import Context, Parsed
from mutt.formats.body import split
from mutt.formats.objects import JsonFormat, load, looks_like_json
from mutt.source import Source
from tests.sampled import EVERY, SAMPLES, damaged, headers_of, mapping_of

HERE = Path(__file__).parents[2]
PAGES = HERE / "docs" / "formats"
CONTEXT = Context(datetime(2026, 3, 4, 9, 30, tzinfo=UTC), "key-1", 65536, "192.0.2.1")

#: Read when the suite starts: the tests themselves run in a clean environment.
WRITE = bool(os.environ.get("MUTT_WRITE_SAMPLES"))

JSON = [one for one in registry.FORMATS.values() if isinstance(one, JsonFormat) and one.name != "native"]

each_sample = pytest.mark.parametrize("path", EVERY, ids=lambda path: f"{path.parent.name}/{path.name}")


def context_of(path: Path) -> Context:
    """As the sample came: with its headers, of a key with its mapping."""
    return msgspec.structs.replace(CONTEXT, headers=headers_of(path), source=Source(mapping=mapping_of(path)))


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
    assert {path.parent.name for path in EVERY} == known
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


@each_sample
def test_no_two_formats_claim_the_same_object(path: Path) -> None:
    pieces = split(path.read_bytes()) if looks_like_json(path.read_bytes(), "") else []
    for piece in (piece for piece in pieces if isinstance(piece, Raw)):
        item, _ = load(piece)
        claiming = [
            one.name for one in JSON if not one.marks.isdisjoint(item) and one.fits(item) and one.claims(item)
        ]
        assert claiming in ([path.parent.name], []), path


@pytest.mark.parametrize(
    ("mark", "name"),
    [({"source_type": "socket"}, "vector"), ({"date": 1772616600.5}, "fluent-bit"), ({"MESSAGE": "x"}, "syslog-ng")],
)  # fmt: skip
def test_what_a_second_shipper_forwards_is_the_second_one_s(mark: dict[str, object], name: str) -> None:
    of_rsyslog = {
        "msg": "x",
        "host": "h",
        "programname": "su",
        "syslogseverity": "3",
        "fromhost-ip": "192.0.2.7",
    }
    item = of_rsyslog | mark
    assert [
        one.name for one in JSON if not one.marks.isdisjoint(item) and one.fits(item) and one.claims(item)
    ] == [name]


def test_each_json_format_says_by_which_keys_it_is_known() -> None:
    """But for the two that have what nobody else claims."""
    for found in registry.FORMATS.values():
        if isinstance(found, JsonFormat) and found.name not in ("native", "mapped"):
            assert found.marks or found.header, f"{found.name} would never be asked"
