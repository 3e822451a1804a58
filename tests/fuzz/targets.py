"""What is fuzzed: functions of bytes that fail where a promise about bad input does not hold.

Each is total (nothing but the format's own refusal comes out) and gives only events that every later step can take.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from gunicorn.config import Config
from gunicorn.http import get_parser
from gunicorn.http.errors import ParseException

from mutt import alert, codec
from mutt.errors import RejectedBody
from mutt.event import Envelope, Event, Segment
from mutt.formats import registry, sns
from mutt.formats.base import HOSTNAME_MAX, MESSAGE_MAX, NAME_MAX, Context, Format, Parsed
from mutt.formats.body import MAX_ITEMS, Broken, decompress, split
from mutt.formats.syslog import OBJECTS
from mutt.listen.framing import Framer
from mutt.listen.snmp.engine import Engine
from mutt.listen.snmp.users import User
from mutt.listen.snmp.usm import Usm
from mutt.listen.snmptrap import SnmpTraps
from mutt.rules.evaluate import Ruleset, evaluate
from mutt.rules.rule import MatchType, Rule
from mutt.web import sns as proof
from mutt.web.framing import Framing
from mutt.web.signatures import BadSignature

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CONTEXT = Context(NOW, "key-1", 10_000, "192.0.2.1")
LIMIT = 100_000

RULES = Ruleset.compile(
    1,
    [
        Rule(id=1, name="text", match_string="down"),
        Rule(id=2, name="pattern", match_type=MatchType.REGEX, match_string="(fan|disk) [0-9]+ .*failed"),
        Rule(id=3, name="trap", match_type=MatchType.OID_PREFIX, match_string="1.3.6.1.6.3.1.1.5"),
        Rule(id=4, name="hosts", match_string="a", hostname="10.0.0.0/8"),
    ],
    ("dev-*",),
    {},
)

#: What stands between messages in a stream.
ENDS = b"\r\n\0 "

#: A refusal says what to do.
REMEDY = re.compile(r"\b(send|write|say|name|shorten|flatten|mend|give|compress|post|set|turn on|keep)\b")

#: What requests are made of, as far as it says where they end.
HEADERS = [
    b"POST / HTTP/1.1\r\n",
    b"POST / HTTP/1.0\r\n",
    b"POST / HTTP/1.2\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 00000000000000000005\r\n",
    b"Content-Length: 1001\r\n",
    b"Content-Length : 3\r\n",
    b"Content-Length:\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"\r\n\r\n",
    b"0\r\n",
    b"5\r\nhello\r\n",
]

#: What bodies are made of.
WORDS = [
    *HEADERS,
    b'{"hostname":"h","message":"m"}',
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b'"',
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\\udfff",
    b"NaN",
    b"-Infinity",
    b"1e400",
    b"-0",
    b"9223372036854775808",
    b"18446744073709551616",
    b"null",
    b"true",
    b"\n",
    b"\r\n",
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xc3\xbc",
    b'"hostname":"h"',
    b'"message":"m"',
    b'"timestamp":',
    b'"0001-01-01T00:00:00+23:59"',
    b'"9999-12-31T23:59:59-23:59"',
    b'"0000-00-00T00:00:00Z"',
    b'"event_id":',
    b'"trap_oid":"1.3.6"',
    b'"varbinds":[{"oid":"1","value":2}]',
    b'"tags":{"a":{"b":1}}',
    b"<34>",
    b"<999>",
    b'1 2026-01-02T03:04:05Z h p - - [a b="c"] m',
    b"Jan  2 03:04:05 h p[1]: m",
    b"Feb 29 00:00:00",
    b"%LINK-3-UPDOWN: x",
    b"\x1f\x8b",
    b"(\xb5/\xfd",
]

Target = Callable[[bytes], None]

CRASHES = Path(__file__).parent / "crashes"
SEEDS = [Path(__file__).parents[1] / "samples", Path(__file__).parents[1] / "vectors"]


def _parse(data: bytes, chosen: Format | None) -> None:
    try:
        found = chosen or registry.sniff(data, "text/plain")
        parsed = registry.parse(found, data, CONTEXT)
    except RejectedBody as refusal:
        check_refusal(refusal)
        return
    check(parsed)


def check_refusal(refusal: RejectedBody) -> None:
    """It names a field and a reason that can be shown, and has an HTTP status."""
    assert refusal.status in (400, 413, 415)
    assert refusal.field
    assert REMEDY.search(refusal.reason), refusal.reason
    str(refusal).encode()


def check(parsed: Parsed) -> None:
    """Each item is an event that can be stored and evaluated, or a refusal that can be shown."""
    assert 0 < len(parsed.events) + len(parsed.rejected) <= MAX_ITEMS
    places = [event.item for event in parsed.events] + [refused.index for refused in parsed.rejected]
    assert sorted(places) == list(range(len(places)))
    for event in parsed.events:
        check_event(event)
    for refused in parsed.rejected:
        assert refused.field
        assert REMEDY.search(refused.reason), refused.reason
        for text in (refused.field, refused.reason, refused.raw):
            check_text(text)
    envelope = Envelope([Segment("b", "c", parsed.events)])
    fields, _ = codec.encode(envelope)
    named = dict(zip(fields[::2], fields[1::2], strict=True))
    again = codec.decode(Envelope, {b"v": named["v"], b"d": named["d"]})  # type: ignore[dict-item]
    assert again == envelope


def check_event(event: Event) -> None:
    """As PostgreSQL, the rules and Moog can take it."""
    assert 0 < len(event.hostname) <= HOSTNAME_MAX
    assert event.hostname == event.hostname.strip()
    assert event.message.strip()
    assert len(event.message) <= MESSAGE_MAX
    assert event.severity is None or 0 <= event.severity <= 7
    assert 1970 <= event.occurred_at.year < 9999
    assert math.isfinite(event.occurred_at.timestamp())
    assert event.template is event.team is None, "no sender reaches what is MUTT's own"
    names = (event.source, event.program or "", event.facility or "")
    assert max(map(len, names)) <= NAME_MAX
    tags = [text for pair in event.tags.items() for text in pair]
    binds = [text for bind in event.varbinds for text in (bind.oid, bind.value)]
    others = (event.trap_oid, event.occurred_text, event.clear_key, event.instance)
    for text in (event.hostname, event.message, event.raw, *names, *tags, *binds, *filter(None, others)):
        check_text(text)
    assert sum(map(len, tags)) < 4096 + 3 * len(event.raw)
    verdict = evaluate(event, RULES)
    if verdict.forward:
        alert.from_verdict(event, verdict, correlation_id="c", rule_name="r")


def check_text(text: str) -> None:
    """UTF-8 without NUL: what PostgreSQL stores."""
    text.encode()
    assert "\0" not in text


def sniffed(data: bytes) -> None:
    """``/ingest``: any body, of which nobody said what it is."""
    _parse(data, None)


def json_items(data: bytes) -> None:
    """A body's JSON values: every byte of them is one that was sent."""
    try:
        pieces = split(data)
    except RejectedBody as refusal:
        check_refusal(refusal)
        return
    for piece in pieces:
        raw = piece.raw if isinstance(piece, Broken) else bytes(piece)
        assert raw in data


