"""Redaction: what is taken out of an event before a rule sees it and before anything of it is kept. Pure.

A pattern is re2's, as it is written: letters have their case, ``.`` stops at line breaks. It is looked for in each
text of an event but the host's name; in a tag also as NAME=VALUE. Text that is JSON is looked at as it came and, name
by name and value by value, as what it says: so an escaped secret is found, and what is left is JSON, byte for byte but
for it.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import orjson
import re2

from mutt.errors import NoRuleset, RuleError
from mutt.event import Event, Varbind
from mutt.rules.matcher import check_expression, options

#: What stands where something was, unless the redaction says better.
REDACTED = "[redacted]"

#: References to groups that a replacement may hold: what a text can grow by has a bound.
REFERENCES_MAX = 9

#: Each find costs up to one look at the whole text: finds × characters are no more than this, or few. Then the rest of
#: the text goes.
_WORK, _FEW = 50_000_000, 200

#: Of a JSON text in which more names and values are to be changed, nothing stays.
_MANY = 10_000

#: So many times is JSON looked into that is text in JSON: it costs the square of them, and a sender can write hundreds.
_DEEP = 8

#: One redaction takes so much of memory at most, and all of them together besides.
_MEMORY = 1 << 20

#: Edits of a text that are shown, and characters around each.
SHOWN, AROUND = 50, 120

#: The texts of an event, but for those that are looked at by themselves. Not: the host and OIDs, by which events are
#: told apart, and the team, which MUTT itself gives.
_TEXTS = ("message", "raw", "source", "facility", "program", "instance", "occurred_text", "template")

_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)", re.DOTALL
)
_TOKEN = re.compile(
    r'"(?P<text>[^"\\]*(?:\\.[^"\\]*)*)"(?P<named>\s*:)?|(?P<plain>-?[0-9][0-9.eE+-]*|-?Infinity|NaN|true|false|null)',
    re.DOTALL,
)
_BLANK = re.compile(r"\s*")
_lenient = json.JSONDecoder(strict=False)
_COLON = re.compile(r'"\s*:\s*"?')
#: A name that begins with a colon, or a text with a quote before a colon (JSON in JSON): _COLON takes them for what
#: they are not.
_TANGLED = re.compile(r'[{,]\s*"\s*:|\\+"\s*:|\\u00(?:22|3[aA])')
_REFERENCE = re.compile(r"\\(.?)", re.DOTALL)
#: What a pattern is made of, as far as an anchor (^, $, \A, \z) is told from what only looks like one.
_PART = re.compile(r"\\Q.*?\\E|\\.|\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]|\^|\$", re.DOTALL)
_ANCHORS = frozenset(("^", "$", r"\A", r"\z"))
_BYTE = re.compile(r"(?<!\\)(?:\\\\)*\\C")


class Redaction(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to take out. The lowest ``position`` goes first, then the lowest ``id``; each sees what is left."""

    id: int
    name: str
    pattern: str  #: re2's
    replacement: str = REDACTED  #: with \1 to \9 for what a group matched
    is_active: bool = True
    position: int = 100


class Edit(NamedTuple):
    """Characters of a text, and what comes in their place."""

    start: int
    end: int
    text: str


class Piece(NamedTuple):
    """A part of a text that a redaction changes: what stood there, and what stands there instead."""

    was: str
    becomes: str

    @property
    def stays(self) -> bool:
        return self.was == self.becomes


class Taken(NamedTuple):
    """What one redaction takes out of one text of an event, for people."""

    field: str  #: message, raw, tags.NAME, …
    redaction: Redaction
    pieces: list[Piece]


def check_redactable(redaction: Redaction) -> None:
    """Raise :class:`RuleError` with the field at fault where ``redaction`` can't be what it says."""
    if not redaction.pattern:
        raise RuleError("pattern", r"is empty; write what is to be taken out, such as password=\S+")
    check_expression(redaction.pattern, "pattern")
    check_expression(f"(?:{redaction.pattern})", "pattern")  # it stands beside others: \Q needs its \E
    if _BYTE.search(redaction.pattern):
        raise RuleError("pattern", r"holds \C, which is a part of a character; write . in its place")
    compiled = _compiled(redaction.pattern)
    if any(one.end() == one.start() for text in ("", "a b\n\n1.") for one in compiled.finditer(text)):
        raise RuleError(
            "pattern",
            "matches where nothing is; write it so that it takes at least one character, with + for *",
        )
    _template(redaction.replacement, compiled.groups)


