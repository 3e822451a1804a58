"""From exec to ready for ingest and for a worker, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks import subjects
from benchmarks.bench import Bench, Step
from benchmarks.figures import MUTT, Figure
from benchmarks.site import Failed
from mutt.embedded.process import Process, Running

#: Seconds between two looks whether it is ready.
LOOK = 0.01

#: CPU milliseconds of importing in a fresh interpreter.
_TIMED = """
import time
before = time.process_time()
{}
print((time.process_time() - before) * 1000)
"""

#: What gunicorn imports for ingest, and celery for a worker.
_IMPORTS = {
    "ingest": "import mutt.wsgi",
    "worker": "from mutt.celery import app; app.loader.import_default_modules()",
}


def run(bench: Bench) -> None:
    """Each as often as planned, after one that fills the system's cache of files."""
    subject = subjects.mutt_itself(bench.site, alerts=1, pool=bench.plan.pool)
    for process in subject.processes:
        role = "ingest" if process.name == "ingest" else "worker"
        taken = [_ready(process) for _ in range(bench.plan.times + 1)]
        note = "from exec until it answers" if role == "ingest" else "from exec until it takes tasks"
        bench.report.add(Figure(f"start-up {role}", MUTT, "s", taken[1:], note=note))
    for role, imports in _IMPORTS.items():
        taken = [_imported(imports) for _ in range(bench.plan.times + 1)]
        bench.report.add(Figure(f"import, {role}", MUTT, "ms CPU", taken[1:], note="in a fresh interpreter"))


def _ready(process: Process) -> float:
    """Seconds. Raises Failed if it ends or is not ready in time."""
    started = time.monotonic()
    running = Running(process)
    try:
        while not running.is_ready():
            if running.exit_code() is not None or time.monotonic() > started + process.ready_timeout:
                raise Failed(f"{process.name} did not start:\n{running.log_tail()}")
            time.sleep(LOOK)
        return time.monotonic() - started
    finally:
        running.stop()


def _imported(imports: str) -> float:
    argv = [sys.executable, "-c", _TIMED.format(imports)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=subjects.ROOT)
    return float(done.stdout)


STEP = Step(run, order=80)