CODINGS = ("gzip", "deflate", "zstd", "gzip, zstd", "identity")


def relayed(data: bytes) -> None:
    """Messages of syslog in objects, as relays send them."""
    context = msgspec.structs.replace(CONTEXT, headers={"CONTENT-TYPE": OBJECTS})
    try:
        check(registry.parse(registry.FORMATS["syslog"], data, context))
    except RejectedBody as refusal:
        check_refusal(refusal)


def streamed(data: bytes) -> None:
    """A connection of syslog: what is no part of a count or an end is in some message, and none is too long."""
    framer = Framer(1000)
    messages = [
        one for at in range(0, len(data), 7) for one in framer.feed(data[at : at + 7])
    ] + framer.rest()
    assert all(0 < len(message) <= 1000 for message in messages)
    assert framer.cut or sum(map(len, messages)) <= len(data)
    assert not framer.is_partial
    if not framer.cut and data[:1] == b"<":
        assert b"".join(messages).translate(None, ENDS) == data.translate(None, ENDS)


def decompressed(data: bytes) -> None:
    """A body as some coding; the first byte says which."""
    coding = CODINGS[data[0] % len(CODINGS)] if data else "identity"
    try:
        found = decompress(data[1:], coding, LIMIT)
    except RejectedBody as refusal:
        check_refusal(refusal)
        return
    assert len(found) <= LIMIT


