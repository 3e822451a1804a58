"""The shell's addresses: ``mutt up``, ``send``, ``queues``, ``rules``, ``dlq``, ``ledger``, ``doctor`` …"""

from __future__ import annotations

import sys

import click

from mutt import __version__
from mutt.cli.audit import audit as audit_command
from mutt.cli.dlq import dlq as dlq_command
from mutt.cli.doctor import doctor as doctor_command
from mutt.cli.drill import drill as drill_command
from mutt.cli.explain import explain as explain_command
from mutt.cli.keys import keys as keys_command
from mutt.cli.ledger import ledger as ledger_command
from mutt.cli.listen import listen as listen_command
from mutt.cli.maintenance import maintenance as maintenance_command
from mutt.cli.partitions import partitions as partitions_command
from mutt.cli.plan import plan_command
from mutt.cli.queues import queues as queues_command
from mutt.cli.roles import roles as roles_command
from mutt.cli.rules import rules as rules_command
from mutt.cli.send import send as send_command
from mutt.cli.shadow import shadow as shadow_command
from mutt.cli.signing import reseal, sealing_key, sign, unsign
from mutt.cli.simulator import moogsim as moogsim_command
from mutt.cli.sources import sources as sources_command
from mutt.cli.sourcing import source
from mutt.cli.streams import streams as streams_command
from mutt.cli.top import top as top_command
from mutt.cli.up import env as env_command
from mutt.cli.up import migrate as migrate_command
from mutt.cli.up import up as up_command
from mutt.cli.users import users as users_command
from mutt.errors import MuttError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mutt")
def cli() -> None:
    """MUTT stands between a network's noise and an operations team."""


for command in (
    up_command,
    env_command,
    migrate_command,
    send_command,
    listen_command,
    queues_command,
    top_command,
    sources_command,
    streams_command,
    rules_command,
    keys_command,
    dlq_command,
    explain_command,
    maintenance_command,
    users_command,
    partitions_command,
    audit_command,
    roles_command,
    ledger_command,
    doctor_command,
    drill_command,
    plan_command,
    moogsim_command,
):
    cli.add_command(command)

rules_command.add_command(shadow_command)
for of_keys in (source, sign, unsign, reseal, sealing_key):
    keys_command.add_command(of_keys)


def main() -> None:
    """The entry point: what goes wrong is a sentence, not a traceback."""
    try:
        cli()
    except MuttError as error:
        click.echo(f"mutt: {error}", err=True)
        sys.exit(2)
