"""Splunk's HTTP Event Collector: its addresses, its numbers and its acknowledgements (docs/formats/splunk.md)."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import msgspec
import orjson
from flask import Blueprint, Response, request
from werkzeug.exceptions import HTTPException

from mutt.errors import Kind, RejectedBody
from mutt.formats.base import fit
from mutt.formats.body import MAX_ITEMS, without_bom
from mutt.grant import Grant
from mutt.web.addressed import key_in_address
from mutt.web.answer import Answer
from mutt.web.intake import Intake
from mutt.web.post import Post
from mutt.web.replies import flask_response
from mutt.web.whole import whole_body

ROOT = "/services/collector"
EVENTS = (ROOT, f"{ROOT}/event", f"{ROOT}/event/1.0")
RAW = (f"{ROOT}/raw", f"{ROOT}/raw/1.0")
HEALTH = (f"{ROOT}/health", f"{ROOT}/health/1.0")
ACK = f"{ROOT}/ack"

#: What the query of a raw post says of all its lines.
_ORIGIN = ("host", "source", "sourcetype", "index", "time")

#: Bytes of a question for acknowledgements: some 50,000 of them.
_ACK_MOST = 1 << 20

#: Of the number by which a post is acknowledged: what is drawn, and what shows that it was given here. Together they
#: fit into a number of JavaScript's.
_DRAWN, _CHECK = 33, 20


#: How senders ask whether anybody is there: Docker's driver by OPTIONS, before it starts a container.
_ASKING = ("GET", "HEAD", "OPTIONS")
_ALLOW = {"Allow": ", ".join((*_ASKING, "POST"))}


class Code(NamedTuple):
    """One of Splunk's answers."""

    number: int
    status: int
    text: str


SUCCESS = Code(0, 200, "Success")
TOKEN_DISABLED = Code(1, 403, "Token disabled")
TOKEN_REQUIRED = Code(2, 401, "Token is required")
INVALID_AUTHORIZATION = Code(3, 401, "Invalid authorization")
INVALID_TOKEN = Code(4, 403, "Invalid token")
NO_DATA = Code(5, 400, "No data")
INVALID_FORMAT = Code(6, 400, "Invalid data format")
ERROR = Code(8, 500, "Internal server error")
BUSY = Code(9, 503, "Server is busy")
NO_CHANNEL = Code(10, 400, "Data channel is missing")
NO_EVENT = Code(12, 400, "Event field is required")
BLANK_EVENT = Code(13, 400, "Event field cannot be blank")
NOT_IN_QUERY = Code(16, 400, "Query string authorization is not enabled")
HEALTHY = Code(17, 200, "HEC is healthy")
UNHEALTHY = Code(18, 503, "HEC is unhealthy, queues are full")
INVALID_TOKEN_OF_HEALTH = Code(21, 400, "Invalid token")
TOO_LARGE = Code(27, 413, "Request entity too large")

#: By what ingest refused a post for.
_BY_WHY = {
    "no_key": TOKEN_REQUIRED,
    "unknown_key": INVALID_TOKEN,
    "in_address": NOT_IN_QUERY,
    "signature": INVALID_AUTHORIZATION,
    "scope": TOKEN_DISABLED,
    "format": TOKEN_DISABLED,
    "quota": BUSY,
    "too_large": TOO_LARGE,
    "unavailable": BUSY,
    "error": ERROR,
}
_BY_KIND = {Kind.NOTHING: NO_DATA, Kind.MISSING: NO_EVENT, Kind.BLANK: BLANK_EVENT}


def collector(intake: Intake, ready: Callable[[], bool], count: Callable[[int], None]) -> Blueprint:
    """The collector. ``ready``: may events come? ``count`` counts what no view answered, by its status."""
    blueprint = Blueprint("splunk", __name__)
    most, longest = intake.settings.ingest_max_body, intake.settings.ingest_max_event

    def add(path: str, tell: Callable[[], Answer], *methods: str) -> None:
        name = f"{methods[0]} {path}".replace(".", "_")
        blueprint.add_url_rule(
            path, name, lambda: flask_response(tell()), methods=methods, provide_automatic_options=False
        )

    def raw() -> Answer:
        return _take(intake, partial(enveloped, request.args, most, longest))

    posts = ((EVENTS, lambda: _take(intake)), (RAW, raw), ((ACK,), lambda: _acknowledge(intake)))
    for paths, tell in posts:
        for path in paths:
            add(path, tell, "POST")
            add(path, lambda: reply(HEALTHY, _ALLOW), *_ASKING)
    for path in HEALTH:
        add(path, lambda: _health(intake, ready), *_ASKING)

    @blueprint.errorhandler(HTTPException)
    def refuse(error: HTTPException) -> Response:
        status = error.code or ERROR.status
        code = ERROR if status >= ERROR.status else TOO_LARGE if status == 413 else INVALID_FORMAT
        answer = reply(code, detail=error.description)._replace(status=status)
        count(answer.status)
        return flask_response(answer)

    return blueprint


def reply(code: Code, headers: Mapping[str, str] | None = None, **more: Any) -> Answer:
    """``code`` as Splunk writes it."""
    body = {"text": code.text, "code": code.number} | more
    return Answer(code.status, orjson.dumps(body), headers=headers or {})


