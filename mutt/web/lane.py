"""Which requests take the lane: small posts of events, in which nothing can be understood in two ways.

What takes it passes gunicorn's parser and Flask by, so it has to be what both would take as it stands. Whatever is not
plainly so goes the ordinary way, and is judged there.
"""

from __future__ import annotations

import re

from mutt.web.post import Post
from mutt.web.refused import HEADERS_MAX

#: Bytes of a head, and of a body, that is small: also one made of the smallest events is read within a few ms, and
#: a group of such holds up nobody.
HEAD_MOST, BODY_MOST = 4 << 10, 4 << 10

#: A request line and headers. No blank before a colon, no line that goes on in the next, no control characters; and
#: no underscore, for gunicorn leaves such headers out.
_HEAD = re.compile(
    r"POST (?:/ingest|/api/v[12]/ingest) HTTP/1\.1"
    r"((?:\r\n[!#$%&'*+.^`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*)+)"
)

#: A name or an IPv4 address, and a port: what Werkzeug takes for a host without a second look.
_HOST = re.compile(r"(?:[A-Za-z0-9-]{1,63}\.)*[A-Za-z0-9-]{1,63}(?::\d{1,5})?", re.ASCII)

#: Headers that say more than the lane understands; and SNS', whose certificate may have to be waited for.
_STRANGE = frozenset(
    (
        "CONTENT-ENCODING",
        "EXPECT",
        "HTTP2-SETTINGS",
        "TRANSFER-ENCODING",
        "TRAILER",
        "UPGRADE",
        "X-AMZ-SNS-MESSAGE-TYPE",
    )
)


def recognised(request: bytes, address: str) -> tuple[Post, bytes] | None:
    """The post and its body, if ``request`` (a whole one, of a length that was told) may take the lane."""
    if len(request) > HEAD_MOST + BODY_MOST + 4:
        return None
    head, _, body = request.partition(b"\r\n\r\n")
    if len(head) > HEAD_MOST or len(body) > BODY_MOST:
        return None
    found = _HEAD.fullmatch(head.decode("latin-1"))
    if found is None:
        return None
    lines = [line.partition(":") for line in found[1].split("\r\n")[1:]]
    headers = {name.upper(): value.strip(" \t") for name, _, value in lines}
    twice, many = len(headers) < len(lines), len(lines) > HEADERS_MAX
    if twice or many or not _STRANGE.isdisjoint(headers):
        return None
    if headers.get("CONNECTION", "keep-alive").lower() != "keep-alive":
        return None
    if not _HOST.fullmatch(headers.get("HOST", "")):
        return None
    return Post(headers, address), body
