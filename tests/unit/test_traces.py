"""Traces: what a sender asks for, which spans there are, and what an entry says of them."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
from datetime import UTC, datetime
from types import SimpleNamespace
from uuid import UUID

import msgspec
import pytest

from mutt import codec, otlp, traces
from mutt.alert import Alert
from mutt.entry import Entry, Move
from mutt.errors import SettingsError
from mutt.event import Envelope, Event, Segment, State
from mutt.pipeline import spill
from mutt.pipeline.accept import _entries
from mutt.settings import Settings
from mutt.span import Span, asked, fresh, ids, under
from mutt.traces import LINKS, Traces

GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOW = datetime(2026, 3, 4, 9, 15, tzinfo=UTC)
EVENT = Event(event_id=UUID(int=7), received_at=NOW, occurred_at=NOW, hostname="h", message="m")
ALERT = Alert(
    alert_id=UUID(int=8), event_id=UUID(int=7), received_at=NOW, occurred_at=NOW, hostname="h", rule_id=None,
    handling="Meta", environment="production", team="NETO", lane="minor", severity=3, signature="h::t",
    description="d", state=State.RAISE, source="mutt", correlation_id="c", type="unhandled",
)  # fmt: skip


@pytest.fixture
def kept() -> list[Span]:
    return []


def traces_of(kept: list[Span], share: float = 1.0) -> Traces:
    return Traces(kept.append, share, now=lambda: 1000.0)


def answer(kind: str = "delivered", status: int | None = 200) -> SimpleNamespace:
    return SimpleNamespace(kind=kind, reason="why", moog_status=status)


# ---- what a sender asks for


@pytest.mark.parametrize(
    ("header", "means"),
    [
        (GIVEN, GIVEN),
        (GIVEN[:-2] + "03", GIVEN),
        ("cc" + GIVEN[2:] + "-what-a-later-version-says", GIVEN),
        (GIVEN[:-2] + "00", ""),
        (GIVEN + "-more", None),
        ("ff" + GIVEN[2:], None),
        (GIVEN.upper(), None),
        (GIVEN.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32), None),
        (GIVEN.replace("b7ad6b7169203331", "0" * 16), None),
        (GIVEN + "\n", None),
        ("x", None),
    ],
    ids=["sampled", "other flags", "later version", "not sampled", "too long", "version ff", "upper case",
         "no trace", "no span", "line end", "nonsense"],
)  # fmt: skip
def test_a_traceparent_is_what_w3c_says_and_nothing_else(header: str, means: str | None) -> None:
    assert asked(header) == means


def test_a_sender_s_trace_goes_on_whatever_the_share_is(kept: list[Span]) -> None:
    own, parent = traces_of(kept, 0.0).begin(GIVEN)
    assert parent == GIVEN
    assert ids(own)[0] == ids(GIVEN)[0]
    assert ids(own)[1] != ids(GIVEN)[1]


def test_who_says_that_it_is_not_traced_is_not(kept: list[Span]) -> None:
    assert traces_of(kept).begin(GIVEN[:-2] + "00") == ("", "")


@pytest.mark.parametrize("header", ["", "nonsense"])
def test_of_those_that_say_nothing_a_share_is_traced(kept: list[Span], header: str) -> None:
    assert traces_of(kept, 0.0).begin(header) == ("", "")
    own, parent = traces_of(kept, 1.0).begin(header)
    assert (asked(own), parent) == (own, "")
    dice = iter([0.2, 0.3]).__next__
    some = Traces(kept.append, 0.25, dice=dice)
    assert [bool(some.begin(header)[0]) for _ in range(2)] == [True, False]


def test_the_context_of_what_comes_of_a_span_is_the_same_for_whoever_asks() -> None:
    assert under(GIVEN, "1-0") == under(GIVEN, "1-0") != under(GIVEN, "2-0")
    assert asked(under(GIVEN, "1-0")) == under(GIVEN, "1-0")
    assert asked(fresh()) and fresh() != fresh()


# ---- the spans


def test_a_take_has_one_span_of_its_own_and_one_a_request_and_they_are_linked(kept: list[Span]) -> None:
    parents = [fresh() for _ in range(LINKS + 1)]
    entries = [Entry("s", f"{n}-0", 1, {}) for n in range(LINKS + 1)]
    moves = [Move(one, {}, traces={parent: "c"}) for one, parent in zip(entries, parents, strict=True)]
    traces_of(kept).taken("evaluate", [*moves, Move(Entry("s", "x", 1, {}), {})], 2.0)
    whole, *each = kept
    assert (whole.name, whole.parent, whole.began, len(whole.links)) == ("evaluate take", "", 998.0, LINKS)
    assert [one.parent for one in each] == parents
    assert [one.own for one in each] == [under(p, e.id) for p, e in zip(parents, entries, strict=True)]
    assert {tuple(one.links) for one in each} == {(whole.own,)}


def test_a_take_without_a_traced_request_has_none(kept: list[Span]) -> None:
    traces_of(kept).taken("evaluate", [Move(Entry("s", "1-0", 1, {}), {})], 2.0)
    assert kept == []


def test_a_request_to_moog_with_alerts_of_two_traces_has_a_span_in_each(kept: list[Span]) -> None:
    other = fresh()
    alerts = [ALERT, *(msgspec.structs.replace(ALERT, trace=trace) for trace in (GIVEN, GIVEN, other))]
    traces_of(kept).forwarded(alerts, "token", answer(), 0.5)
    assert [(one.own, one.parent) for one in kept] == [(under(t, "token"), t) for t in (GIVEN, other)]
    assert [list(one.links) for one in kept] == [[kept[1].own], [kept[0].own]]
    assert [one.about["mutt.alerts"] for one in kept] == [4, 4]


def test_what_was_not_sent_has_no_span_and_what_failed_says_why(kept: list[Span]) -> None:
    told = traces_of(kept)
    traced = msgspec.structs.replace(ALERT, trace=GIVEN)
    told.forwarded([traced], "token", answer("unsent", None), 0.5)
    told.forwarded([ALERT], "token", answer(), 0.5)
    assert kept == []
    told.forwarded([traced], "token", answer("retry", None), 0.5)
    assert kept[0].failed == "retry: why"


def test_what_a_library_has_against_a_span_harms_nobody() -> None:
    def refuses(_span: Span) -> None:
        raise ValueError

    Traces(refuses, 1.0).taken("evaluate", [Move(Entry("s", "1-0", 1, {}), {}, traces={GIVEN: "c"})], 1.0)


# ---- what travels


def test_an_entry_and_an_alert_of_a_mutt_without_traces_are_read() -> None:
    old = msgspec.msgpack.encode([[["b", "c", [[EVENT.event_id.bytes, NOW, NOW, "h", "m"]]]]])
    assert codec.decode(Envelope, {b"v": b"1", b"d": old}).segments[0].trace == ""
    fields = list(msgspec.structs.astuple(ALERT))
    data = msgspec.msgpack.Encoder(uuid_format="bytes").encode(fields[:-1])
    assert codec.decode(Alert, {b"v": b"1", b"d": data}) == ALERT


def test_a_mutt_without_traces_reads_what_this_one_writes() -> None:
    class OldSegment(msgspec.Struct, array_like=True):
        batch_id: str
        correlation_id: str
        events: list[Event]

    data = msgspec.msgpack.encode(Segment("b", "c", [EVENT], GIVEN))
    assert msgspec.msgpack.decode(data, type=OldSegment).events == [EVENT]
    assert Alert.__struct_fields__[-1] == "trace", "an older MUTT reads the fields by their places"


def test_each_entry_of_a_large_request_has_its_trace() -> None:
    entries = _entries([Segment("b", "c", [EVENT] * 1200, GIVEN)])
    found = [codec.decode(Envelope, dict(zip((b"v", b"n", b"id", b"d"), fields[1::2], strict=True)))
             for _, fields, _ in entries]  # fmt: skip
    assert [one.trace for envelope in found for one in envelope.segments] == [GIVEN] * 3


def test_an_entry_that_flows_back_out_of_the_spill_has_its_trace() -> None:
    ((n, fields, _),) = _entries([Segment("b", "c", [EVENT], GIVEN)])
    _, packed, _ = spill._entry(n, fields, lambda event: event)
    assert (
        codec.decode(Envelope, dict(zip((b"v", b"n", b"id", b"d"), packed[1::2], strict=True)))
        .segments[0]
        .trace
        == GIVEN
    )


# ---- the settings, and where it is off


def test_without_an_address_there_are_no_traces_and_opentelemetry_is_not_imported() -> None:
    code = (
        "import sys, redis\n"
        "def theirs(): return {name for name in sys.modules if name.startswith('opentelemetry')}\n"
        "of_redis = theirs()\n"  # where it is installed, the client of Redis takes a part of it for itself
        "import mutt.wsgi, mutt.services, mutt.tasks.worker, mutt.settings as s\n"
        "told = s.Settings.from_env({}, redis_url='redis://127.0.0.1:1')\n"
        "made = mutt.services.Services(told, lambda *_, **__: None, role='ingest', web=True)\n"
        "import mutt.web.ingest; mutt.web.ingest.make_ingest(made)\n"
        "assert made.traces is None\n"
        "print(sorted(theirs() - of_redis), 'mutt.otlp' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False"


def test_where_the_packages_are_missing_the_start_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Settings.from_env({"TRACE_URL": "http://collector:4318"})
    traces.check(settings)
    monkeypatch.setattr(traces, "_PACKAGES", ("opentelemetry.sdk", "opentelemetry.exporter.no.such"))
    with pytest.raises(SettingsError, match=r"pip install -e '\.\[otel\]'"):
        traces.of_settings(settings, "ingest")
    traces.check(dataclasses.replace(settings, trace_url=""))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRACE_URL", "grpc://collector:4317"),
        ("TRACE_URL", "http://me:s3cret@collector:4318"),
        ("TRACE_URL", "http://collector:4318?key=s3cret"),
        ("TRACE_SHARE", "1.1"),
        ("TRACE_SHARE", "nan"),
        ("TRACE_SHARE", "some"),
        ("TRACE_HEADERS", "s3cret"),
        ("TRACE_HEADERS", "name of=s3cret"),
        ("TRACE_HEADERS", "authorization="),
    ],
    ids=[
        "scheme",
        "login",
        "query",
        "share above",
        "no number",
        "no share",
        "no pair",
        "no name",
        "no value",
    ],
)
def test_a_setting_that_can_not_be_stops_the_start_and_no_secret_is_told(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({name: value})
    assert refused.value.name == name
    assert "s3cret" not in str(refused.value)


def test_headers_are_pairs_and_no_repr_has_them() -> None:
    settings = Settings.from_env({"TRACE_HEADERS": "authorization=Basic czpz==, x-scope=a b\nx-more=1"})
    assert settings.trace_headers == (("authorization", "Basic czpz=="), ("x-scope", "a b"), ("x-more", "1"))
    assert "czpz" not in repr(settings)


@pytest.mark.parametrize("address", ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"])
def test_the_address_may_have_otlp_s_path_or_not(address: str) -> None:
    assert otlp.endpoint(address) == "http://c:4318/v1/traces"


def test_what_the_libraries_say_is_a_line_a_minute_without_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    seldom = otlp.Seldom(lambda: now[0])
    record = logging.LogRecord("opentelemetry.x", logging.ERROR, "", 0, "it is %s", ("away",), None)
    for now[0] in (0.0, 59.9, 60.0, 61.0):
        seldom.handle(record)
    assert [
        (one.name, one.getMessage().endswith(": it is away"), one.exc_info) for one in caplog.records
    ] == [("mutt.traces", True, None)] * 2
