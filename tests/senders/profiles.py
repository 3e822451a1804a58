"""What each kind of sender does after an answer: from its code, its pages, or a real run. ``docs/senders.md`` shows it.

One posts a sample of its format, and what stands here says what becomes of its events then.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Then(StrEnum):
    """What a sender does after an answer."""

    DONE = "done"  #: it forgets the events: they were taken
    AGAIN = "again"  #: it keeps them, and sends them until they are taken
    STATE = "tells the state again"  #: it drops this notification; what stands then is in the next one
    SOME = "a few times"  #: it tries for a while, and then drops them
    GONE = "gone"  #: it drops them, into a file or a queue of its own at best


DONE, AGAIN, STATE, SOME, GONE = Then

#: Statuses that MUTT gives, and those that only a proxy in front of it does.
STATUSES = (200, 400, 401, 403, 404, 413, 415, 429, 500, 503, 504)


class Profile(NamedTuple):
    """One kind of sender, set up as in ``examples/``."""

    name: str
    path: str  #: where it posts
    sample: str  #: below tests/samples: what it posts
    bad: bytes  #: a body of the same kind, of which nothing can be taken
    otherwise: Then  #: what it does after a status that is no success and not named in ``after``
    after: Mapping[int, Then]
    largest: int  #: bytes of the largest body that it makes so
    source: str  #: where this stands

    def then(self, status: int) -> Then:
        """What it does after this answer."""
        return self.after.get(status, DONE if status < 300 else self.otherwise)

    def joined(self, good: bytes, bad: bytes) -> bytes:
        """Both in one body, as it would put them."""
        return good.rstrip(b"\0") + (b"\0" if good.endswith(b"\0") else b"\n") + bad


def _codes(then: Then, *codes: int) -> dict[int, Then]:
    return dict.fromkeys(codes, then)


PROFILES = (
    Profile(
        "Alertmanager", "/ingest/alertmanager", "alertmanager/group.json",
        b'{"version":"4","receiver":"mutt","groupKey":"{}","alerts":[{"status":"firing"}]}',
        STATE, _codes(AGAIN, 500, 503, 504), 1 << 20,
        "run here (0.25); notify/webhook/webhook.go: 5xx again until the group's next flush, nothing else",
    ),
    Profile(
        "Grafana", "/ingest/grafana", "grafana/unified.ndjson",
        b'{"receiver":"mutt","orgId":1,"version":"1","groupKey":"{}","alerts":[{"status":"firing"}]}',
        STATE, {}, 1 << 20,
        "github.com/grafana/alerting receivers/webhook: any other than a 2xx is an error, and no try follows",
    ),
    Profile(
        "rsyslog omhttp", "/ingest/rsyslog", "rsyslog/jsonarray.json",
        b'[{"host":"core-1","programname":"sshd"}]',
        GONE, _codes(AGAIN, 401, 403, 404, 500, 503, 504), 1 << 20,
        "contrib/omhttp/omhttp.c: 5xx again, 4xx final unless httpretrycodes names it, as the example does",
    ),
    Profile(
        "rsyslog omprog", "/ingest/rsyslog", "rsyslog/single.json",
        b'{"host":"core-1","programname":"sshd"}',
        AGAIN, _codes(GONE, 400, 413, 415), 1 << 20,
        "run here (8.2302) with examples/rsyslog/mutt-omprog; what is refused for good goes into its log",
    ),
    Profile(
        "syslog-ng", "/ingest/syslog-ng", "syslog-ng/rfc5424.ndjson",
        b'{"HOST":"core-1","PROGRAM":"sshd"}',
        AGAIN, _codes(GONE, 410, 422), 1 << 20,
        "run here (3.38.1) against each status; 504 is dropped after three tries without response-action",
    ),
    Profile(
        "Fluent Bit", "/ingest/fluent-bit", "fluent-bit/json_lines.ndjson",
        b'{"date":1795430533.25,"ident":"rpd"}',
        GONE, _codes(AGAIN, 408, 429, 500, 503, 504), 4 << 20,
        "plugins/out_http/http.c: 200 to 205 is success, 4xx but 408 and 429 drop the chunk",
    ),
    Profile(
        "Vector", "/ingest/vector", "vector/array.json",
        b'[{"source_type":"syslog","host":"core-1"}]',
        GONE, _codes(AGAIN, 408, 429, 500, 503, 504), 1 << 20,
        "src/sinks/util/http.rs, HttpRetryLogic: 408, 429 and 5xx but 501 again; any other drops the batch",
    ),
    Profile(
        "Telegraf", "/ingest/telegraf", "telegraf/traps.json",
        b'{"metrics":[5]}',
        AGAIN, {}, 4 << 20,
        "plugins/outputs/http/http.go: no 2xx, no success; the batch stays at the head of the buffer",
    ),
    Profile(
        "CloudEvents SDK", "/ingest", "cloudevents/object.json",
        b'{"specversion":"1.0","id":"1","source":"","type":"t"}',
        GONE, _codes(AGAIN, 408, 429, 500, 502, 503, 504), 1 << 20,
        "run here (2.2.0 with requests) as examples/cloudevents/send.py has it; the SDK itself sends nothing",
    ),
    Profile(
        "Splunk HEC clients", "/services/collector/event", "splunk/object.json",
        b'{"host":"core-1","event":""}',
        GONE, _codes(AGAIN, 500, 503, 504), 4 << 20,
        "Vector's splunk_hec_logs and Fluent Bit's splunk, as their http outputs",
    ),
    Profile(
        "mutt.client", "/ingest", "native/two.ndjson",
        b'{"hostname":"core-1"}',
        AGAIN, _codes(GONE, 400, 401, 403, 404, 413, 415), 1 << 20,
        "run here; a 413 goes in halves, on_rejected has what is refused for good (docs/client.md)",
    ),
    Profile(
        "mutt listen", "/ingest/syslog", "syslog/mixed.log",
        b"\n",
        AGAIN, _codes(GONE, 400, 413), 1 << 20,
        "run here; what is too large by itself, or refused by a proxy, stands aside in its buffer",
    ),
    Profile(
        "snmptrapd handler", "/ingest/snmptrapd", "snmptrapd/link-down-on.txt",
        b"one line\n",
        AGAIN, _codes(GONE, 400, 413), 1 << 20,
        "run here (5.9.3) with examples/snmptrapd/mutt-traphandle: a trap leaves the spool on a 202 alone; one that is"
        " refused by itself stays in it, aside",
    ),
    Profile(
        "Zabbix", "/ingest/zabbix", "zabbix/mutt.ndjson",
        b'{"event_id":"1","event_value":"1"}',
        SOME, {}, 1 << 20,
        "zabbix.com/documentation/6.0, media types: attempts and their interval; the example says 100, a minute apart",
    ),
    Profile(
        "Icinga 2", "/ingest/icinga2", "icinga2/mutt-notify.ndjson",
        b'{"notification_type":"PROBLEM"}',
        AGAIN, _codes(GONE, 400), 1 << 20,
        "examples/icinga2/mutt-notify: a spool",
    ),
    Profile(
        "LibreNMS", "/ingest/librenms", "librenms/keephq.ndjson",
        b'{"state":1}',
        GONE, {}, 1 << 20,
        "docs/formats/librenms.md",
    ),
    Profile(
        "SolarWinds", "/ingest/solarwinds", "solarwinds/orion.ndjson",
        b'{"alert":"Node down"}',
        GONE, {}, 1 << 20,
        "no page of Orion's says that it tries again",
    ),
    Profile(
        "Amazon SNS", "/ingest/cloudwatch", "cloudwatch/single-metric.json",
        b'{"AlarmName":""}',
        GONE, _codes(SOME, 500, 503, 504), 1 << 20,
        "docs.aws.amazon.com/sns, message delivery retries: 5xx for an hour at most, 4xx is final",
    ),
    Profile(
        "Azure Monitor", "/ingest/azure-monitor", "azure-monitor/metric-fired.json",
        b'{"schemaId":"azureMonitorCommonAlertSchema","data":{}}',
        GONE, _codes(SOME, 408, 429, 503, 504), 1 << 20,
        "learn.microsoft.com, action groups: 408, 429, 503 and 504 up to five times, then silence for 15 minutes",
    ),
    Profile(
        "Google Pub/Sub", "/ingest/google-cloud-monitoring", "google-cloud-monitoring/open.json",
        b'{"version":"1.2","incident":5}',
        AGAIN, {}, 10 << 20,
        "cloud.google.com/pubsub, push: whatever is no success again, for up to 31 days",
    ),
)  # fmt: skip
