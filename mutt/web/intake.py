"""What becomes of a request that posts events, whoever took it in: the Flask view, or the worker's lane.

There is a step before the round that it joins and one behind it, so that requests which are there together join it
together.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import orjson
import redis
from werkzeug.exceptions import InternalServerError

from mutt.errors import Kind, OverQuota, RejectedBody, StreamAway, Unavailable
from mutt.event import uuid7
from mutt.formats import body as bodies
from mutt.formats import mapped, registry
from mutt.formats.base import Context, Headers, Parsed, Rejected, fit
from mutt.formats.sns import FORMAT as SNS
from mutt.grant import BOOTSTRAP, INGEST, Grant
from mutt.logs import Gathered
from mutt.metrics import Ingested
from mutt.pipeline.accept import AWAY, Contribution, Reply, Request, idempotency, listed, size_of
from mutt.quota import Ask, Counted
from mutt.services import Services
from mutt.sources.heard import Gathering, Taken
from mutt.span import UNTRACED, Begun
from mutt.streams.keys import SIGNED
from mutt.streams.quota import Quotas
from mutt.web.answer import Answer
from mutt.web.keys import Keys, presented
from mutt.web.problem import problem
from mutt.web.proxies import Proxies
from mutt.web.signatures import BadSignature
from mutt.web.signed import Signed
from mutt.web.sns import SnsProof

log = logging.getLogger("mutt.ingest")

T = TypeVar("T")

#: What a correlation id may be made of: it goes to logs and headers.
CORRELATION = re.compile(r"[A-Za-z0-9._:@/+-]{1,128}")

_NO_KEY = (
    "the API key is missing or not known: send the one that you were given in the header X-API-KEY,"
    " or as Authorization: Bearer, or as the password of Basic"
)
_NOT_IN_ADDRESS = (
    "this API key may not stand in the address, where logs on its way may show it: send it in the header X-API-KEY,"
    " or as the password of Basic; or, for a sender that can do neither, {} (page Keys, or `mutt keys source {}"
    " --in-address`)"
)

#: SNS, and clients of .NET, show user and password only to who asks for Basic.
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="mutt", Bearer realm="mutt"'}

_NO_SCOPE = "this API key may not send events: use one of the scope ingest"


#: Why a body is refused, by its status; else it is bad.
_WHY = {403: "format", 413: "too_large"}

_NO_SOURCE = (
    "no source that signs is called so: post to /signed/NAME with the name of a key whose signatures are set up"
    " (page Keys, or `mutt keys sign`)"
)

#: Formats that requests are counted by; others are ``unknown``.
_COUNTED = frozenset(("sniffed", *registry.FORMATS))


class Post(NamedTuple):
    """A request, apart from its body."""

    headers: Headers
    address: str  #: the sender's, or of a proxy that handed it over
    format: str = ""  #: as its path names it; empty: the body is looked at
    correlation_id: str = ""  #: its sender's, else one that it is given here
    source: str = ""  #: whose it is, as its path says and its signature has to show; empty: its key says so
    key: bytes | None = None  #: that stood in its address; one in a header wins
    #: Makes of the body, when it is inflated, one that its format reads. May raise RejectedBody.
    rewrite: Callable[[bytes], bytes] | None = None


class _Group:
    """Posts that are there together, one or many, and what they have in common."""

    def __init__(self, began: float, *, shared: bool = False) -> None:
        self.began, self.counts = began, Ingested()
        self.shared = shared  #: does each of them wait for all?
        self.taken: list[Taken] = []  # those of which events were accepted
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

    def refused(self, why: str, post: Post, status: int, detail: str, **more: Any) -> Answer:
        """The answer to a post that is not taken; ``why`` is a word of :data:`mutt.metrics.REFUSED_FOR`."""
        self.counts.refused[why] += 1
        answer = problem(status, detail, correlation_id=post.correlation_id, **more)
        more = _CHALLENGE if status == 401 else {}
        return answer._replace(headers={**answer.headers, **more, **_correlated(post)}, why=why)

    def count(self, post: Post, answer: Answer) -> None:
        name = post.format or "sniffed"
        self.counts.requests[answer.status, name if name in _COUNTED else "unknown"] += 1
        self.counts.seconds.append(time.monotonic() - self.began)


class _Joining(NamedTuple):
    """A post that joins a round, with what it brings."""

    post: Post
    grant: Grant
    contribution: Contribution
    size: int  #: bytes of its body, as it was sent
    read_for: float  #: seconds that its upload and its reading took
    begun: Begun  #: its span, if it is traced


class Intake:
    """Checks, reads and answers posts."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.settings = services.settings
        self.keys = Keys(services.redis, lambda: self.settings.current("ingest_api_key"))
        self._signed = Signed(services.redis, lambda: self.settings.current("sealing_key"))
        #: By format, what shows of its requests whose they are, beside their key. Raises BadSignature, Unavailable.
        self._proofs: Mapping[str, Callable[[Headers, bytes], None]] = {SNS.name: SnsProof(self.settings)}
        self._quotas, self._counts_alone = Quotas(services.redis), False
        self._proxies = Proxies(self.settings.trusted_proxies, self.settings.proxy_headers)
        self._rounds = services.rounds  # made now, not by two threads at once
        self._meter, self._traces = services.meters["ingest"], services.traces
        self._accepted = Gathered(log, "accepted")
        self.heard = Gathering()
        self._away_until = float("-inf")

    def answer(self, post: Post, read: Callable[[], bytes]) -> Answer:
        """The answer to one post. ``read`` gives its body; what that raises passes through."""
        with self._meter.busy:
            return self._answer(post, read)

    def _answer(self, post: Post, read: Callable[[], bytes]) -> Answer:
        group = _Group(time.monotonic())
        post = group.named(self._from_its_sender(post))
        found = self._open(group, post, read)
        assert found is not None  # nobody waits for it
        if isinstance(found, _Joining):
            found = self._close(group, found, self._submit(group, [found])[0])
        group.count(post, found)
        self._count_all(group)
        return found

    def admitted(self, post: Post) -> Grant | Answer:
        """What the key of ``post`` may do, or why it may not send: for what senders ask beside sending."""
        group = _Group(time.monotonic())
        post = group.named(self._from_its_sender(post))
        try:
            grant = self._grant(group, post)
            found = grant if isinstance(grant, Answer) else self._refusal(group, post, grant) or grant
        except RejectedBody as error:
            found = group.refused("format", post, error.status, str(error))
        except Unavailable as error:
            found = group.refused("unavailable", post, 503, error.reason, retry_after=error.retry_after)
        if isinstance(found, Answer):
            group.count(post, found)
            self._count_all(group)
        return found

    def answer_all(self, posts: Sequence[tuple[Post, bytes]], since: float) -> list[Answer | None]:
        """The answers to posts that are there together: they share a round, and what one fails on is its own.

        ``since`` is when the first of them was whole (monotonic): their second counts from there. None: nothing was
        done for this one, whose reading may take long. It has to be answered by itself.
        """
        with self._meter.busy:
            return self._answer_all(posts, since)

    def _answer_all(self, posts: Sequence[tuple[Post, bytes]], since: float) -> list[Answer | None]:
        group = _Group(since, shared=True)
        named = [(group.named(self._from_its_sender(post)), body) for post, body in posts]
        opened = [
            self._guarded(group, post, self._open, post, lambda body=body: body) for post, body in named
        ]
        joining = [one for one in opened if isinstance(one, _Joining)]
        outcomes = iter(self._submit(group, joining))
        answers = [
            self._guarded(group, one.post, self._close, one, next(outcomes))
            if isinstance(one, _Joining)
            else one
            for one in opened
        ]
        for (post, _), answer in zip(named, answers, strict=True):
            if answer:
                group.count(post, answer)
        self._count_all(group)
        return answers

    def _count_all(self, group: _Group) -> None:
        counts = group.counts
        if group.taken:
            self.heard.took(group.taken)
        self.services.metrics.ingested(counts)
        self._meter.did(counts.accepted, counts.seconds)
        self._meter.refused += counts.refused["unavailable"]

    def _open(self, group: _Group, post: Post, read: Callable[[], bytes]) -> _Joining | Answer | None:
        """What ``post`` brings to a round, or its refusal; None: others would have to wait for it."""
        known = ""  # whose it surely is
        try:
            grant = self._grant(group, post)
            if isinstance(grant, Answer):
                return grant
            # A name alone learns nothing of what its source may do.
            if not post.source and (refusal := self._refusal(group, post, grant)):
                return refusal
            if group.shared and grant.source.mapping and mapped.takes_long(grant.source.mapping):
                return None
            before = time.monotonic()
            coding = post.headers.get("CONTENT-ENCODING", "")
            sent = read()
            self._signed.check(grant, post.headers, sent)
            known = grant.name
            if post.source:
                self.keys.note(SIGNED + grant.name)
                if refusal := self._refusal(group, post, grant):
                    return refusal
            body = bodies.decompress(sent, coding, self.settings.ingest_max_body)
            if post.rewrite:
                body = post.rewrite(body)
            parsed = self._parsed(post, body, grant)
            if proof := self._proofs.get(parsed.format):
                proof(post.headers, body)
            read_for = time.monotonic() - before
        except BadSignature as error:
            return group.refused("signature", post, 401, str(error), field=error.field, reason=error.reason)
        except RejectedBody as error:
            why = "quota" if error.field == "quota" else _WHY.get(error.status, "bad")
            if known:
                self.heard.failed(known, error.field, error.reason, size=len(sent))
            answer = group.refused(
                why, post, error.status, str(error), field=error.field, reason=error.reason
            )
            return answer._replace(kind=error.kind)
        except Unavailable as error:
            return group.refused("unavailable", post, 503, error.reason, retry_after=error.retry_after)
        if not parsed.events:
            first = parsed.rejected[0]
            items = len(parsed.rejected)
            self.heard.failed(known, first.field, first.reason, items=items, size=len(sent))
            group.counts.rejected += len(parsed.rejected)
            return self._none_taken(group, post, parsed, grant.name)
        begun = UNTRACED
        if self._traces is not None:
            begun = self._traces.begin(post.headers.get("TRACEPARENT", ""))
        idempotent = _idempotency(post, grant.name, body)
        about = Request(group.new_id(), post.correlation_id, grant.name, idempotent, begun[0])
        return _Joining(post, grant, Contribution(about, parsed), len(sent), read_for, begun)

    def _grant(self, group: _Group, post: Post) -> Grant | Answer:
        """What the post's key, or its source, may do; or its refusal: nobody is known by that."""
        if post.source:
            grant, why, told = self._signed.source(post.source), "signature", _NO_SOURCE
        else:
            grant, why, told = self._by_key(post)
        return group.refused(why, post, 401, told) if grant is None else grant

    def _by_key(self, post: Post) -> tuple[Grant | None, str, str]:
        """What the post's key may do; or None, with why and what to say."""
        shown = presented(post.headers)
        key = post.key if shown is None else shown
        if key is None:
            return None, "no_key", _NO_KEY
        grant = self.keys.identify(key)
        if grant and shown is None and not grant.source.in_address:
            return None, "in_address", _not_in_address(grant)
        return grant, "unknown_key", _NO_KEY

    def _refusal(self, group: _Group, post: Post, grant: Grant) -> Answer | None:
        """Why ``grant`` is not enough for this post, if it is not. RejectedBody: for its format."""
        if not grant.allows(INGEST):
            return group.refused("scope", post, 403, _NO_SCOPE)
        if post.format and registry.get(post.format) is None:
            return group.refused("unknown_format", post, 404, _unknown_format())
        if post.format:
            registry.check_allowed(post.format, grant.formats)
        return None

    def _submit(self, group: _Group, joining: Sequence[_Joining]) -> Sequence[Reply | Exception]:
        """What came of each: at once where its key has sent its quota, else in their round."""
        asks = {place: _ask(one) for place, one in enumerate(joining) if one.grant.quota is not None}
        if not asks:
            return self._carry(group, joining)
        told = self._count(list(asks.values()))
        counted = dict(zip(asks, told, strict=True))
        over = {place: one.wait for place, one in counted.items() if one.wait}
        carried = iter(self._carry(group, [one for i, one in enumerate(joining) if i not in over]))
        outcomes = [
            OverQuota(asks[i].quota, over[i]) if i in over else next(carried) for i in range(len(joining))
        ]
        unused = [i for i in asks if i not in over and not _accepted(joining[i], outcomes[i])]
        if unused:
            self._give_back([(asks[i], counted[i]) for i in unused])
        return outcomes

    def _count(self, asks: Sequence[Ask]) -> list[Counted]:
        """Count what fits into the quotas: for all replicas, or in this process while Redis is away."""
        if time.monotonic() >= self._away_until and not self.keys.away:
            try:
                counted, self._counts_alone = self._quotas.take(asks), False
            except redis.RedisError as error:
                self._note_outage()
                if not self._counts_alone:  # an outage is a line, and not one a second
                    log.warning("quotas are counted in this process: %s", error)
                self._counts_alone = True
            else:
                return counted
        return self._quotas.take_here(asks)

    def _give_back(self, granted: Sequence[tuple[Ask, Counted]]) -> None:
        """A quota counts what was accepted."""
        try:
            self._quotas.give_back(granted, here=time.monotonic() < self._away_until)
        except redis.RedisError:
            self._note_outage()

    def _carry(self, group: _Group, joining: Sequence[_Joining]) -> Sequence[Reply | Exception]:
        """What came of each in their round."""
        if not joining:
            return []
        brought = [one.contribution for one in joining]
        size = sum(size_of(one.parsed) for one in brought)
        # Their deadline is for Redis: a slow sender has its second all the same.
        since = group.began + sum(one.read_for for one in joining)
        try:
            replies = self._rounds.submit_all(brought, size, since=since)
        except Unavailable as error:
            if isinstance(error, StreamAway):
                self._note_outage()
            return [error] * len(joining)
        except Exception as error:
            log.exception("error in a round of %d requests", len(joining))  # once: it is one error
            return [error] * len(joining)
        self._tell(joining, replies)
        return replies

    def _close(self, group: _Group, joined: _Joining, outcome: Reply | Exception) -> Answer:
        """The answer to one that joined, by what came of its round."""
        answer = self._answer_to(group, joined, outcome)
        if joined.begun[0] and self._traces is not None:
            request, parsed = joined.contribution.request, joined.contribution.parsed
            about: dict[str, str | int] = {
                "mutt.correlation_id": request.correlation_id,
                "mutt.batch_id": request.batch_id,
                "mutt.events": len(parsed.events),
            }
            self._traces.ingested(joined.begun, time.monotonic() - group.began, answer.status, about)
        return answer

    def _answer_to(self, group: _Group, joined: _Joining, outcome: Reply | Exception) -> Answer:
        post = joined.post
        if isinstance(outcome, OverQuota):
            self.heard.over_quota(joined.grant.name)
            return group.refused(
                "quota",
                post,
                registry.answers(joined.contribution.parsed.format).over_quota,
                f"{outcome}; send it again in {outcome.retry_after} s",
                retry_after=outcome.retry_after,
                quota=outcome.quota,
            )
        if isinstance(outcome, Exception):
            self.heard.turned_away(joined.grant.name)
        if isinstance(outcome, Unavailable):
            why = f"{outcome.reason}; send it again in {outcome.retry_after} s"
            return group.refused("unavailable", post, 503, why, retry_after=outcome.retry_after)
        if isinstance(outcome, Exception):
            return group.refused("error", post, 500, InternalServerError.description)
        # A known Idempotency-Key adds nothing, and answers what it was answered the first time.
        if _accepted(joined, outcome):
            self._taken(joined.contribution, outcome, group.counts)
            group.taken.append((joined.grant.name, joined.contribution.parsed, joined.size))
        return Answer(202, orjson.dumps(outcome.body), headers=_correlated(post))

    def _guarded(self, group: _Group, post: Post, step: Callable[..., T], *more: Any) -> T | Answer:
        try:
            return step(group, *more)
        except Exception:
            log.exception("error handling a request of %s", post.address)
            return group.refused("error", post, 500, InternalServerError.description)

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

    def _parsed(self, post: Post, body: bytes, grant: Grant) -> Parsed:
        context = Context(
            received_at=datetime.now(UTC),
            key_id=grant.name,
            max_event=self.settings.ingest_max_event,
            default_host=post.address,
            formats=grant.formats,
            headers=post.headers,
            source=grant.source,
        )
        parsed = _read(post, body, context)
        if grant.quota is not None and len(parsed.events) > grant.quota:
            raise RejectedBody(
                "quota",
                f"this request holds {len(parsed.events)} events, and this API key may send {grant.quota} a minute:"
                " send it in parts",
                413,
            )
        return parsed

    def _none_taken(self, group: _Group, post: Post, parsed: Parsed, key_id: str) -> Answer:
        answers, kind = registry.answers(parsed.format), parsed.rejected[0].kind
        if answers.none_taken == 202 or (answers.too_large == 202 and kind is Kind.TOO_LARGE):
            return self._kept(group, post, parsed, key_id)
        told = listed(parsed)
        first = told["rejected"][0]
        why = f"no item can be taken; item {first['index']}: {first['field']}: {first['reason']}"
        answer = group.refused("bad", post, 400, why, **first, **told)
        # Behind the answer: its sender does not wait for what we keep.
        return answer._replace(after=lambda: self._keep_rejected(parsed, key_id), kind=kind)

    def _kept(self, group: _Group, post: Post, parsed: Parsed, key_id: str) -> Answer:
        """For who would send the same again for ever: nothing of it is taken, all of it is kept."""
        if not self._keep_rejected(parsed, key_id):
            why = f"the items are refused, and can't be kept while Redis is away; send them again in {AWAY:.0f} s"
            return group.refused("unavailable", post, 503, why, retry_after=round(AWAY))
        body = {
            "status": "rejected",
            "accepted": 0,
            "duplicates": 0,
            **listed(parsed),
            "batch_id": group.new_id(),
            "correlation_id": post.correlation_id,
            "queue_depth": None,
        }
        return Answer(202, orjson.dumps(body), headers=_correlated(post))

    def _keep_rejected(self, parsed: Parsed, key_id: str) -> bool:
        """Are they kept? Where their sender was told which they are, that is a convenience: it waits for no outage."""
        if time.monotonic() < self._away_until:
            return False
        try:
            self.services.letters.keep_rejected(
                key_id, parsed.rejected, most_bytes=self.settings.ingest_dlq_bytes
            )
        except redis.RedisError as error:
            self._note_outage()
            log.warning("rejected items not kept: %s", error)
            return False
        return True

    def _tell(self, joining: Sequence[_Joining], replies: Sequence[Reply | Exception]) -> None:
        """Whose events stand in the queue now, or in the spill: in the log, a line for all that came of late."""
        taken = [one for one, reply in zip(joining, replies, strict=True) if isinstance(reply, Reply)]
        if taken and log.isEnabledFor(logging.INFO):
            ids = [one.post.correlation_id for one in taken]
            events = sum(len(one.contribution.parsed.events) for one in taken)
            self._accepted.add(ids, requests=len(taken), events=events)

    def _note_outage(self) -> None:
        self._away_until = time.monotonic() + AWAY


