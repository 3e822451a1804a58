"""Sources: what is seen of each who sends, and what is wrong with it first."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from flask import abort, request
from flask_admin import expose

from mutt import watching
from mutt.sources.observed import HOUR
from mutt.sources.view import Seen, rate
from mutt.store import lookup
from mutt.watching import Shown
from mutt.web.admin.page import SHOWN, Page, search

#: Of the line of the last hour: its size, and what is left above it.
WIDTH, HEIGHT, AIR = 118, 22, 2


class Sources(Page):
    @expose("/")
    def index(self) -> str:
        looked, wanted = self._look(), request.args.get("q", "")
        found = search(looked.sources, wanted, _text_of)
        shown = found[:SHOWN]
        groups = {
            "Something is wrong": [seen for seen in shown if seen.wrong],
            "Well": [seen for seen in shown if seen.is_live and seen.was_heard and not seen.wrong],
            "Never heard": [seen for seen in shown if seen.is_live and not seen.was_heard and not seen.wrong],
            "Their key is good no more": [seen for seen in shown if not seen.is_live],
        }
        return self.render(
            "sources.html",
            groups=groups,
            q=wanted,
            found=len(found),
            shown=len(shown),
            wrong=Counter(kind for seen in looked.sources for kind in seen.kinds),
            outage=looked.outage,
            line=line,
            at=at,
            a_second=rate,
        )

    @expose("/<source_name>")
    def one(self, source_name: str) -> str:
        shown = self._look(source_name)
        seen = next(iter(shown.sources), None)
        if seen is None:
            abort(404, "There is no source of this name.")
        return self.render("source.html", seen=seen, outage=shown.outage, line=line, at=at, a_second=rate)

    def _look(self, name: str | None = None) -> Shown:
        with lookup.reading(self.engine) as conn:
            return watching.look(conn, self.services, name, fields=False)


def _text_of(seen: Seen) -> str:
    """What a search looks at: the name, the formats, and what is wrong in a word each."""
    return " ".join((seen.name, *seen.formats, *seen.kinds))


def at(seconds: float) -> datetime | None:
    """Seconds since the epoch as a time; None: never."""
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


#: How far across each minute is, and how high the line can stand.
_ACROSS = [f"{'L' if i else 'M'}{i * WIDTH / (HOUR - 1):g} " for i in range(HOUR)]
_STEPS = 100
_UP = [f"{HEIGHT - i / _STEPS * (HEIGHT - AIR):.1f}" for i in range(_STEPS + 1)]
_FLAT = f"M0 {HEIGHT}H{WIDTH}"


def line(seen: Seen) -> str:
    """The events of each minute of the last hour, as the path of an SVG."""
    most = max(seen.hour.events)
    if not most:
        return _FLAT
    return "".join(
        [across + _UP[n * _STEPS // most] for across, n in zip(_ACROSS, seen.hour.events, strict=True)]
    )
