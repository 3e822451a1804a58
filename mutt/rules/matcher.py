"""Matcher: many patterns, one pass over the text, in time linear in its length whatever the patterns are.

What a character costs depends on them: ``gaps`` keeps the dear ones out.

The patterns of one field are one set of google-re2. Letters are compared as re2 folds them (Unicode's simple
case folding: the Kelvin sign is a k, the long s an s; ``ß`` is not ``ss``), ``.`` matches line breaks, ``^`` and
``$`` are the text's ends unless the pattern says ``(?m)``.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import re2

from mutt.errors import NoRuleset, RuleError
from mutt.rules.rule import MatchType

_MIB = 1 << 20

#: One pattern may take so much: a few ten thousand of re2's instructions.
_PATTERN_MEMORY = 1 * _MIB

#: A pattern of every set, looked for once it is compiled: re2 answers nothing, and says nothing, where a set has run
#: out of memory.
_CANARY = "\0canary\0"

#: What re2 names at fault, and what to tell people about it.
_FAULTS = {
    "(?=": "look-ahead (?=…) can't be matched in linear time; write the rule without it",
    "(?!": "negative look-ahead (?!…) can't be matched in linear time; give what must not match a rule of its own "
    "with a lower priority number",
    "(?<=": "look-behind (?<=…) can't be matched in linear time; match the text before it too",
    "(?<!": "negative look-behind (?<!…) can't be matched in linear time; write the rule without it",
    "(?>": "an atomic group (?>…) is not needed here (nothing backtracks); write (?:…)",
    "(?#": "comments (?#…) are not understood; leave them out",
    "(?x": "the verbose flag (?x) is not understood; write the pattern on one line",
    "(?(": "a condition (?(…)…) can't be matched in linear time; make two rules",
    "\\k": "the back-reference \\k can't be matched in linear time; write the text out",
    "\\g": "the back-reference \\g can't be matched in linear time; write the text out",
    "\\Z": "\\Z is not understood; write \\z for the end of the text",
}


def expression(match_type: MatchType, text: str) -> str:
    """The re2 expression of a rule's ``text``; ``oid_prefix`` has none."""
    if match_type is MatchType.REGEX:
        return text
    literal: str = re2.escape(text)
    if match_type is MatchType.EQUALS:
        return rf"\A{literal}\z"
    if match_type is MatchType.PREFIX:
        return rf"\A{literal}"
    return literal


# What has been taken is remembered: each version of the rules asks again for nearly the same ones.
@lru_cache(16_384)
def check_expression(text: str, field: str = "match_string") -> None:
    """Raise :class:`RuleError` naming the part at fault where re2 can't compile ``text``."""
    try:
        re2.compile(text, options(_PATTERN_MEMORY))
    except re2.error as error:
        raise RuleError(field, _reason(_said(error), text)) from None


def compiled(text: str) -> Any:
    """One re2 expression, compiled as a set compiles it; its ``search`` takes UTF-8. Raises :class:`RuleError`."""
    check_expression(text)
    return re2.compile(text, options(_PATTERN_MEMORY))


def spans(text: str, pattern: str, most: int) -> list[tuple[int, int]] | None:
    """Where the re2 expression ``pattern`` matches in ``text``: characters (from, to), the first ``most``.

    None: nowhere. A match of no characters has no span. Raises ``re2.error`` for what can't be compiled.
    """
    # As Matcher reads it: each half of a surrogate pair becomes one other character.
    found = re2.compile(pattern, options(_PATTERN_MEMORY)).finditer(text.encode("utf-8", "replace").decode())
    first = next(found, None)
    if first is None:
        return None
    rest = (one.span() for one in itertools.chain([first], found))
    return list(itertools.islice(((start, end) for start, end in rest if end > start), most))


class Matcher:
    """The patterns of one field, compiled once; safe to share between threads.

    Raises :class:`NoRuleset` where re2 can't hold them all, :class:`RuleError` for one it can't compile.
    """

    def __init__(self, patterns: Iterable[tuple[int, str]], *, memory: int | None = None) -> None:
        """``patterns`` are (index, re2 expression); an index may come with several. ``memory`` is in bytes."""
        indices: defaultdict[str, list[int]] = defaultdict(list)
        for index, text in patterns:
            indices[text].append(index)
        self._indices = [*indices.values(), []]  # the last is the canary's
        self._set = _compiled([*indices, rf"\A{re2.escape(_CANARY)}\z"], memory or _memory(len(indices)))

    def match(self, text: str) -> list[int]:
        """The indices of all patterns that match somewhere in ``text``, in no order."""
        found = self._set.Match(text.encode("utf-8", "replace"))
        if found is None:
            return []
        return [index for number in found for index in self._indices[number]]


def _compiled(expressions: list[str], memory: int) -> Any:
    built = re2.Set.SearchSet(options(memory))
    for text in expressions:
        try:
            built.Add(text)
        except re2.error:
            check_expression(text)
            raise
    full = f"re2 can't hold {len(expressions)} patterns in {memory >> 20} MiB"
    try:
        built.Compile()
    except re2.error:
        raise NoRuleset(full) from None
    if len(expressions) - 1 not in (built.Match(_CANARY.encode()) or ()):
        raise NoRuleset(f"{full}: the canary was not found")
    return built


def _memory(patterns: int) -> int:
    # A bound, not a price: re2 takes it only where the texts need that many states.
    return min(64 * _MIB + patterns * (_MIB // 16), 1024 * _MIB)


def options(memory: int, *, as_written: bool = False) -> Any:
    """re2's options for a rule's pattern; ``as_written``: letters have their case, ``.`` stops at line breaks."""
    chosen = re2.Options()
    chosen.case_sensitive = as_written
    chosen.dot_nl = not as_written
    chosen.log_errors = False
    chosen.max_mem = memory
    return chosen


def _said(error: Exception) -> str:
    # The binding hands on re2's own bytes.
    return " ".join(
        part.decode(errors="replace") if isinstance(part, bytes) else str(part) for part in error.args
    )


def _reason(said: str, text: str) -> str:
    _, _, part = said.partition(": ")
    if part in _FAULTS:
        return _FAULTS[part]
    if part.startswith("\\") and part[1:].isdigit():
        return f"the back-reference {part} can't be matched in linear time; write the text out"
    if part == "(?P" and "(?P=" in text:
        return "the back-reference (?P=…) can't be matched in linear time; write the text out"
    if said.startswith("bad repetition") and part in ("++", "*+", "?+"):
        return f"the possessive {part} is not needed here (nothing backtracks); write {part[0]}"
    if said.startswith("pattern too large"):
        return "is too large a pattern: make its counts {n,m} smaller, or more than one rule of it"
    return f"can't be compiled: {said}"
