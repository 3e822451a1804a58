"""The spill on the whole stack: Redis stands still, events are taken, and end as rows without anybody's help."""

from __future__ import annotations

import os
import signal

import pytest

from tests.servers import scratch
from tests.stack import QUICK, running
from tests.waiting import wait_until


@pytest.mark.timeout(300)
def test_what_is_sent_while_redis_hangs_is_in_the_audit_once_it_goes_on():
    settings = {**QUICK, "INGEST_SPILL": "on"}
    with scratch() as directory, running(directory / "home", settings) as stack:
        event = {"hostname": "core-1", "message": "CRITICAL fan"}
        assert stack.post(event).json()["status"] == "queued"
        hung = stack.pids["redis"]
        os.kill(hung, signal.SIGSTOP)
        try:
            batches = [stack.post(event) for _ in range(5)]
        finally:
            os.kill(hung, signal.SIGCONT)
        assert [reply.status_code for reply in batches] == [202] * 5
        assert any(reply.json().get("spilled") for reply in batches)
        ids = [reply.json()["batch_id"] for reply in batches]

        def rows() -> int:
            return stack.sql("SELECT count(*) FROM event_audit_log WHERE batch_id = ANY(:ids)", ids=ids)[0][0]

        wait_until(lambda: rows() == 5, 60, "every event in the audit")
        found = stack.ledger("--wait", "60")
        assert (found["balanced"], found["at_rest"], found["events"]["settled"]) == (True, True, 6)
        assert stack.sql("SELECT rounds, events, bytes FROM ingest_spill_size") == [(0, 0, 0)]
        assert rows() == 5
