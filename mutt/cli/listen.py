"""``mutt listen``: what comes straight from the network, onto this machine's disk and from there to ingest."""

from __future__ import annotations

import importlib

import click

from mutt.listen import syslog as listeners
from mutt.settings import Settings


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
