"""What senders post, by format; and the same, damaged."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

SAMPLES = Path(__file__).parent / "samples"

#: Every sample; beside it stand what it becomes and, where they count, its headers.
EVERY = sorted(
    path
    for path in SAMPLES.glob("*/*")
    if not path.name.endswith((".expected.json", ".headers.json", ".mapping.yaml"))
)

#: Of one sample, so many damaged copies are made, of those with a strange value; which ones is the same each time.
DAMAGED = 120


def headers_of(path: Path) -> dict[str, str]:
    """The headers that the sample came with, by names in capitals."""
    beside = path.parent / f"{path.stem}.headers.json"
    told = json.loads(beside.read_text()) if beside.exists() else {}
    return {name.upper(): value for name, value in told.items()}


def mapping_of(path: Path) -> str:
    """The mapping of the key that the sample came with; empty: it has none."""
    beside = path.parent / f"{path.stem}.mapping.yaml"
    return beside.read_text() if beside.exists() else ""


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
