"""How long something takes, on a machine that others use too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from mutt.pulse.report import Starving


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """The block takes less, beside the time in which this process could have run and others had the cores."""
    starving = Starving()
    before, began = starving.total(), time.monotonic()
    yield
    took = time.monotonic() - began
    starved = starving.total() - before
    assert took - starved < seconds, (
        f"it took {took:.3f} s, and waited for a core for {starved:.3f} s of them"
    )
