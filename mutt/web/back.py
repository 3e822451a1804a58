"""Where a login leads back to: a page of ours, whatever an address says."""

from __future__ import annotations

from urllib.parse import urlsplit


def safe_next(target: str) -> str:
    """``target`` if it is a path of this site, else the first page."""
    # Browsers read a backslash as a slash and skip control characters: either could hide a host name.
    hidden = "\\" in target or any(ord(character) < 0x21 or character == "\x7f" for character in target)
    if hidden or not target.startswith("/") or target.startswith("//"):
        return "/"
    try:
        parts = urlsplit(target)
    except ValueError:
        return "/"
    return "/" if parts.scheme or parts.netloc else target


def path_of(address: str) -> str:
    """The path and query of an address that a browser says it is at; empty: it says none that can be read."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    return f"{parts.path}?{parts.query}".rstrip("?")
