"""The shell's addresses: ``mutt up``, ``send``, ``queues``, ``rules``, ``dlq``, ``ledger``, ``doctor`` …"""

from __future__ import annotations

import sys

import click

from mutt import __version__
from mutt.cli import dlq, doctor, ledger, partitions, queues, rules, send, simulator, up
from mutt.errors import MuttError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mutt")
def cli() -> None:
    """MUTT stands between a network's noise and an operations team."""


for command in (
    up.up,
    up.env,
    up.migrate,
    send.send,
    queues.queues,
    rules.rules,
    dlq.dlq,
    partitions.partitions,
    ledger.ledger,
    doctor.doctor,
    simulator.moogsim,
):
    cli.add_command(command)


def main() -> None:
    """The entry point: what goes wrong is a sentence, not a traceback."""
    try:
        cli()
    except MuttError as error:
        click.echo(f"mutt: {error}", err=True)
        sys.exit(2)
