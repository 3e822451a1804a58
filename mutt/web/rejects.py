"""Items that are refused: what their sender is answered, and that they are kept."""

from __future__ import annotations

import logging

import orjson
import redis

from mutt.errors import Kind
from mutt.formats import registry
from mutt.formats.base import Parsed
from mutt.pipeline.accept import AWAY, listed
from mutt.services import Services
from mutt.streams.letters import KEPT_AT_ONCE
from mutt.web.answer import Answer
from mutt.web.outage import Outage
from mutt.web.post import Group, Post, correlated

log = logging.getLogger("mutt.ingest")


class Rejects:
    """Keeps them for ``mutt dlq``, as long as Redis is there."""

    def __init__(self, services: Services, outage: Outage) -> None:
        self._services, self._outage = services, outage

    def answer(self, group: Group, post: Post, parsed: Parsed, key_id: str) -> Answer:
        """To a post of which nothing can be taken, by its format."""
        answers, kind = registry.answers(parsed.format), parsed.rejected[0].kind
        if answers.none_taken == 202 or (answers.too_large == 202 and kind is Kind.TOO_LARGE):
            return self._all_kept(group, post, parsed, key_id)
        told = listed(parsed)
        first = told["rejected"][0]
        why = f"no item can be taken; item {first['index']}: {first['field']}: {first['reason']}"
        answer = group.refused("bad", post, 400, why, **first, **told)
        # Behind the answer: its sender does not wait for what we keep.
        return answer._replace(after=lambda: self.keep(parsed, key_id), kind=kind)

    def _all_kept(self, group: Group, post: Post, parsed: Parsed, key_id: str) -> Answer:
        """For who would send the same again for ever: nothing of it is taken, all that there is room for is kept."""
        if not self.keep(parsed, key_id, at_once=None):
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
        return Answer(202, orjson.dumps(body), headers=correlated(post))

    def keep(self, parsed: Parsed, key_id: str, at_once: int | None = KEPT_AT_ONCE) -> bool:
        """Are they kept? The first ``at_once`` of a request show what is wrong: a convenience, it waits for no
        outage. All of them (None), where nobody else has them any more."""
        if self._outage.lasts:
            return False
        try:
            most = self._services.settings.ingest_dlq_bytes
            self._services.letters.keep_rejected(key_id, parsed.rejected, most_bytes=most, at_once=at_once)
        except redis.RedisError as error:
            self._outage.note()
            log.warning("rejected items not kept: %s", error)
            return False
        return True
