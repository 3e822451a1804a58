"""The reading of a body: by the format that its path, its key or its look says."""

from __future__ import annotations

from datetime import UTC, datetime

from mutt.errors import RejectedBody
from mutt.formats import registry
from mutt.formats.base import Context, Parsed, Rejected, fit
from mutt.grant import Grant
from mutt.settings import Settings
from mutt.web.post import Post


def understood(post: Post, body: bytes, grant: Grant, settings: Settings) -> Parsed:
    """The events of ``body``, and what of it is refused. Raises :class:`RejectedBody`, also where its key may send no
    request as large."""
    context = Context(
        received_at=datetime.now(UTC),
        key_id=grant.name,
        max_event=settings.ingest_max_event,
        default_host=post.address,
        formats=grant.formats,
        headers=post.headers,
        source=grant.source,
    )
    found = _read(post, body, context)
    if grant.quota is not None and len(found.events) > grant.quota:
        raise RejectedBody(
            "quota",
            f"this request holds {len(found.events)} events, and this API key may send {grant.quota} a minute:"
            " send it in parts",
            413,
        )
    return found


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
