"""The process of a trial (``python -m mutt.letters.child``): bounded, told what to do on standard input."""

from __future__ import annotations

import math
import os
import pickle
import resource
import sys

import msgspec

from mutt.errors import NoRuleset, StoreDown
from mutt.letters.apart import Answer, Bounds, Task
from mutt.letters.desk import Desk
from mutt.services import Services

#: Bytes without which nothing can be said of PostgreSQL.
_ROOM = 8 << 20


def main() -> None:
    # Whatever else speaks does not speak into the answer.
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)
        task: Task = pickle.load(sys.stdin.buffer)  # noqa: S301 our parent wrote it
        _bind(task.bounds)
        desk = Desk(Services(task.settings, lambda *_a, **_k: None, role="trial"))
        try:
            answer = Answer(trial=desk.tried(task.queue, task.letter, task.format_))
        except NoRuleset as error:
            answer = Answer(no_rules=str(error))
        except StoreDown as error:
            # Whoever has no memory left blames PostgreSQL, where that is what it asked last.
            bytearray(_ROOM)
            answer = Answer(down=str(error))
        out.write(msgspec.json.encode(answer))


def _bind(bounds: Bounds) -> None:
    """The kernel ends us, also when nobody waits for us any more."""
    for what, most in (
        (resource.RLIMIT_AS, bounds.memory),
        (resource.RLIMIT_CPU, math.ceil(bounds.seconds)),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (least, least))


if __name__ == "__main__":
    main()
