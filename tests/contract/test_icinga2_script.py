"""What Icinga 2 runs for a notification: nothing is lost while MUTT is away, and what it has is not sent again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.answering import Answering, Told, refusal

SCRIPT = Path(__file__).parents[2] / "examples" / "icinga2" / "mutt-notify"


def notify(ingest: Answering, folder: Path, output: str = "", seconds: str = "0") -> None:
    """As Icinga runs it; without an output: as cron does."""
    key = folder / "key"
    key.write_text("mutt_secret\n")
    told = {
        "MUTT_URL": f"{ingest.url}/ingest/icinga2",
        "MUTT_KEY_FILE": str(key),
        "MUTT_SPOOL": str(folder / "spool"),
        "MUTT_SECONDS": seconds,
    }
    if output:
        told |= {"NOTIFICATIONTYPE": "PROBLEM", "HOSTNAME": "web1", "STATE": "DOWN", "OUTPUT": output}
    subprocess.run([sys.executable, SCRIPT], env={"PATH": os.environ["PATH"], **told}, check=True, timeout=30)


def waiting(folder: Path) -> int:
    return len(list((folder / "spool").glob("*.json")))


def outputs(ingest: Answering) -> list[list[str]]:
    """What each request told."""
    return [[json.loads(line)["output"] for line in one.body.splitlines()] for one in ingest.requests]


def test_a_notification_is_sent_once_with_its_own_id(ingest: Answering, tmp_path: Path) -> None:
    notify(ingest, tmp_path, 'a "quoted" output', "5")
    (request,) = ingest.requests
    event = json.loads(request.body)
    assert (event["host"], event["output"], len(event["event_id"])) == ("web1", 'a "quoted" output', 36)
    assert request.headers["authorization"] == "Bearer mutt_secret"
    assert waiting(tmp_path) == 0


def test_what_was_not_taken_waits_and_goes_along_with_the_next_oldest_first(
    ingest: Answering, tmp_path: Path
) -> None:
    ingest.script = [Told(503)] * 3
    notify(ingest, tmp_path, "first", "2.9")
    assert (
        outputs(ingest) == [["first"]] * 2
    )  # once more, a second later; after two more it would be too late
    notify(ingest, tmp_path, "second")
    assert waiting(tmp_path) == 2
    notify(ingest, tmp_path, seconds="5")
    assert outputs(ingest)[3:] == [["first", "second"]]
    assert waiting(tmp_path) == 0


def test_what_mutt_refuses_for_good_is_not_sent_for_ever(ingest: Answering, tmp_path: Path) -> None:
    ingest.script = [refusal(400)]
    notify(ingest, tmp_path, "odd", "5")
    assert (len(ingest.requests), waiting(tmp_path)) == (1, 0)


@pytest.mark.parametrize(
    "answer",
    [
        Told(400, body={}),
        Told(400, {"Content-Type": "application/problem+json"}, {"detail": "headers: a line is not"}),
        Told(302, {"Location": "/ingest/icinga2"}, {}),
    ],
    ids=["a page", "the server", "elsewhere"],
)
def test_what_a_proxy_says_is_not_mutts_word(ingest: Answering, tmp_path: Path, answer: Told) -> None:
    """It refuses http: where it wants https:, or sends elsewhere: the notification waits for who mends the address."""
    ingest.script = [answer]
    notify(ingest, tmp_path, "kept")
    assert (len(ingest.requests), waiting(tmp_path)) == (1, 1)
