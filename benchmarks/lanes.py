"""Alerts in their lanes, without a worker that evaluates: the settle that raises them, on a queue of nobody's."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import msgspec
import redis

from benchmarks import corpus
from benchmarks.site import Site
from mutt import codec, names
from mutt.alert import Alert, from_verdict
from mutt.entry import Move, Part, raise_alert
from mutt.event import Envelope, Segment
from mutt.rules.check import check_rule
from mutt.rules.evaluate import Ruleset, evaluate
from mutt.settings import Settings
from mutt.streams.stream import Stream

#: Alerts that one settle raises: as many as an entry of events may bring.
AT_ONCE = 500


def fill(site: Site, count: int) -> None:
    """Put ``count`` alerts into their lanes, each of a signature of its own. The books say so."""
    with redis.Redis.from_url(site.redis_url) as client:
        settings = Settings.from_env({}, redis_url=site.redis_url, database_url=site.database_url)
        stream = Stream(client, names.queues(settings)["ingest_queue"], lambda *_, **__: None)
        made = alerts(count)
        while some := [alert for _, alert in zip(range(AT_ONCE), made, strict=False)]:
            _raise(stream, some, settings.alert_queue_max)


def alerts(count: int) -> Iterator[Alert]:
    """Alerts of the corpus' faults, as the rules judge them."""
    rules = [check_rule(rule, rule_id=number) for number, rule in enumerate(corpus.rules())]
    ruleset = Ruleset.compile(1, rules, (), {})
    for first in range(0, count, AT_ONCE):
        sent = list(corpus.events(min(AT_ONCE, count - first), seed=first, matching=1.0))
        for number, event in enumerate(corpus.parsed(sent), first):
            verdict = evaluate(event, ruleset)
            alert = from_verdict(
                event, verdict, correlation_id="bench", rule_name=ruleset.rule_name(verdict.rule_id)
            )
            # Those of one signature go one behind the other: that is not what is measured.
            yield msgspec.structs.replace(alert, signature=f"{alert.signature} {number}")


def _raise(stream: Stream, some: list[Alert], queue_max: int) -> None:
    # Alerts come into their lanes by the settle of an event's entry, and by nothing else.
    (event,) = corpus.parsed(list(corpus.events(1)))
    fields, size = codec.encode(Envelope([Segment("bench", "bench", [event])]), n=1)
    stream.append(str(uuid4()), [Part([(1, list(fields), size)])], max_events=10**9, max_bytes=1 << 40)
    (entry,) = stream.take("bench", 1).entries
    counts = {
        "events.queued": -1,
        "events.settled": 1,
        "ingest.bytes": -size,
        "alerts.raised": len(some),
        "alerts.waiting": len(some),
    }
    stream.settle([Move(entry, counts, [raise_alert(alert, queue_max) for alert in some])])
