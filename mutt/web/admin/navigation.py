"""The way around: which pages stand together in the menu, and in what order."""

from __future__ import annotations

from collections.abc import Iterable

from flask_admin import BaseView

#: Titles, with the endpoints of their pages. One that is not there is left out; a page that no title names comes last.
GROUPS = (
    ("Operate", ("pipeline", "alerts", "audit", "sources", "letters", "runbook")),
    (
        "Rules",
        (
            "rules",
            "tester",
            "backtests",
            "shadow",
            "maintenance",
            "windows",
            "storms",
            "redactions",
            "lint",
            "versions",
        ),
    ),
    ("Devices", ("hosts", "teams")),
    ("Record", ("history",)),
    ("Access", ("keys", "users", "redactions", "profile")),
)


def grouped(views: Iterable[BaseView]) -> list[tuple[str, list[BaseView]]]:
    """The pages of the menu that who is logged in may see: (title, its pages)."""
    left = {view.endpoint: view for view in views if view.is_visible()}
    found = [
        (title, [left.pop(endpoint) for endpoint in endpoints if endpoint in left])
        for title, endpoints in GROUPS
    ]
    return [(title, pages) for title, pages in (*found, ("More", list(left.values()))) if pages]