def framed(data: bytes) -> None:
    """A connection's bytes; the first one says in what pieces they come."""
    step, framing = (data[0] or 1) if data else 1, Framing(1000)
    for at in range(1, len(data), step):
        piece = data[at : at + step]
        try:
            while piece and framing.feed(piece):
                request, piece = framing.taken()
                assert request
                if framing.hopeless:
                    assert _is_too_large(request, 1000), "the parser takes what can't be whole"
                    return
                assert len(piece) < step
                framing = Framing(1000)
        except RejectedBody as refusal:
            assert refusal.status in (400, 413, 431)
            return


def datagram(data: bytes) -> None:
    """Of SNMP: whatever it is, it is counted once, and what is put is a trap that ingest can take."""
    put: list[bytes] = []
    users = {b"open": User("open")}
    usm = Usm(users, Engine(b"\x80\0\x1f\x88\x05fuzzed", 1, 0.0), lambda: 1.0)
    traps = SnmpTraps(_Put(put), usm, clock=NOW.timestamp)
    traps.handle(data, "192.0.2.7")
    assert traps.counts.total() == 1
    for record in put:
        parsed = registry.parse(
            registry.FORMATS["snmptrap"], record, msgspec.structs.replace(CONTEXT, max_event=1 << 20)
        )
        assert len(parsed.events) == 1
        check(parsed)


class _Put:
    def __init__(self, put: list[bytes]) -> None:
        self._put = put

    def put(self, record: bytes, _peer: str, _at: float) -> bool:
        self._put.append(record)
        return True

    def flush(self, _timeout: float) -> bool:
        return True


def _is_too_large(request: bytes, most: int) -> bool:
    """Does gunicorn's parser refuse this head, or does it say that its body has more than ``most`` bytes?"""
    try:
        read = next(get_parser(Config(), iter([request]), ("192.0.2.1", 1)))
    except ParseException:
        return True
    return any(name == "CONTENT-LENGTH" and int(value) > most for name, value in read.headers)


def signed_by_sns(data: bytes) -> None:
    """A message of SNS, up to its certificate: whatever it holds, there is something to check, or it is refused."""
    for kind in sns.TYPES:
        try:
            message = proof.read({"X-AMZ-SNS-MESSAGE-TYPE": kind}, data)
            assert proof.signed(message).endswith(f"Type\n{kind}\n".encode())
            where = proof.address(message, "SigningCertURL", proof.CERTIFICATE)
            assert urlsplit(where).netloc.split(".")[-2:] in (
                ["amazonaws", "com"],
                ["amazonaws", "eu"],
                ["com", "cn"],
            )
        except BadSignature as refusal:
            assert refusal.field


def _named(chosen: Format) -> Target:
    return lambda data: _parse(data, chosen)


TARGETS: dict[str, Target] = {
    **{name: _named(found) for name, found in registry.FORMATS.items()},
    "relayed": relayed,
    "streamed": streamed,
    "sniffed": sniffed,
    "json_items": json_items,
    "decompressed": decompressed,
    "framed": framed,
    "signed_by_sns": signed_by_sns,
    "datagram": datagram,
}
