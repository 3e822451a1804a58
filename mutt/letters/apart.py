"""Apart: a trial in a process of its own. A letter that hangs, crashes or takes all memory ends that one alone."""

from __future__ import annotations

import dataclasses
import pickle  # for our own child's eyes: nothing is read with it here
import signal
import subprocess
import sys
from typing import NamedTuple

import msgspec

from mutt.entry import Entry
from mutt.errors import NoRuleset, StoreDown
from mutt.letters.trial import Trial
from mutt.settings import Settings, inherited


class Bounds(NamedTuple):
    """What a trial may take."""

    seconds: float = (
        20.0  #: until somebody is told; the processor's time is bounded as well, whoever still waits
    )
    memory: int = 1 << 30  #: bytes of its address space; an idle one takes a third


class Answer(msgspec.Struct):
    """What the child says."""

    trial: Trial | None = None
    down: str = ""  #: why PostgreSQL could not be asked
    no_rules: str = ""  #: why there are none


class Task(NamedTuple):
    """What the child is told, on its standard input: others may read a command line."""

    settings: Settings
    queue: str
    letter: Entry
    format_: str
    bounds: Bounds


def try_apart(settings: Settings, queue: str, letter: Entry, format_: str, bounds: Bounds) -> Trial:
    """What a worker would make of this letter now. Raises StoreDown, NoRuleset."""
    task = Task(dataclasses.replace(settings, metrics_dir=""), queue, letter, format_, bounds)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "mutt.letters.child"],
            input=pickle.dumps(task),
            capture_output=True,
            timeout=bounds.seconds,
            check=False,
            env=_environment(),
        )
    except subprocess.TimeoutExpired:
        return _died(f"it did not end within {bounds.seconds:g} s")
    if done.returncode:
        return _died(_how(done.returncode, done.stderr.decode(errors="replace")))
    answer = msgspec.json.decode(done.stdout, type=Answer)
    if answer.no_rules:
        raise NoRuleset(answer.no_rules)
    if answer.trial is None:
        raise StoreDown(answer.down)
    return answer.trial


def _environment() -> dict[str, str]:
    """Ours, but the trial counts nothing: each would leave files of metrics behind."""
    return {name: value for name, value in inherited().items() if name.upper() != "PROMETHEUS_MULTIPROC_DIR"}


def _died(fault: str) -> Trial:
    return Trial(outcome="parked", fault=f"the trial's process was lost: {fault}")


def _how(code: int, said: str) -> str:
    if code < 0:
        return f"it was ended by {signal.Signals(-code).name}"
    return said.strip().rpartition("\n")[2] or f"exit code {code}"
