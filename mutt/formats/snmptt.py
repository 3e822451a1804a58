"""``snmptt``: the lines that SNMPTT writes of the traps it knows: OID, severity, "category", host - text."""

from __future__ import annotations

import re

from mutt.errors import RejectedBody, RejectedItem
from mutt.formats import traps, values
from mutt.formats.base import Answers, Context, Fields, Parsed, fit
from mutt.formats.body import MAX_ITEMS, without_bom
from mutt.formats.pieces import gather

#: Before it, a log has the date, and EXEC may have ``$@``, seconds since 1970.
_LINE = re.compile(
    r"(?:(?:[A-Z][a-z]{2} )?(?P<time>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}|\d{9,11}) )?"
    r'(?P<oid>\.\d+(?:\.\d+)+|[A-Za-z][\w-]*::[a-z]\S*) (?P<severity>\S+) "(?P<category>[^"]*)" '
    r"(?P<host>\S+) - (?P<message>.*)",
    re.ASCII,
)

#: As the snmptt.conf that comes with it words linkDown and linkUp: the number is the ifIndex.
_LINK = re.compile(r"(?<=^Link )(?P<what>down|up) on interface (?P<index>\d+)(?=\.? |\.?$)", re.ASCII)


class SnmpTt:
    name = "snmptt"
    header = ""
    answers = Answers(none_taken=202)  # as for snmptrapd: a spool sends again for ever

    def sniffs(self, body: bytes, _content_type: str) -> bool:
        """By its first line."""
        return _LINE.fullmatch(fit(without_bom(body[:4096]).partition(b"\n")[0]).strip()) is not None

    def parse(self, body: bytes, context: Context) -> Parsed:
        if body.count(b"\n") > MAX_ITEMS:
            raise RejectedBody("body", f"holds too many lines; send at most {MAX_ITEMS} at once", 413)
        stripped = (line.strip() for line in without_bom(body).split(b"\n"))
        return gather(filter(None, stripped), _read, context)


def _read(line: str) -> Fields:
    found = _LINE.fullmatch(line)
    if found is None:
        raise RejectedItem(
            "line",
            'is none of snmptt: write it by its own log_format, $O $s "$c" $A - $Fz, with $@ before it or not',
        )
    message = found["message"].strip()
    trap_oid = traps.oid(found["oid"])
    fields: Fields = {
        "hostname": found["host"],
        "message": message or traps.describe(trap_oid, ()),
        "time": found["time"],
        "severity": values.urgency(found["severity"]),
        "source": SnmpTt.name,
        "tags": {"severity": found["severity"], "category": found["category"]},
    }
    traps.mark(fields, traps.Trap(trap_oid, (), ()), _LINK.sub(r"\g<what> ifIndex=\g<index>", message))
    return fields


FORMAT = SnmpTt()
