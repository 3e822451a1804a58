"""A post of events on its way through ingest: what it is, what it brings, and the group that it came in."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from mutt.errors import RejectedBody, Unavailable
from mutt.event import uuid7
from mutt.formats import registry
from mutt.formats.base import Headers
from mutt.grant import Grant
from mutt.metrics import Ingested
from mutt.pipeline.accept import Contribution, Reply
from mutt.quota import Ask
from mutt.sources.heard import Taken
from mutt.span import Begun
from mutt.web.answer import Answer
from mutt.web.problem import problem

#: What a correlation id may be made of: it goes to logs and headers.
CORRELATION = re.compile(r"[A-Za-z0-9._:@/+-]{1,128}")

#: SNS, and clients of .NET, show user and password only to who asks for Basic.
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="mutt", Bearer realm="mutt"'}

#: Why a body is refused, by its status; else it is bad.
_WHY = {403: "format", 404: "unknown_format", 413: "too_large"}

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


class Group:
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
        return answer._replace(headers={**answer.headers, **more, **correlated(post)}, why=why)

    def rejected(self, post: Post, error: RejectedBody) -> Answer:
        """The answer to one whose body is not taken."""
        why = "quota" if error.field == "quota" else _WHY.get(error.status, "bad")
        answer = self.refused(why, post, error.status, str(error), field=error.field, reason=error.reason)
        return answer._replace(kind=error.kind)

    def unavailable(self, post: Post, error: Unavailable) -> Answer:
        """The answer to one that may come again."""
        return self.refused("unavailable", post, 503, error.reason, retry_after=error.retry_after)

    def count(self, post: Post, answer: Answer) -> None:
        name = post.format or "sniffed"
        self.counts.requests[answer.status, name if name in _COUNTED else "unknown"] += 1
        self.counts.seconds.append(time.monotonic() - self.began)


class Joining(NamedTuple):
    """A post that joins a round, with what it brings."""

    post: Post
    grant: Grant
    contribution: Contribution
    size: int  #: bytes of its body, as it was sent
    read_for: float  #: seconds that its upload and its reading took
    begun: Begun  #: its span, if it is traced

    @property
    def ask(self) -> Ask:
        """What it wants of its key's quota."""
        return Ask(self.grant.name, self.grant.quota or 0, len(self.contribution.parsed.events))

    def added(self, outcome: Reply | Exception) -> bool:
        """Was anything added? A known Idempotency-Key answers as the first time, and adds nothing."""
        return isinstance(outcome, Reply) and outcome.body["batch_id"] == self.contribution.request.batch_id


def correlated(post: Post) -> dict[str, str]:
    """The header that names ``post`` in its answer."""
    return {"X-Correlation-ID": post.correlation_id}
