"""Workers whose store does nothing (``celery -A benchmarks.noop``): what is left is their own work and Redis'."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from benchmarks.baseline import read_rules
from mutt.celery import app
from mutt.pipeline.ports import Key
from mutt.rules.evaluate import Ruleset
from mutt.services import Services
from mutt.settings import Settings

__all__ = ["app"]


class NoTransaction:
    """The rules, and nothing else: whatever is written is forgotten."""

    def __init__(self, ruleset: Ruleset) -> None:
        self._ruleset = ruleset

    def ruleset(self) -> Ruleset:
        return self._ruleset

    def stored(self, _keys: Sequence[Key]) -> Mapping[Key, Any]:
        return {}

    def write(self, *_what: object) -> Mapping[Any, Any]:
        return {}


class NoStore:
    """In the place of PostgreSQL; the corpus has no clears, so no more is asked of it."""

    @cached_property
    def _ruleset(self) -> Ruleset:
        return read_rules(Settings.from_env())

    @contextmanager
    def transaction(self) -> Iterator[NoTransaction]:
        yield NoTransaction(self._ruleset)

    def control_row(self) -> bool:
        return True


_store = NoStore()
Services.store = property(lambda _services: _store)  # type: ignore[assignment,method-assign]
