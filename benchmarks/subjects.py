"""Who is measured: MUTT as ``mutt up`` starts it, and the two designs that it is compared with."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import redis

import mutt
from benchmarks import list_and_row, plain_celery
from benchmarks.site import API_KEY, Site
from mutt.embedded.home import Home
from mutt.embedded.ports import free_port
from mutt.embedded.process import Process, answers
from mutt.embedded.stack import HOST, Sizes, Stack
from mutt.settings import Settings, inherited
from mutt.streams import books

ROOT = Path(mutt.__file__).resolve().parent.parent

#: Nobody listens there, and nobody asks, where no worker forwards.
_NO_MOOG = "http://127.0.0.1:9/"


@dataclasses.dataclass(frozen=True)
class Subject:
    """Processes to start, the address of their ingest, and whether they have finished what they accepted.

    ``moogsim`` is the address of the simulator of Moog, where one is among them.
    """

    name: str
    processes: tuple[Process, ...]
    url: str
    idle: Callable[[], bool]
    moogsim: str = ""


def mutt_itself(
    site: Site,
    *,
    alerts: int = 2,
    moog: int = 0,
    pool: str = "",
    told: Mapping[str, str] | None = None,
    flower: bool = False,
) -> Subject:
    """Ingest and ``alerts`` evaluating workers, exactly as ``mutt up`` starts them.

    With ``moog`` forwarders a simulator of Moog and a housekeeping worker run, too. ``pool`` replaces the evaluating
    workers' pool; ``told`` is more of the environment, as a user would set it. With ``flower`` Flower looks on.
    """
    home = Home(site.directory / "home").make()
    environ = {**_environment(site), **(told or {})}
    if moog:
        del environ["MOOG_URL"]
    settings = Settings.from_env(environ)
    stack = Stack.plan(home, settings, environ, Sizes(alerts=alerts, moog=moog))
    up = stack.up(None, None)
    home.directory(stack.metrics_dir.name)
    workers = [_with_pool(process, pool) for process in stack.workers(up)]
    if not moog:
        workers = [process for process in workers if process.name.startswith("alerts")]
    simulator = stack.simulator(up)
    made = [*([simulator] if simulator else []), stack.ingest(up), *workers]
    made += [one for one in stack.doors(up) if flower and one.name == "flower"]
    client = redis.Redis.from_url(site.redis_url)
    return Subject(
        "mutt",
        tuple(dataclasses.replace(process, cwd=ROOT) for process in made),
        stack.url("ingest") + "/ingest",
        lambda: books.read(client).events["queued"] == 0,
        stack.url("moogsim") if simulator else "",
    )


def _with_pool(process: Process, pool: str) -> Process:
    argv = list(process.argv)
    if pool and process.name.startswith("alerts"):
        argv[argv.index("-P") + 1] = pool
    return dataclasses.replace(process, argv=tuple(argv))


def lists_and_rows(site: Site, consumers: int) -> Subject:
    """Baseline (a) with so many consumers."""
    names = [str(number) for number in range(1, consumers + 1)]
    workers = [
        _process(site, f"consumer{name}", ("-m", "benchmarks.list_and_row", name), ready_line="ready.")
        for name in names
    ]
    keys = [list_and_row.QUEUE, *(list_and_row.PROCESSING + name for name in names)]
    return _baseline(
        site, f"list-and-row, {consumers} consumer{'s' * (consumers > 1)}", "list_and_row", workers, keys
    )


def plainly_celery(site: Site) -> Subject:
    """Baseline (b): one worker with two processes."""
    argv = (
        "-m",
        "celery",
        "-A",
        "benchmarks.plain_celery",
        "worker",
        "-P",
        "prefork",
        "-c",
        "2",
        "-l",
        "INFO",
    )
    worker = _process(site, "worker", (*argv, "--without-gossip", "--without-mingle"), ready_line=" ready.")
    return _baseline(site, "plain Celery", "plain_celery", [worker], [plain_celery.QUEUE])


def bare_wsgi(site: Site, *options: str) -> Subject:
    """An application that does nothing, behind gunicorn as it serves MUTT's; ``options`` change that."""
    door, url = _door(site, "benchmarks.bare:application", "/", *options)
    return Subject("bare WSGI", (door,), url, lambda: True)


def _baseline(site: Site, name: str, module: str, workers: list[Process], lists: list[str]) -> Subject:
    door, url = _door(site, f"benchmarks.{module}:door()", "/healthz")
    client = redis.Redis.from_url(site.redis_url)

    def idle() -> bool:
        return not client.hlen("unacked") and not any(client.llen(key) for key in lists)

    return Subject(name, (door, *workers), url, idle)


def _door(site: Site, application: str, ready: str, *options: str) -> tuple[Process, str]:
    bind = f"{HOST}:{free_port(0, HOST)}"
    argv = ("-m", "gunicorn", "-c", "python:mutt.web.gunicorn", "--bind", bind, *options, application)
    return _process(site, "ingest", argv, ready_url=f"http://{bind}{ready}"), f"http://{bind}/ingest"


def _process(
    site: Site, name: str, argv: tuple[str, ...], *, ready_line: str = "", ready_url: str = ""
) -> Process:
    return Process(
        name=name,
        argv=(sys.executable, *argv),
        log=site.directory / f"{name}.log",
        env=_environment(site),
        cwd=ROOT,
        ready=answers(ready_url) if ready_url else lambda: True,
        ready_line=ready_line,
    )


def _environment(site: Site) -> dict[str, str]:
    return {
        **inherited(),
        "MUTT_HOME": str(site.directory / "home"),
        "REDIS_URL": site.redis_url,
        "DATABASE_URL": site.database_url,
        "INGEST_API_KEY": API_KEY,
        "MOOG_URL": _NO_MOOG,
    }
