"""CloudEvents over HTTP, as the CNCF's own SDK sends them: every mode, the handshake, and what a sender has to hear."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

from mutt.event import State
from mutt.grant import INGEST, Grant, digest_of
from mutt.streams.keys import KeysCopy
from tests.integration.test_ingest import KEY, Ingest, is_problem

ATTRIBUTES = {
    "id": "a-771",
    "source": "/noc/poller/3",
    "type": "net.link.v1",
    "subject": "core-sw-07/Te1/0/12",
    "datacontenttype": "application/json",
    "operator": "J\N{LATIN SMALL LETTER O WITH DIAERESIS}rg 100%",
}
DATA = {"severity": "major", "state": "down", "message": "Te1/0/12 down"}
PATHS = ("/ingest", "/api/v1/ingest", "/api/v2/ingest", "/ingest/cloudevents")
ASKED = (*PATHS, "/signed/github", "/signed/github/cloudevents")
BATCH = "application/cloudevents-batch+json"


@pytest.fixture
def ingest(redis_url: str) -> Ingest:
    made = Ingest(redis_url)
    few = Grant("few", (INGEST,), quota=1)
    KeysCopy(made.redis).publish({digest_of(b"few"): few})
    return made


def event(data: Any = DATA, **attributes: str) -> CloudEvent:
    return CloudEvent(ATTRIBUTES | attributes, data)


def send(ingest: Ingest, message: HTTPMessage, path: str = "/ingest", key: str = KEY) -> Any:
    headers = message.headers | {"Authorization": f"Bearer {key}"}
    return ingest.client.post(path, data=message.body, headers=headers)


def batch(*events: CloudEvent) -> HTTPMessage:
    # The SDK makes none; a batch is an array of structured ones (JSON Event Format, 4).
    bodies = [to_structured_event(one).body for one in events]
    return HTTPMessage({"Content-Type": BATCH}, b"[" + b",".join(bodies) + b"]")


@pytest.mark.parametrize("path", PATHS)
def test_every_mode_means_the_same_event_and_what_comes_again_is_known(ingest: Ingest, path: str) -> None:
    sent = [to_structured_event(event()), to_binary_event(event()), batch(event(), event(id="a-772"))]
    answers = [send(ingest, message, path) for message in sent]
    assert [answer.status_code for answer in answers] == [202] * 3
    assert send(ingest, sent[1], path).get_json()["duplicates"] == 1
    events = ingest.events()
    for found in events:
        assert (found.hostname, found.message, found.severity) == ("core-sw-07", "Te1/0/12 down", 3)
        assert (found.state, found.instance, found.source) == (State.RAISE, "Te1/0/12", "cloudevents")
        assert found.tags["ce.operator"] == ATTRIBUTES["operator"]
        assert json.loads(found.raw)["operator"] == ATTRIBUTES["operator"]
    ids = [found.event_id for found in events]
    assert ids[0] == ids[1] == ids[2] == ids[4] != ids[3]


def test_a_clear_ends_the_same_object(ingest: Ingest) -> None:
    for number, state in enumerate(("down", "up")):
        send(ingest, to_binary_event(event(DATA | {"state": state}, id=str(number))))
    down, up = ingest.events()
    assert (down.state, up.state) == (State.RAISE, State.CLEAR)
    assert down.clear_key == up.clear_key == ATTRIBUTES["subject"]
    assert down.instance == up.instance


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        ("it burns", "text/plain", "it burns"),
        (b"\x89PNG\r\n\xff", "image/png", "net.link.v1 core-sw-07/Te1/0/12: 7 bytes of image/png"),
        (None, "application/json", "net.link.v1 core-sw-07/Te1/0/12"),
    ],
    ids=["text", "bytes", "nothing"],
)
def test_data_that_is_no_json_is_read_in_both_modes(
    ingest: Ingest, data: Any, kind: str, message: str
) -> None:
    made = event(data, datacontenttype=kind)
    for sent in (to_structured_event(made), to_binary_event(made)):
        assert send(ingest, sent).status_code == 202
    assert [found.message for found in ingest.events()] == [message] * 2


def test_what_the_data_is_itself_is_read_by_its_own_format(ingest: Ingest) -> None:
    trap = {"source_ip": "10.20.0.7", "trap_oid": "1.3.6.1.6.3.1.1.5.4", "varbinds": []}
    assert send(ingest, to_binary_event(event(trap))).status_code == 202
    (found,) = ingest.events()
    assert (found.hostname, found.trap_oid, found.state) == ("10.20.0.7", trap["trap_oid"], State.CLEAR)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["application/cloudevents+avro", "application/cloudevents-batch+protobuf"])
def test_a_serialization_that_is_not_understood_is_a_415(ingest: Ingest, path: str, kind: str) -> None:
    found = is_problem(send(ingest, HTTPMessage({"Content-Type": kind}, b"\x00\x01"), path), 415)
    assert "application/cloudevents+json" in found["detail"]


def test_headers_that_are_no_event_are_refused_and_named(ingest: Ingest) -> None:
    for header, value, field in (("ce-id", "", "id"), ("ce-operator", "%C0%A0", "ce-operator")):
        message = to_binary_event(event())
        found = is_problem(send(ingest, HTTPMessage(message.headers | {header: value}, message.body)), 400)
        assert found["field"].lower() == field


def test_who_sends_too_much_is_told_when_to_come_again(ingest: Ingest) -> None:
    assert send(ingest, to_binary_event(event()), key="few").status_code == 202
    response = send(ingest, to_binary_event(event(id="2")), key="few")
    is_problem(response, 429)
    assert int(response.headers["Retry-After"]) >= 1


@pytest.mark.parametrize("path", ASKED)
def test_a_sender_that_asks_first_is_agreed_to(ingest: Ingest, path: str) -> None:
    asked = {
        "WebHook-Request-Origin": "eventemitter.example.com",
        "WebHook-Request-Rate": "120",
        "WebHook-Request-Callback": "http://127.0.0.1:9/never-called",
    }
    response = ingest.client.options(path, headers=asked)
    assert response.status_code == 200
    assert response.headers["WebHook-Allowed-Origin"] == "eventemitter.example.com"
    assert response.headers["WebHook-Allowed-Rate"] == "*"
    assert "POST" in response.headers["Allow"]


@pytest.mark.parametrize("origin", [None, "", "a b", "<script>", "x" * 300, "\xe9"])
def test_nobody_is_agreed_to_who_does_not_ask_in_a_name(ingest: Ingest, origin: str | None) -> None:
    headers = {} if origin is None else {"WebHook-Request-Origin": origin}
    response = ingest.client.options("/ingest", headers=headers)
    assert response.status_code == 200, "other senders' health check"
    assert "WebHook-Allowed-Origin" not in response.headers
    told = ingest.client.get("/ingest", headers={"WebHook-Request-Origin": "a.example"})
    assert "WebHook-Allowed-Origin" not in told.headers
