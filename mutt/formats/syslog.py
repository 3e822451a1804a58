"""``syslog``: text, one message a line, as RFC 5424, as RFC 3164 and as network gear writes it; or, as relays send it,
one message in an object a line, whatever is in it, with who sent it and when it came."""

from __future__ import annotations

import re
from functools import partial
from typing import NamedTuple

from mutt.errors import RejectedBody, RejectedItem
from mutt.formats import quirks, values
from mutt.formats.base import Answers, Context, Fields, JsonObject, Parsed
from mutt.formats.body import MAX_ITEMS, Broken, split, without_bom
from mutt.formats.collector import Collector
from mutt.formats.objects import load, looks_like_json
from mutt.formats.pieces import gather
from mutt.formats.times import RFC3164

#: The Content-Type of what relays send. Nobody sends it by chance: text that looks like JSON stays text.
OBJECTS = "application/vnd.mutt.syslog+json"

_PRI = re.compile(r"<(\d{1,3})>", re.ASCII)
_RFC5424 = re.compile(
    r"[1-9]\d{0,2} (?P<time>-|\d{4}-\d\d-\d\d[Tt]\S+) "
    r"(?P<host>\S+) (?P<program>\S+) (?P<pid>\S+) (?P<msgid>\S+)(?: |$)",
    re.ASCII,
)
_ELEMENT = re.compile(r'\[(?P<id>[^ =\]"]+)(?P<params>(?: [^ =\]"]+="(?:[^"\\]|\\.)*")*) ?\]', re.S)
_PARAM = re.compile(r' ([^ =\]"]+)="((?:[^"\\]|\\.)*)"', re.S)
_ESCAPED = re.compile(r'\\(["\\\]])')

#: What Cisco puts before the time: running numbers, its own name if told to, the card that speaks (IOS XR), or a colon
#: alone (NX-OS, ASA's EMBLEM).
_CISCO = re.compile(
    r":? ?(?:\d+: ){0,2}(?:(?P<origin>[A-Za-z][\w.-]*)(?:: (?:\d+: )?| (?=[A-Z\d]+/\w)))?"
    r"(?:(?P<card>[A-Z\d]+(?:/\w+){2,3}):)?"
    r"(?=[*.]?(?:\d{4} )?[A-Za-z]{3} |[\dywdh:]{4,12}: %)",
    re.ASCII,
)

#: RFC 3339; Huawei's date; how long an IOS without a clock has run.
_OTHER_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\S+|\d{4}-\d\d?-\d\d? \d\d:\d\d:\d\d\S*(?= \S+ %%)"
    r"|(?:(?:\d+[ywdh]){2}|\d\d:\d\d:\d\d)(?=: %)",
    re.ASCII,
)

#: Cisco's own head behind that of a relay, which took its running number for the program.
_RELAYED = re.compile(
    r"\d+: (?:\d+: )?(?:[A-Za-z][\w.-]*: )?[*.]?[A-Z][a-z]{2} {1,2}\d{1,2} (?:\d{4} )?\d\d:\d\d:\d\d(?:\.\d+)?"
    r"(?: [A-Z]{2,5})?: (?=%)",
    re.ASCII,
)

#: What ends a head in which no host follows the time.
_ENDS = (":", " : ")

#: A zone of which nobody knows which it is. Without a mnemonic behind it, it is one only if zones are known by that
#: name: ``ERROR:`` and ``CRIT:`` are none.
_ZONE = re.compile(r" (?:[A-Z]{2,5}(?=: %)|(?:AST|ADT|BST|CDT|CST|IST)(?=:))")

#: A colon behind the first word makes it a program, unless a mnemonic follows.
_HOST = re.compile(r"(?P<host>[^\s\[\]]*[^\s\[\]:]|\S+(?=: %))(?: :(?= )|:(?= %))? +")
_TAG = re.compile(r"(?!\d+:)(?P<program>[^\s:\[\]]{1,64})(?:\[(?P<pid>[^\]\s]{0,64})\]:|:(?=\s)) ?")
_MNEMONIC = re.compile(r"%[A-Z][\w-]*?-(?P<severity>[0-7])-\w+", re.ASCII)


_NO_TAGS: dict[str, str] = {}  # never written to


class Head(NamedTuple):
    """What stands before a line's message."""

    time: str | None = None
    host: str | None = None
    program: str | None = None
    tags: dict[str, str] = _NO_TAGS


class Syslog:
    name = "syslog"
    header = ""
    answers = Answers()

    def sniffs(self, body: bytes, content_type: str) -> bool:
        """Any text: a line that is no syslog is still somebody's message."""
        return not looks_like_json(body, content_type)

    def parse(self, body: bytes, context: Context) -> Parsed:
        if context.headers.get("CONTENT-TYPE", "").startswith(OBJECTS):
            return _parse_objects(body, context)
        if body.count(b"\n") > MAX_ITEMS:
            raise RejectedBody("body", f"holds too many lines; send at most {MAX_ITEMS} at once", 413)
        # Some senders end a line with NUL.
        lines = (line.rstrip(b"\r\0") for line in without_bom(body).split(b"\n") if line.strip(b"\r\0 \t"))
        return gather(lines, partial(read, default_host=context.default_host), context)