def _read(post: Post, body: bytes, context: Context) -> Parsed:
    """What ``body`` holds. Raises :class:`RejectedBody`, unless its sender would send it again for ever: then it is
    an item that is refused."""
    found = registry.choose(post.format, body, post.headers.get("CONTENT-TYPE", ""), context)
    try:
        return registry.parse(found, body, context)
    except RejectedBody as error:
        if error.status != 400 or found.answers.none_taken != 202:
            raise
        text = fit(body[: context.max_event])
        return Parsed([], [Rejected(0, error.field, error.reason, text)], [], found.name)


def _ask(one: _Joining) -> Ask:
    return Ask(one.grant.name, one.grant.quota or 0, len(one.contribution.parsed.events))


def _accepted(joined: _Joining, outcome: Reply | Exception) -> bool:
    """Was anything added? A known Idempotency-Key answers as the first time, and adds nothing."""
    return isinstance(outcome, Reply) and outcome.body["batch_id"] == joined.contribution.request.batch_id


def _correlated(post: Post) -> dict[str, str]:
    return {"X-Correlation-ID": post.correlation_id}


def _idempotency(post: Post, key_id: str, body: bytes) -> str:
    given = post.headers.get("IDEMPOTENCY-KEY", "")
    return idempotency(key_id, given, body) if given else ""


def _not_in_address(grant: Grant) -> str:
    if grant is BOOTSTRAP:  # the environment's: nothing more can be said of it
        return _NOT_IN_ADDRESS.format("make a key for it, and allow that there", "NAME")
    return _NOT_IN_ADDRESS.format("allow it for this key", grant.name)


def _unknown_format() -> str:
    known = ", ".join(sorted(registry.FORMATS))
    return f"no format is called so; post to /ingest, or name one of: {known}"
