"""Spans to a collector, by OTLP over HTTP: in batches, from a thread of their own, out of a queue that has an end.

Nobody waits for it. A collector that is away, or slow, costs spans, and a line of the log a minute.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from mutt import __version__
from mutt.settings import Settings
from mutt.span import Span, ids

log = logging.getLogger("mutt.traces")

#: Spans that may wait, and that go in one request; how often they go, and how long a request may take (seconds).
QUEUE, BATCH, EVERY, TIMEOUT = 4096, 512, 1.0, 5.0

#: Seconds that the end of a process waits for the last ones.
GOODBYE = 2.0

#: Seconds between two lines of the log.
SELDOM = 60.0

_KINDS = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "consumer": SpanKind.CONSUMER,
}


class Exporter:
    """Takes spans, and sends them. To be made behind a fork: its thread begins at once."""

    def __init__(self, settings: Settings, role: str) -> None:
        _hear()
        sender = OTLPSpanExporter(
            endpoint=endpoint(settings.trace_url),
            headers=dict(settings.trace_headers),
            certificate_file=settings.trace_ca or None,
            timeout=TIMEOUT,
            compression=Compression.Gzip,
        )
        self._queue = BatchSpanProcessor(
            sender,
            max_queue_size=QUEUE,
            max_export_batch_size=BATCH,
            schedule_delay_millis=EVERY * 1000,
            export_timeout_millis=TIMEOUT * 1000,
        )
        self._ids = _Ids()
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,  # which are traced is decided where a trace begins
            resource=Resource({"service.name": f"mutt-{role}", "service.version": __version__}),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(self._queue)
        self._tracer = self._provider.get_tracer("mutt", __version__)

    def keep(self, span: Span) -> None:
        """Put it in the queue; where that is full, the oldest is lost."""
        self._ids.next = ids(span.own)
        made = self._tracer.start_span(
            span.name,
            context=_below(span.parent),
            kind=_KINDS[span.kind],
            attributes=span.about,
            links=[Link(_context(one)) for one in span.links],
            start_time=round(span.began * 1e9),
        )
        if span.failed:
            made.set_status(Status(StatusCode.ERROR, span.failed))
        made.end(round((span.began + span.seconds) * 1e9))

    def close(self) -> None:
        """Send what is kept, if that can be done soon."""
        # In a thread, for the library would wait half a minute for a collector that is away.
        last = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        last.start()
        last.join(GOODBYE)


def endpoint(address: str) -> str:
    """Where spans go at a collector of this address."""
    path = "/v1/traces"
    return address if address.endswith(path) else address.rstrip("/") + path


class _Ids(IdGenerator, threading.local):
    """The ids of the span that this thread makes next: they are known before it is."""

    next = (0, 0)

    def generate_trace_id(self) -> int:
        return self.next[0]

    def generate_span_id(self) -> int:
        return self.next[1]


def _below(parent: str) -> Context:
    """Where a span is begun: not below what this thread happens to be in."""
    nowhere = Context()
    return set_span_in_context(NonRecordingSpan(_context(parent)), nowhere) if parent else nowhere


def _context(told: str) -> SpanContext:
    trace_id, span_id = ids(told)
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


class Seldom(logging.Handler):
    """What the libraries have to say becomes a line of ours, the first in each minute, without a traceback."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._monotonic, self._after = monotonic, float("-inf")

    def emit(self, record: logging.LogRecord) -> None:
        now = self._monotonic()
        if now >= self._after:
            self._after = now + SELDOM
            log.warning("traces are not whole, for TRACE_URL does not take them all: %s", record.getMessage())


def _hear() -> None:
    theirs = logging.getLogger("opentelemetry")
    theirs.propagate = False
    if not any(isinstance(one, Seldom) for one in theirs.handlers):
        theirs.addHandler(Seldom())