def _parse_objects(body: bytes, context: Context) -> Parsed:
    """Each object is a message that came to a relay: ``line`` is all of it, and the event's ``raw``."""
    collector = Collector(context)
    for piece in split(body):
        if isinstance(piece, Broken):
            collector.reject(piece.raw, RejectedItem("event", piece.reason))
            continue
        try:
            item, _ = load(piece)
            line = item.get("line")
            if not isinstance(line, str):
                raise RejectedItem("line", "is missing, or no text: write the message there")
        except RejectedItem as refusal:
            collector.reject(piece, refusal)
            continue
        text = line.rstrip("\r\n")
        collector.attempt(partial(_read_object, text, item, context), text)
    return collector.parsed


def _read_object(line: str, item: JsonObject, context: Context) -> Fields:
    peer, at = item.get("peer"), item.get("at")
    fields = read(line, peer if isinstance(peer, str) and peer else context.default_host)
    if not fields["time"] and type(at) in (int, float):
        fields["time"] = at
    return fields


def read(line: str, default_host: str) -> Fields:
    """One line; ``default_host`` is the device where the line names none."""
    line = line.removeprefix("\ufeff")  # a body's is gone, but each message of a relay may have one
    priority, rest = _priority(line)
    head, message = _rfc5424(rest) if priority is not None else None, ""
    if head is None:
        parsed, message = _rfc3164(rest, tagged=priority is not None)
    else:
        parsed, message = head
    mnemonic = _MNEMONIC.match(message)
    severity = None if priority is None else priority & 7
    fields: Fields = {
        "hostname": parsed.host or default_host,
        "message": message,
        "time": parsed.time,
        "severity": int(mnemonic["severity"]) if severity is None and mnemonic else severity,
        "facility": None if priority is None else values.FACILITIES[priority >> 3],
        "program": parsed.program or (mnemonic[0] if mnemonic else None),
        "source": "syslog",
        "tags": dict(parsed.tags),
    }
    quirks.apply(line, fields, default_host)
    return fields


def _priority(line: str) -> tuple[int | None, str]:
    found = _PRI.match(line)
    if found is None or int(found[1]) > 191:
        return None, line
    return int(found[1]), line[found.end() :]


def _rfc5424(rest: str) -> tuple[Head, str] | None:
    found = _RFC5424.match(rest)
    if found is None:
        return None
    tags = {
        key: found[group] for key, group in (("procid", "pid"), ("msgid", "msgid")) if found[group] != "-"
    }
    at = _structured(rest, found.end(), tags)
    message = rest[at:].removeprefix(" ").removeprefix("\ufeff")
    if not message.strip():  # both may stand for it
        message = found["msgid"] if found["msgid"] != "-" else rest[found.end() : at].removeprefix("-")
    said = {key: None if found[key] == "-" else found[key] for key in ("time", "host", "program")}
    return Head(said["time"], said["host"], said["program"], tags), message


def _structured(rest: str, at: int, tags: dict[str, str]) -> int:
    """Read structured data into ``tags`` as ``<id>.<name>``; where it ends. Damaged, it is part of the message."""
    if rest.startswith("-", at) and rest[at + 1 : at + 2] in ("", " "):
        return at + 1
    room = values.room(rest)
    while element := _ELEMENT.match(rest, at):
        params = _PARAM.findall(element["params"])
        repeated = (len(element["id"].encode()) + 1) * len(params)
        if repeated > room:  # a long id above many names would make much out of little
            tags[element["id"]] = element["params"].lstrip()
        else:
            room -= repeated
            for name, value in params:
                tags[f"{element['id']}.{name}"] = _ESCAPED.sub(r"\1", value)
        at = element.end()
    return at


def _rfc3164(rest: str, *, tagged: bool) -> tuple[Head, str]:
    """``tagged``: a line with neither priority nor time is prose, and has no program at its head."""
    host = card = None
    if (time := RFC3164.match(rest)) is None:  # most lines begin with it
        start = 0
        if prefix := _CISCO.match(rest):
            start, host, card = prefix.end(), prefix["origin"], prefix["card"]
        time = RFC3164.match(rest, start) or _OTHER_TIME.match(rest, start)
    if time is None:
        return _tag(Head(), rest) if tagged else (Head(), rest)
    at = time.end()
    if zone := _ZONE.match(rest, at):
        at = zone.end()
    written = rest[time.start() : at].rstrip(":")
    ended = rest.startswith(_ENDS, at)
    rest = rest[at:].lstrip(" ")
    if ended:
        rest = rest[1:].lstrip(" ")
    elif (named := _HOST.match(rest)) and host is None:
        host, rest = named["host"], rest[named.end() :]
        if rest[:1].isdigit() and (inner := _RELAYED.match(rest)):
            rest = rest[inner.end() :]
    return _tag(Head(written, host, tags={"card": card} if card else _NO_TAGS), rest)


def _tag(head: Head, rest: str) -> tuple[Head, str]:
    """Move ``program[pid]:`` from the message into the head. What rules look for stays: a Cisco mnemonic, and words
    such as ``ERROR:`` or ``LINK-DOWN:``."""
    found = _TAG.match(rest)
    if found is None or rest.startswith("%") or found.end() == len(rest):
        return head, rest
    if found["pid"] is None and found["program"].isupper():
        return head, rest
    tags = head.tags | {"procid": found["pid"]} if found["pid"] else head.tags
    return head._replace(program=found["program"], tags=tags), rest[found.end() :]


FORMAT = Syslog()
