"""Runs processes for as long as it runs itself: ordered start on readiness, restart of what dies, ordered stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Any

from mutt.embedded.guard import Guard
from mutt.embedded.process import Process, Running
from mutt.errors import MuttError

#: Seconds before the first restart, between restarts at most, and alive until earlier deaths are forgiven.
FIRST_DELAY, LAST_DELAY, FORGIVEN = 0.5, 15.0, 30.0

_STARTING, _RUNNING = 0.03, 0.2  # seconds between looks
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class NotStarted(MuttError):
    """A process did not become ready; the message ends with its last words."""


class StopRequested(Exception):
    """Someone asked to stop while the stack was starting. Leaving the supervisor's ``with`` block ends it."""


class Kept:
    """One process and its present run, if it has one."""

    def __init__(self, process: Process, guard: Guard, report: Callable[[str], None]) -> None:
        self.process = process
        self.running: Running | None = None
        self.ready = False
        self._guard, self._report = guard, report
        self._deaths = 0
        self._start_at = 0.0

    def start(self) -> None:
        """Start a run. Raises :class:`OSError`, :class:`MuttError`."""
        self.ready = False
        self.running = Running(self.process)
        self._guard.watch(self.running.pid, self.process.death_signal)

    def tick(self, now: float) -> bool:
        """Do what is due; True if ``running`` or ``ready`` changed."""
        if self.running is None:
            return now >= self._start_at and self._restart(now)
        if self.running.exit_code() is not None:
            self._bury(self.running, now)
            return True
        if self.ready:
            self.running.trim_log()
            return False
        self.ready = self.running.is_ready()
        if not self.ready and now - self.running.started > self.process.ready_timeout:
            self._report(f"{self.process.name} was not ready within {self.process.ready_timeout:g} s: killed")
            self.running.kill()
        return self.ready

    def ended(self) -> None:
        """Forget the run; nothing of it is left."""
        if self.running:
            self._guard.forget(self.running.pid)
        self.running, self.ready = None, False

    def _restart(self, now: float) -> bool:
        try:
            self.start()
        except (OSError, MuttError) as error:
            self._report(f"{self.process.name} can't start: {error}")
            self._wait(now)
            return False
        return True

    def _bury(self, run: Running, now: float) -> None:
        if now - run.started >= FORGIVEN:
            self._deaths = 0
        delay = self._wait(now)
        self._report(f"{self.process.name} ended ({cause(run.exit_code())}), starts again in {delay:g} s")
        self.ended()

    def _wait(self, now: float) -> float:
        delay = min(FIRST_DELAY * 2.0**self._deaths, LAST_DELAY)
        self._deaths += 1
        self._start_at = now + delay
        return delay


class Supervisor:
    """Use it as ``with Supervisor(…) as s: s.start(…); s.start(…); s.run()``, in the main thread.

    ``on_change(processes)`` is called with ``{name: pid}`` when that changed or a process became ready;
    ``report(sentence)`` with what an operator should know. ``keep_open``: see :class:`Guard`. SIGINT, SIGTERM and
    SIGHUP stop it, a second one hastens that. Leaving the block stops what runs, last started first.
    """

    def __init__(
        self,
        on_change: Callable[[dict[str, int]], None],
        *,
        report: Callable[[str], None],
        keep_open: Sequence[int] = (),
    ) -> None:
        self._on_change, self._report = on_change, report
        self._guard = Guard(keep_open)
        self._stages: list[list[Kept]] = []
        self._asked: list[float] = []  # when each request to stop came
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Supervisor:
        self._handlers = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, where: TracebackType | None) -> bool:
        try:
            self.stop()
        finally:
            self._guard.close()
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
        return kind is not None and issubclass(kind, StopRequested)

    @property
    def processes(self) -> dict[str, int]:
        """Name to pid of what runs now."""
        return {kept.process.name: kept.running.pid for kept in self._all() if kept.running}

    @property
    def stopping(self) -> bool:
        """Has anyone asked to stop?"""
        return bool(self._asked)

    def request_stop(self) -> None:
        """Stop soon; asked again: sooner."""
        self._asked.append(time.monotonic())

    def start(self, *processes: Process) -> None:
        """Start these side by side, and wait until each is ready; what was started before is looked after.

        Raises :class:`NotStarted`, and :class:`StopRequested`.
        """
        stage = [Kept(process, self._guard, self._report) for process in processes]
        earlier = self._all()
        self._stages.append([])
        for kept in stage:
            self._first_start(kept)
        self._on_change(self.processes)
        while not all(kept.ready for kept in stage):
            if self.stopping:
                raise StopRequested
            for kept in stage:
                self._first_look(kept)
            self._look_after(earlier)
            time.sleep(_STARTING)
        self._on_change(self.processes)

    def run(self) -> None:
        """Look after everything until someone asks to stop."""
        while not self.stopping:
            self._look_after(self._all())
            time.sleep(_RUNNING)

    def stop(self) -> None:
        """Stop each stage, the last first, and wait for its end."""
        for stage in reversed(self._stages):
            self._stop_stage([(kept, kept.running) for kept in stage if kept.running])
        self._stages.clear()
        self._on_change({})

    def _stop_stage(self, running: Sequence[tuple[Kept, Running]]) -> None:
        asked_at = time.monotonic()
        for _, run in running:
            run.ask_to_stop()
        while any(run.exit_code() is None for _, run in running):
            for kept, run in running:
                if time.monotonic() > self._patience(kept.process, asked_at):
                    self._end_by_force(run)
            time.sleep(_STARTING)
        for kept, _ in running:
            kept.ended()

    def _patience(self, process: Process, asked_at: float) -> float:
        """Until when ``process`` may take its time."""
        patience = asked_at + process.stop_grace
        if len(self._asked) > 1:
            patience = min(patience, max(self._asked[1], asked_at) + process.hasty_grace)
        return patience

    def _end_by_force(self, run: Running) -> None:
        if run.exit_code() is None:
            self._report(f"{run.process.name} did not stop in time: killed")
            run.kill()

    def _first_start(self, kept: Kept) -> None:
        try:
            kept.start()
        except OSError as error:
            raise NotStarted(f"{kept.process.name} can't start: {error}") from error
        self._stages[-1].append(kept)

    def _first_look(self, kept: Kept) -> None:
        run = kept.running
        if run is None or kept.ready:
            return
        kept.ready = run.is_ready()
        if run.exit_code() is not None:
            raise NotStarted(_last_words(run, f"ended ({cause(run.exit_code())})"))
        if not kept.ready and time.monotonic() - run.started > kept.process.ready_timeout:
            raise NotStarted(_last_words(run, f"was not ready within {kept.process.ready_timeout:g} s"))

    def _look_after(self, all_kept: Sequence[Kept]) -> None:
        self._guard.check()
        now = time.monotonic()
        changed = [kept.tick(now) for kept in all_kept]
        if any(changed):
            self._on_change(self.processes)

    def _all(self) -> list[Kept]:
        return [kept for stage in self._stages for kept in stage]

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.request_stop()


def _last_words(run: Running, what: str) -> str:
    return f"{run.process.name} {what}; {run.process.log} ends with:\n{run.log_tail()}"


def cause(code: int | None) -> str:
    """An exit code in words."""
    if code is not None and code < 0:
        return f"by {signal.Signals(-code).name}"
    return f"exit code {code}"
