"""``rsyslog``: rsyslog's omhttp: one record, one a line, ``jsonarray``, ``kafkarest`` or ``lokirest``.

The last is what Loki is sent by Promtail and Alloy, too.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any, ClassVar

import msgspec

from mutt.errors import RejectedItem
from mutt.formats import values
from mutt.formats.base import Answers, Context, Fields, JsonObject
from mutt.formats.collector import Collector
from mutt.formats.objects import load
from mutt.formats.shipped import Shipped, are_of_a_record

#: Names of rsyslog's properties that nobody else's records have.
_OWN = frozenset(
    {"fromhost", "fromhost-ip", "rawmsg", "syslogtag", "programname", "timereported", "syslogseverity"}
)

#: Names that another shipper gives to what rsyslog had before: it knows what became of the rest.
_OTHERS = frozenset({"source_type", "date", "log", "MESSAGE"})

#: And beside them what else its templates hold. A record of nothing but these is taken for one.
_KNOWN = _OWN | {
    "app-name", "facility", "facility-text", "host", "message", "msg", "msgid", "pri", "priority", "procid", "program",
    "severity", "severity-text", "structured-data", "syslogfacility", "syslogfacility-text", "syslogpriority-text",
    "syslogseverity-text", "tag", "timegenerated", "timestamp",
}  # fmt: skip


#: Labels of streams stand beside each of their lines: so many bytes, and so many times all that was sent.
_LABELS_ROOM, _LABELS_MOST = 64 << 10, 32


class Rsyslog(Shipped):
    name = "rsyslog"
    answers = Answers(over_quota=503)  # omhttp takes every 4xx for final, a 429 too
    marks = frozenset({"host", "msg", "records", "streams", *_OWN})
    inside = "records"
    hosts: ClassVar[tuple[str, ...]] = ("hostname", "host", "source", "fromhost", "fromhost-ip")
    messages: ClassVar[tuple[str, ...]] = ("message", "msg", "rawmsg")
    times: ClassVar[tuple[str, ...]] = ("timestamp", "timereported", "time", "timegenerated")
    severities: ClassVar[tuple[str, ...]] = (
        "syslogseverity", "severity", "syslogseverity-text", "syslogpriority-text", "priority", "level",
    )  # fmt: skip
    facilities: ClassVar[tuple[str, ...]] = (
        "syslogfacility",
        "facility",
        "syslogfacility-text",
        "facility-text",
    )
    programs: ClassVar[tuple[str, ...]] = ("programname", "app-name", "program", "syslogtag")

    def fits(self, keys: Collection[str]) -> bool:
        """A record with names that rsyslog's pages use, or what may be a batch."""
        if "records" in keys or "streams" in keys:
            return True
        if not _OTHERS.isdisjoint(keys):
            return False
        return are_of_a_record(keys, self.messages) and (not _OWN.isdisjoint(keys) or _KNOWN.issuperset(keys))

    def claims(self, item: JsonObject) -> bool:
        """A batch for Kafka's REST proxy or for Loki is one if its first element looks so."""
        if "records" in item or "streams" in item:
            return _is_batch(item.get("records"), "value") or _is_batch(item.get("streams"), "values")
        return True

    def read(self, item: JsonObject, context: Context) -> Fields:
        if isinstance(item.get("value"), dict) and "message" not in item:
            item = item["value"]
        return super().read(item, context)

    def take(self, item: JsonObject, text: str, collector: Collector, context: Context) -> None:
        if not isinstance(item.get("streams"), list):
            super().take(item, text, collector, context)
            return
        found = [_lines(stream) for stream in item["streams"]]
        collector.expect(sum(map(len, found)))
        _check_labels(found, _LABELS_ROOM + _LABELS_MOST * len(text))
        for lines in found:
            for labels, value in lines:
                # As a push of its own, so that it can be read again.
                alone = msgspec.json.encode({"streams": [{"stream": labels, "values": [value]}]}).decode()
                collector.attempt(partial(self._line, labels, value, context), alone)

    def _line(self, labels: JsonObject, value: Any, context: Context) -> Fields:
        if not isinstance(value, list) or len(value) < 2:
            raise RejectedItem("values", 'holds no line: write ["<nanoseconds>", "<line>"]')
        more = value[2] if len(value) > 2 and isinstance(value[2], dict) else {}
        return self.read({**labels, **more, "timestamp": value[0], **_written(value[1])}, context)


def _check_labels(streams: list[list[tuple[JsonObject, Any]]], most: int) -> None:
    """May each line be kept with its stream's labels? Raises :class:`RejectedItem`: long ones above many lines would
    make much out of little."""
    size = sum(len(lines) * len(msgspec.json.encode(lines[0][0])) for lines in streams if lines)
    if size > most:
        why = f"have labels that are {size} bytes beside all of their lines; at most {most} are taken"
        raise RejectedItem("streams", f"{why}: send shorter ones, or fewer lines at once")


def _is_batch(found: Any, key: str) -> bool:
    return isinstance(found, list) and bool(found) and isinstance(found[0], dict) and key in found[0]


def _lines(stream: Any) -> list[tuple[JsonObject, Any]]:
    """Each line of a stream with the stream's labels; a stream that is none is a line that can't be read."""
    found = values.inner(stream, "stream") if isinstance(stream, dict) else {}
    lines = stream.get("values") if isinstance(stream, dict) else None
    return [(found, line) for line in lines] if isinstance(lines, list) else [(found, lines)]


def _written(line: Any) -> JsonObject:
    """A line as a record: what rsyslog's template made of it, where that is JSON with a message of its own."""
    if isinstance(line, str) and line.startswith("{"):
        try:
            found, _ = load(msgspec.Raw(line.encode()))
        except (RejectedItem, RecursionError):
            return {"message": line}
        if "msg" in found or "message" in found:
            return found
    return {"message": line}


FORMAT = Rsyslog()
