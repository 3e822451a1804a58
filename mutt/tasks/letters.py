"""mutt.maintenance.letters: carry orders about dead letters on, a step at a time."""

from __future__ import annotations

import functools
from typing import Any

from mutt.celery import app
from mutt.letters.desk import Desk
from mutt.letters.orders import Orders
from mutt.services import Services
from mutt.tasks.base import MuttTask, services


@functools.cache
def _desk(of: Services) -> Desk:
    return Desk(of)


@app.task(bind=True, base=MuttTask, name="mutt.maintenance.letters")
def letters(self: MuttTask, **_labels: Any) -> dict[str, Any]:
    """The tick found an order that is not done."""

    def work() -> dict[str, Any]:
        s = services()
        moved = {queue: n for queue, n in Orders(s.redis).work(_desk(s)).items() if n}
        return {"letters": moved} if moved else {}

    return self.work(work)
