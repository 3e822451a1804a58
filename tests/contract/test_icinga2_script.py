"""What Icinga 2 runs for a notification: nothing is lost while MUTT is away, and what it has is not sent again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "icinga2" / "mutt-notify"


class Mutt:
    """Answers as it is told, and keeps what it was sent."""

    def __init__(self) -> None:
        self.status, self.kind = 202, "application/problem+json"
        self.posts: list[list[dict[str, Any]]] = []
        self.keys: set[str] = set()
        mutt = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                mutt.posts.append([json.loads(line) for line in body.splitlines()])
                mutt.keys.add(self.headers["Authorization"])
                self.answer(mutt.status)

            def do_GET(self) -> None:  # as of who follows a redirect
                self.answer(200)

            def answer(self, status: int) -> None:
                self.send_response(status)
                self.send_header("Content-Type", mutt.kind)
                self.send_header("Location", "/ingest/icinga2")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def mutt() -> Iterator[Mutt]:
    made = Mutt()
    yield made
    made.server.shutdown()
    made.server.server_close()


def notify(mutt: Mutt, folder: Path, output: str = "", seconds: str = "0") -> None:
    """As Icinga runs it; without an output: as cron does."""
    key = folder / "key"
    key.write_text("mutt_secret\n")
    told = {
        "MUTT_URL": f"http://127.0.0.1:{mutt.server.server_port}/ingest/icinga2",
        "MUTT_KEY_FILE": str(key),
        "MUTT_SPOOL": str(folder / "spool"),
        "MUTT_SECONDS": seconds,
    }
    if output:
        told |= {"NOTIFICATIONTYPE": "PROBLEM", "HOSTNAME": "web1", "STATE": "DOWN", "OUTPUT": output}
    subprocess.run([sys.executable, SCRIPT], env={"PATH": os.environ["PATH"], **told}, check=True, timeout=30)


def waiting(folder: Path) -> int:
    return len(list((folder / "spool").glob("*.json")))


def test_a_notification_is_sent_once_with_its_own_id(mutt: Mutt, tmp_path: Path) -> None:
    notify(mutt, tmp_path, 'a "quoted" output', "5")
    ((event,),) = mutt.posts
    assert (event["host"], event["output"], len(event["event_id"])) == ("web1", 'a "quoted" output', 36)
    assert mutt.keys == {"Bearer mutt_secret"}
    assert waiting(tmp_path) == 0


def test_what_was_not_taken_waits_and_goes_along_with_the_next_oldest_first(
    mutt: Mutt, tmp_path: Path
) -> None:
    mutt.status = 503
    notify(mutt, tmp_path, "first", "1.5")
    assert len(mutt.posts) == 2  # once more, a second later
    notify(mutt, tmp_path, "second")
    assert waiting(tmp_path) == 2
    mutt.status, mutt.posts = 202, []
    notify(mutt, tmp_path, seconds="5")
    assert [[event["output"] for event in post] for post in mutt.posts] == [["first", "second"]]
    assert waiting(tmp_path) == 0


def test_what_mutt_can_t_read_it_keeps_itself_so_it_is_not_sent_for_ever(mutt: Mutt, tmp_path: Path) -> None:
    mutt.status = 400
    notify(mutt, tmp_path, "odd", "5")
    assert (len(mutt.posts), waiting(tmp_path)) == (1, 0)


@pytest.mark.parametrize("status", [400, 302])
def test_what_a_proxy_says_is_not_mutts_word(mutt: Mutt, tmp_path: Path, status: int) -> None:
    """It refuses http: where it wants https:, or sends elsewhere: the notification waits for who mends the address."""
    mutt.status, mutt.kind = status, "text/html"
    notify(mutt, tmp_path, "kept")
    assert (len(mutt.posts), waiting(tmp_path)) == (1, 1)
