"""``mutt dlq``: the dead letters; what could not be worked, why, and the ways out."""

from __future__ import annotations

import contextlib
import functools
import getpass
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import click
import msgspec
import orjson
from rich.markup import escape
from rich.padding import Padding

from mutt import names
from mutt.alert import Alert
from mutt.cli.common import console, services, table
from mutt.cli.outages import spoken
from mutt.errors import Refused
from mutt.letters import copies
from mutt.letters.desk import DROP, REPLAY, Copy, Desk, Order, rejected_text
from mutt.letters.remedy import remedy
from mutt.letters.trial import Trial, told
from mutt.services import Services
from mutt.streams.letters import KEPT, Letter, NoLetter, NotDroppable
from mutt.words import many, printable

QUEUE = click.argument("queue", type=click.Choice(list(names.DLQS)))
LETTER = click.argument("id_", metavar="ID")
LETTERS = click.argument("ids", metavar="[ID]...", nargs=-1)
ALL = click.option("--all", "everything", is_flag=True, help="Every letter of the queue.")
GROUP = click.option(
    "--reason-is", "group", default="", help="Every letter of this reason, as `list` names it."
)
WHY = click.option("--reason", default="", help="Why; kept in the history.")
FORMAT = click.option(
    "--format", "format_", default="", help="How to read a rejected item.  [default: by its looks]"
)
JSON = click.option("--json", "as_json", is_flag=True, help="JSON.")

#: Columns that the table of letters needs.
WIDE = 140

#: How a shell says that a command was stopped.
INTERRUPTED = 130


@functools.lru_cache(maxsize=1)
def _desk(of: Services) -> Desk:
    return Desk(of)


def desk() -> Desk:
    """The desk of the stack that the environment, or ``up.json``, names."""
    return _desk(services())


@click.group()
def dlq() -> None:
    """Dead letters: list them by reason, look at one, try it, edit a copy, send them through again, or give them up."""


