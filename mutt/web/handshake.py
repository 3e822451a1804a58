"""CloudEvents' handshake: a sender asks by OPTIONS whether it is expected before it sends (HTTP 1.1 Web Hooks, 4)."""

from __future__ import annotations

import re

from mutt.formats.base import Headers

_ORIGIN = re.compile(r"[A-Za-z0-9*](?:[A-Za-z0-9.:/*_-]{0,253}[A-Za-z0-9*/])?")


def agreed(headers: Headers) -> dict[str, str]:
    """The headers that agree; none at all where nobody asks, or asks in a name that is none.

    Whoever asks is agreed to: it opens nothing, as each delivery has to show a key or a signature. As many as it likes:
    a key's quota is told where it is used up, with a 429 and Retry-After. The address in WebHook-Request-Callback, by
    which one may agree later, is never called: anybody could have us call anything.
    """
    origin = headers.get("WEBHOOK-REQUEST-ORIGIN", "")
    if not _ORIGIN.fullmatch(origin):
        return {}
    return {"WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": "*"}
