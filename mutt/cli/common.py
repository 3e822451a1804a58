"""What the commands share: this shell's services, and tables."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import redis
from kombu.exceptions import OperationalError
from rich.console import Console
from rich.table import Table

from mutt.celery import ring
from mutt.services import Services
from mutt.settings import Settings, read_up

console = Console(highlight=False)


@functools.cache
def services() -> Services:
    """The services of the stack that the environment, or ``up.json``, names."""
    return Services(Settings.from_env(), _ring_if_possible, role="cli")


def owner_url(settings: Settings) -> str:
    """How to ask PostgreSQL as the owner of MUTT's tables. Raises :class:`SettingsError` where nothing tells."""
    if settings.database_owner_url:
        return settings.database_owner_url
    settings.need("database_url")
    up = read_up(settings.mutt_home)
    # A private PostgreSQL lets this shell in as one who owns nothing.
    beside = settings.database_url == up.get("database_url")
    return str(up["owner_url"]) if beside else settings.database_url


def _ring_if_possible(queue: str, **labels: Any) -> None:
    # A doorbell that can't be rung stops nothing: the tick rings within a second.
    with contextlib.suppress(OperationalError, redis.RedisError, OSError):
        ring(queue, **labels)


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numbers: Sequence[int] = (),
    whole: Sequence[int] = (),
) -> None:
    """Print one table; ``numbers`` are the columns aligned to the right, ``whole`` those that are never folded."""
    made = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        made.add_column(
            column, justify="right" if index in numbers else "left", overflow="fold", no_wrap=index in whole
        )
    for row in rows:
        made.add_row(*(str(cell) for cell in row))
    console.print(made)