class Redactions:
    """The redactions in force, compiled. Immutable; safe to share between threads. False where there is none."""

    def __init__(self, redactions: Iterable[Redaction] = ()) -> None:
        """Raises :class:`NoRuleset` where one of them can't be compiled: nothing is kept that it should have taken."""
        active = sorted((one for one in redactions if one.is_active), key=lambda one: (one.position, one.id))
        try:
            self._each = [_One(redaction) for redaction in active]
        except RuleError as error:
            raise NoRuleset(f"a redaction can't be compiled: its {error.field} {error.reason}") from None
        self._any = _quick([redaction.pattern for redaction in active]) if active else None

    def __len__(self) -> int:
        return len(self._each)

    def redact(self, event: Event) -> Event:
        """``event`` as it is kept: itself where nothing is to be taken out.

        A ``clear_key`` that would be changed is dropped: two that differ in nothing else would end each other's alerts.
        """
        if not self._each:
            return event
        texts = _texts_of(event)
        if not _finds(self._any, texts):
            return event
        for one in self._each:
            if one.may_hit(texts):
                before, event = event, one.redact(event)
                if event is not before:
                    texts = _texts_of(event)
        return event

    def text(self, text: str) -> str:
        """One text as it would be kept."""
        for one in self._each:
            text = one.text(text)
        return text

    def named(self, name: str, value: str) -> str:
        """The value of a tag, or of a field of that name, as it would be kept."""
        for one in self._each:
            value = one.named(name, value)
        return value

    def taken_of(self, text: str) -> list[Taken]:
        """What is taken out of one text, in the order in which it is."""
        found = []
        for one in self._each:
            if edits := one.edits(text):
                found.append(Taken("text", one.redaction, _pieces(text, edits)))
                text = _edited(text, edits)
        return found

    def taken(self, event: Event) -> list[Taken]:
        """What is taken out of an event, text by text, in the order in which it is."""
        found = []
        for one in self._each:
            looked_at = ((field, text, edits) for field, text, edits in one.looked_at(event) if edits)
            found += [Taken(field, one.redaction, _pieces(text, edits)) for field, text, edits in looked_at]
            event = one.redact(event)
        return found