@dlq.command("list")
@click.argument("queue", type=click.Choice(list(names.DLQS)), required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@spoken()
def list_(queue: str | None, as_json: bool) -> None:
    """Count the letters by their reason."""
    letters = desk().letters
    found = {name: letters.counts(name) for name in ([queue] if queue else names.DLQS)}
    if as_json:
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
        return
    rows = [
        (name, escape(printable(why)), n) for name, reasons in found.items() for why, n in reasons.items()
    ]
    if not rows:
        click.echo("no dead letters")
        return
    table("", ["queue", "reason", "letters"], rows, numbers=(2,))


@dlq.command()
@QUEUE
@click.argument("id_", metavar="[ID]", required=False)
@GROUP
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Letters to list.")
@click.option("--json", "as_json", is_flag=True, help="JSON: one object, or one a line.")
@spoken()
def show(queue: str, id_: str | None, group: str, limit: int, as_json: bool) -> None:
    """List a queue's letters, the oldest first; with ID show one whole: what it holds, why it is here, what to do."""
    if id_ is None:
        _list(queue, group, limit, as_json=as_json)
        return
    letter = desk().show(queue, id_)
    if as_json:
        click.echo(_json(letter, indent=True))
    else:
        _whole(letter)


@dlq.command("try")
@QUEUE
@LETTER
@FORMAT
@JSON
@spoken()
def try_(queue: str, id_: str, format_: str, as_json: bool) -> None:
    """What the present rules and PostgreSQL would make of a letter. Nothing is written."""
    trial = desk().try_(queue, id_, format_=format_)
    if as_json:
        click.echo(orjson.dumps(msgspec.to_builtins(_named(trial)), option=orjson.OPT_INDENT_2))
        return
    for label, text in told(trial):
        console.print(f"[bold]{label}[/]  {escape(printable(text))}", soft_wrap=True)


@dlq.command()
@QUEUE
@LETTER
@click.option("--set", "sets", metavar="FIELD=VALUE", multiple=True, help="Change one field.")
@click.option(
    "--file", "file", type=click.File("rb"), help="What is changed, as JSON; a rejected item as text."
)
@click.option("--keep", is_flag=True, help="Leave the original where it is.")
@FORMAT
@WHY
@JSON
@spoken()
def edit(
    queue: str,
    id_: str,
    sets: tuple[str, ...],
    file: BinaryIO | None,
    keep: bool,
    format_: str,
    reason: str,
    as_json: bool,
) -> None:
    """Send a changed copy of a letter through; the original is dropped once the copy is accepted.

    Without --set and --file an editor opens ($EDITOR). A copy of an event is an event of its own, evaluated by the
    present rules; of a rejected item likewise, by ingest's own checks; the copy of an alert goes to its lane.
    """
    if sets and file:
        raise click.UsageError("say --set or --file, not both")
    said: dict[str, Any] = {"who": getpass.getuser(), "reason": reason, "keep": keep}
    if queue == "ingest":
        copy = _copy_of_rejected(id_, sets, file, format_, said)
    else:
        copy = _copy_of(queue, id_, sets, file, said)
    if as_json:
        click.echo(orjson.dumps(msgspec.to_builtins(copy), option=orjson.OPT_INDENT_2))
        return
    fate = "stays" if copy.kept else "is dropped"
    changed = ", ".join(copy.changed) or "nothing"
    click.echo(f"accepted as {', '.join(copy.ids)} (changed: {changed}); the original {fate}")


@dlq.command()
@QUEUE
@LETTERS
@ALL
@GROUP
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), default=None, help="Letters a second, at most."
)
@click.option("--now", is_flag=True, help="All at once, also where what is fresh then waits behind them.")
@WHY
@spoken()
def replay(
    queue: str, ids: tuple[str, ...], everything: bool, group: str, rate: float | None, now: bool, reason: str
) -> None:
    """Send letters through again: those named, those of a reason, or --all.

    Alerts take only what the budget has to spare, events go while the ingest queue is nearly empty. Ctrl-C stops it:
    what was moved is moved, the rest stands.
    """
    _check_chosen(ids, everything, group)
    who = getpass.getuser()
    order = desk().order(
        queue, REPLAY, who=who, reason=reason, group=group, ids=ids, rate=rate or 0.0, now=now
    )
    _check_group(order)
    _carry_out(order, "sent again")


@dlq.command()
@QUEUE
@LETTERS
@ALL
@GROUP
@click.option(
    "--reason", required=True, help="Why; kept in the history, and with the letter's id in mutt:drops."
)
@spoken()
def drop(queue: str, ids: tuple[str, ...], everything: bool, group: str, reason: str) -> None:
    """Give letters up, for a reason that is kept: those named, those of a reason, or --all."""
    _check_chosen(ids, everything, group)
    order = desk().order(queue, DROP, who=getpass.getuser(), reason=reason, group=group, ids=ids)
    _check_group(order)
    _carry_out(order, "dropped")


# ---- replay and drop


def _check_chosen(ids: Sequence[str], everything: bool, group: str) -> None:
    if sum((bool(ids), everything, bool(group))) != 1:
        raise click.UsageError("name the letters, or say --reason-is REASON, or --all")


def _check_group(order: Order) -> None:
    """A reason that no letter has is a slip, and not nothing to do."""
    if order.group and not order.total:
        known = "; ".join(map(printable, desk().letters.counts(order.queue)))
        there = f"there are: {known}" if known else "there are no letters"
        raise Refused("reason-is", f"no letter of {order.queue} has the reason {order.group}; {there}")


