"""``mutt audit``: what is stored of events."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime

import click
import msgspec

from mutt.cli.archives import archive, archives, restore, verify
from mutt.cli.common import services
from mutt.cli.outages import spoken
from mutt.cli.searching import export, search
from mutt.errors import MuttError, RuleError
from mutt.rules.redaction import Redactions
from mutt.rules.windows import in_zone, read_time
from mutt.store import redactions, rewriting
from mutt.store.engine import transaction
from mutt.store.history import Said
from mutt.words import many


class NothingToRedact(MuttError):
    """No redaction is in force, or none of this name."""


@click.group()
def audit() -> None:
    """What is stored of events."""


@audit.command()
@click.option("--since", required=True, help="Received from then on, in UTC where it has no offset.")
@click.option("--until", required=True, help="Received before.")
@click.option(
    "--only", metavar="NAME", help="This redaction alone, be it on or off.  [default: all that are on]"
)
@click.option("--dry-run", is_flag=True, help="Only count what would be changed.")
@click.option(
    "--archives", "archived", is_flag=True, help="Archived months, too: their files are written anew."
)
@click.option("--who", help="Who does it.  [default: you]")
@click.option("--reason", required=True, help="Why; kept in the history.")
@spoken()
def redact(
    since: str, until: str, only: str | None, dry_run: bool, archived: bool, who: str | None, reason: str
) -> None:
    """Take out of stored events and alerts what redactions take out of new ones. There is no way back.

    Backups, what waits in Redis and what Moog was told are not touched; archives with --archives only. Each changed
    row is written anew: the months grow by as much until PostgreSQL has used the room again. Where each role of MUTT
    has a login of its own, none may change the audit: DATABASE_URL is the owner's then, as for `mutt migrate`.
    """
    begin, end = (
        in_zone(name, read_time(name, text), "UTC") for name, text in (("since", since), ("until", until))
    )
    if begin >= end:
        raise RuleError("until", "is not after since; give a later time")
    engine = services().engine
    with transaction(engine) as conn:
        found = redactions.listed(conn)
    chosen = [one for one in found if (one.name == only if only else one.is_active)]
    if not chosen:
        raise NothingToRedact(f"there is no redaction {only!r}" if only else "no redaction is on")
    made = Redactions(msgspec.structs.replace(one, is_active=True) for one in chosen)
    if archived:
        from mutt.store import retention  # noqa: PLC0415 it brings pyarrow, which few commands need

        retention.demand_made_anew(services().archives, begin, end)
    note = None
    if not dry_run:
        with transaction(engine) as conn:
            said: Said = {"changed_by": who or getpass.getuser(), "reason": reason}
            note = rewriting.begin(conn, begin, end, [one.name for one in chosen], **said)
    seen = events = alerts = 0
    for done in rewriting.rewrite(engine, made, begin, end, note):
        seen, events, alerts = seen + done.events, events + done.events_changed, alerts + done.alerts_changed
    if archived:
        duck, now = services().archives, datetime.now(UTC)
        for file in retention.redact_archives(engine, duck, made, begin, end, now, note):
            seen, events = seen + file.rows, events + file.changed
    would = "would be changed" if dry_run else "changed"
    click.echo(
        f"{many(seen, 'event')} looked at: {many(events, 'event')} and {many(alerts, 'alert')} {would}"
    )


for command in (search, export, archive, archives, verify, restore):
    audit.add_command(command)