class _One:
    """One redaction, compiled."""

    def __init__(self, redaction: Redaction) -> None:
        check_redactable(redaction)
        self.redaction = redaction
        self._re = _compiled(redaction.pattern)
        self._template = _template(redaction.replacement, self._re.groups)
        self._quick = _quick([redaction.pattern])

    def may_hit(self, text: str) -> bool:
        """Could anything be found in ``text``, or in a part of it?"""
        return _finds(self._quick, text)

    def redact(self, event: Event) -> Event:
        values: dict[str, Any] = {}
        for name in _TEXTS:
            was = getattr(event, name)
            if was and (becomes := self.text(was)) != was:
                values[name] = becomes
        # An empty message is none that a sender may send.
        if not values.get("message", event.message).strip():
            values["message"] = REDACTED
        if (tags := self._tags(event.tags)) != event.tags:
            values["tags"] = tags
        varbinds = tuple(Varbind(one.oid, self.text(one.value)) for one in event.varbinds)
        if varbinds != event.varbinds:
            values["varbinds"] = varbinds
        if event.clear_key and self.edits(event.clear_key):
            values["clear_key"] = None
        return msgspec.structs.replace(event, **values) if values else event

    def looked_at(self, event: Event) -> Iterator[tuple[str, str, list[Edit]]]:
        """Each text of an event that is looked at, by its field's name, and what is taken out of it."""
        for name in (*_TEXTS, "clear_key"):
            if text := getattr(event, name):
                yield name, text, self.edits(text)
        for varbind in event.varbinds:
            yield f"varbind {varbind.oid}", varbind.value, self.edits(varbind.value)
        for name, value in event.tags.items():
            yield f"tags.{name}", value, self._edits_of_named(name, value)
            yield f"the name of tags.{name}", name, self.edits(name)

    def text(self, text: str) -> str:
        return _edited(text, self.edits(text))

    def named(self, name: str, value: str) -> str:
        return _edited(value, self._edits_of_named(name, value))

    def edits(self, text: str, deep: int = _DEEP) -> list[Edit]:
        """What is taken out of ``text``, to this depth; in order, and apart from each other."""
        if not deep or not _is_like_json(text):
            return list(self._found(text))
        if not self.may_hit("\n".join((text, *_seen_through(text, deep)))):
            return []
        return self._in_json(text, deep) if _is_json(text) else list(self._found(text))

    def _tags(self, tags: Mapping[str, str]) -> dict[str, str]:
        kept: dict[str, str] = {}
        if not self.may_hit(_texts_of_tags(tags)):
            return dict(tags)
        for name, value in tags.items():
            becomes = self.text(name)
            if becomes != name:
                becomes = next(free for free in _numbered(becomes) if free not in kept and free not in tags)
            kept[becomes] = self.named(name, value)
        return kept

    def _found(self, text: str) -> Iterator[Edit]:
        if not self.may_hit(text):
            return
        most = max(_FEW, _WORK // (len(text) + 1))
        # As Matcher reads it: each half of a surrogate pair becomes one other character.
        for number, found in enumerate(self._re.finditer(text.encode("utf-8", "replace").decode()), 1):
            start, end = found.span()
            if number > most:
                yield Edit(start, len(text), REDACTED)
                return
            if end > start:
                parts = (
                    found.group(part) or "" if isinstance(part, int) else part for part in self._template
                )
                yield Edit(start, end, "".join(parts))

    def _edits_of_named(self, name: str, value: str, deep: int = _DEEP) -> list[Edit]:
        """What is taken out of a value that has a name: of itself, and of NAME=VALUE what begins in the name."""
        if deep and _is_like_json(value) and _is_json(value):
            return self.edits(value, deep)
        before = f"{name}="
        text, length = before + value, len(before)
        if not self.may_hit(text):
            return []
        of_both = [
            Edit(0, edit.end - length, edit.text.removeprefix(text[edit.start : length]))
            for edit in self._found(text)
            if edit.start < length < edit.end
        ]
        return _apart([*of_both, *self._found(value)])

    def _in_json(self, text: str, deep: int) -> list[Edit]:
        tokens = list(_TOKEN.finditer(text))
        said = _apart(islice(self._said(tokens, deep - 1), _MANY + 1))
        if len(said) > _MANY:
            return [Edit(0, len(text), f'"{REDACTED}"')]
        spanning = [edit for edit in self._found(text) if not _touches(edit, said)]
        made = _apart([*said, *spanning])
        if not spanning or _is_json(_edited(text, made)):
            return made
        # A pattern that begins in one value and ends in another: what it took of each goes, and the marks stay.
        return _apart([*said, *_clipped(tokens, spanning)])

    def _said(self, tokens: Iterable[re.Match[str]], deep: int) -> Iterator[Edit]:
        """What is taken out of the names and values that a JSON text is made of."""
        words = list(_words(tokens))
        for number in self._hot([word.looked_at(deep) for word in words]):
            token, name, text, places = words[number]
            edits = self.edits(text, deep) if name is None else self._edits_of_named(name, text, deep)
            if places is not None:
                at = token.start("text")
                for start, end, becomes in edits:
                    yield Edit(at + places[start], at + places[end], _escaped(becomes))
            elif edits:  # it is a number no more
                yield Edit(*token.span(), f'"{_escaped(_edited(text, edits))}"')

    def _hot(self, texts: Sequence[str], first: int = 0) -> Iterator[int]:
        """Which of these could hold anything, found by halves."""
        if not texts or not self.may_hit("\n".join(texts)):
            return
        if len(texts) == 1:
            yield first
            return
        middle = len(texts) // 2
        yield from self._hot(texts[:middle], first)
        yield from self._hot(texts[middle:], first + middle)


class _Word(NamedTuple):
    """A name or a value of a JSON text."""

    token: re.Match[str]
    name: str | None  #: of the member whose value it is
    text: str
    places: Sequence[int] | None  #: where each of its characters stands in the token; None: it is no text

    def looked_at(self, deep: int) -> str:
        text = self.text if self.name is None else f"{self.name}={self.text}"
        return "\n".join((text, *_seen_through(self.text, deep))) if _is_like_json(self.text) else text


def _words(tokens: Iterable[re.Match[str]]) -> Iterator[_Word]:
    name, after = None, 0
    for token in tokens:
        if name is not None and not _BLANK.fullmatch(token.string, after, token.start()):
            name = None  # it is of a list, or of an object
        after = token.end()
        if token["plain"] is not None:
            yield _Word(token, name, token["plain"], None)
            name = None
        else:
            text, places = _decoded(token["text"])
            is_name = token["named"] is not None
            yield _Word(token, None if is_name else name, text, places)
            name = text if is_name else None


def _compiled(pattern: str) -> Any:
    return re2.compile(pattern, options(_MEMORY, as_written=True))


def _quick(patterns: Sequence[str]) -> Any:
    """One pattern for all, without their anchors: what it does not find in a text, none finds in a part of it."""
    # Not a Set: where one runs out of memory it finds nothing, and says nothing.
    chosen = options((len(patterns) + 8) * _MEMORY, as_written=True)
    chosen.never_capture = True
    try:
        return re2.compile("|".join(f"(?:{_PART.sub(_afloat, pattern)})" for pattern in patterns), chosen)
    except re2.error:
        raise NoRuleset(f"re2 can't hold {len(patterns)} redactions together") from None


def _afloat(part: re.Match[str]) -> str:
    return "(?:)" if part[0] in _ANCHORS else part[0]


def _texts_of(event: Event) -> str:
    """Everything that is looked at, as one text: one look at it tells that nothing is taken out of an event.

    Most are of that kind. A pattern without anchors that matches a part of a text matches the text.
    """
    texts = [text for name in _TEXTS if (text := getattr(event, name))]
    texts += [varbind.value for varbind in event.varbinds]
    if event.clear_key:
        texts.append(event.clear_key)
    for text in tuple(texts):
        if _is_like_json(text):
            texts += _seen_through(text)
    return "\n".join((*texts, _texts_of_tags(event.tags)))


def _texts_of_tags(tags: Mapping[str, str]) -> str:
    texts = [f"{name}={value}" for name, value in tags.items()]
    for value in tags.values():
        if _is_like_json(value):
            texts += _seen_through(value)
    return "\n".join(texts)


def _finds(compiled: Any, text: str) -> bool:
    return compiled.search(text.encode("utf-8", "replace")) is not None


def _template(replacement: str, groups: int) -> list[str | int]:
    """The parts of a replacement: texts, and the numbers of groups. Raises :class:`RuleError`."""
    parts: list[str | int] = []
    at = 0
    for found in _REFERENCE.finditer(replacement):
        parts.append(replacement[at : found.start()])
        at, what = found.end(), found[1]
        if what == "\\":
            parts.append("\\")
        elif what == "0":
            raise RuleError("replacement", r"holds \0, which puts back all that was found; leave it out")
        elif not (what.isascii() and what.isdigit()):
            raise RuleError("replacement", rf"holds \{what}; write \1 to \9 for a group, \\ for a backslash")
        elif int(what) > groups:
            has = f"it has {groups}" if groups else "it has none"
            raise RuleError("replacement", rf"holds \{what}, but the pattern has no such (group); {has}")
        else:
            parts.append(int(what))
    if sum(isinstance(part, int) for part in parts) > REFERENCES_MAX:
        raise RuleError("replacement", f"has more than {REFERENCES_MAX} references to groups; leave some out")
    parts.append(replacement[at:])
    return [part for part in parts if part != ""]


def _edited(text: str, edits: Iterable[Edit]) -> str:
    parts, at = [], 0
    for start, end, becomes in edits:
        parts += [text[at:start], becomes]
        at = end
    return "".join((*parts, text[at:])) if parts else text


def _pieces(text: str, edits: Sequence[Edit]) -> list[Piece]:
    """A text around its edits; of a long one, what stands near them."""
    found: list[Piece] = []
    at = 0
    for start, end, becomes in edits[:SHOWN]:
        found += [_stays(text[at:start], cut_left=at == 0), Piece(text[start:end], becomes)]
        at = end
    rest = text[at:]
    found.append(_stays(rest if len(rest) <= AROUND else rest[:AROUND] + "…"))
    return [piece for piece in found if piece.was or piece.becomes]


def _stays(text: str, *, cut_left: bool = False) -> Piece:
    if cut_left and len(text) > AROUND:
        text = "…" + text[-AROUND:]
    elif len(text) > 2 * AROUND:
        text = f"{text[:AROUND]} … {text[-AROUND:]}"
    return Piece(text, text)


def _apart(edits: Iterable[Edit]) -> list[Edit]:
    """The edits in order, without those that begin in another; what they take goes with it."""
    found: list[Edit] = []
    for edit in sorted(edits, key=lambda edit: (edit.start, -edit.end)):
        if not found or edit.start >= found[-1].end:
            found.append(edit)
        elif edit.end > found[-1].end:
            found[-1] = Edit(found[-1].start, edit.end, found[-1].text)
    return found


def _touches(edit: Edit, others: Sequence[Edit]) -> bool:
    """Does it share a character with one of ``others``, which are in order and apart?"""
    before = bisect_left(others, edit.end, key=attrgetter("start"))
    return before > 0 and others[before - 1].end > edit.start


def _clipped(tokens: Iterable[re.Match[str]], edits: Sequence[Edit]) -> Iterator[Edit]:
    """Edits that cross the marks of JSON, as edits of the names and values that they touch."""
    left = iter(edits)
    edit = next(left, None)
    fresh = True
    for token in tokens:
        while edit is not None and edit.end <= token.start():
            edit, fresh = next(left, None), True
        if edit is None:
            return
        if edit.start < token.end():
            yield Edit(*token.span(), f'"{_escaped(edit.text) if fresh else ""}"' + (token["named"] or ""))
            fresh = False


def _is_like_json(text: str) -> bool:
    return text.lstrip()[:1] in ("{", "[", '"')


def _is_json(text: str) -> bool:
    """Would ingest read it as JSON? It forgives line ends and tabs within a text, and NaN."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            _lenient.decode(text)
        except (ValueError, RecursionError):
            return False
    return True


def _seen_through(text: str, deep: int = _DEEP) -> list[str]:
    """A JSON text once more: with its names as NAME=VALUE, and without its escapes, to this depth."""
    found = [_COLON.sub("=", text)]
    if _TANGLED.search(text):
        found += _spoken(text, deep)
    for _ in range(deep):
        plain = _ESCAPE.sub(_character, text)
        if plain == text:
            break
        text = plain
        found += [text, _COLON.sub("=", text)]
    return found


def _spoken(text: str, deep: int) -> Iterator[str]:
    """The names and values of a JSON text, one by one, values as NAME=VALUE."""
    for word in _words(_TOKEN.finditer(text)):
        yield word.text if word.name is None else f"{word.name}={word.text}"
        if deep > 1 and _is_like_json(word.text):
            yield from _spoken(word.text, deep - 1)


_SIMPLE = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def _character(escape: re.Match[str]) -> str:
    """What an escape stands for; of what is none, the character itself."""
    text = escape[0]
    if text[1] != "u" or len(text) < 6:
        return _SIMPLE.get(text[1], text[1])
    if len(text) == 12:
        return bytes.fromhex(text[2:6] + text[8:]).decode("utf-16-be")
    return chr(int(text[2:], 16))


def _decoded(source: str) -> tuple[str, Sequence[int]]:
    """What a JSON text means, and where in ``source`` each of its characters, and its end, stands."""
    if "\\" not in source:
        return source, range(len(source) + 1)
    parts: list[str] = []
    places: list[int] = []
    at = 0
    for found in _ESCAPE.finditer(source):
        parts += [source[at : found.start()], _character(found)]
        places += [*range(at, found.start()), found.start()]
        at = found.end()
    parts.append(source[at:])
    places += range(at, len(source) + 1)
    return "".join(parts), places


def _escaped(text: str) -> str:
    return msgspec.json.encode(text.encode("utf-8", "replace").decode()).decode()[1:-1]


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 1
    while True:
        number += 1
        yield f"{name} ({number})"


#: What many sites take out: (name, what the page says of it, pattern, replacement). Offered, never on by themselves.
COMMON: tuple[tuple[str, str, str, str], ...] = (
    (
        "bearer tokens",
        "What follows the words Bearer or Basic in a header; eight characters or more.",
        r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/-]{8,}=*",
        r"\1 [token]",
    ),
    (
        "passwords and keys",
        "The value of password=, passwd:, pwd=, secret=, token=, api_key= and the like, up to the next blank, quote or "
        "comma; of JSON the member of such a name.",
        r"""(?i)((?:password|passwd|passphrase|pwd|secret|token|api[_-]?key)["']?\s*[=:]\s*["']?)[^\s"',;&}]+""",
        r"\1[redacted]",
    ),
    (
        "SNMP community strings",
        "The word after community, as in the lines that devices write of their configuration.",
        r"""(?i)(\bcommunity(?:[ _-]?(?:string|name))?["']?\s*[=: ]\s*["']?)[^\s"',;]+""",
        r"\1[community]",
    ),
    (
        "card numbers",
        "13 to 16 digits that begin as Visa, Mastercard, American Express and Discover do, in groups or not. Check "
        "digits are not counted: serial numbers of that shape go too.",
        r"\b(?:4\d{3}|5[1-5]\d{2}|2[2-7]\d{2}|6(?:011|5\d{2}))[ -]?\d{4}[ -]?\d{4}[ -]?\d{4}\b"
        r"|\b3[47]\d{2}[ -]?\d{6}[ -]?\d{5}\b|\b4\d{12}\b",
        "[card]",
    ),
    (
        "e-mail addresses",
        "Addresses with an @ and a dot in the domain; the domain stays.",
        r"\b[A-Za-z0-9._%+-]+@([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)\b",
        r"[address]@\1",
    ),
)


def common() -> list[Redaction]:
    """Those of :data:`COMMON`, off."""
    return [
        Redaction(
            id=0, name=name, pattern=pattern, replacement=replacement, is_active=False, position=100 + place
        )
        for place, (name, _, pattern, replacement) in enumerate(COMMON)
    ]
