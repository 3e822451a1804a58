"""CloudEvents' binary mode: the headers of a request are the envelope, and its body is the data (HTTP binding, 3.1)."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

import msgspec

from mutt.errors import RejectedBody
from mutt.formats import values
from mutt.formats.base import Headers, JsonObject

#: Media types of data that is JSON.
JSON = re.compile(r"\s*[\w.+-]+/(?:[\w.-]+\+)?json\s*(?:;.*)?", re.I | re.S)

_PREFIX = "CE-"
_QUOTED = re.compile(r"\\(.)", re.S)


def structured(body: bytes, content_type: str, headers: Headers) -> bytes:
    """A binary event as a structured one, which says alone all that it says. Raises :class:`RejectedBody`."""
    item: JsonObject = dict(sorted(_attributes(headers.items())))
    if content_type:
        item["datacontenttype"] = content_type
    return msgspec.json.encode(item | _embedded(body, content_type or "application/json"))


def _embedded(body: bytes, content_type: str) -> JsonObject:
    """The data as it stands in a structured event: JSON as it came, other text as text, and Base64 of bytes."""
    if not body:
        return {}
    if JSON.fullmatch(content_type):
        try:
            msgspec.json.decode(body)
            return {"data": msgspec.Raw(body)}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # its sender calls other text JSON
    try:
        return {"data": values.clean_text(body.decode())}
    except UnicodeDecodeError:
        return {"data_base64": base64.b64encode(body).decode()}


def _attributes(headers: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    for name, value in headers:
        if name[: len(_PREFIX)].upper() == _PREFIX and name.lower() != "ce-datacontenttype":
            yield name[len(_PREFIX) :].lower(), _decoded(name, value)


def _decoded(name: str, value: str) -> str:
    """A header's value without quotes, then without one round of percent-encoding. Raises :class:`RejectedBody`."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = _QUOTED.sub(r"\1", value[1:-1])
    try:
        # WSGI shows a header's bytes as Latin-1.
        return values.clean_text(unquote_to_bytes(value.encode("latin-1", "replace")).decode())
    except UnicodeDecodeError:
        raise RejectedBody(
            name, "is no UTF-8 behind its percent signs: write each byte of it as %XX"
        ) from None
