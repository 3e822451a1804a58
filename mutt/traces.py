"""Traces: one from a request at ingest over its evaluation to the request at Moog, for some requests (``TRACE_SHARE``).

A span is made when it is over, and handed to what sends it (``mutt.otlp``). Without ``TRACE_URL`` there is none of
this, and OpenTelemetry is not imported.
"""

from __future__ import annotations

import importlib.util
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mutt.alert import Alert
from mutt.entry import Move
from mutt.errors import SettingsError
from mutt.settings import Settings
from mutt.span import UNTRACED, Begun, Span, asked, fresh, under
from mutt.tls import check_ca

#: Where the libraries speak, too: it becomes a line a minute (``mutt.otlp``).
log = logging.getLogger("opentelemetry.mutt")

#: Requests that the span of a take, or of a request to Moog, is linked to.
LINKS = 128

#: What has to be installed.
_PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


class Traces:
    """Makes this process' spans. ``keep`` takes each; ``close`` sends what is kept, before the process ends.

    ``share`` of the requests whose sender does not say are traced.
    """

    def __init__(
        self,
        keep: Callable[[Span], None],
        share: float,
        *,
        close: Callable[[], None] = lambda: None,
        dice: Callable[[], float] = random.random,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._keep, self._share, self.close, self._dice, self._now = keep, share, close, dice, now

    def begin(self, header: str) -> Begun:
        """The span of a request that came with this ``traceparent`` (or ''), and what it follows from."""
        parent = asked(header) if header else None
        if parent:
            return under(parent, fresh()), parent
        if parent is None and self._dice() < self._share:
            return fresh(), ""
        return UNTRACED

    def ingested(self, begun: Begun, seconds: float, status: int, about: Mapping[str, str | int]) -> None:
        """A request was answered."""
        failed = f"status {status}" if status >= 500 else ""
        own, parent = begun
        more = {**about, "http.response.status_code": status}
        self._over("ingest", own, parent, seconds, "server", failed, about=more)

    def taken(self, step: str, moves: Iterable[Move], seconds: float) -> None:
        """A take was worked: a span of its own, and one in the trace of each request that is in it."""
        known = [(move.entry.id, parent, of) for move in moves for parent, of in move.traces.items()]
        if not known:
            return
        whole = fresh()
        links, n = [parent for _, parent, _ in known[:LINKS]], {"mutt.requests": len(known)}
        self._over(f"{step} take", whole, "", seconds, "consumer", links=links, about=n)
        for entry, parent, correlation_id in known:
            about = {"mutt.correlation_id": correlation_id, "mutt.entry": entry}
            self._over(step, under(parent, entry), parent, seconds, "consumer", links=[whole], about=about)

    def forwarded(self, alerts: Sequence[Alert], token: str, answer: Any, seconds: float) -> None:
        """A request to Moog had its answer; ``token`` names its permit. Each trace that is in it has a span."""
        if answer.kind == "unsent":
            return
        traced = {alert.trace: alert for alert in alerts if alert.trace}
        owns = [under(trace, token) for trace in traced]
        failed = "" if answer.kind == "delivered" else f"{answer.kind}: {answer.reason}"
        for own, (trace, alert) in zip(owns, traced.items(), strict=True):
            about = {
                "mutt.alert_id": str(alert.alert_id),
                "mutt.correlation_id": alert.correlation_id,
                "mutt.alerts": len(alerts),
                "http.response.status_code": answer.moog_status or 0,
            }
            # Moog was told of the first one.
            links = owns[:1] if own != owns[0] else owns[1:LINKS]
            self._over("forward", own, trace, seconds, "client", failed, links=links, about=about)

    def _over(
        self, name: str, own: str, parent: str, seconds: float, kind: str, failed: str = "", **more: Any
    ) -> None:
        try:
            self._keep(Span(name, own, parent, self._now() - seconds, seconds, kind, failed=failed, **more))
        except Exception as error:  # noqa: BLE001 see below
            # Whatever a library has against it, the work is done, and goes on.
            log.warning("a span can not be made: %s", error)


def check(settings: Settings) -> None:
    """Refuse to start where traces are wanted and can't be made. Raises :class:`SettingsError`."""
    check_ca("TRACE_CA", settings.trace_ca)
    if settings.trace_url and not all(map(_is_there, _PACKAGES)):
        expected = (
            "the packages of the extra otel (docs/tracing.md): pip install -e '.[otel]'; or no TRACE_URL"
        )
        raise SettingsError("TRACE_URL", settings.trace_url, expected)


def of_settings(settings: Settings, role: str) -> Traces | None:
    """What the settings ask for; None: no traces. Raises :class:`SettingsError`. To be called behind a fork."""
    check(settings)
    if not settings.trace_url:
        return None
    from mutt.otlp import Exporter  # noqa: PLC0415 it brings OpenTelemetry, an extra

    exporter = Exporter(settings, role)
    return Traces(exporter.keep, settings.trace_share, close=exporter.close)


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False
