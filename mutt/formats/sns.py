"""``sns``: what Amazon SNS posts to an HTTP endpoint: a message in an envelope that it signs.

The message is an event of any format that MUTT knows, or else text. Whether the envelope is SNS' is for who took the
request in to see (``mutt/web/sns.py``): here it is only read.
"""

from __future__ import annotations

from typing import Any

import msgspec

from mutt.errors import RejectedItem
from mutt.formats import values
from mutt.formats.base import Answers, Context, Fields, JsonObject
from mutt.formats.collector import Collector
from mutt.formats.mapped import Mapper
from mutt.formats.objects import load
from mutt.formats.within import Envelope, nameless

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

#: What has a field of its own.
_SAID = frozenset({"Type", "MessageId", "Message", "Timestamp"})

_NOT_SNS = (
    f"or TopicArn is none of SNS' ({', '.join(TYPES)}): send to /ingest what does not come from it,"
    " or comes by raw message delivery"
)

_NOT_ALONE = "is that of a message of SNS, which signs one a request: send it alone, as it does"


class Sns(Envelope):
    name = "sns"
    answers = Answers(over_quota=503)  # by its older pages a 429 is final
    marks = frozenset({"TopicArn"})
    holds = ("Message",)
    alone = True

    def claims(self, item: JsonObject) -> bool:
        return item.get("Type") in TYPES and "Message" in item and "MessageId" in item

    def take(self, item: JsonObject, text: str, collector: Collector, context: Context) -> None:
        kept = {key: value for key, value in item.items() if key not in _NOT_KEPT}
        if len(kept) < len(item):
            text = msgspec.json.encode(kept).decode()
        try:
            if not collector.alone:
                raise RejectedItem("Type", _NOT_ALONE)
            super().take(kept, text, collector, context)
        except RejectedItem as refusal:  # here, so that what is kept of it has no secret either
            collector.reject(text.encode(), refusal)

    def held(self, item: JsonObject) -> Any:
        if item.get("Type") not in TYPES or not isinstance(item.get("TopicArn"), str) or not item["TopicArn"]:
            raise RejectedItem("Type", _NOT_SNS)
        return _message(item) if item["Type"] == NOTIFICATION else None

    def complete(self, item: JsonObject, fields: Fields, nth: int | None) -> None:
        """Which message it was, and what that leaves open."""
        if fields.get("hostname") in (None, ""):
            fields["hostname"] = item["TopicArn"].rpartition(":")[2]
        if fields.get("time") in (None, ""):
            fields["time"] = item.get("Timestamp")
        if fields.get("own_id") in (None, "") and isinstance(item.get("MessageId"), str):
            fields["own_id"] = item["MessageId"] + ("" if nth is None else f" {nth}")
        if nth is None:  # the tags of one envelope are not for thousands of events
            about = {key: value for key, value in item.items() if key not in _SAID}
            fields["tags"] = values.leaves(about) | fields.get("tags", {})

    def read(self, item: JsonObject, context: Context) -> Fields:
        message = self.held(item)
        if item["Type"] != NOTIFICATION:
            severity, said = _CHANGES[item["Type"]]
            fields: Fields = {"message": said.format(item["TopicArn"]), "severity": severity}
        elif isinstance(message, dict) and context.source.mapping:
            context = nameless(context)
            fields = Mapper(context).read(message, context)
        else:
            fields = {"message": _text(item)}
        fields["source"] = self.name
        self.complete(item, fields, None)
        return fields


def _message(item: JsonObject) -> Any:
    """What was published: an object, where it is one, else the text."""
    message = item.get("Message")
    if not isinstance(message, str) or message.lstrip()[:1] != "{":
        return message
    try:
        return load(msgspec.Raw(message.encode()))[0]
    except (RejectedItem, RecursionError):
        return message


def _text(item: JsonObject) -> Any:
    subject, message = item.get("Subject"), item.get("Message")
    if not isinstance(subject, str) or not subject.strip() or not isinstance(message, str):
        return message
    return f"{subject}: {message}"


FORMAT = Sns()
