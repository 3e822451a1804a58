"""Sources: what is seen of each who sends, and what is wrong with it first."""

from __future__ import annotations

from datetime import UTC, datetime

from flask import abort, request
from flask_admin import expose

from mutt import watching
from mutt.sources.view import Seen, rate
from mutt.store import lookup
from mutt.watching import Shown
from mutt.web.admin.page import Page, search

#: Of the line of the last hour: its size, and what is left above it.
WIDTH, HEIGHT, AIR = 118, 22, 2


class Sources(Page):
    @expose("/")
    def index(self) -> str:
        shown, wanted = self._look(), request.args.get("q", "")
        found = search(shown.sources, wanted, lambda seen: f"{seen.name} {' '.join(seen.formats)}")
        groups = {
            "Something is wrong": [seen for seen in found if seen.wrong],
            "Well": [seen for seen in found if seen.is_live and not seen.wrong],
            "Their key is good no more": [seen for seen in found if not seen.is_live],
        }
        return self.render(
            "sources.html",
            groups=groups,
            q=wanted,
            found=len(found),
            outage=shown.outage,
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
            return watching.look(conn, self.services, name)


def at(seconds: float) -> datetime | None:
    """Seconds since the epoch as a time; None: never."""
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def line(seen: Seen) -> str:
    """The events of each minute of the last hour, as the path of an SVG."""
    values = seen.observed.line(seen.at)
    most, step = max(values) or 1, WIDTH / (len(values) - 1)
    points = (
        f"{i * step:.1f} {HEIGHT - value / most * (HEIGHT - AIR):.1f}" for i, value in enumerate(values)
    )
    return "M" + "L".join(points)
