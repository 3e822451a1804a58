"""Who may post: what a key, or the name of a source that signs, allows; and what is said where that is not enough."""

from __future__ import annotations

from mutt.errors import RejectedBody
from mutt.formats import registry
from mutt.grant import BOOTSTRAP, INGEST, Grant
from mutt.web.answer import Answer
from mutt.web.keys import Keys, presented
from mutt.web.post import Group, Post
from mutt.web.signed import Signed

_NO_KEY = (
    "the API key is missing or not known: send the one that you were given in the header X-API-KEY,"
    " or as Authorization: Bearer, or as the password of Basic"
)
_NOT_IN_ADDRESS = (
    "this API key may not stand in the address, where logs on its way may show it: send it in the header X-API-KEY,"
    " or as the password of Basic; or, for a sender that can do neither, {} (page Keys, or `mutt keys source {}"
    " --in-address`)"
)

_NO_SCOPE = "this API key may not send events: use one of the scope ingest"

_NO_SOURCE = (
    "no source that signs is called so: post to /signed/NAME with the name of a key whose signatures are set up"
    " (page Keys, or `mutt keys sign`)"
)


class Admission:
    """Lets in who may send. ``Unavailable`` passes through."""

    def __init__(self, keys: Keys, signed: Signed) -> None:
        self._keys, self._signed = keys, signed

    def grant(self, group: Group, post: Post) -> Grant | Answer:
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
        grant = self._keys.identify(key)
        if grant and shown is None and not grant.source.in_address:
            return None, "in_address", _not_in_address(grant)
        return grant, "unknown_key", _NO_KEY

    def refusal(self, group: Group, post: Post, grant: Grant) -> Answer | None:
        """Why ``grant`` is not enough for this post, if it is not. RejectedBody: for its format, or there is none."""
        if not grant.allows(INGEST):
            return group.refused("scope", post, 403, _NO_SCOPE)
        if post.format and registry.get(post.format) is None:
            raise RejectedBody("format", _unknown_format(), 404)
        if post.format:
            registry.check_allowed(post.format, grant.formats)
        return None


def _not_in_address(grant: Grant) -> str:
    if grant is BOOTSTRAP:  # the environment's: nothing more can be said of it
        return _NOT_IN_ADDRESS.format("make a key for it, and allow that there", "NAME")
    return _NOT_IN_ADDRESS.format("allow it for this key", grant.name)


def _unknown_format() -> str:
    known = ", ".join(sorted(registry.FORMATS))
    return f"no format is called so; post to /ingest, or name one of: {known}"
