"""Sends each line of standard input to MUTT as a CloudEvent, with the CloudEvents SDK (2.2) and requests.

    MUTT=https://mutt.example.net MUTT_KEY=YOUR-API-KEY python send.py < lines

A line is given up by nobody: 408, 429 and 5xx are tried again until MUTT has it, after Retry-After where it says one.
An event keeps its id over all tries, so that MUTT knows it again.
"""

import os
import sys
import uuid
from datetime import UTC, datetime

import requests
from cloudevents.core.bindings.http import to_structured_event
from cloudevents.core.v1.event import CloudEvent
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

SOURCE = "/fans"


def session() -> requests.Session:
    """Requests that end in an answer, however long that takes."""
    again = Retry(
        total=None,
        status_forcelist=(408, 429, 500, 502, 503, 504),
        allowed_methods=None,  # POST, too: urllib3 leaves it out by itself
        backoff_factor=0.5,
        backoff_max=30,
        respect_retry_after_header=True,
    )
    made = requests.Session()
    for scheme in ("http://", "https://"):
        made.mount(scheme, HTTPAdapter(max_retries=again))
    made.headers["Authorization"] = f"Bearer {os.environ['MUTT_KEY']}"
    return made


def event(line: str) -> CloudEvent:
    """A line as an event."""
    host, _, message = line.partition(" ")
    about = {
        "id": str(uuid.uuid4()),
        "source": SOURCE,
        "type": "net.example.fan.failed",
        "time": datetime.now(UTC),
        "subject": host,
        "datacontenttype": "application/json",
    }
    return CloudEvent(about, {"hostname": host, "message": message, "severity": "critical"})


def main() -> None:
    """Says of each line what MUTT answered; what it refuses for good is yours to look at."""
    mutt = session()
    for line in sys.stdin:
        sent = to_structured_event(event(line.rstrip("\n")))
        answer = mutt.post(os.environ["MUTT"] + "/ingest", data=sent.body, headers=sent.headers, timeout=10)
        print(answer.status_code, answer.text, flush=True)


if __name__ == "__main__":
    main()
