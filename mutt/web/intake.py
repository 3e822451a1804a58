"""What becomes of a request that posts events, whoever took it in: the Flask view, or the worker's lane.

There is a step before the round that it joins and one behind it, so that requests which are there together join it
together.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import orjson
import redis
from werkzeug.exceptions import InternalServerError

from mutt.errors import RejectedBody, StreamAway, Unavailable
from mutt.event import uuid7
from mutt.formats import body as bodies
from mutt.formats import registry
from mutt.formats.base import Context, Parsed
from mutt.metrics import Ingested
from mutt.pipeline.accept import AWAY, Contribution, Reply, Request, idempotency, listed, size_of
from mutt.services import Services
from mutt.web.answer import Answer
from mutt.web.keys import Headers, Keys, presented
from mutt.web.problem import problem
from mutt.web.proxies import Proxies

log = logging.getLogger("mutt.ingest")

T = TypeVar("T")

#: What a correlation id may be made of: it goes to logs and headers.
CORRELATION = re.compile(r"[A-Za-z0-9._:@/+-]{1,128}")

_NO_KEY = (
    "the API key is missing or not known: send the one that you were given in the header X-API-KEY,"
    " or as Authorization: Bearer, or as the password of Basic"
)


#: Formats that requests are counted by; others are ``unknown``.
_COUNTED = frozenset(("sniffed", *registry.FORMATS))


class Post(NamedTuple):
    """A request, apart from its body."""

    headers: Headers
    address: str  #: the sender's, or of a proxy that handed it over
    format: str = ""  #: as its path names it; empty: the body is looked at
    correlation_id: str = ""  #: its sender's, else one that it is given here


class _Group:
    """Posts that are there together, one or many, and what they have in common."""

    def __init__(self, began: float) -> None:
        self.began, self.counts = began, Ingested()
        # One random draw for all, counted up: RFC 9562's monotonic UUIDv7. The cleared bit leaves room to count.
        self._next_id = uuid7().int & ~(1 << 61)

    def new_id(self) -> str:
        """A UUIDv7 as text."""
        self._next_id += 1
        digits = f"{self._next_id:032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def named(self, post: Post) -> Post:
        """``post`` with its correlation id."""
        given = post.headers.get("X-CORRELATION-ID", "")
        return post._replace(correlation_id=given if CORRELATION.fullmatch(given) else self.new_id())

    def count(self, post: Post, answer: Answer) -> None:
        name = post.format or "sniffed"
        self.counts.requests[answer.status, name if name in _COUNTED else "unknown"] += 1
        self.counts.seconds.append(time.monotonic() - self.began)


class _Joining(NamedTuple):
    """A post that joins a round, with what it brings."""

    post: Post
    contribution: Contribution
    read_for: float  #: seconds that its upload and its reading took


class Intake:
    """Checks, reads and answers posts."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.settings = services.settings
        self.keys = Keys(services.redis, self.settings.ingest_api_key)
        self._proxies = Proxies(self.settings.trusted_proxies, self.settings.proxy_headers)
        self._rounds = services.rounds  # made now, not by two threads at once
        self._away_until = float("-inf")

    def answer(self, post: Post, read: Callable[[], bytes]) -> Answer:
        """The answer to one post. ``read`` gives its body; what that raises passes through."""
        group = _Group(time.monotonic())
        post = group.named(self._from_its_sender(post))
        found = self._open(group, post, read)
        if isinstance(found, _Joining):
            found = self._close(group, found, self._submit(group, [found])[0])
        group.count(post, found)
        self.services.metrics.ingested(group.counts)
        return found

    def answer_all(self, posts: Sequence[tuple[Post, bytes]], since: float) -> list[Answer]:
        """The answers to posts that are there together: they share a round, and what one fails on is its own.

        ``since`` is when the first of them was whole (monotonic): their second counts from there.
        """
        group = _Group(since)
        named = [(group.named(self._from_its_sender(post)), body) for post, body in posts]
        opened = [
            self._guarded(post, self._open, group, post, lambda body=body: body) for post, body in named
        ]
        joining = [one for one in opened if isinstance(one, _Joining)]
        outcomes = iter(self._submit(group, joining))
        answers = [
            self._guarded(one.post, self._close, group, one, next(outcomes))
            if isinstance(one, _Joining)
            else one
            for one in opened
        ]
        for (post, _), answer in zip(named, answers, strict=True):
            group.count(post, answer)
        self.services.metrics.ingested(group.counts)
        return answers

    def _open(self, group: _Group, post: Post, read: Callable[[], bytes]) -> _Joining | Answer:
        """What ``post`` brings to a round, or its refusal."""
        try:
            key_id = self._key_id(post)
            if key_id is None:
                return _refused(post, 401, _NO_KEY)
            if post.format and registry.get(post.format) is None:
                return _refused(post, 404, _unknown_format())
            before = time.monotonic()
            coding = post.headers.get("CONTENT-ENCODING", "")
            body = bodies.decompress(read(), coding, self.settings.ingest_max_body)
            parsed = self._parsed(post, body, key_id)
            read_for = time.monotonic() - before
        except RejectedBody as error:
            return _refused(post, error.status, str(error), field=error.field, reason=error.reason)
        except Unavailable as error:
            return _refused(post, 503, error.reason, retry_after=error.retry_after)
        if not parsed.events:
            group.counts.rejected += len(parsed.rejected)
            return self._all_rejected(post, parsed, key_id)
        about = Request(group.new_id(), post.correlation_id, key_id, _idempotency(post, key_id, body))
        return _Joining(post, Contribution(about, parsed), read_for)

    def _submit(self, group: _Group, joining: Sequence[_Joining]) -> Sequence[Reply | Exception]:
        """What came of each in their round."""
        if not joining:
            return []
        brought = [one.contribution for one in joining]
        size = sum(size_of(one.parsed) for one in brought)
        # Their deadline is for Redis: a slow sender has its second all the same.
        since = group.began + sum(one.read_for for one in joining)
        try:
            return self._rounds.submit_all(brought, size, since=since)
        except Unavailable as error:
            return [error] * len(joining)
        except Exception as error:
            log.exception("error in a round of %d requests", len(joining))  # once: it is one error
            return [error] * len(joining)

    def _close(self, group: _Group, joined: _Joining, outcome: Reply | Exception) -> Answer:
        """The answer to one that joined, by what came of its round."""
        post = joined.post
        if isinstance(outcome, Unavailable):
            if isinstance(outcome, StreamAway):
                self._note_outage()
            why = f"{outcome.reason}; send it again in {outcome.retry_after} s"
            return _refused(post, 503, why, retry_after=outcome.retry_after)
        if isinstance(outcome, Exception):
            return _refused(post, 500, InternalServerError.description)
        # A known Idempotency-Key adds nothing, and answers what it was answered the first time.
        if outcome.body["batch_id"] == joined.contribution.request.batch_id:
            self._taken(joined.contribution, outcome, group.counts)
        return Answer(202, orjson.dumps(outcome.body), headers=_correlated(post))

    def _guarded(self, post: Post, step: Callable[..., T], *more: Any) -> T | Answer:
        try:
            return step(*more)
        except Exception:
            log.exception("error handling a request of %s", post.address)
            return _refused(post, 500, InternalServerError.description)

    def _taken(self, brought: Contribution, reply: Reply, counts: Ingested) -> None:
        parsed = brought.parsed
        counts.accepted += len(parsed.events)
        counts.rejected += len(parsed.rejected)
        if reply.body.get("spilled"):
            counts.spilled += len(parsed.events)
            self._note_outage()
        if parsed.rejected:
            self._keep_rejected(parsed, brought.request.key_id)

    def _from_its_sender(self, post: Post) -> Post:
        """``post`` with its sender's address, where a trusted proxy stands between."""
        if not self._proxies:
            return post
        origin = self._proxies.origin(post.address, lambda name: post.headers.get(name, ""))
        return post._replace(address=origin.address)

    def _key_id(self, post: Post) -> str | None:
        key = presented(post.headers)
        return self.keys.identify(key) if key is not None else None

    def _parsed(self, post: Post, body: bytes, key_id: str) -> Parsed:
        context = Context(
            received_at=datetime.now(UTC),
            key_id=key_id,
            max_event=self.settings.ingest_max_event,
            default_host=post.address,
        )
        found = registry.get(post.format) or registry.sniff(body, post.headers.get("CONTENT-TYPE", ""))
        return registry.parse(found, body, context)

    def _all_rejected(self, post: Post, parsed: Parsed, key_id: str) -> Answer:
        told = listed(parsed)
        first = told["rejected"][0]
        why = f"no item can be taken; item {first['index']}: {first['field']}: {first['reason']}"
        answer = _refused(post, 400, why, **first, **told)
        # Behind the answer: its sender does not wait for what we keep.
        return answer._replace(after=lambda: self._keep_rejected(parsed, key_id))

    def _keep_rejected(self, parsed: Parsed, key_id: str) -> None:
        """The sender was told which items are bad; keeping them is for convenience only, and waits for no outage."""
        if time.monotonic() < self._away_until:
            return
        try:
            self.services.letters.keep_rejected(
                key_id, parsed.rejected, most_bytes=self.settings.ingest_dlq_bytes
            )
        except redis.RedisError as error:
            self._note_outage()
            log.warning("rejected items not kept: %s", error)

    def _note_outage(self) -> None:
        self._away_until = time.monotonic() + AWAY


def _refused(post: Post, status: int, detail: str, **more: Any) -> Answer:
    answer = problem(status, detail, correlation_id=post.correlation_id, **more)
    return answer._replace(headers={**answer.headers, **_correlated(post)})


def _correlated(post: Post) -> dict[str, str]:
    return {"X-Correlation-ID": post.correlation_id}


def _idempotency(post: Post, key_id: str, body: bytes) -> str:
    given = post.headers.get("IDEMPOTENCY-KEY", "")
    return idempotency(key_id, given, body) if given else ""


def _unknown_format() -> str:
    known = ", ".join(sorted(registry.FORMATS))
    return f"no format is called so; post to /ingest, or name one of: {known}"
