"""What gunicorn's parser refuses, said as ingest says everything: which part of the request, what is wrong, the fix.

Never with what was sent: a line that is no header may be a key.
"""

from __future__ import annotations

import ssl

from gunicorn.http import errors

#: Bytes of a request line; how many headers there may be, and bytes of each.
LINE_MAX, HEADERS_MAX, HEADER_MAX = 4094, 100, 8190

#: The first that fits: what was raised, the status, what is said. Whatever is not here is our own fault.
REFUSALS: tuple[tuple[type[Exception], int, str], ...] = (
    (
        errors.LimitRequestLine,
        414,
        f"request line: is longer than {LINE_MAX} bytes: send in the body what it says",
    ),
    (
        errors.LimitRequestHeaders,
        431,
        f"headers: are more than {HEADERS_MAX}, or one is longer than {HEADER_MAX} bytes: send fewer",
    ),
    (
        errors.ExpectationFailed,
        417,
        "Expect: only 100-continue is known: leave it out",
    ),
    (
        errors.UnsupportedTransferCoding,
        400,
        "Transfer-Encoding: only chunked is known: use Content-Encoding to compress",
    ),
    (
        errors.InvalidHTTPVersion,
        400,
        "request line: its version is not known: send HTTP/1.1",
    ),
    (
        errors.InvalidRequestMethod,
        400,
        "request line: its method is none: send POST, or GET, in capitals",
    ),
    (
        errors.InvalidRequestLine,
        400,
        "request line: is not like POST /ingest HTTP/1.1: this is a door for HTTP without TLS, not for syslog",
    ),
    (
        errors.InvalidSchemeHeaders,
        400,
        "X-Forwarded-Proto: contradicts another header: let one proxy write it",
    ),
    (
        errors.ObsoleteFolding,
        400,
        "headers: one goes on in a second line: send it in one",
    ),
    (
        errors.InvalidHeaderName,
        400,
        "headers: a name has characters that none may have: use letters, digits and -, and no blank before the colon",
    ),
    (
        errors.InvalidHeader,
        400,
        "headers: a line is not like Name: value, or has control characters: send it without",
    ),
    (
        ssl.SSLError,
        400,
        "TLS: can't be spoken with this sender: look at its versions and certificates",
    ),
    (
        errors.ParseException,
        400,
        "request: is no HTTP/1.1 that can be read: send it as RFC 9112 has it",
    ),
)

#: Headers that say where a request ends.
_FRAMING = {"CONTENT-LENGTH": "Content-Length", "TRANSFER-ENCODING": "Transfer-Encoding"}

#: Headers of the application's answer, and the server's settings.
_OURS = (errors.InvalidResponseHeader, errors.InvalidResponseHeaderName, errors.ConfigurationProblem)


def refusal(error: BaseException) -> tuple[int, str] | None:
    """(status, what to say) of what the parser raised; None: it is not the sender's fault."""
    if isinstance(error, _OURS):
        return None
    if isinstance(error, errors.InvalidHeader) and error.hdr in _FRAMING:
        name = _FRAMING[error.hdr]
        return 400, f"{name}: is there twice, is not valid, or contradicts another: send one Content-Length"
    return next(((status, detail) for kind, status, detail in REFUSALS if isinstance(error, kind)), None)
