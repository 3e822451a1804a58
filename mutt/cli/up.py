"""``mutt up``: the whole of MUTT on one machine. ``mutt env``: the same for another shell. ``mutt migrate``."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import redis
from rich.markup import escape
from sqlalchemy import text

from mutt.celery import ring
from mutt.cli.common import console, owner_url
from mutt.cli.keys import not_published
from mutt.cli.outages import Away, first_line
from mutt.cli.show import GRACE, PATIENCE, settle, show
from mutt.embedded.home import Home
from mutt.embedded.stack import HOST, Sizes, Stack
from mutt.embedded.supervisor import Supervisor
from mutt.errors import MuttError, StoreDown
from mutt.services import Services
from mutt.settings import Settings, exported, inherited, marked
from mutt.store.engine import one_shot_engine, transaction
from mutt.store.migrate import upgrade
from mutt.streams.connect import is_redis, redis_of
from mutt.streams.servers import servers

#: Seconds that a server which was given has for its first answer.
FIRST_ANSWER = 3.0


@click.command()
@click.option("--alerts", default=2, show_default=True, type=click.IntRange(1), help="Workers that evaluate.")
@click.option("--moog", default=1, show_default=True, type=click.IntRange(1), help="Workers that forward.")
@click.option("--once", is_flag=True, help="End when all is at rest; exit 0 only if the books balance.")
@click.option(
    "--samples/--no-samples",
    default=None,
    help="Send the sample events.  [default: only where MOOG_URL names no Moog: it would page people]",
)
@click.option("--listen", is_flag=True, help="Hear syslog, too, on a UDP and TCP port of this machine.")
def up(alerts: int, moog: int, once: bool, samples: bool | None, listen: bool) -> None:
    """Run everything here: Redis, PostgreSQL, every role of MUTT, Flower and a Moog simulator. Ctrl-C stops it."""
    home = Home(Settings.from_env().mutt_home).make()
    with home.lock() as descriptor:
        # What an earlier run left must not be taken for what was given.
        home.clear_up()
        environ = inherited()
        settings = Settings.from_env(environ)
        first = not home.has_secrets
        _say_what_is_not_used()
        check_given(settings)
        stack = Stack.plan(home, settings, environ, Sizes(alerts, moog))
        try:
            send = wanted(samples, settings)
            sys.exit(_run(stack, descriptor, once=once, send=send, first=first, listen=listen))
        finally:
            # Also after a start that failed: nothing runs, and nobody was killed.
            home.clear_up()


def _say_what_is_not_used() -> None:
    names = marked()
    if names:
        _say(f"not used, for `mutt env` set them in this shell: {', '.join(names)}")


def wanted(samples: bool | None, settings: Settings) -> bool:
    """Are the samples to be sent?"""
    if samples is None and settings.moog_url:
        _say("no sample events, for MOOG_URL is given and they would page people; --samples sends them")
        return False
    return samples is not False


def check_given(settings: Settings) -> None:
    """See that the servers which are given can be reached. Raises :class:`Away`."""
    servers(settings)  # a list that can't be is told of before anything is started
    for which in ("stream_url", "broker_url"):
        if is_redis(getattr(settings, which)):
            try:
                redis_of(settings, which, timeout=FIRST_ANSWER).ping()
            except redis.RedisError as error:
                raise _unreachable(settings.variable(which), "a Redis", first_line(error)) from error
    if settings.database_url:
        try:
            engine = one_shot_engine(settings.database_url, role="cli", ca=settings.database_ca)
            with transaction(engine) as conn:
                conn.execute(text("SELECT 1"))
        except StoreDown as error:
            raise _unreachable("DATABASE_URL", "a PostgreSQL", first_line(error)) from error


def _unreachable(name: str, what: str, why: str) -> Away:
    return Away(
        f"{name} is set, and it can't be asked: {why.rstrip('.')} (unset {name}, and {what} is started here)"
    )


def _run(stack: Stack, descriptor: int, *, once: bool, send: bool, first: bool, listen: bool) -> int:
    redis, postgres = stack.redis(), stack.postgres()
    told = stack.up(redis, postgres)
    shutil.rmtree(stack.metrics_dir, ignore_errors=True)
    stack.home.directory(stack.metrics_dir.name)

    shown = {name: value for name, value in told.items() if name != "roles"}

    def changed(processes: Mapping[str, int]) -> None:
        stack.home.write_up({**shown, "processes": {"supervisor": os.getpid(), **processes}})

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
        upgrade(str(told["owner_url"]), stack.settings.database_ca)
        if postgres:
            stack.let_in(postgres)
        tell_of_keys(Settings.from_env(stack.environment(told, "cli")), _say)
        simulator = stack.simulator(told)
        _say("starting MUTT")
        supervisor.start(*([simulator] if simulator else []), *stack.workers(told), *stack.doors(told))
        supervisor.start(stack.ingest(told))
        if listen:
            supervisor.start(stack.listener(told))
        _addresses(stack, told, first=first, listen=listen)
        if send or once:
            # Beside the supervisor, which goes on looking after its processes from this thread.
            arguments = (stack, told, supervisor, once, send, verdict)
            threading.Thread(target=_show, args=arguments, daemon=True).start()
        else:
            console.print(_farewell(stack.home), soft_wrap=True)
        supervisor.run()
        _say("stopping")
    return (verdict or [1])[0] if once else 0


def _show(
    stack: Stack,
    told: Mapping[str, Any],
    supervisor: Supervisor,
    once: bool,
    send: bool,
    verdict: list[int],
) -> None:
    try:
        services = Services(Settings.from_env(stack.environment(told, "cli")), ring, role="cli")

        def stop() -> bool:
            return supervisor.stopping

        if send:
            show(services, str(told["ingest"]), str(told["api_key"]), console, stop, to_rest=once)
        found = settle(services, stop, patience=GRACE if send else PATIENCE)
        verdict.append(0 if found.good else 1)
        if not supervisor.stopping:
            console.print(found.says, soft_wrap=True)
    except Exception as error:  # noqa: BLE001 this thread's edge: the stack stays up, and the user reads why
        verdict.append(1)
        console.print(f"[red]{escape(first_line(error))}[/]", soft_wrap=True)
    if once:
        supervisor.request_stop()
    elif not supervisor.stopping:
        console.print(_farewell(stack.home), soft_wrap=True)


def tell_of_keys(settings: Settings, say: Callable[[str], None]) -> None:
    """Let Redis have the API keys as PostgreSQL has them, or say why it does not."""
    services = Services(settings, ring, role="cli")
    try:
        if why := not_published(services):
            say(why)
    finally:
        services.engine.dispose()


def _addresses(stack: Stack, told: Mapping[str, Any], *, first: bool, listen: bool) -> None:
    login = f"{told['admin_user']} / {told['admin_password']}"
    lines = [
        ("ingest", f"{told['ingest']}/ingest", shown_key(stack, told, first=first)),
        ("admin", told["admin"], login),
        ("API", f"{told['admin']}/api/docs", f"X-API-KEY: {told['management_key']}"),
        ("Flower", told["flower"], login),
        ("Moog", told["moogsim"] or "as MOOG_URL says", "a simulator" if told["moogsim"] else ""),
        ("metrics", told["metrics"], ""),
        ("logs", str(stack.home.log("ingest").parent), ""),
    ]
    if listen:
        port = stack.ports["syslog"]
        lines.insert(1, ("syslog", f"{HOST}:{port}", f"UDP and TCP: logger -n {HOST} -P {port} -d hello"))
    for name, address, note in lines:
        console.print(f"  {name:8} {escape(address)}  {escape(note)}".rstrip(), soft_wrap=True)


def shown_key(stack: Stack, told: Mapping[str, Any], *, first: bool) -> str:
    """The API key, where it was just made: it is shown once."""
    if stack.settings.ingest_api_key:
        return "with the key of INGEST_API_KEY"
    return f"X-API-KEY: {told['api_key']}" if first else "with the key of the first start; `mutt env` has it"


def _farewell(home: Home) -> str:
    command = started_as(sys.argv[0])
    if home.path != Home(Path("~/.mutt")).path:
        command = f"MUTT_HOME={shlex.quote(str(home.path))} {command}"
    return f'Ctrl-C stops it. In another shell: [bold]eval "$({escape(command)} env)"[/]'


def started_as(argv0: str) -> str:
    """How another shell calls the ``mutt`` that runs here: by the path that was typed."""
    if Path(argv0).name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m mutt"
    return shlex.quote(argv0)


def _say(sentence: str) -> None:
    console.print(f"[dim]mutt:[/] {escape(sentence)}", soft_wrap=True)


@click.command()
def env() -> None:
    """Print the environment of the running stack: eval "$(mutt env)"."""
    home = Home(Settings.from_env().mutt_home)
    found = home.read_up()
    if not found:
        raise MuttError(f"nothing runs in {home.path}: start `mutt up` first")
    values = exported(found, home.path)
    for name in marked():
        if name not in values:
            click.echo(f"unset {name}")
    for name, value in values.items():
        click.echo(f"export {name}={shlex.quote(value)}")
    programs = Path(sys.executable).parent
    if shutil.which("celery") != str(programs / "celery"):
        click.echo(f'export PATH={shlex.quote(str(programs))}:"$PATH"')


@click.command()
def migrate() -> None:
    """Bring the database up to date: tables, partitions, the starting rules in an empty one; and Redis' API keys."""
    settings = Settings.from_env()
    upgrade(owner_url(settings), settings.database_ca)
    if settings.stream_url:
        tell_of_keys(settings, lambda why: click.echo(why, err=True))
    click.echo("the database is up to date")
