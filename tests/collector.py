"""A collector of traces as OTLP/HTTP has it, in this process; and whatever else is only posted to."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Posted(NamedTuple):
    path: str
    headers: dict[str, str]  #: names in lower case
    body: bytes


class Seen(NamedTuple):
    """A span as it came."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    links: list[str]  #: contexts, as trace and span id
    about: dict[str, Any]
    failed: str
    seconds: float

    @property
    def context(self) -> str:
        return f"00-{self.trace}-{self.id}-01"


class Posts:
    """A server that takes every POST, and answers ``status``."""

    def __init__(self) -> None:
        self.came: list[Posted] = []
        self.status = 200
        self.url = ""

    def spans(self) -> list[Seen]:
        return [span for posted in list(self.came) for span in _spans(posted.body)]


@contextmanager
def posts() -> Iterator[Posts]:
    told = Posts()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            told.came.append(Posted(self.path, headers, body))
            self.send_response(told.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Who posts is no news."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()


def _spans(body: bytes) -> Iterator[Seen]:
    asked = ExportTraceServiceRequest.FromString(gzip.decompress(body))
    for resource in asked.resource_spans:
        service = next(
            one.value.string_value for one in resource.resource.attributes if one.key == "service.name"
        )
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Seen(
                    service,
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    [f"{link.trace_id.hex()}-{link.span_id.hex()}" for link in span.links],
                    {
                        one.key: getattr(one.value, one.value.WhichOneof("value") or "")
                        for one in span.attributes
                    },
                    span.status.message,
                    (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                )
