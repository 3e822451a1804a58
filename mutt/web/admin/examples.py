"""The examples of a rule as people write them: a line each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import msgspec

from mutt.errors import RuleError
from mutt.rules.rule import Example

_encode = msgspec.json.Encoder().encode


def write_examples(examples: Iterable[Example]) -> str:
    """``+ text`` for a message that must match, ``- text`` for one that must not; JSON for what is more than that."""
    return "\n".join(map(_line, examples))


def _line(example: Example) -> str:
    plain = Example(message=example.message, matches=example.matches) == example
    if plain and example.message and not set(example.message) & {"\n", "\r"}:
        return ("+ " if example.matches else "- ") + example.message
    return _encode(example).decode()


def read_examples(text: str) -> list[dict[str, Any]]:
    """What :class:`Rule` takes as its examples; the fields of each are checked there. Raises :class:`RuleError`."""
    return [
        _read(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip(" \t\r") != ""
    ]


def _read(number: int, line: str) -> dict[str, Any]:
    line = line.removesuffix("\r")
    if line[0] in "+-":
        return {"message": line[1:].removeprefix(" "), "matches": line[0] == "+"}
    if line.lstrip().startswith("{"):
        with contextlib.suppress(msgspec.DecodeError, RecursionError):
            found = msgspec.json.decode(line)
            if isinstance(found, dict):
                return found
        raise RuleError("examples", f"line {number} is no JSON object on one line")
    raise RuleError(
        "examples", f"line {number} begins with neither + (must match) nor - (must not), nor is JSON"
    )
