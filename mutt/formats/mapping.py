"""Mapping: how JSON of a sender's own becomes events, in a few JMESPath expressions that an admin writes.

A mapping is a small document, YAML or JSON::

    each: alerts                      # the array of events, where an object wraps several
    hostname: host.name
    message: "join(': ', [title, text])"
    severity: priority
    state: type
    words:
      severity: {P1: 2, P2: critical}
      state: {recovery: clear}

Every value is read as the text that stands there. Its expressions are bounded, and what they cost is counted: they are
written by people, and every event of a sender goes through them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import msgspec
import yaml
from jmespath.exceptions import (
    IncompleteExpressionError,
    JMESPathError,
    JMESPathTypeError,
    LexerError,
    ParseError,
)
from jmespath.functions import Functions
from jmespath.parser import Parser
from jmespath.visitor import Options, TreeInterpreter

from mutt.errors import Refused, RejectedItem
from mutt.event import State
from mutt.formats import values

_Word = TypeVar("_Word")

_Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)

#: What an expression can be for, beside ``each``.
FIELDS = (
    "hostname", "message", "time", "severity", "state",
    "clear_key", "instance", "program", "source", "event_id",
)  # fmt: skip

#: Of which of them words can be translated.
WORDS = ("severity", "state")

_KNOWN = ("each", *FIELDS, "words")

#: Characters of a mapping, and of one expression; words of a table.
TEXT_MAX, EXPRESSION_MAX, WORDS_MAX = 16_384, 500, 200

#: Parts of an expression, and how deeply they may stand in one another.
PARTS_MAX, DEPTH_MAX = 100, 24

#: What an expression may put together in all its ``[a, b]`` and ``{a: b}``: each of them can double what goes in.
SELECTED_MAX = 12

#: What one event's expressions may cost, ``each``, and all of a request. A step is a part that is looked at, or an
#: element that is made.
ITEM_STEPS, EACH_STEPS, REQUEST_STEPS = 20_000, 250_000, 2_000_000

#: So many characters of a text that is made cost a step.
CHARACTERS = 64

#: Functions that take an expression (``&a``). Anywhere else it would be a value that nobody can write down.
_TAKING_EXPRESSIONS = frozenset({"map", "max_by", "min_by", "sort_by"})

#: How an expression fails on what a sender wrote: wrong types, no such place, numbers without end.
FAILURES = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class TooCostly(Exception):
    """An expression is not evaluated to its end: that would take too long."""


class Expression(NamedTuple):
    """One expression, read and checked."""

    parsed: Any  #: jmespath's tree
    path: tuple[str, ...] | None  #: the keys that it follows, where it does nothing else


class Mapping(msgspec.Struct, frozen=True):
    """A mapping, read and checked."""

    fields: dict[str, Expression]  #: by FIELDS
    each: Expression | None = None
    severities: dict[str, int] = {}  #: by word, in small letters
    states: dict[str, State] = {}

    @property
    def plain(self) -> bool:
        """Does it follow paths alone? Then it costs no more than any other format."""
        return all(one.path is not None for one in (self.each, *self.fields.values()) if one)


class Steps(TreeInterpreter):
    """Evaluates the expressions of one request, and counts what that costs."""

    def __init__(self) -> None:
        super().__init__(Options(custom_functions=_functions))
        self._granted = self._left = 0
        self._all = REQUEST_STEPS

    def begin(self, steps: int) -> None:
        """What follows may cost so much, and no more than the request has left."""
        self._all -= self._granted - self._left
        self._granted = self._left = max(0, min(steps, self._all))

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        found = super().visit(node, *args, **kwargs)
        kind = type(found)
        self._left -= 1 + (len(found) if kind is list else len(found) // CHARACTERS if kind is str else 0)
        if self._left < 0:
            raise TooCostly
        return found

    def value(self, name: str, expression: Expression, item: Any) -> Any:
        """What ``expression``, which is for ``name``, finds in ``item``. Raises :class:`RejectedItem`."""
        if expression.path is not None:
            return _follow(item, expression.path)
        try:
            return self.visit(expression.parsed, item)
        except TooCostly:
            why = "is too costly for an event as large, or for as many: make the expression simpler"
            raise RejectedItem(name, f"the mapping's expression {why}") from None
        except FAILURES as error:
            raise RejectedItem(name, f"the mapping's expression fails here: {_told(error)}") from None


_functions = Functions()


def _follow(value: Any, path: Sequence[str]) -> Any:
    for key in path:
        if type(value) is not dict:
            return None
        value = value.get(key)
    return value


def _told(error: Exception) -> str:
    if isinstance(error, JMESPathTypeError):
        wanted = " or ".join(error.expected_types)
        return f"{error.function_name}() was given {error.actual_type} where it takes {wanted}"
    return str(error).partition("\n")[0][:200] or type(error).__name__


@lru_cache(maxsize=1024)
def compiled(text: str) -> Mapping:
    """The mapping that ``text`` holds. Raises :class:`Refused` with the place at fault."""
    given = _document(text)
    if unknown := sorted(set(given).difference(_KNOWN)):
        raise Refused("mapping", f"{unknown[0]!r} is none of {', '.join(_KNOWN)}")
    if "message" not in given:
        raise Refused("mapping", "message is missing: write the expression that finds what happened")
    found = {name: expression(name, given[name]) for name in ("each", *FIELDS) if name in given}
    words = given.get("words", {})
    if not isinstance(words, dict) or not set(words).issubset(WORDS):
        raise Refused("mapping", f"words is no table of words for {' or '.join(WORDS)}")
    return Mapping(
        each=found.pop("each", None),
        fields=found,
        severities=_words("severity", words, values.severity, "0 (emergency) to 7 (debug), or its name"),
        states=_words("state", words, values.state, "raise or clear"),
    )


def _document(text: str) -> dict[str, Any]:
    if len(text) > TEXT_MAX or "\0" in text:
        raise Refused("mapping", f"is longer than {TEXT_MAX} characters, or holds NUL: shorten it")
    try:
        found = yaml.load(text, _Loader)  # noqa: S506  # it makes texts, lists and dicts of them only
    except yaml.MarkedYAMLError as error:
        raise Refused("mapping", f"is no YAML: {_place(error)}; put that expression in quotes") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise Refused("mapping", f"is no YAML: {str(error).partition(chr(10))[0]}") from None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise Refused("mapping", "is no list of fields: write lines such as hostname: host.name")
    return found


def _place(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark
    where = f" in line {mark.line + 1}, at character {mark.column + 1}" if mark else ""
    return f"{error.problem or 'it can not be read'}{where}"


def _words(
    name: str, tables: dict[str, Any], read: Callable[[Any], _Word | None], wanted: str
) -> dict[str, _Word]:
    table = tables.get(name, {})
    if not isinstance(table, dict) or len(table) > WORDS_MAX:
        raise Refused("mapping", f"words.{name} is no table of at most {WORDS_MAX} words")
    found: dict[str, _Word] = {}
    for word, meant in table.items():
        value = read(meant)
        if value is None or not isinstance(word, str):
            raise Refused("mapping", f"words.{name}: {word} means {meant!r}; write {wanted}")
        found[word.strip().lower()] = value
    return found


def expression(name: str, text: Any) -> Expression:
    """Read one expression. Raises :class:`Refused` with its field and the character at fault."""
    if not isinstance(text, str) or not text.strip():
        raise Refused("mapping", f"{name} is no expression: write JMESPath such as host.name")
    if len(text) > EXPRESSION_MAX:
        raise Refused("mapping", f"{name} is {len(text)} characters long; at most {EXPRESSION_MAX} are taken")
    try:
        parsed = Parser().parse(text).parsed
    except ParseError as error:
        raise Refused("mapping", f"{name} can't be read {_position(error, text)}") from None
    except (JMESPathError, RecursionError) as error:
        raise Refused("mapping", f"{name} can't be read: {_told(error)}") from None
    _check(name, parsed)
    return Expression(parsed, _path(parsed))


def _position(error: ParseError, text: str) -> str:
    if isinstance(error, IncompleteExpressionError) or error.token_value == "":
        return f"at character {len(text) + 1}: it ends too early"
    if isinstance(error, LexerError):
        return f"at character {error.lexer_position + 1}: {error.message}"
    return f"at character {error.lex_position + 1}: {error.token_value!r} is out of place"


def _check(name: str, tree: Any) -> None:
    """Is it as small as an expression may be, and can it be evaluated at all? Raises :class:`Refused`."""
    selected = 0
    for parts, (node, depth, above) in enumerate(_nodes(tree), 1):
        selected += len(node["children"]) if node["type"].startswith("multi_select") else 0
        if depth > DEPTH_MAX or parts > PARTS_MAX:
            raise Refused("mapping", f"{name} has more than {PARTS_MAX} parts, or {DEPTH_MAX} in one another")
        if selected > SELECTED_MAX:
            raise Refused("mapping", f"{name} puts together more than {SELECTED_MAX} values: make it simpler")
        if values.clean(node.get("value")) != node.get("value"):
            raise Refused(
                "mapping", f"{name} holds a character that no event may have (NUL, half a surrogate)"
            )
        if node["type"] == "function_expression":
            _check_call(name, node)
        elif node["type"] == "slice" and node["children"][2] == 0:
            raise Refused("mapping", f"{name} has a slice whose step is 0")
        elif node["type"] == "expref" and above not in _TAKING_EXPRESSIONS:
            raise Refused("mapping", f"{name}: & stands only in {', '.join(sorted(_TAKING_EXPRESSIONS))}")


def _nodes(node: Any, depth: int = 1, above: str = "") -> Iterator[tuple[Any, int, str]]:
    yield node, depth, above
    within = node["value"] if node["type"] == "function_expression" else ""
    for child in node["children"]:
        if isinstance(child, dict):
            yield from _nodes(child, depth + 1, within)


def _check_call(name: str, node: Any) -> None:
    called, given = node["value"], len(node["children"])
    known = Functions.FUNCTION_TABLE.get(called)
    if known is None:
        raise Refused(
            "mapping", f"{name}: there is no function {called}(); there are {', '.join(_callable())}"
        )
    wanted = len(known["signature"])
    if given < wanted or (given > wanted and not known["signature"][-1].get("variadic")):
        raise Refused("mapping", f"{name}: {called}() takes {wanted} values, and is given {given}")


def _callable() -> list[str]:
    return sorted(Functions.FUNCTION_TABLE)


def _path(tree: Any) -> tuple[str, ...] | None:
    if tree["type"] == "field":
        return (tree["value"],)
    if tree["type"] != "subexpression":
        return None
    parts = [_path(child) for child in tree["children"]]
    return None if None in parts else tuple(key for part in parts if part for key in part)
