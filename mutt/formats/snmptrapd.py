"""``snmptrapd``: what net-snmp's snmptrapd writes to a traphandle: host, transport, then lines of ``OID value``."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mutt.errors import RejectedBody, RejectedItem
from mutt.event import Varbind
from mutt.formats import traps
from mutt.formats.base import Answers, Context, Fields, Parsed, fit
from mutt.formats.body import MAX_ITEMS, without_bom
from mutt.formats.pieces import gather

#: Stands between traps that are posted together: snmptrapd writes a text that holds one in hexadecimal.
_BETWEEN = b"\0"

#: Written before all else by snmptthandler, and by MUTT's own handler: when the trap came, in seconds since 1970.
_CAME = re.compile(r"\d{9,11}", re.ASCII)
_TRANSPORT = re.compile(r"[A-Z][A-Za-z]+(?:/IPv6)?: \[(?P<peer>[^\]%]+)(?:%[^\]]*)?\](?::\d+|->|$)", re.ASCII)
_NO_NAME = "<UNKNOWN>"

#: A line that does not begin like this goes on with the value before it.
_BIND = re.compile(
    r'(?P<oid>\.\d+(?:\.\d+)+|\.?iso(?:\.[\w-]+)+|[A-Za-z][\w-]*::[a-z](?:"[^"]*"|[^\s"])*)(?: =)?(?: (?P<value>.*))?',
    re.ASCII,
)
_HEX = re.compile(r"(?:[0-9A-F]{2}\s+)+", re.ASCII)
_ESCAPED = re.compile(r'\\(["\\])')


class SnmpTrapd:
    name = "snmptrapd"
    header = ""
    answers = Answers(none_taken=202)  # a spool keeps what got no 2xx, and sends it again for ever

    def sniffs(self, body: bytes, _content_type: str) -> bool:
        """The line of the transport is the second, or third, and nobody else's."""
        _, lines = _opened(fit(without_bom(body[:2048])))
        return len(lines) > 1 and _TRANSPORT.match(lines[1]) is not None

    def parse(self, body: bytes, context: Context) -> Parsed:
        if body.count(_BETWEEN) > MAX_ITEMS:
            raise RejectedBody("body", f"holds too many traps; send at most {MAX_ITEMS} at once", 413)
        stripped = (piece.strip() for piece in without_bom(body).split(_BETWEEN))
        return gather(filter(None, stripped), _read, context)


def _read(text: str) -> Fields:
    came, lines = _opened(text)
    host, peer = _sender(lines)
    about, binds = traps.parted(tuple(_varbinds(lines[2:])))
    trap_oid = traps.oid(about.pop("trap_oid", None))
    if trap_oid is None:
        raise RejectedItem(
            "trap_oid",
            "is missing: send what snmptrapd gives a traphandle as it is, with -On or with names of MIBs",
        )
    agent = about.get("agent_address", traps.NO_ADDRESS)
    fields: Fields = {
        "hostname": host if agent in (traps.NO_ADDRESS, peer) else agent,
        "message": traps.describe(trap_oid, binds),
        "time": came,
        "source": SnmpTrapd.name,
        "tags": about | ({"source_ip": peer} if peer else {}),
    }
    traps.mark(fields, traps.Trap(trap_oid, binds, ()), "")
    return fields


def _opened(text: str) -> tuple[str | None, list[str]]:
    """(when the trap came, where that was noted; the lines)."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return (lines[0], lines[1:]) if _CAME.fullmatch(lines[0]) else (None, lines)


def _sender(lines: list[str]) -> tuple[str, str]:
    """(the name that snmptrapd found for whom it had the trap from, else the address; the address)."""
    found = _TRANSPORT.match(lines[1]) if len(lines) > 1 else None
    name, peer = lines[0].strip() if lines else "", found["peer"] if found else ""
    return (peer if name == _NO_NAME or _TRANSPORT.match(name) else name), peer  # with -n it writes no name


def _varbinds(lines: list[str]) -> Iterator[Varbind]:
    oid, value = "", ""
    for line in lines:
        if found := _BIND.fullmatch(line):
            if oid:
                yield Varbind(oid, _value(value))
            oid, value = traps.oid(found["oid"]) or "", found["value"] or ""
        else:
            value += f"\n{line}"
    if oid:
        yield Varbind(oid, _value(value))


def _value(written: str) -> str:
    """Without the quotes that stand around octets in hexadecimal, and around a text that no MIB describes."""
    if len(written) < 2 or not (written.startswith('"') and written.endswith('"')):
        return written
    inner = written[1:-1]
    return " ".join(inner.split()) if _HEX.fullmatch(inner) else _ESCAPED.sub(r"\1", inner)


FORMAT = SnmpTrapd()
