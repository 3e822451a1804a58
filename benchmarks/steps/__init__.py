"""What is measured, a module a step: a file that is added here is a step of the command, under its own name.

Its docstring's first line is what the command says of it; ``STEP`` says how it runs
(:class:`benchmarks.bench.Step`).
"""

from __future__ import annotations

import importlib
import pkgutil

from benchmarks.bench import Step


def found() -> dict[str, Step]:
    """All steps by their names (``end_to_end.py`` is ``end-to-end``), in the order in which they run."""
    modules = [importlib.import_module(f"{__name__}.{one.name}") for one in pkgutil.iter_modules(__path__)]
    steps = {module.__name__.rpartition(".")[2].replace("_", "-"): module.STEP for module in modules}
    return dict(sorted(steps.items(), key=lambda named: named[1].order))
