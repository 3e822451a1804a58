"""Celery's settings, and nothing else. Why each is as it is: docs/architecture.md, "Celery"."""

import sys
from typing import Any

from kombu.entity import Exchange, Queue

from mutt.budget.arithmetic import celery_rate
from mutt.errors import SettingsError
from mutt.flower import is_flower
from mutt.rabbit import MOST
from mutt.settings import RABBITMQ, Settings
from mutt.streams.connect import broker

try:
    _settings = Settings.from_env()
    _broker = broker(_settings)
except SettingsError as error:
    # Celery's command would put a traceback around it.
    raise SystemExit(f"mutt: {error}") from None

broker_url = _broker.url
_in_rabbitmq = broker_url.partition("://")[0] in RABBITMQ
if _in_rabbitmq:
    # Seconds that a broker which does not read may keep a frame; whatever else has a limit is in mutt/rabbit. Who
    # publishes connects once, and once again: without this kombu tries for ever.
    broker_transport_options: dict[str, Any] = {
        "write_timeout": 5,
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0,
        "interval_max": 0,
    }
    # A link that says nothing is given up after two of these.
    broker_heartbeat = 10
    # A doorbell need not be on a disk: one that is lost, the tick rings again.
    task_default_delivery_mode = "transient"
else:
    broker_transport_options = {
        # Flower listens for answers alone: it gives no doorbell out again, and may not.
        "visibility_timeout": 180 if not is_flower(sys.argv) else 10**9,
        "socket_timeout": 5,
        "socket_connect_timeout": 2,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "unacked_restore_limit": 200,
        "priority_steps": [0],
        **_broker.options,
    }
if _broker.ssl:
    # Without this kombu does not verify the certificate.
    broker_use_ssl = _broker.ssl
broker_connection_timeout = 2
broker_connection_retry_on_startup = True
broker_connection_max_retries = None
broker_channel_error_retry = True

# The data stands in streams: a doorbell carries labels, and nobody asks for its result.
result_backend = None
task_ignore_result = True
task_serializer = "json"
accept_content = ["json"]
timezone = "UTC"

# The anonymous exchange needs no binding, so no binding can be lost. Redis knows no greatest length of a list.
_exchange = Exchange("", type="direct")
task_queues = [
    Queue(name, _exchange, routing_key=name, max_length=MOST)
    for name in ("alerts", "moog", "housekeeping", "maintenance", "backtests")
]
task_default_queue = "maintenance"
task_default_exchange = ""
task_default_routing_key = "maintenance"
task_create_missing_queues = False
task_routes = {
    "mutt.alerts.*": {"queue": "alerts"},
    "mutt.moog.*": {"queue": "moog"},
    "mutt.housekeeping.*": {"queue": "housekeeping"},
    "mutt.maintenance.*": {"queue": "maintenance"},
    "mutt.backtests.*": {"queue": "backtests"},
}
task_acks_late = True
task_reject_on_worker_lost = True
task_annotations = {
    # What hangs in one event is ended before another worker takes it over; PostgreSQL's share of a take ends before.
    "mutt.alerts.evaluate": {
        "soft_time_limit": _settings.work_most + 5,
        "time_limit": _settings.work_most + 10,
    },
    # It ends when it is done, or is cancelled; each of its statements has a limit.
    # RabbitMQ closes a channel on which a message is not acknowledged within half an hour: so this one is, at once.
    "mutt.backtests.run": {"soft_time_limit": None, "time_limit": None, "acks_late": not _in_rabbitmq},
    # The second guard, per worker; the budget decides (mutt/budget).
    "mutt.moog.forward": {
        "rate_limit": celery_rate(_settings.moog_rate_limit, _settings.moog_rate_period, _settings.moog_turn)
    },
}
# A drain works for about a second and its statements are limited to 20: these never hit work that is alive.
task_soft_time_limit = 90
task_time_limit = 120
# Flower shows every doorbell with its counts.
worker_send_task_events = True
task_send_sent_event = True
task_track_started = True

imports = tuple(
    f"mutt.tasks.{name}"
    for name in ("worker", "alerts", "moog", "housekeeping", "maintenance", "letters", "backtests")
)
worker_prefetch_multiplier = 1
worker_consumer = "mutt.celery:Consumer"
worker_hijack_root_logger = False
worker_redirect_stdouts = False
worker_max_tasks_per_child = 10_000
worker_cancel_long_running_tasks_on_connection_loss = True

beat_schedule = {
    "partitions": {"task": "mutt.maintenance.partitions", "schedule": 3600.0},
    "retention": {"task": "mutt.maintenance.retention", "schedule": 6 * 3600.0},
}
