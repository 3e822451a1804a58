"""Whatever ends a drill ends its fault, and two drills are not judged by each other's."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mutt.balance import Report
from mutt.drills import run, site
from mutt.drills.faults import FAULTS
from mutt.drills.run import ASKS, asked_to_stop
from mutt.drills.site import NotForDrills, Site
from mutt.services import Services
from mutt.settings import Settings


@pytest.fixture
def here(tmp_path: Path) -> Site:
    (tmp_path / "up.json").write_text('{"ingest": "http://127.0.0.1:1"}')
    return Site(Settings.from_env({}, mutt_home=tmp_path))


@pytest.mark.parametrize("first", ASKS, ids=lambda number: number.name)
def test_what_is_being_mended_is_not_broken_off(first: signal.Signals) -> None:
    mended, before = [], [signal.getsignal(number) for number in ASKS]

    def ask(number: signal.Signals) -> None:
        os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt), asked_to_stop():
        try:
            ask(first)
        finally:
            for number in ASKS:
                ask(number)
            mended.append(first)
    assert mended == [first]
    assert [signal.getsignal(number) for number in ASKS] == before


def test_there_is_one_drill_at_a_time(here: Site) -> None:
    with here.alone(), pytest.raises(NotForDrills, match="another drill"), here.alone():
        raise AssertionError
    with here.alone():
        pass


def test_a_sender_that_does_not_end_is_ended(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    deaf = "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); print(1, flush=True); sys.stdin.read()"
    senders = []

    def start(*_args: Any, **_named: Any) -> subprocess.Popen[bytes]:
        senders.append(popen([sys.executable, "-c", deaf], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        senders[0].stdout.readline()  # type: ignore[union-attr]
        return senders[0]

    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(site, "SENT_WITHIN", 0.05)
    with here.load("mixed", 1.0, 1):
        pass
    assert senders[0].returncode == -signal.SIGKILL


def test_rest_is_waited_for_until_after_the_breaker_asks_again(
    here: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = []

    def rested(_services: Services, within: float) -> Report:
        waited.append(within)
        return report

    report = Report({}, {}, 0, 0, None, None, None, True, True, "balanced", {})
    monkeypatch.setattr(run, "observe", lambda *_args, **_named: (report, ""))
    monkeypatch.setattr(run, "_flow", lambda *_args: None)
    monkeypatch.setattr(run, "rest", rested)
    monkeypatch.setattr(here, "load", lambda *_args: contextlib.nullcontext())
    services = Services(Settings.from_env({}, moog_breaker_timeout=700.0), lambda *_args, **_labels: None)
    monkeypatch.setattr(here, "pids", lambda *_names: [1])
    monkeypatch.setattr(run, "NAMED_WITHIN", 0.0)
    run.drill(FAULTS["storm"], here, services, list, hold=0.0, say=lambda _sentence: None)
    [within] = waited
    assert within > 700.0
