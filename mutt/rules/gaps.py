"""Counted gaps: at how many places of one pattern a text can stand at once.

``error.{0,500}code`` asks, for each of the last 500 characters, whether an ``error`` ended there: 2**500 answers, and
re2 makes a new state of nearly every character of every event. ``error.*code`` asks whether there was one. What tells
the two apart: can the count be entered anew, from outside, while it goes on? After ``id=[0-9]{1,9}`` it can't.

Only patterns that re2 has taken are read here; what a class holds is asked of re2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import re2

from mutt.errors import RuleError

#: Places in counts that can be entered anew while they go on. docs/decisions/0018 says what they cost.
OVERLAPPING_MAX = 16

#: What every character enters has no choice, but stands at all its places in most texts: four of them count as one,
#: if it is made of so many characters.
_LEADING_SHARE, _WIDE = 4, 32

#: Places in counts at all.
COUNTED_MAX = 256

#: Groups in groups.
DEPTH_MAX = 50

# A set of characters is a set of bits: one for each of ASCII, one for all others.
_OTHERS = 1 << 128
_ALL = (1 << 129) - 1
_PROBES = [(1 << code, chr(code)) for code in range(128)] + [(_OTHERS, sign) for sign in "\x80éλ日🔥"]
_WORD = sum(bit for bit, sign in _PROBES[:128] if sign.isalnum() or sign == "_")

_TOKEN = re.compile(
    r"""
      \\Q (?P<quoted> .*?) (?: \\E | \Z )
    | (?P<edge> \\[AbBz] | [$^] )
    | (?P<flags> \( \? [a-zA-Z-]* \) )
    | (?P<open> \( (?: \? (?: P?<[^>]*> | [a-zA-Z-]*: ) )? )
    | (?P<close> \) )
    | (?P<bar> \| )
    | (?P<repeat> (?: [*+?] | \{ (?P<low>\d+) (?P<range>,)? (?P<high>\d*) \} ) \?? )
    | (?P<class> \. | \\[dDsSwWC] | \\[pP] (?: \{[^}]*\} | . )
               | \[ \^? \]? (?: \[:\^?\w+:\] | \\[pPx]\{[^}]*\} | \\. | [^]\\] )* \] )
    | (?P<literal> \\x\{[^}]*\} | \\x.. | \\[0-7]{1,3} | \\. | . )
    """,
    re.VERBOSE | re.DOTALL,
)


class Chars(NamedTuple):
    """One character out of ``mask``."""

    text: str
    mask: int
    literal: bool


class Edge(NamedTuple):
    """A place between two characters."""

    sign: str
    multiline: bool


class Seq(NamedTuple):
    parts: list[Node]


class Alt(NamedTuple):
    parts: list[Node]


class Repeat(NamedTuple):
    text: str
    remedy: str  #: the same without a count
    part: Node
    low: int
    high: int | None  #: None: without end

    @property
    def copies(self) -> int:
        """How often re2 writes the part out."""
        return max(self.low if self.high is None else self.high, 1)


Node = Chars | Edge | Seq | Alt | Repeat


class Before(NamedTuple):
    """How a part is entered."""

    anew: int  #: after one of these characters, but not after each of them always
    word: bool = False  #: only at the edge of a word
    always: bool = False  #: at every character: then no state has to tell where it was


class Gap(NamedTuple):
    """What stands at fault: so many places."""

    places: int
    text: str
    remedy: str

    def times(self, copies: int) -> Gap:
        return self._replace(places=copies * self.places)


def check_gaps(pattern: str, field: str = "match_string") -> None:
    """Raise :class:`RuleError` with the count at fault, and what to write, where ``pattern`` is dear to follow."""
    tree = _parsed(pattern, field)
    overlapping = _overlapping(tree, Before(0, always=True))
    if _places(overlapping) > OVERLAPPING_MAX:
        worst = max(overlapping)
        raise RuleError(
            field,
            f"has counts that begin anew while they go on ({_places(overlapping)} places, at most"
            f" {OVERLAPPING_MAX}), which makes every event dear; write {worst.remedy} in place of {worst.text}",
        )
    counted = _counted(tree)
    if _places(counted) > COUNTED_MAX:
        worst = max(counted)
        raise RuleError(
            field,
            f"counts {_places(counted)} places (at most {COUNTED_MAX});"
            f" write {worst.remedy} in place of {worst.text}",
        )


def _places(gaps: Iterable[Gap]) -> int:
    return sum(gap.places for gap in gaps)


# ---- what is dear


def _overlapping(node: Node, before: Before) -> list[Gap]:
    """The places of ``node`` at which several ways to enter it, of different age, can stand at once."""
    if isinstance(node, Chars):
        return [] if node.literal or not _enters(before, node.mask) else [Gap(1, node.text, ".*")]
    if isinstance(node, Repeat):
        return _overlapping_repeat(node, before)
    found: list[Gap] = []
    if isinstance(node, Seq | Alt):
        for part in node.parts:
            found += _overlapping(part, before)
            if isinstance(node, Seq):
                before = _after(part, before)
    return found


def _overlapping_repeat(node: Repeat, before: Before) -> list[Gap]:
    part, copies = node.part, node.copies
    # One text again and again has as many states as letters, and ".*" once entered is never left.
    if _plain(part) or (node.high is None and isinstance(part, Chars) and part.mask == _ALL and copies == 1):
        return []
    repeated = copies > 1 or isinstance(part, Chars)
    whole = Gap(copies * _size(part), node.text, node.remedy)
    if repeated and _enters(before, _alphabet(part)):
        return [whole]
    leading = before.always and repeated and _alphabet(part).bit_count() > _WIDE
    lead = [whole._replace(places=whole.places // _LEADING_SHARE)] if leading else []
    again = before if node.high == 1 else _both(before, _after(part, before))
    inside = [] if isinstance(part, Chars) else [gap.times(copies) for gap in _overlapping(part, again)]
    return max(lead, inside, key=_places)


def _enters(before: Before, alphabet: int) -> bool:
    """Can a part made of ``alphabet`` be entered while it goes on, and a text choose whether?"""
    anew = before.anew
    if before.word and not alphabet & ~_WORD:
        anew &= ~_WORD
    return not before.always and bool(anew & alphabet)


def _counted(node: Node) -> list[Gap]:
    if isinstance(node, Repeat):
        if node.copies > 1:
            return [Gap(node.copies * _size(node.part), node.text, node.remedy)]
        return _counted(node.part)
    if isinstance(node, Seq | Alt):
        return [gap for part in node.parts for gap in _counted(part)]
    return []


def _after(node: Node, before: Before) -> Before:
    """How the part after ``node`` is entered, where ``node`` is entered as ``before`` says."""
    if isinstance(node, Chars):
        return Before(node.mask)
    if isinstance(node, Edge):
        return _after_edge(node, before)
    if isinstance(node, Seq):
        for part in node.parts:
            before = _after(part, before)
        return before
    if isinstance(node, Alt):
        return _either([_after(part, before) for part in node.parts])
    if isinstance(node.part, Chars) and node.part.mask == _ALL and node.high is None:
        return Before(_ALL, always=True)
    once = _after(node.part, before)
    return once if node.low else _either([before, once])


def _after_edge(edge: Edge, before: Before) -> Before:
    if edge.sign in ("^", r"\A"):
        return Before(1 << ord("\n") if edge.multiline and edge.sign == "^" else 0)
    return Before(_ALL if before.always else before.anew, word=before.word or edge.sign == r"\b")


def _either(ways: list[Before]) -> Before:
    anew = 0
    for way in ways:
        anew |= way.anew
    return Before(anew, all(way.word for way in ways), any(way.always for way in ways))


def _both(first: Before, again: Before) -> Before:
    """How a part that is repeated is entered: at every character only if each time."""
    ways = [way for way in (first, again) if not way.always]
    return _either(ways) if ways else first


def _plain(node: Node) -> bool:
    if isinstance(node, Seq):
        return all(_plain(part) for part in node.parts)
    return isinstance(node, Edge) or (isinstance(node, Chars) and node.literal)


def _alphabet(node: Node) -> int:
    if isinstance(node, Chars):
        return node.mask
    if isinstance(node, Repeat):
        return _alphabet(node.part)
    mask = 0
    if isinstance(node, Seq | Alt):
        for part in node.parts:
            mask |= _alphabet(part)
    return mask


def _size(node: Node) -> int:
    if isinstance(node, Repeat):
        return node.copies * _size(node.part)
    if isinstance(node, Seq | Alt):
        return sum(_size(part) for part in node.parts)
    return int(isinstance(node, Chars))


# ---- reading


class _Group:
    """A group that is being read."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.branches: list[list[tuple[int, Node]]] = [[]]  #: parts, with the place where each begins

    def add(self, start: int, node: Node) -> None:
        self.branches[-1].append((start, node))

    def whole(self) -> Node:
        branches = [_one([node for _, node in parts]) for parts in self.branches]
        if len(branches) == 1:
            return branches[0]
        letters = [branch for branch in branches if isinstance(branch, Chars)]
        if len(letters) < len(branches):
            return Alt(branches)
        mask = 0
        for letter in letters:
            mask |= letter.mask
        return Chars("|".join(letter.text for letter in letters), mask, literal=False)


