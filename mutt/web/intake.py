"""What becomes of a request that posts events, whoever took it in: the Flask view, or the worker's lane.

There is a step before the round that it joins and one behind it, so that requests which are there together join it
together.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import orjson
from werkzeug.exceptions import InternalServerError

from mutt.errors import OverQuota, RejectedBody, StreamAway, Unavailable
from mutt.formats import body as bodies
from mutt.formats import mapped, registry
from mutt.formats.base import Headers, Parsed
from mutt.formats.sns import FORMAT as SNS
from mutt.grant import Grant
from mutt.logs import Gathered
from mutt.metrics import Ingested
from mutt.pipeline.accept import Contribution, Reply, Request, idempotency, size_of
from mutt.services import Services
from mutt.sources.heard import Gathering
from mutt.span import UNTRACED
from mutt.streams.keys import SIGNED
from mutt.web.admission import Admission
from mutt.web.answer import Answer
from mutt.web.counting import Counting
from mutt.web.keys import Keys
from mutt.web.outage import Outage
from mutt.web.parsing import understood
from mutt.web.post import Group, Joining, Post, correlated
from mutt.web.proxies import Proxies
from mutt.web.rejects import Rejects
from mutt.web.signatures import BadSignature
from mutt.web.signed import Signed
from mutt.web.sns import SnsProof

log = logging.getLogger("mutt.ingest")

T = TypeVar("T")


class Intake:
    """Checks, reads and answers posts."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.settings = services.settings
        self.keys = Keys(services.redis, lambda: self.settings.current("ingest_api_key"))
        self._signed = Signed(services.redis, lambda: self.settings.current("sealing_key"))
        #: By format, what shows of its requests whose they are, beside their key. Raises BadSignature, Unavailable.
        self._proofs: Mapping[str, Callable[[Headers, bytes], None]] = {SNS.name: SnsProof(self.settings)}
        self._admission, self._outage = Admission(self.keys, self._signed), Outage()
        self._counting = Counting(services.redis, self.keys, self._outage)
        self._rejects = Rejects(services, self._outage)
        self._proxies = Proxies(self.settings.trusted_proxies, self.settings.proxy_headers)
        self._rounds = services.rounds  # made now, not by two threads at once
        self._meter, self._traces = services.meters["ingest"], services.traces
        self._accepted = Gathered(log, "accepted")
        self.heard = Gathering()

    def answer(self, post: Post, read: Callable[[], bytes]) -> Answer:
        """The answer to one post. ``read`` gives its body; what that raises passes through."""
        with self._meter.busy:
            return self._answer(post, read)

    def _answer(self, post: Post, read: Callable[[], bytes]) -> Answer:
        group = Group(time.monotonic())
        post = group.named(self._from_its_sender(post))
        found = self._open(group, post, read)
        assert found is not None  # nobody waits for it
        if isinstance(found, Joining):
            found = self._close(group, found, self._submit(group, [found])[0])
        group.count(post, found)
        self._count_all(group)
        return found

    def admitted(self, post: Post) -> Grant | Answer:
        """What the key of ``post`` may do, or why it may not send: for what senders ask beside sending."""
        group = Group(time.monotonic())
        post = group.named(self._from_its_sender(post))
        try:
            grant = self._admission.grant(group, post)
            found = (
                grant if isinstance(grant, Answer) else self._admission.refusal(group, post, grant) or grant
            )
        except RejectedBody as error:
            found = group.refused("format", post, error.status, str(error))
        except Unavailable as error:
            found = group.unavailable(post, error)
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
        group = Group(since, shared=True)
        named = [(group.named(self._from_its_sender(post)), body) for post, body in posts]
        opened = [
            self._guarded(group, post, self._open, post, lambda body=body: body) for post, body in named
        ]
        joining = [one for one in opened if isinstance(one, Joining)]
        outcomes = iter(self._submit(group, joining))
        answers = [
            self._guarded(group, one.post, self._close, one, next(outcomes))
            if isinstance(one, Joining)
            else one
            for one in opened
        ]
        for (post, _), answer in zip(named, answers, strict=True):
            if answer:
                group.count(post, answer)
        self._count_all(group)
        return answers

    def _count_all(self, group: Group) -> None:
        counts = group.counts
        if group.taken:
            self.heard.took(group.taken)
        self.services.metrics.ingested(counts)
        self._meter.did(counts.accepted, counts.seconds)
        self._meter.refused += counts.refused["unavailable"]

    def _open(self, group: Group, post: Post, read: Callable[[], bytes]) -> Joining | Answer | None:
        """What ``post`` brings to a round, or its refusal; None: others would have to wait for it."""
        whose, size = "", 0  # whose it is, once that is shown: by its key, or by a good signature
        try:
            grant = self._admission.grant(group, post)
            if isinstance(grant, Answer):
                return grant
            # A name alone learns nothing of what its source may do, and nothing is said of that source for it.
            if not post.source:
                whose = grant.name
                if refusal := self._admission.refusal(group, post, grant):
                    return refusal
            if group.shared and grant.source.mapping and mapped.takes_long(grant.source.mapping):
                return None
            before = time.monotonic()
            sent = read()
            size = len(sent)
            self._signed.check(grant, post.headers, sent)
            if post.source:
                whose = grant.name
                self.keys.note(SIGNED + whose)
                if refusal := self._admission.refusal(group, post, grant):
                    return refusal
            return self._joining(group, post, grant, sent, before)
        except BadSignature as error:
            self._not_taken(whose, error.field, error.reason, size)
            return group.refused("signature", post, 401, str(error), field=error.field, reason=error.reason)
        except RejectedBody as error:
            self._not_taken(whose, error.field, error.reason, size)
            return group.rejected(post, error)
        except Unavailable as error:
            # No outage of ours, but something that only this post needs: a certificate, a secret.
            self._not_taken(whose, "503", error.reason, size)
            return group.unavailable(post, error)

    def _not_taken(self, whose: str, field: str, reason: str, size: int) -> None:
        """Nothing was taken of a post; who sent it should see that where sources are shown."""
        if whose:
            self.heard.failed(whose, field, reason, size=size)

    def _joining(
        self, group: Group, post: Post, grant: Grant, sent: bytes, before: float
    ) -> Joining | Answer:
        """The same, once it is known who sends. ``before`` it was read (monotonic)."""
        body, found = self._read(post, grant, sent)
        read_for = time.monotonic() - before
        if not found.events:
            first, items = found.rejected[0], len(found.rejected)
            self.heard.failed(grant.name, first.field, first.reason, items=items, size=len(sent))
            group.counts.rejected += items
            return self._rejects.answer(group, post, found, grant.name)
        begun = UNTRACED
        if self._traces is not None:
            begun = self._traces.begin(post.headers.get("TRACEPARENT", ""))
        idempotent = _idempotency(post, grant.name, body)
        about = Request(group.new_id(), post.correlation_id, grant.name, idempotent, begun[0])
        return Joining(post, grant, Contribution(about, found), len(sent), read_for, begun)

    def _read(self, post: Post, grant: Grant, sent: bytes) -> tuple[bytes, Parsed]:
        """The body that was ``sent``, inflated, and what it holds."""
        body = bodies.decompress(
            sent, post.headers.get("CONTENT-ENCODING", ""), self.settings.ingest_max_body
        )
        if post.rewrite:
            body = post.rewrite(body)
        found = understood(post, body, grant, self.settings)
        if proof := self._proofs.get(found.format):
            proof(post.headers, body)
        return body, found

    def _submit(self, group: Group, joining: Sequence[Joining]) -> Sequence[Reply | Exception]:
        """What came of each: at once where its key has sent its quota, else in their round."""
        asks = {place: one.ask for place, one in enumerate(joining) if one.grant.quota is not None}
        if not asks:
            return self._carry(group, joining)
        told = self._counting.take(list(asks.values()))
        counted = dict(zip(asks, told, strict=True))
        over = {place: one.wait for place, one in counted.items() if one.wait}
        carried = iter(self._carry(group, [one for i, one in enumerate(joining) if i not in over]))
        outcomes = [
            OverQuota(asks[i].quota, over[i]) if i in over else next(carried) for i in range(len(joining))
        ]
        unused = [i for i in asks if i not in over and not joining[i].added(outcomes[i])]
        if unused:
            self._counting.give_back([(asks[i], counted[i]) for i in unused])
        return outcomes

    def _carry(self, group: Group, joining: Sequence[Joining]) -> Sequence[Reply | Exception]:
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
                self._outage.note()
            return [error] * len(joining)
        except Exception as error:
            log.exception("error in a round of %d requests", len(joining))  # once: it is one error
            return [error] * len(joining)
        self._tell(joining, replies)
        return replies

    def _close(self, group: Group, joined: Joining, outcome: Reply | Exception) -> Answer:
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

    def _answer_to(self, group: Group, joined: Joining, outcome: Reply | Exception) -> Answer:
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
        if joined.added(outcome):
            self._taken(joined.contribution, outcome, group.counts)
            group.taken.append((joined.grant.name, joined.contribution.parsed, joined.size))
        return Answer(202, orjson.dumps(outcome.body), headers=correlated(post))

    def _guarded(self, group: Group, post: Post, step: Callable[..., T], *more: Any) -> T | Answer:
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
            self._outage.note()
        if parsed.rejected:
            self._rejects.keep(parsed, brought.request.key_id)

    def _from_its_sender(self, post: Post) -> Post:
        """``post`` with its sender's address, where a trusted proxy stands between."""
        if not self._proxies:
            return post
        origin = self._proxies.origin(post.address, lambda name: post.headers.get(name, ""))
        return post._replace(address=origin.address)

    def _tell(self, joining: Sequence[Joining], replies: Sequence[Reply | Exception]) -> None:
        """Whose events stand in the queue now, or in the spill: in the log, a line for all that came of late."""
        taken = [one for one, reply in zip(joining, replies, strict=True) if isinstance(reply, Reply)]
        if taken and log.isEnabledFor(logging.INFO):
            ids = [one.post.correlation_id for one in taken]
            events = sum(len(one.contribution.parsed.events) for one in taken)
            self._accepted.add(ids, requests=len(taken), events=events)


def _idempotency(post: Post, key_id: str, body: bytes) -> str:
    given = post.headers.get("IDEMPOTENCY-KEY", "")
    return idempotency(key_id, given, body) if given else ""
