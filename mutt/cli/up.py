"""``mutt up``: the whole of MUTT on one machine. ``mutt env``: the same for another shell. ``mutt migrate``."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import threading
from collections.abc import Mapping
from typing import Any

import click

from mutt.celery import ring
from mutt.cli.common import console
from mutt.cli.show import show
from mutt.embedded.home import Home
from mutt.embedded.stack import Sizes, Stack
from mutt.embedded.supervisor import Supervisor
from mutt.errors import MuttError
from mutt.services import Services
from mutt.settings import FROM_UP, Settings, inherited
from mutt.store.migrate import upgrade


@click.command()
@click.option("--alerts", default=2, show_default=True, type=click.IntRange(1), help="Workers that evaluate.")
@click.option("--moog", default=1, show_default=True, type=click.IntRange(1), help="Workers that forward.")
@click.option("--once", is_flag=True, help="End after the samples' table; exit 0 only if the books balance.")
@click.option("--samples/--no-samples", default=True, show_default=True, help="Send the sample events.")
def up(alerts: int, moog: int, once: bool, samples: bool) -> None:
    """Run everything here: Redis, PostgreSQL, every role of MUTT, Flower and a Moog simulator. Ctrl-C stops it."""
    home = Home(Settings.from_env().mutt_home).make()
    with home.lock() as descriptor:
        # What an earlier run left must not be taken for what was given.
        home.clear_up()
        stack = Stack.plan(home, Settings.from_env(), inherited(), Sizes(alerts, moog))
        sys.exit(_run(stack, descriptor, once=once, send=samples))


def _run(stack: Stack, descriptor: int, *, once: bool, send: bool) -> int:
    redis, postgres = stack.redis(), stack.postgres()
    told = stack.up(redis, postgres)
    shutil.rmtree(stack.metrics_dir, ignore_errors=True)
    stack.home.directory(stack.metrics_dir.name)

    def changed(processes: Mapping[str, int]) -> None:
        stack.home.write_up({**told, "processes": {"supervisor": os.getpid(), **processes}})

    verdict: list[int] = []
    with Supervisor(changed, report=_say, keep_open=(descriptor,)) as supervisor:
        servers = [
            server.process(stack.home.log(name))
            for name, server in (("redis", redis), ("postgres", postgres))
            if server
        ]
        if servers:
            _say("starting Redis and PostgreSQL")
            supervisor.start(*servers)
        _say("bringing the database up to date")
        upgrade(str(told["database_url"]))
        simulator = stack.simulator(told)
        _say("starting MUTT")
        supervisor.start(*([simulator] if simulator else []), *stack.workers(told), *stack.doors(told))
        _addresses(told)
        if send or once:
            # Beside the supervisor, which goes on looking after its processes from this thread.
            showing = threading.Thread(
                target=_show, args=(stack, told, supervisor, once, verdict), daemon=True
            )
            showing.start()
        supervisor.run()
        _say("stopping")
    stack.home.clear_up()
    return (verdict or [1])[0] if once else 0


def _show(
    stack: Stack, told: Mapping[str, Any], supervisor: Supervisor, once: bool, verdict: list[int]
) -> None:
    try:
        services = Services(Settings.from_env(stack.environment(told, "cli")), ring, role="cli")
        good = show(services, str(told["ingest"]), str(told["api_key"]), console, lambda: supervisor.stopping)
        verdict.append(0 if good else 1)
        if not supervisor.stopping:
            console.print(
                "the books balance" if good else "[red]the books do not balance: see `mutt ledger`[/]"
            )
    except Exception as error:  # noqa: BLE001 this thread's edge: the stack stays up, and the user reads why
        verdict.append(1)
        console.print(f"[red]the samples did not get through[/]: {error}")
    if once:
        supervisor.request_stop()
    elif not supervisor.stopping:
        console.print('Ctrl-C stops it. In another shell: [bold]eval "$(mutt env)"[/]')


def _addresses(told: Mapping[str, Any]) -> None:
    login = f"{told['admin_user']} / {told['admin_password']}"
    lines = [
        ("ingest", f"{told['ingest']}/ingest", f"X-API-KEY: {told['api_key']}"),
        ("admin", told["admin"], login),
        ("Flower", told["flower"], login),
        ("Moog", told["moogsim"] or "as MOOG_URL says", "a simulator" if told["moogsim"] else ""),
        ("metrics", f"{told['ingest']}/metrics", ""),
    ]
    for name, address, note in lines:
        console.print(f"  {name:8} {address}  {note}", soft_wrap=True)


def _say(sentence: str) -> None:
    console.print(f"[dim]mutt:[/] {sentence}", soft_wrap=True)


@click.command()
def env() -> None:
    """Print the environment of the running stack: eval "$(mutt env)"."""
    home = Home(Settings.from_env().mutt_home)
    found = home.read_up()
    if not found:
        raise MuttError(f"nothing runs in {home.path}: start `mutt up` first")
    values = {name: str(found[key]) for name, key in FROM_UP.items() if found.get(key)}
    values |= {"MUTT_HOME": str(home.path), "APP": "mutt"}
    for name, value in values.items():
        click.echo(f"export {name}={shlex.quote(value)}")


@click.command()
def migrate() -> None:
    """Bring the database up to date: tables, partitions, and the starting rules in an empty one."""
    settings = Settings.from_env()
    settings.need("database_url")
    upgrade(settings.database_url)
    click.echo("the database is up to date")
