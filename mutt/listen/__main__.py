"""``python -m mutt.listen syslog|snmptrap``: ``mutt listen …`` without what the other commands need in memory."""

from __future__ import annotations

import importlib
import sys

from mutt.errors import MuttError
from mutt.settings import Settings

#: Only the one that is asked for is imported.
MODULES = {"syslog": "mutt.listen.syslog", "snmptrap": "mutt.listen.snmptrap"}


def main(argv: list[str]) -> int:
    """Listen until told to stop; what goes wrong is a sentence."""
    if len(argv) != 1 or argv[0] not in MODULES:
        print(f"python -m mutt.listen: say what to listen for: {', '.join(MODULES)}", file=sys.stderr)  # noqa: T201
        return 2
    try:
        importlib.import_module(MODULES[argv[0]]).listen(Settings.from_env())
    except MuttError as error:
        print(f"mutt: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
