"""A small stack for the supervisor's tests: `python -m tests.embedded_stack HOME` runs it until it is stopped.

Redis and PostgreSQL, then ``family`` (a process with children and grandchildren that ignore SIGTERM, as a busy prefork
worker's would) and ``second``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mutt.embedded.account import postgres_account
from mutt.embedded.home import Home
from mutt.embedded.pgbinaries import find_postgres
from mutt.embedded.postgres import PostgresServer, place_for
from mutt.embedded.process import Process
from mutt.embedded.redis import RedisServer, find_redis
from mutt.embedded.supervisor import Supervisor
from tests.ports import own_port
from tests.servers import PG_BIN, REDIS_BIN

FAMILY = "(trap '' TERM; sh -c 'trap \"\" TERM; sleep 1000; :' & sleep 1000; :) & echo ready.; wait"


def servers(home: Home) -> tuple[RedisServer, PostgresServer]:
    """The two servers of ``home``, on ports of their own."""
    secrets, account = home.secrets(), postgres_account()
    redis = RedisServer(find_redis(REDIS_BIN), home.directory("redis"), own_port(), secrets.redis_password)
    postgres = PostgresServer(
        find_postgres(PG_BIN, account=account),
        place_for(home.path, account),
        own_port(),
        secrets.postgres_password,
        account,
        durable=False,
    )
    return redis, postgres


def main(path: Path) -> None:
    """Run until asked to stop."""
    home = Home(path).make()
    with home.lock() as lock:
        redis, postgres = servers(home)

        def write_up(processes: dict[str, int]) -> None:
            addresses = {"redis_url": redis.url, "database_url": postgres.url, "ready": len(ready)}
            home.write_up({**addresses, "processes": processes})

        ready: list[str] = []
        with Supervisor(
            write_up, report=lambda line: print(line, flush=True), keep_open=[lock]
        ) as supervisor:
            supervisor.start(redis.process(home.log("redis")), postgres.process(home.log("postgres")))
            family = Process(
                name="family", argv=("sh", "-c", FAMILY), log=home.log("family"), ready_line="ready."
            )
            second = Process(name="second", argv=("sleep", "1000"), log=home.log("second"))
            supervisor.start(family, second)
            ready.append("all")
            write_up(supervisor.processes)
            supervisor.run()
        home.clear_up()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
