"""Redaction: what is to go is gone from every text of an event, and everything else is as it was."""

import json
import time
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutt.errors import NoRuleset, RuleError
from mutt.event import Event, Varbind
from mutt.rules import redaction
from mutt.rules.check import check_redaction
from mutt.rules.redaction import Piece, Redaction, Redactions, common

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SECRET = "hunter2-c0ffee"
PATTERN = "hunter2-[0-9a-f]{6}"


def event(message: str = "fan failed", **more: object) -> Event:
    values = {"event_id": UUID(int=1), "received_at": NOW, "occurred_at": NOW, "hostname": "core-1"}
    return Event(**values, message=message, **more)  # type: ignore[arg-type]


def redactions(*pairs: tuple[str, str]) -> Redactions:
    return Redactions(
        Redaction(id=number, name=str(number), pattern=pattern, replacement=replacement)
        for number, (pattern, replacement) in enumerate(pairs)
    )


def plain(found: Event) -> str:
    return repr(msgspec.to_builtins(found))


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
planted = st.builds(lambda before, after: before + SECRET + after, texts, texts)


@given(message=planted, name=texts, tag=planted, varbind=planted, raw=planted, program=planted, late=planted)
def test_a_secret_is_gone_from_every_text(
    message: str, name: str, tag: str, varbind: str, raw: str, program: str, late: str
) -> None:
    """Wherever in an event a secret stands, it is gone, and what stood around it is as it was."""
    whole = event(
        message,
        tags={name: tag, f"{name}{SECRET}": "1"},
        varbinds=(Varbind("1.3.6", varbind),),
        raw=raw,
        program=program,
        instance=program,
        facility=late,
        source=tag,
        occurred_text=late,
        template=message,
    )
    kept = redactions((PATTERN, "[gone]")).redact(whole)
    assert SECRET not in plain(kept)
    assert plain(kept) == plain(whole).replace(SECRET, "[gone]")


def escaped(draw: st.DrawFn, text: str) -> str:
    """``text`` as one may write it within a JSON text."""
    if not draw(st.booleans()):
        return json.dumps(text, ensure_ascii=draw(st.booleans()))[1:-1]
    return "".join(
        f"\\u{ord(each):04x}" if each.isascii() and draw(st.booleans()) else json.dumps(each)[1:-1]
        for each in text
    )


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, str]:
    """A JSON document with secrets in it, and the same without: differently escaped, its spaces its own."""
    spaces = st.sampled_from(["", " ", "\n\t"])
    name, value, other = draw(texts), draw(planted), draw(texts)
    inner = draw(st.sampled_from([value, json.dumps({"a": value}), json.dumps([value, 1])]))
    shape = '{{{s}{name}{s}:{s}{value}{s},{s}"n":[1,{t}null,{value}],"o":{{{other}:{s}{other}}}}}'
    parts = {
        "s": draw(spaces),
        "t": draw(spaces),
        "name": f'"{escaped(draw, name)}"',
        "value": f'"{escaped(draw, inner)}"',
        "other": f'"{escaped(draw, other)}"',
    }
    clean = json.loads(shape.format(**parts))
    return shape.format(**parts), json.dumps(clean).replace(SECRET, "[gone]")


@given(documents())
def test_json_stays_json_and_says_the_rest_unchanged(document: tuple[str, str]) -> None:
    """A secret within JSON is found however it is escaped; what is left says all the rest."""
    raw, expected = document
    kept = redactions((PATTERN, "[gone]")).redact(event(raw=raw)).raw
    assert json.loads(kept) == json.loads(expected)


def test_raw_is_byte_for_byte_as_it_was_around_what_is_taken() -> None:
    """Spaces, order, escapes and twice-named members of JSON stay as the sender wrote them."""
    raw = '{ "b":1.50,"a" :"\\u00e9 \\u0068unter2-c0ffee\\n\\/", "a":"x"}'
    kept = redactions((PATTERN, 'say "\\\\"')).redact(event(raw=raw)).raw
    assert kept == '{ "b":1.50,"a" :"\\u00e9 say \\"\\\\\\"\\n\\/", "a":"x"}'


