"""``mutt send``: events out of a file, or made up, posted to ingest."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, BinaryIO
from uuid import uuid4

import click
import orjson
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from mutt.cli.common import console, table
from mutt.cli.posting import Pace, Sender, Tally, Target
from mutt.cli.traffic import KINDS, WRITERS, Batch, from_file, made_up
from mutt.embedded.home import Home
from mutt.errors import MuttError
from mutt.formats.registry import FORMATS
from mutt.settings import Settings
from mutt.words import many

#: Made-up events, where no number is given.
COUNT = 1000


@click.command()
@click.argument("file", type=click.File("rb"), required=False)
@click.option("--url", default="", help="Ingest's address.  [default: that of the running `mutt up`]")
@click.option("--key", default="", help="An API key.  [default: INGEST_API_KEY]")
@click.option(
    "--count", type=click.IntRange(0), help=f"Events; 0: without end.  [default: {COUNT}, or the whole FILE]"
)
@click.option("--rate", type=click.FloatRange(0), default=0.0, help="Events a second; 0: as fast as it goes.")
@click.option("--batch", type=click.IntRange(1), default=100, show_default=True, help="Events in a request.")
@click.option("--connections", type=click.IntRange(1), default=4, show_default=True)
@click.option(
    "--format",
    "format_",
    type=click.Choice(sorted(FORMATS)),
    help="Of the body.  [default: native; a FILE's is found out]",
)
@click.option(
    "--generator",
    type=click.Choice(sorted(KINDS)),
    default="mixed",
    show_default=True,
    help="What is made up without FILE.",
)
@click.option("--seed", type=int, default=7, show_default=True, help="The same seed makes the same events.")
@click.option(
    "--retry/--no-retry",
    default=True,
    show_default=True,
    help="Send a batch again after a 503 or a lost connection.",
)
@click.option(
    "--patience",
    type=click.FloatRange(0),
    default=300.0,
    show_default=True,
    help="Seconds after which a batch is given up.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1),
    default=10.0,
    show_default=True,
    help="Seconds that one attempt may take.",
)
@click.option("--json", "as_json", is_flag=True, help="The summary as one JSON object.")
def send(
    file: BinaryIO | None, url: str, key: str, count: int | None, rate: float, batch: int, connections: int,
    format_: str | None, generator: str, seed: int, retry: bool, patience: float, timeout: float, as_json: bool,
) -> None:  # fmt: skip
    """Send events to ingest: those of FILE (JSON array, NDJSON or lines of syslog; - is stdin), or made-up ones.

    Exit 1 if anything was not accepted.
    """
    settings = Settings.from_env()
    if file is not None:
        batches = from_file(file, count=count or 0, batch=batch)
        total = count or None
    else:
        format_ = _writable(format_ or "native")
        total = COUNT if count is None else count
        batches = made_up(
            generator, format_, count=total, batch=batch, seed=seed, clock=lambda: datetime.now(UTC)
        )
    target = Target(_address(url, settings, format_), _key(key, settings), retry, patience, timeout)
    tally = _send(target, batches, rate, connections, total or None, quiet=as_json)
    if file is not None and not tally.events:
        raise MuttError(f"{file.name} holds no event: nothing was sent")
    _summary(tally, as_json=as_json)
    sys.exit(0 if tally.whole else 1)


def _writable(format_: str) -> str:
    if format_ not in WRITERS:
        raise MuttError(
            f"made-up events can't be written as {format_}: choose {', '.join(WRITERS)}, or give a FILE"
        )
    return format_


def _address(url: str, settings: Settings, format_: str | None) -> str:
    base = url or str(Home(settings.mutt_home).read_up().get("ingest", ""))
    if not base:
        raise MuttError("where to? Give --url, or start `mutt up` first")
    if not base.startswith(("http://", "https://")):
        raise MuttError(f"--url {base}: write http://HOST:PORT")
    base = base.rstrip("/")
    # An address with a path is taken as it is: somebody's proxy, or one format's own.
    return base if base.count("/") > 2 else base + "/ingest" + (f"/{format_}" if format_ else "")


def _key(key: str, settings: Settings) -> str:
    found = key or settings.ingest_api_key
    if not found:
        raise MuttError("as whom? Give --key, or set INGEST_API_KEY")
    return found


def _send(
    target: Target, batches: Iterator[Batch], rate: float, connections: int, total: int | None, *, quiet: bool
) -> Tally:

    def waiting(reason: str) -> None:
        how = (
            f"trying again, for up to {target.patience:g} s a batch (--patience; --no-retry gives up at once)"
        )
        click.echo(f"{reason}; {how}", err=True)

    sender = Sender(target, batches, Pace(rate), uuid4().hex, waiting)
    with _progress(total, quiet=quiet) as progress:
        return sender.run(connections, progress)


@contextlib.contextmanager
def _progress(total: int | None, *, quiet: bool) -> Iterator[Callable[[Tally], None]]:
    # On stderr, so that a pipe gets the summary alone.
    stderr = Console(stderr=True, highlight=False)
    text = TextColumn("{task.completed} accepted, {task.fields[retries]} retries")
    columns = (TextColumn("sending"), BarColumn(), text, TimeElapsedColumn())
    with Progress(*columns, console=stderr, disable=quiet or not stderr.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=total, retries=0)
        yield lambda tally: bar.update(task, completed=tally.accepted, retries=tally.retries)


def summary(tally: Tally) -> dict[str, Any]:
    """What came of it, for a program."""
    return {
        "events": tally.events,
        "accepted": tally.accepted,
        "rejected": tally.rejected,
        "duplicates": tally.duplicates,
        "batches": tally.batches,
        "retries": tally.retries,
        "errors": tally.errors,
        "seconds": round(tally.seconds, 3),
        "eps": round(tally.eps, 1),
        "reasons": dict(tally.reasons),
    }


def _summary(tally: Tally, *, as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps(summary(tally), option=orjson.OPT_INDENT_2))
        return
    row = (tally.accepted, tally.rejected, tally.retries, f"{tally.seconds:.2f}", f"{tally.eps:.0f}")
    table("", ["accepted", "rejected", "retried", "seconds", "EPS"], [row], numbers=range(5))
    for reason, n in tally.reasons.most_common(10):
        console.print(f"  {n} x {reason}", soft_wrap=True, markup=False)
    if tally.errors:
        verb = "was" if tally.errors == 1 else "were"
        console.print(f"[red]{many(tally.errors, 'batch', 'batches')} {verb} given up[/]")
