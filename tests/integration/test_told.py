"""Metrics are told at a port of their own, which nobody else can have meant."""

from __future__ import annotations

import pytest
import requests

from mutt import told
from mutt.embedded.ports import free_port
from mutt.errors import SettingsError
from mutt.settings import Settings


def settings(**given: object) -> Settings:
    return Settings.from_env({}, **given)


def test_without_a_port_there_is_none() -> None:
    assert told.listen(settings()) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_what_is_told_is_told_there_and_nothing_else(host: str) -> None:
    listening = told.listen(settings(metrics_host=host, metrics_port=free_port(19500)))
    assert listening
    server = told.serve(listening, lambda: b"mutt_things_total 1\n")
    try:
        address = f"http://{f'[{host}]' if ':' in host else host}:{server.server_address[1]}"
        answer = requests.get(f"{address}/metrics?name=x", timeout=5)
        assert (answer.status_code, answer.text) == (200, "mutt_things_total 1\n")
        assert answer.headers["Content-Type"].startswith("text/plain")
        for path in ("", "/", "/readyz"):
            assert requests.get(address + path, timeout=5).status_code == 404
        assert requests.post(f"{address}/metrics", timeout=5).status_code == 501
    finally:
        server.shutdown()
        server.server_close()


def test_a_process_lives_though_nobody_whom_it_asks_does() -> None:
    """What restarts processes goes by this: an outage of a server is no reason to."""

    def hangs() -> bytes:
        raise AssertionError("it was asked")

    listening = told.listen(settings(metrics_port=free_port(19500)))
    assert listening
    server = told.serve(listening, hangs)
    try:
        answer = requests.get(f"http://127.0.0.1:{server.server_address[1]}/healthz", timeout=5)
        assert (answer.status_code, answer.text) == (200, "ok\n")
    finally:
        server.shutdown()
        server.server_close()


def test_by_itself_it_listens_on_the_loopback() -> None:
    listening = told.listen(settings(metrics_port=free_port(19500)))
    assert listening
    with listening:
        assert listening.getsockname()[0] == "127.0.0.1"


def test_a_port_that_is_taken_is_named_with_its_setting() -> None:
    port = free_port(19500)
    first = told.listen(settings(metrics_port=port))
    assert first
    with first, pytest.raises(SettingsError) as refused:
        told.listen(settings(metrics_port=port))
    assert (refused.value.name, refused.value.value) == ("METRICS_PORT", str(port))
