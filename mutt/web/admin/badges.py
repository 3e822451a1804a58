"""Badges: what the linter says of each rule at a glance, worked out once a version of the rules."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection

from mutt.rules import lint
from mutt.rules.lint import Finding
from mutt.store import rulebook


class Badges:
    """The findings of one process; threads may share them. Ten thousand rules take a second, so a list asks apart."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version = -1
        self._found: Mapping[int, Sequence[Finding]] = {}

    def current(self, conn: Connection) -> Mapping[int, Sequence[Finding]]:
        """The findings about the rules as committed, by the id of the rule."""
        version = rulebook.current_version(conn)
        with self._lock:
            if version != self._version:
                self._found, self._version = lint.badges(rulebook.list_rules(conn)), version
            return self._found
