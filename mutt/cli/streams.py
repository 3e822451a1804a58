"""``mutt streams``: the servers over which the ingest queue is spread (STREAM_URLS), and how one of them leaves."""

from __future__ import annotations

import time

import click
import msgspec
import orjson

from mutt.cli.common import services, table
from mutt.cli.outages import spoken
from mutt.cli.queues import says_share, shares
from mutt.errors import MuttError
from mutt.services import Services
from mutt.streams import books
from mutt.words import many


class NotDrained(MuttError):
    """A server can't leave now."""


@click.group()
def streams() -> None:
    """Servers of the ingest queue: what stands where, and how one leaves."""


@streams.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
@spoken()
def list_(as_json: bool) -> None:
    """Show each server and what it holds of the ingest queue; the first is home, where everything else stands."""
    found = shares(services(), time.time())
    if as_json:
        click.echo(orjson.dumps(msgspec.to_builtins(found), option=orjson.OPT_INDENT_2))
        return
    table("", ["server", "ingest queue"], [(one.server, says_share(one)) for one in found])


@streams.command()
@click.argument("server")
@spoken()
def leave(server: str) -> None:
    """Take over the books of a server that is drained. After that its address may go from STREAM_URLS."""
    s = services()
    _check_drained(s, server)
    counts = books.take_over(s.redis, s.ingest_servers[server].client)
    events = many(counts.get("events.accepted", 0), "event")
    click.echo(f"the books of {server} ({events} accepted) are home's now: take it out of STREAM_URLS")


def _check_drained(s: Services, name: str) -> None:
    """Raises NotDrained."""
    found = {one.name: one for one in s.servers[1:]}
    if name not in found:
        known = ", ".join(found) or "none"
        raise NotDrained(f"{name} is no server that could leave; there are: {known}")
    if not found[name].drains:
        raise NotDrained(
            f"{name} takes events: write ?drain=on behind its address in STREAM_URLS, restart, and wait"
        )
    stands = s.ingest_servers[name].size()
    if stands:
        raise NotDrained(f"{many(stands, 'entry', 'entries')} stand at {name}: wait until they are worked")