def said(answer: Answer, *, authorization: str = "", ack: Callable[[str], int] | None = None) -> Answer:
    """What ingest answers, in Splunk's words. ``ack`` makes the number by which this post is acknowledged."""
    told = orjson.loads(answer.body)
    if answer.status == 202:
        more: dict[str, Any] = {"ackId": ack(told["batch_id"])} if ack else {}
        if told["rejected"]:
            more["rejected"] = told["rejected"]
        return reply(SUCCESS, answer.headers, **more)
    code, more = _code(answer, authorization), {"detail": told["detail"]}
    if "index" in told:
        more["invalid-event-number"] = told["index"]
    refused = reply(code, answer.headers, **more)
    # A coding that is not known is no bad event: say so.
    return refused._replace(status=415 if answer.status == 415 else code.status, after=answer.after)


def _code(answer: Answer, authorization: str) -> Code:
    if answer.why == "no_key" and authorization:
        return INVALID_AUTHORIZATION
    if answer.status == 413:
        return TOO_LARGE
    return _BY_WHY.get(answer.why) or _BY_KIND.get(answer.kind, INVALID_FORMAT)


def _take(intake: Intake, rewrite: Callable[[bytes], bytes] | None = None) -> Answer:
    channel = _channel()
    answer = intake.answer(_post(rewrite), whole_body)
    authorization = request.headers.get("Authorization", "")
    return said(answer, authorization=authorization, ack=partial(ack_id, channel) if channel else None)


def _post(rewrite: Callable[[bytes], bytes] | None = None) -> Post:
    key = key_in_address(request.environ)
    return Post(request.headers, request.remote_addr or "unknown", "splunk", key=key, rewrite=rewrite)


def _channel() -> str:
    return request.headers.get("X-Splunk-Request-Channel", "") or request.args.get("channel", "")


def enveloped(origin: Mapping[str, str], most: int, longest: int, body: bytes) -> bytes:
    """The lines of a raw post as events, each in an envelope that says where it is from.

    Of a line only so much is put in as shows that it is longer than an event may be (``longest`` bytes): it is refused
    all the same, and what is kept of it is cut anyhow. Raises :class:`RejectedBody` where all of them would be more
    than ``most`` bytes: a long query above many short lines, or what JSON writes with six characters for one.
    """
    if body.count(b"\n") > MAX_ITEMS:
        raise _too_many(f"holds more than {MAX_ITEMS} lines")
    lines = [line for line in without_bom(body).split(b"\n") if line.strip(b"\r\0 \t")]
    about = {key: value for key in _ORIGIN if (value := origin.get(key, "").strip())}
    made, size = [], 0
    for line in lines:
        made.append(orjson.dumps(about | {"event": fit(line.rstrip(b"\r\0")[: longest + 1])}))
        size += len(made[-1])
        if size > most:
            raise _too_many(f"is more than {most} bytes when its {len(lines)} lines are events")
    return b"\n".join(made)


def _too_many(why: str) -> RejectedBody:
    return RejectedBody("body", f"{why}: send it in parts", 413)


def _health(intake: Intake, ready: Callable[[], bool]) -> Answer:
    """Who shows a key hears whether it is good: it asks once, before it sends."""
    found = intake.admitted(_post()) if _shows_key() else None
    if isinstance(found, Answer) and found.why == "unavailable":
        return reply(UNHEALTHY, found.headers)
    if isinstance(found, Answer):
        return reply(INVALID_TOKEN_OF_HEALTH, found.headers, detail=orjson.loads(found.body)["detail"])
    return reply(HEALTHY) if ready() else reply(UNHEALTHY)


def _shows_key() -> bool:
    return "Authorization" in request.headers or key_in_address(request.environ) is not None


# ---- acknowledgements


def ack_id(channel: str, batch_id: str) -> int:
    """The number of a post: of its own on this channel, and known again as given here."""
    drawn = int(batch_id.replace("-", ""), 16) % (1 << _DRAWN)
    return drawn << _CHECK | _checked(channel, drawn)


def was_given(channel: str, number: int) -> bool:
    """Was it given here, to this channel? Then what it stands for is safe: the answer to its post said so already.

    One of another server (a sender may have moved on from Splunk) is not, so it is sent again.
    """
    return 0 <= number < 1 << (_DRAWN + _CHECK) and number % (1 << _CHECK) == _checked(
        channel, number >> _CHECK
    )


def _checked(channel: str, drawn: int) -> int:
    return zlib.crc32(f"{channel} {drawn}".encode()) % (1 << _CHECK)


class _Question(msgspec.Struct):
    acks: list[int]


_question = msgspec.json.Decoder(_Question)


def _acknowledge(intake: Intake) -> Answer:
    grant = intake.admitted(_post())
    if not isinstance(grant, Grant):
        return said(grant, authorization=request.headers.get("Authorization", ""))
    if not (channel := _channel()):
        return reply(NO_CHANNEL, detail="send X-Splunk-Request-Channel, as with the posts")
    if len(question := request.get_data(cache=False)) > _ACK_MOST:  # not all say their length
        return reply(TOO_LARGE, detail=f"send at most {_ACK_MOST} bytes of numbers at once")
    try:
        asked = _question.decode(question)
    except (msgspec.DecodeError, RecursionError):
        return reply(INVALID_FORMAT, detail='write {"acks": [1, 2]}')
    return Answer(
        200, orjson.dumps({"acks": {str(number): was_given(channel, number) for number in asked.acks}})
    )
