"""What Prometheus is told, on a port of its own: never at the doors by which events or people come in.

``METRICS_PORT`` opens it, on ``METRICS_HOST``. Processes of one machine add up in a directory (``mutt.metrics``), so
any of them tells the sum. What stands in Redis and PostgreSQL is read when it is asked for (``mutt.gauges``).
"""

from __future__ import annotations

from mutt.gauges import PostgresGauges, PulseGauges, RedisGauges, SpillGauges
from mutt.scrape import Tell, listen, serve
from mutt.services import Services

__all__ = ["Tell", "listen", "serve", "teller"]


def teller(services: Services, *, queues: bool) -> Tell:
    """All that a process tells. ``queues``: how the stores are, too, which ingest and most workers may not read."""
    stores = [RedisGauges(services), PulseGauges(services), PostgresGauges(services)] if queues else []
    collectors = [*stores, SpillGauges(services)]
    return lambda: services.metrics.exposition(*collectors)