def _carry_out(order: Order, what: str) -> None:
    """Work an order to its end or to Ctrl-C, and say how far it came."""
    with _until_interrupted() as stop:
        progress = _Progress(order, what)
        for step in desk().run(order, sleep=stop.wait):
            progress.show(step)
            if stop.is_set():
                break
        progress.end()
    events = many(order.events, "event or alert", "events or alerts")
    click.echo(f"{many(order.letters, 'letter')} ({events}) {what}")
    if order.missing:
        gone = "not there any more, or can't be read, nor read again from a row of alerts"
        raise NoLetter(f"{gone}: {', '.join(order.missing)}")
    if order.outcomes:
        raise NotDroppable(f"{many(order.outcomes, 'letter')} not dropped: {KEPT}")
    left = order.total - order.letters
    if order.done and left > 0:
        click.echo(f"{many(left, 'letter')} went meanwhile, or can't be read and stand", err=True)
    if not order.done:
        click.echo(f"stopped; {many(left, 'letter')} stand where they were", err=True)
        sys.exit(INTERRUPTED)


@contextlib.contextmanager
def _until_interrupted() -> Iterator[threading.Event]:
    """Ctrl-C ends the work after the step that is under way; a second one ends it at once."""
    stop = threading.Event()

    def asked(_signal: int, _frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, asked)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


class _Progress:
    """A line on a terminal that is written over; elsewhere a line each time that something else holds it up."""

    def __init__(self, order: Order, what: str) -> None:
        self._total, self._what, self._waits = order.total, what, ""
        self._terminal = sys.stderr.isatty()

    def show(self, order: Order) -> None:
        waits = f"; waits: {order.waits}" if order.waits else ""
        if self._terminal:
            done = f"{order.letters:,} of {many(self._total, 'letter')} {self._what}{waits}"
            click.echo(f"\r\033[K{done}", nl=False, err=True)
        elif waits and not self._waits:
            click.echo(waits.removeprefix("; "), err=True)
        self._waits = waits

    def end(self) -> None:
        if self._terminal:
            click.echo("\r\033[K", nl=False, err=True)


# ---- copies


def _copy_of_rejected(
    id_: str, sets: Sequence[str], file: BinaryIO | None, format_: str, said: Mapping[str, Any]
) -> Copy:
    def accept(text: str) -> Copy:
        # An editor ends its last line, which the item had none of.
        return desk().edit_rejected(id_, text.removesuffix("\n"), format_=format_, **said)

    text = rejected_text(desk().letters.one("ingest", id_))
    if sets:
        return accept(_with_sets(text, sets))
    return accept(_text(file)) if file else _in_editor(text, accept)


def _copy_of(
    queue: str, id_: str, sets: Sequence[str], file: BinaryIO | None, said: Mapping[str, Any]
) -> Copy:
    if sets:
        return desk().edit(queue, id_, _pairs(sets), **said)
    shown = copies.as_json(desk().original(queue, id_))

    def accept(text: str) -> Copy:
        given = _object(text)
        changes = {name: value for name, value in given.items() if name not in shown or value != shown[name]}
        return desk().edit(queue, id_, changes, **said)

    written = orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode()
    return accept(_text(file)) if file else _in_editor(written, accept)


def _in_editor(text: str, accept: Callable[[str], Copy]) -> Copy:
    """The copy that an editor makes of ``text``; what is refused may be edited again."""
    while True:
        written = click.edit(text, extension=".json")
        if written is None:
            raise click.ClickException("nothing was saved: nothing is changed")
        try:
            return accept(written)
        except Refused as error:
            click.echo(f"mutt: {error}", err=True)
            if not click.confirm("Edit it again?", default=True, err=True):
                raise
            text = written


def _text(file: BinaryIO) -> str:
    """What a file holds. Raises Refused."""
    try:
        return file.read().decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise Refused("file", f"is no UTF-8 text: {error.reason} at byte {error.start}") from None


def _object(text: str) -> dict[str, Any]:
    """What a file says is to be changed. Raises Refused."""
    try:
        given = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Refused("file", f"is no JSON: {error}") from None
    if not isinstance(given, dict):
        raise Refused("file", "must hold one JSON object: the fields to change")
    return given