def test_an_event_without_a_hit_is_the_same_object() -> None:
    """Nothing is copied where nothing is to be taken out."""
    whole = event(raw='{"message": "fan \\" failed"}', tags={"site": "lon1"})
    assert redactions((PATTERN, "x"), ("password=.+", "y")).redact(whole) is whole
    assert Redactions().redact(event(SECRET)).message == SECRET


@pytest.mark.parametrize(
    "raw, expected",
    [
        ('{"password":"hunter2"}', '{"password":"[gone]"}'),
        ('{"auth":{"password" : "hunter2"}}', '{"auth":{"password" : "[gone]"}}'),
        ('{"password":12345,"n":1}', '{"password":"[gone]","n":1}'),
        ('{"m":"a password=hunter2","h":"x"}', '{"m":"a password=[gone]","h":"x"}'),
        (r'{"m":"{\"password\":\"hunter2\"}"}', r'{"m":"{\"password\":\"[gone]\"}"}'),
        ("login password=hunter2 ok", "login password=[gone] ok"),
        ('{"password":"', '{"password":"'),
        (
            '{"m":"tab\there","password":"\\u0068unter2", "n":NaN}',
            '{"m":"tab\there","password":"[gone]", "n":NaN}',
        ),
        ('{"password":NaN}', '{"password":"[gone]"}'),
        ('[1,{"password":true}]', '[1,{"password":"[gone]"}]'),
    ],
)
def test_a_member_of_json_is_looked_at_with_its_name(raw: str, expected: str) -> None:
    """A pattern NAME=VALUE finds the member of that name, also in JSON that stands in a text of JSON."""
    assert redactions((r"password=\S+", "password=[gone]")).text(raw) == expected


def test_a_tag_is_looked_at_with_its_name() -> None:
    """A pattern NAME=VALUE finds the tag of that name, and leaves its name."""
    kept = redactions((r"(password)=\S+", r"\1=[gone]")).redact(event(tags={"db.password": "hunter2 x"}))
    assert kept.tags == {"db.password": "[gone] x"}


def test_two_names_that_become_one_stay_two() -> None:
    """Tags whose names are made equal keep their values apart."""
    kept = redactions((r"secret\d", "s")).redact(event(tags={"secret1": "a", "secret2": "b", "s (2)": "c"}))
    assert sorted(kept.tags.values()) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "pattern, replacement, raw, expected",
    [
        (r'("password":\s*)"[^"]*"', r'\1"x"', '{"password": "hunter2"}', '{"password": "x"}'),
        ("alice.*bob", "x", '{"a":"alice","b":["bob"]}', '{"a":"x","":[""]}'),
        ("(?s).*hunter2.*", "x", '{"a":"b hunter2","b":1}', '{"a":"x","b":1}'),
        (r'password":"[^"]*', "x", '{"password":"hunter2"}', '{"x":""}'),
    ],
)
def test_a_pattern_may_cross_the_marks_of_json(
    pattern: str, replacement: str, raw: str, expected: str
) -> None:
    """What a pattern takes across quotes and commas is gone; what would be JSON no more, is taken value by value."""
    assert redactions((pattern, replacement)).text(raw) == expected


FEW = st.text(st.sampled_from('ab":\\={}[], 1u0'), max_size=24)
PATTERNS = [
    "a",
    "a=b",
    'a":',
    r"\ba\b",
    "^a",
    "b$",
    r"\A[ab]=",
    r"[$^]?1\z",
    r"\Q^\E?a$",
    "(?m)^b",
    r"\Ba",
    "a[^b]1",
    r"(?i)A=\S",
    "a.b",
    r"=1\b",
    "[^a]b",
]


