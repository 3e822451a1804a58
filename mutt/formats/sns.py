"""``sns``: what Amazon SNS posts to an HTTP endpoint: a message in an envelope that it signs.

The message is an event of any format that MUTT knows, or else text. Whether the envelope is SNS' is for who took the
request in to see (``mutt/web/sns.py``): here it is only read.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from mutt.errors import RejectedItem
from mutt.formats import values
from mutt.formats.base import Answers, Collector, Context, Fields, JsonFormat, JsonObject, load

NOTIFICATION, SUBSCRIBED, UNSUBSCRIBED = (
    "Notification",
    "SubscriptionConfirmation",
    "UnsubscribeConfirmation",
)
TYPES = (NOTIFICATION, SUBSCRIBED, UNSUBSCRIBED)

#: Who has these can end the subscription, or begin it anew: they are not kept. Nor are those that show whose it is, for
#: without the others they show nothing.
_NOT_KEPT = frozenset(
    {"Token", "SubscribeURL", "UnsubscribeURL", "Signature", "SignatureVersion", "SigningCertURL"}
)

#: Of what is no event, how urgent it is, and what it says. SNS takes the request for delivered only when MUTT has gone
#: to the address that confirms.
_CHANGES = {
    SUBSCRIBED: (5, "MUTT is subscribed to {} from now on"),
    UNSUBSCRIBED: (4, "MUTT is subscribed to {} no longer: nothing more will come from there"),
}


_NOT_SNS = (
    f"or TopicArn is none of SNS' ({', '.join(TYPES)}): send to /ingest what does not come from it,"
    " or comes by raw message delivery"
)

#: What a native event has to have.
_NATIVE = frozenset({"hostname", "message"})


class Sns(JsonFormat):
    name = "sns"
    answers = Answers(over_quota=503)  # a 429 is final for it
    marks = frozenset({"TopicArn"})

    def claims(self, item: JsonObject) -> bool:
        return item.get("Type") in TYPES and "Message" in item and "MessageId" in item

    def take(self, item: JsonObject, text: str, collector: Collector, context: Context) -> None:
        kept = {key: value for key, value in item.items() if key not in _NOT_KEPT}
        if len(kept) < len(item):
            text = msgspec.json.encode(kept).decode()
        found = _inside(kept)
        if found and found[0].inside and found[0].inside in found[1]:  # several events, each for itself
            found[0].take(found[1], str(kept["Message"]), collector, _about(kept, context))
        else:
            collector.attempt(partial(self._read, kept, found, context), text)

    def read(self, item: JsonObject, context: Context) -> Fields:
        return self._read(item, _inside(item), context)

    def _read(
        self, item: JsonObject, found: tuple[JsonFormat, JsonObject] | None, context: Context
    ) -> Fields:
        kind, topic = item.pop("Type", None), item.get("TopicArn")
        if kind not in TYPES or not isinstance(topic, str) or not topic:
            raise RejectedItem("Type", _NOT_SNS)
        if kind != NOTIFICATION:
            severity, said = _CHANGES[kind]
            fields: Fields = {"message": said.format(topic), "severity": severity}
        else:
            fields = found[0].read(found[1], _about(item, context)) if found else {"message": _text(item)}
        fields["hostname"] = fields.get("hostname") or _called(topic)
        fields["source"] = fields.get("source", self.name)
        fields["own_id"] = fields.get("own_id") or item.pop("MessageId", None)
        fields["time"] = fields.get("time") or item.pop("Timestamp", None)
        item.pop("Message", None)
        fields["tags"] = values.leaves(item) | fields.get("tags", {})
        return fields


def _inside(item: JsonObject) -> tuple[JsonFormat, JsonObject] | None:
    """The event that a notification carries, with its format. None: it is text, or JSON that no format knows."""
    # The registry finds this module while it is imported itself: it can't be imported above.
    from mutt.formats import registry  # noqa: PLC0415

    message = item.get("Message")
    if item.get("Type") != NOTIFICATION or not isinstance(message, str) or message.lstrip()[:1] != "{":
        return None
    try:
        found, _ = load(msgspec.Raw(message.encode()))
    except (RejectedItem, RecursionError):
        return None
    chosen = registry.route(found)
    return (chosen, found) if chosen.marks or found.keys() >= _NATIVE else None


def _about(item: JsonObject, context: Context) -> Context:
    """Where the message names no device it is the topic's: SNS' own address is another one each time."""
    return msgspec.structs.replace(context, default_host=_called(values.text(item.get("TopicArn"))))


def _called(topic: str) -> str:
    """The topic's name, out of its ARN."""
    return topic.rpartition(":")[2]


def _text(item: JsonObject) -> Any:
    subject, message = item.get("Subject"), item.get("Message")
    if not isinstance(subject, str) or not subject.strip() or not isinstance(message, str):
        return message
    return f"{subject}: {message}"


FORMAT = Sns()
