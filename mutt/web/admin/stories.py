"""The page of one event and of one alert: why did this not alert?"""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from flask import abort, request
from flask_admin import expose

from mutt.explain.facts import Explanation
from mutt.explain.gather import Explainer
from mutt.rules.preview import Piece, pieces
from mutt.rules.trace import Tried
from mutt.web import reading
from mutt.web.admin.page import Page

#: Characters of a text that a page shows; ``mutt explain --json`` has all of it.
SHOWN = 20_000


class _Stories(Page):
    @cached_property
    def _explainer(self) -> Explainer:
        return Explainer(self.services)


class EventPage(_Stories):
    """``/audit/<id>``: how it was parsed, each rule tried, what held it back, its alerts, each attempt at Moog."""

    @expose("/<uuid:event_id>")
    def event(self, event_id: UUID) -> Any:
        """``?at=`` is the received_at of the row that is meant, where one id has several."""
        return self._event_page(self._explainer.event(str(event_id), _time(request.args.get("at", ""))))

    @expose("/find")
    def find(self) -> Any:
        """An id as people have it: a UUID, or what the sender calls it (``?id=``)."""
        return self._event_page(self._explainer.event(request.args.get("id", "")))

    def _event_page(self, found: Explanation) -> Any:
        cut = max(0, len(found.raw) - SHOWN)
        page = self.render("event.html", told=found, raw=found.raw[:SHOWN], cut=cut, marked=_marked(found))
        return page, 404 if found.found == "nowhere" else 200


class AlertPage(_Stories):
    """``/alerts/<id>``: where it stands, and each attempt at Moog."""

    @expose("/<uuid:alert_id>")
    def alert(self, alert_id: UUID) -> Any:
        notes: list[str] = []
        story = self._explainer.alert(alert_id, notes)
        reading.note(*notes)
        if story is None:
            abort(404, f"There is no alert {alert_id}.")
        return self.render("alert.html", story=story)


def _marked(found: Explanation) -> list[Piece]:
    """The text in which the deciding rule found what it looks for, in pieces; empty where none did."""
    told = found.then or found.now
    decides: Tried | None = told.deciding if told else None
    if decides is None or not decides.spans:
        return []
    text = found.raw if decides.field == "raw" else _value(found, decides.field)
    return pieces(text, decides.spans)


def _value(found: Explanation, name: str) -> str:
    return next((field.value for field in found.fields if field.name == name), "")


def _time(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else None