def _one(parts: list[Node]) -> Node:
    return parts[0] if len(parts) == 1 else Seq(parts)


def _parsed(pattern: str, field: str) -> Node:
    multiline = re.search(r"\(\?[a-zA-Z]*m", pattern) is not None
    groups = [_Group(0)]
    for token in _TOKEN.finditer(pattern):
        kind, text, start = token.lastgroup, token[0], token.start()
        group = groups[-1]
        if token["open"]:
            groups.append(_Group(start))
        elif token["close"]:
            groups[-2].add(group.start, groups.pop().whole())
        elif token["bar"]:
            group.branches.append([])
        elif token["repeat"]:
            _repeat(group, pattern, token)
        elif token["edge"]:
            group.add(start, Edge(text, multiline))
        elif token["quoted"] is not None:
            for place, sign in enumerate(token["quoted"], start + len(r"\Q")):
                group.add(place, Chars(sign, _mask(re2.escape(sign)), literal=True))
        elif kind != "flags":
            group.add(start, Chars(text, _mask(text), literal=kind == "literal"))
        if len(groups) > DEPTH_MAX:
            raise RuleError(field, f"has more than {DEPTH_MAX} groups in groups; write it flatter")
    return groups[0].whole()


def _repeat(group: _Group, pattern: str, token: re.Match[str]) -> None:
    start, part = group.branches[-1].pop()
    low, high = _bounds(token)
    operand = pattern[start : token.start()]
    remedy = f"{operand}{'*' if low == 0 else '+'}"
    group.add(start, Repeat(pattern[start : token.end()], remedy, part, low, high))


def _bounds(token: re.Match[str]) -> tuple[int, int | None]:
    if token["low"] is None:
        return {"*": (0, None), "+": (1, None), "?": (0, 1)}[token["repeat"][0]]
    low = int(token["low"])
    if not token["range"]:
        return low, low
    return low, int(token["high"]) if token["high"] else None


@lru_cache(4096)
def _mask(text: str) -> int:
    if text in (".", r"\C"):
        return _ALL
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    one = re2.compile(text, options)
    mask = 0
    for bit, sign in _PROBES:
        if one.fullmatch(sign):
            mask |= bit
    # Not every character can be tried: a text that names others holds some.
    return (
        mask if text.isascii() and not re.match(r"\[.*\\[xpP]|\\[xpP]", text, re.DOTALL) else mask | _OTHERS
    )
