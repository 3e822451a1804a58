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
from mutt.settings import Settings

console = Console(highlight=False)


@functools.cache
def services() -> Services:
    """The services of the stack that the environment, or ``up.json``, names."""
    return Services(Settings.from_env(), _ring_if_possible, role="cli")


def _ring_if_possible(queue: str, **labels: Any) -> None:
    # A doorbell that can't be rung stops nothing: the tick rings within a second.
    with contextlib.suppress(OperationalError, redis.RedisError, OSError):
        ring(queue, **labels)


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[int] = ()
) -> None:
    """Print one table; ``numbers`` are the columns aligned to the right."""
    made = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        made.add_column(column, justify="right" if index in numbers else "left", overflow="fold")
    for row in rows:
        made.add_row(*(str(cell) for cell in row))
    console.print(made)