def _pairs(sets: Sequence[str]) -> dict[str, str]:
    pairs = [one.partition("=") for one in sets]
    for name, equals, value in pairs:
        if not equals:
            raise click.UsageError(f"--set {name} has no =; write --set FIELD=VALUE")
        try:
            (name + value).encode()
        except UnicodeEncodeError:
            raise Refused("set", "is no UTF-8 text") from None
    return {name: value for name, _, value in pairs}


def _with_sets(text: str, sets: Sequence[str]) -> str:
    """A rejected JSON object with these fields; as the sender would have written it."""
    try:
        item = orjson.loads(text)
    except orjson.JSONDecodeError:
        item = None
    if not isinstance(item, dict):
        raise Refused("set", "is for JSON objects, which this item is not: use --file, or the editor")
    return orjson.dumps(item | _pairs(sets)).decode()


# ---- showing


def _list(queue: str, group: str, limit: int, *, as_json: bool) -> None:
    letters = desk().letters
    shown = letters.page(queue, group, want=limit).letters
    if as_json:
        for one in shown:
            with contextlib.suppress(NoLetter):  # it went meanwhile
                click.echo(_json(desk().show(queue, one.id)))
        return
    if console.width < WIDE:
        for one in shown:
            _narrow(one)
    else:
        rows = [
            (one.id, one.at, one.events, one.attempts, _escaped(one.about), _escaped(_short(one)))
            for one in shown
        ]
        table("", ["id", "parked", "events", "attempts", "about", "reason"], rows, numbers=(2, 3))
    if len(shown) == limit:
        console.print(f"[dim]the oldest {limit}; --limit shows more[/]")


def _narrow(letter: Letter) -> None:
    """One letter in lines of its own: an id that is cut in two can't be copied."""
    said = (letter.at, many(letter.events, "event"), many(letter.attempts, "attempt"))
    console.print(f"[bold]{letter.id}[/]  {', '.join(said)}", soft_wrap=True)
    for line in filter(None, (letter.about, _short(letter))):
        console.print(Padding(_escaped(line), (0, 0, 0, 2)))


def _whole(letter: Letter) -> None:
    means, do = remedy(letter)
    lines = {
        "letter": f"{letter.queue} {letter.id}",
        "about": letter.about,
        "reason": letter.reason,
        "means": means,
        "do": do,
        "first queued": letter.first,
        "parked": letter.at,
        "attempts": str(letter.attempts),
        "Moog's status": "" if letter.moog_status is None else str(letter.moog_status),
        "Moog's answer" if letter.queue == "moog" else "said": letter.detail.strip(),
    }
    width = max(map(len, lines))
    for label, text in lines.items():
        if text:
            first, *rest = printable(text).split("\n")
            console.print(f"[bold]{label:{width}}[/]  {escape(first)}", soft_wrap=True)
            for line in rest:
                console.print(" " * (width + 2) + escape(line), soft_wrap=True)
    held = orjson.dumps(letter.payload, default=str, option=orjson.OPT_INDENT_2).decode()
    console.print(escape(printable(held)), soft_wrap=True)


def _escaped(text: str) -> str:
    return escape(printable(text))


def _short(letter: Letter) -> str:
    detail = letter.detail.strip().rpartition("\n")[2]
    return f"{letter.reason}: {detail}"[:120] if detail else letter.reason


def _named(trial: Trial) -> dict[str, Any]:
    """A trial as names and values; an alert is an array on the wire."""
    alerts = [
        {name: getattr(alert, name) for name in Alert.__struct_fields__ if name not in ("raw", "trace")}
        for alert in trial.alerts
    ]
    return msgspec.structs.asdict(trial) | {"alerts": alerts}


def _json(letter: Letter, *, indent: bool = False) -> bytes:
    said = msgspec.structs.asdict(letter)
    return orjson.dumps(said, default=str, option=orjson.OPT_INDENT_2 if indent else 0)
