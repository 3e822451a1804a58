"""The simulator as its users meet it: over HTTP, and as a process of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from mutt.moogsim.book import most_in_window
from mutt.moogsim.script import Behaviour
from mutt.moogsim.server import Simulator

EVENT = {"signature": "core::down", "severity": 5, "source": "core", "description": "down"}


@pytest.fixture
def moog():
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def http():
    with requests.Session() as session:
        session.trust_env = False
        yield session


def get(http, moog, path):
    return http.get(moog.url + path, timeout=5).json()


def send(http, moog, *events):
    return http.post(moog.enterprise_url, json={"events": events or [EVENT]}, timeout=5)


def test_it_counts_what_came(http, moog):
    send(http, moog, EVENT, EVENT | {"signature": "other"})
    http.post(
        moog.cloud_url,
        json=[{"source": "h", "check": "c", "severity": "minor", "description": "d"}],
        timeout=5,
    )
    stats = get(http, moog, "/stats")
    assert (stats["requests"], stats["events"], stats["signatures"]) == (2, 3, 3)
    assert stats["by_status"] == {"200": 2}
    assert stats["first_at"] < stats["last_at"]


def test_requests_that_come_together_are_in_one_window(moog):
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda _: requests.post(moog.enterprise_url, json=EVENT, timeout=5), range(20)))
    starts = moog.starts
    assert (len(starts), starts) == (20, sorted(starts))
    assert moog.book.stats()["max_in_window"] == most_in_window(starts, 1.0) > 1


def test_a_start_is_when_the_first_byte_came_not_when_the_connection_opened(moog):
    with socket.create_connection((moog.host, moog.port)) as peer:
        time.sleep(0.2)
        first = time.monotonic()
        peer.sendall(b"POST /events/x HTTP/1.1\r\n")
        time.sleep(0.4)
        rest = time.monotonic()
        peer.sendall(b"Host: x\r\nContent-Length: 2\r\n\r\n{}")
        peer.recv(1024)
    assert first <= moog.starts[0] < rest


def test_what_came_is_told_with_its_time(http, moog):
    before = time.monotonic()
    send(http, moog)
    send(http, moog, EVENT | {"signature": "other"})
    (one,) = get(http, moog, "/received?signature=core::down")
    assert before < one["at"] < time.monotonic()
    assert (one["status"], one["taken"], one["came"]["event"]) == (200, True, EVENT)
    assert [r["came"]["signature"] for r in get(http, moog, "/received?limit=1")] == ["other"]


def test_a_clear_closes_its_alert(http, moog):
    send(http, moog, EVENT, EVENT | {"severity": 0})
    (alert,) = get(http, moog, "/alerts")
    assert (alert["signature"], alert["state"], alert["count"], alert["clears"]) == (
        "core::down",
        "clear",
        2,
        1,
    )


def test_all_is_forgotten_on_demand(http, moog):
    send(http, moog)
    assert http.delete(moog.url + "/received", timeout=5).status_code == 200
    assert get(http, moog, "/stats")["requests"] == 0
    assert get(http, moog, "/received") == get(http, moog, "/alerts") == []


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        ("ok", 200),
        ("success_false", 200),
        ("202", 202),
        ("401", 401),
        ("403", 403),
        ("404", 404),
        ("redirect", 302),
        ("413", 413),
        ("429", 429),
        ("500", 500),
        ("503", 503),
        ("delay", 200),
    ],
)
def test_it_answers_as_told_for_as_long_as_told(http, moog, behaviour, status):
    told = http.post(moog.url + "/script", json={"behaviour": behaviour, "times": 2}, timeout=5)
    assert told.json()["behaviour"] == behaviour
    answers = [
        http.post(moog.enterprise_url, json=EVENT, timeout=5, allow_redirects=False).status_code
        for _ in range(3)
    ]
    assert answers == [status, status, 200]


def test_several_steps_follow_each_other(http, moog):
    http.post(
        moog.url + "/script",
        json=[{"behaviour": "429", "times": 1, "retry_after": 3}, {"behaviour": "500", "times": 1}],
        timeout=5,
    )
    first, second, third = send(http, moog), send(http, moog), send(http, moog)
    assert (first.status_code, first.headers["Retry-After"]) == (429, "3")
    assert (second.status_code, third.status_code) == (500, 200)


def test_a_script_with_a_slip_is_refused_and_the_old_one_stays(http, moog):
    moog.behave("503")
    assert http.post(moog.url + "/script", json={"behaviour": "teapot"}, timeout=5).status_code == 400
    assert send(http, moog).status_code == 503


def test_a_hang_up_before_the_answer_took_the_event(http, moog):
    moog.behave("hangup_before", times=1)
    with pytest.raises(requests.ConnectionError):
        send(http, moog)
    assert send(http, moog).status_code == 200
    stats = get(http, moog, "/stats")
    assert (stats["taken"], stats["duplicates"], stats["by_status"]) == (2, 1, {"0": 1, "200": 1})
    assert stats["by_behaviour"] == {"hangup_before": 1, "ok": 1}


def test_bad_requests_are_refused_and_counted(http, moog):
    assert http.post(moog.enterprise_url, data=b"{", timeout=5).status_code == 400
    assert http.post(moog.cloud_url, json=[{"source": "h"}], timeout=5).status_code == 400
    assert http.post(moog.url + "/nowhere", json={}, timeout=5).status_code == 404
    assert get(http, moog, "/stats")["by_status"] == {"400": 2}


def test_a_required_key_keeps_others_out(http):
    with Simulator(require_key="k3y") as moog:
        assert send(http, moog).status_code == 401
        assert http.post(moog.cloud_url, json=[], headers={"apiKey": "k3y"}, timeout=5).status_code == 200
        assert http.post(moog.enterprise_url, json=EVENT, auth=("u", "k3y"), timeout=5).status_code == 200
        assert "k3y" not in http.get(moog.url + "/received", timeout=5).text


def test_a_stop_cuts_connections_and_a_start_comes_back_at_the_same_address(http, moog):
    send(http, moog)
    url = moog.url
    moog.stop()
    with pytest.raises(requests.ConnectionError):
        send(http, moog)
    moog.start()
    assert moog.url == url
    assert send(http, moog).status_code == 200
    assert len(moog.received) == 2


def test_the_page_loads_nothing_from_elsewhere_and_knows_each_behaviour(http, moog):
    page = http.get(moog.url + "/", timeout=5)
    assert page.headers["Content-Type"].startswith("text/html")
    assert "http://" not in page.text
    assert "https://" not in page.text
    script = http.get(moog.url + "/page.js", timeout=5).text
    assert "//" not in script.replace("// ", "")
    assert all(f'"{behaviour}"' in script for behaviour in Behaviour)
    assert http.head(moog.url + "/", timeout=5).status_code == 200


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_it_runs_as_a_process_and_ends_when_told(http, tmp_path, end):
    file = tmp_path / "port"
    with subprocess.Popen(
        [sys.executable, "-m", "mutt.moogsim", "--port", "0", "--port-file", file],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert "http://127.0.0.1:" in process.stdout.readline()
            url = f"http://127.0.0.1:{int(file.read_text())}"
            assert (
                http.post(f"{url}/events/webhook_webhook1", json=EVENT, timeout=5).json()["success"] is True
            )
            process.send_signal(end)
            assert process.wait(5) == 0
        finally:
            process.kill()


def test_a_page_of_another_site_changes_nothing(http, moog):
    """A browser says who asks; without that word it is no browser."""
    for method, path, body in (("POST", "/script", "{}"), ("DELETE", "/received", None)):
        for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), (None, 200)):
            told = {"Sec-Fetch-Site": site} if site else {}
            assert (
                http.request(method, moog.url + path, data=body, headers=told, timeout=5).status_code
                == status
            )
