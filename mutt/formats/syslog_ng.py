"""``syslog-ng``: syslog-ng's http(): JSON by ``$(format-json)``, or the bare message, the rest in headers."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

import msgspec

from mutt.errors import RejectedBody
from mutt.formats.base import Answers, Context, Parsed, fit
from mutt.formats.collector import Collector
from mutt.formats.objects import looks_like_json
from mutt.formats.shipped import Shipped, are_of_a_record

#: What syslog-ng says in headers of a message that it sends alone, by the macro's name.
_HEADERS = {
    "HOST": "X-SYSLOG-HOST",
    "PROGRAM": "X-SYSLOG-PROGRAM",
    "FACILITY": "X-SYSLOG-FACILITY",
    "PRIORITY": "X-SYSLOG-LEVEL",
}


class SyslogNg(Shipped):
    name = "syslog-ng"
    header = "X-SYSLOG-HOST"
    answers = Answers(none_taken=202)  # it waits and sends the same again after a 400, whatever that said
    marks = frozenset({"MESSAGE"})
    hosts: ClassVar[tuple[str, ...]] = ("HOST", "HOST_FROM", "SOURCEIP")
    messages: ClassVar[tuple[str, ...]] = ("MESSAGE",)
    times: ClassVar[tuple[str, ...]] = ("ISODATE", "S_ISODATE", "DATE", "UNIXTIME", "R_ISODATE")
    severities: ClassVar[tuple[str, ...]] = ("PRIORITY", "LEVEL", "LEVEL_NUM", "SEVERITY")
    facilities: ClassVar[tuple[str, ...]] = ("FACILITY", "FACILITY_NUM")
    programs: ClassVar[tuple[str, ...]] = ("PROGRAM",)

    def fits(self, keys: Collection[str]) -> bool:
        """Its macros are in capitals; journald's are as well, and have an underscore before the host."""
        return are_of_a_record(keys, self.messages) and not {
            "_HOSTNAME",
            "date",
            "log",
            "source_type",
        }.intersection(keys)

    def parse(self, body: bytes, context: Context) -> Parsed:
        if looks_like_json(body, "") or not context.headers.get(self.header, ""):
            return super().parse(body, context)
        message = fit(body.strip(b"\r\n"))
        if not message.strip():
            raise RejectedBody("body", "holds no message: send one")
        said = {macro: context.headers.get(header, "") for macro, header in _HEADERS.items()}
        item = {macro: fit(value.encode("latin-1", "replace")) for macro, value in said.items() if value}
        item["MESSAGE"] = message
        collector = Collector(context)
        # Kept as the JSON that would say the same, so that it can be read again.
        collector.attempt(lambda: self.read(dict(item), context), msgspec.json.encode(item).decode())
        return collector.parsed


FORMAT = SyslogNg()