@given(st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3, unique=True), FEW, FEW, FEW, st.data())
def test_the_quick_look_misses_nothing(
    patterns: list[str], message: str, name: str, value: str, data: st.DataObject
) -> None:
    """What the one look at all texts lets pass is what nothing would have been taken out of."""
    document = {name: value, "a": [message, {name: message}], "b": json.dumps({value: name})}
    raw = data.draw(
        st.sampled_from([message, json.dumps(document), json.dumps(document, separators=(",", ":"))])
    )
    whole = event(
        message if message.strip() else "m", raw=raw, tags={name: value}, varbinds=(Varbind("1.3", value),)
    )
    made = redactions(*((pattern, "") for pattern in patterns))
    quick = made.redact(whole)
    thorough = whole
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redaction, "_finds", lambda _compiled, _text: True)
        for one in made._each:
            thorough = one.redact(thorough)
    assert quick == thorough


@given(st.lists(planted, min_size=1, max_size=4), texts)
def test_what_many_take_out_is_taken_out_once(parts: list[str], more: str) -> None:
    """The redactions that are offered change nothing more of what they have changed."""
    made = Redactions(msgspec.structs.replace(one, is_active=True) for one in common())
    text = more.join(
        ["password=", *parts, "mail bob@example.com", "4111 1111 1111 1111", "Bearer abcdefgh123"]
    )
    whole = event(text, raw=json.dumps({"token": text, "m": text}), tags={"secret": text})
    once = made.redact(whole)
    assert made.redact(once) == once


@pytest.mark.parametrize(
    "text, kept",
    [
        ("Authorization: Bearer eyJhbGciOi.J9.x", "Authorization: Bearer [token]"),
        ("login password='hunter2' ok", "login password='[redacted]' ok"),
        ("snmp-server community public RO", "snmp-server community [community] RO"),
        ("card 4111-1111-1111-1111 declined", "card [card] declined"),
        ("serial 1234567890123456 seen", "serial 1234567890123456 seen"),
        ("mail from bob.o@mail.example.com", "mail from [address]@mail.example.com"),
        ("Interface Gi0/1 down, 10.1.2.3", "Interface Gi0/1 down, 10.1.2.3"),
    ],
)
def test_what_is_offered_takes_what_it_says(text: str, kept: str) -> None:
    """Each redaction that is offered does what its sentence says."""
    assert Redactions(msgspec.structs.replace(one, is_active=True) for one in common()).text(text) == kept


def test_a_clear_key_that_would_change_is_dropped() -> None:
    """Alerts of two people are not made one: what ties a raise to its clear goes where it holds a secret."""
    made = redactions((PATTERN, "x"))
    assert made.redact(event(clear_key=f"user {SECRET}")).clear_key is None
    assert made.redact(event(clear_key="user 7", program=SECRET)).clear_key == "user 7"


def test_the_host_and_the_oids_stay() -> None:
    """By these events are told apart: no pattern changes them."""
    whole = event("x core-1", trap_oid="1.3.6.1", varbinds=(Varbind("1.3.6.1.2", "1.3.6.1"),))
    kept = redactions(("core-1", "h"), ("1.3.6.1", "o")).redact(whole)
    assert (kept.hostname, kept.trap_oid, kept.varbinds) == (
        "core-1",
        "1.3.6.1",
        (Varbind("1.3.6.1.2", "o"),),
    )


def test_a_message_is_never_left_empty() -> None:
    """Where all of a message goes, something says so."""
    assert redactions((".+", "")).redact(event("secret")).message == redaction.REDACTED


def test_the_first_goes_first() -> None:
    """Redactions see what those of a lower position, then of a lower id, have left."""
    made = Redactions(
        [
            Redaction(id=1, name="b", pattern="b", replacement="c", position=2),
            Redaction(id=2, name="a", pattern="a", replacement="b", position=1),
            Redaction(id=3, name="c", pattern="c", replacement="!", position=3, is_active=False),
        ]
    )
    assert made.text("a") == "c"
    taken = made.taken(event("a", source="x"))
    assert [(one.field, one.redaction.id, one.pieces) for one in taken] == [
        ("message", 2, [Piece("a", "b")]),
        ("message", 1, [Piece("b", "c")]),
    ]


