"""Bodies of text: each piece is an item, and one that is refused costs no other."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mutt.errors import RejectedItem
from mutt.formats.base import Context, Fields, Parsed, fit
from mutt.formats.collector import Collector


def gather(pieces: Iterable[bytes], read: Callable[[str], Fields], context: Context) -> Parsed:
    """The events of ``pieces``; what ``read`` refuses is kept as it came."""
    collector = Collector(context)
    for data in pieces:
        text = fit(data)
        try:
            collector.check_size(text)
            collector.add(read(text), text)
        except RejectedItem as refusal:
            collector.reject(data, refusal)
    return collector.parsed
