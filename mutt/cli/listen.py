"""``mutt listen``: what comes straight from the network, onto this machine's disk and from there to ingest."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime

import click
from rich.markup import escape

from mutt.cli.common import console, table
from mutt.listen import aside as asides
from mutt.listen import syslog as listeners
from mutt.settings import Settings
from mutt.words import many, printable


@click.group()
def listen() -> None:
    """Hear what devices send, keep it on disk, and post it to ingest (INGEST_URL, INGEST_KEY)."""


@listen.command()
def syslog() -> None:
    """Syslog over UDP, TCP and TLS, as RFC 3164, RFC 5424 and network gear write it.

    Ports: LISTEN_SYSLOG_UDP, LISTEN_SYSLOG_TCP, LISTEN_SYSLOG_TLS.
    """
    listeners.listen(Settings.from_env())


@listen.command()
def snmptrap() -> None:
    """SNMP's traps and informs: v1, v2c, v3.

    Port: LISTEN_SNMPTRAP_UDP. Who may send: LISTEN_SNMPTRAP_COMMUNITIES, LISTEN_SNMPTRAP_USERS.
    """
    # pysnmp is large: only who listens for traps waits for it.
    importlib.import_module("mutt.listen.snmptrap").listen(Settings.from_env())


@listen.command()
@click.argument("what", type=click.Choice(["syslog", "snmptrap"]))
@click.option("--again", is_flag=True, help="Put them back: they are sent behind those that wait.")
def aside(what: str, again: bool) -> None:
    """Batches that something on the way to ingest did not let through, such as a proxy.

    They stand in LISTEN_BUFFER. The listener may be running.
    """
    file = Settings.from_env().listen_buffer / f"{what}.db"
    if again:
        console.print(f"{many(asides.put_back(file), 'record')} put back")
        return
    rows = [
        (
            one.idempotency,
            one.records,
            one.bytes,
            f"{datetime.fromtimestamp(one.at, UTC):%F %T}",
            escape(printable(one.why)),
        )
        for one in asides.standing(file)
    ]
    table("", ("batch", "records", "bytes", "since (UTC)", "answer"), rows, numbers=(1, 2), whole=(0,))