def test_a_text_of_a_million_hits_is_done_in_bounded_work() -> None:
    """Where a text holds more than the work allows, the rest of it goes too."""
    text = "x" * 300_000
    kept = redactions(("x", "yy")).text(text)
    assert "x" not in kept
    assert len(kept) < len(text)


def within(text: str, deep: int) -> str:
    """``text`` as JSON that is text in JSON, in turn, written so that it grows slowly."""
    for _ in range(deep):
        text = '"' + text.replace("\\", "\\u005c").replace('"', "\\u0022") + '"'
    return text


def test_json_in_json_is_looked_into_eight_times_and_not_without_end() -> None:
    """A message of 250 KB that is JSON 220 times over costs no minute of a worker: it is not looked into so deep."""
    made, hidden = redactions((PATTERN, "x")), "\\u0068" + SECRET[1:]
    for deep in (1, 8):
        kept = made.text(within(f'"{hidden}"', deep - 1))
        for _ in range(deep):
            kept = json.loads(kept)
        assert kept == "x"
    deepest = within(f'"{hidden}"', 220)
    began = time.process_time()
    assert made.text(deepest) == deepest
    assert within(SECRET, 220).replace(SECRET, "x") == made.text(within(SECRET, 220))
    assert time.process_time() - began < 15


def test_json_with_too_many_hits_is_not_kept() -> None:
    """Where more of a JSON text would change than can be done quickly, all of it goes, and it is JSON still."""
    made = redactions(("secret", "x"))
    assert json.loads(made.text(json.dumps(["secret"] * 9_000))) == ["x"] * 9_000
    assert json.loads(made.text(json.dumps(["secret"] * 11_000))) == redaction.REDACTED


@pytest.mark.parametrize(
    "given_, field",
    [
        ({"pattern": "x"}, "name"),
        ({"name": "n"}, "pattern"),
        ({"name": "n", "pattern": "x*"}, "pattern"),
        ({"name": "n", "pattern": r"\b"}, "pattern"),
        ({"name": "n", "pattern": "(?m)$"}, "pattern"),
        ({"name": "n", "pattern": "(x"}, "pattern"),
        ({"name": "n", "pattern": r"\Qx"}, "pattern"),
        ({"name": "n", "pattern": r"x\C"}, "pattern"),
        ({"name": "n", "pattern": "(?=x)y"}, "pattern"),
        ({"name": "n", "pattern": "x", "replacement": r"\1"}, "replacement"),
        ({"name": "n", "pattern": "(x)", "replacement": r"\2"}, "replacement"),
        ({"name": "n", "pattern": "(x)", "replacement": r"\0"}, "replacement"),
        ({"name": "n", "pattern": "(x)", "replacement": "\\"}, "replacement"),
        ({"name": "n", "pattern": "(x)", "replacement": r"\n"}, "replacement"),
        ({"name": "n", "pattern": "(x)", "replacement": r"\1" * 10}, "replacement"),
        ({"name": "n", "pattern": "x", "replacement": "y" * 256}, "replacement"),
        ({"name": "n", "pattern": "x", "position": "first"}, "position"),
        ({"name": "n", "pattern": "x", "flags": "i"}, "flags"),
    ],
)
def test_what_can_not_be_is_refused_with_its_field(given_: dict[str, object], field: str) -> None:
    """A redaction that could not do what it says is refused, and the field at fault is named."""
    with pytest.raises(RuleError) as caught:
        check_redaction(given_)
    assert caught.value.field == field


def test_blanks_and_groups_are_as_written() -> None:
    """A pattern keeps its blanks, a replacement may be empty, and named groups may stand in several redactions."""
    made = check_redaction({"name": " n ", "pattern": " (?P<a>x) ", "replacement": "", "position": "7"})
    assert made == Redaction(id=0, name="n", pattern=" (?P<a>x) ", replacement="", position=7)
    assert Redactions([made, msgspec.structs.replace(made, id=1)]).text("a x b") == "ab"


def test_one_that_can_not_be_compiled_leaves_no_ruleset() -> None:
    """Were it left out, what it should have taken would be kept."""
    with pytest.raises(NoRuleset):
        redactions(("(", "x"))
