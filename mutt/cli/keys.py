"""``mutt keys``: make API keys, rotate and revoke them, and see which there are and when they were used.

A key's text is shown once, alone on standard output, so that it can go into a file or a secret store; everything else
is said on standard error.
"""

from __future__ import annotations

import contextlib
import getpass
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import msgspec
import orjson
import redis
from rich.markup import escape
from sqlalchemy import Connection

from mutt import keyring
from mutt.cli.common import services, table
from mutt.cli.outages import first_line, spoken
from mutt.errors import MuttError, StoreDown
from mutt.grant import INGEST, SCOPES
from mutt.services import Services
from mutt.store import keys as rows
from mutt.store.engine import transaction
from mutt.store.history import Said
from mutt.store.keys import Key, Secret

_SPAN = re.compile(r"([1-9][0-9]{0,4})(min|m|h|d)")
_UNITS = {"min": "minutes", "m": "minutes", "h": "hours", "d": "days"}


class NoKey(MuttError):
    """There is no such API key."""


class NotTold(MuttError):
    """A key was revoked, and ingest takes it until Redis is back."""


class Span(click.ParamType):
    """A span such as 90min, 24h or 90d; ``also`` is a word that means none."""

    name = "span"

    def __init__(self, also: str) -> None:
        self.also = also

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, timedelta):
            return value
        text = str(value).replace(" ", "")
        if text == self.also:
            return timedelta()
        found = _SPAN.fullmatch(text)
        if found is None:
            self.fail(f"{value}: write a span such as 90min, 24h or 90d, or {self.also}", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


_who = click.option("--who", help="Who does it.  [default: you]")
_reason = click.option("--reason", default="", help="Why; kept in the history.")
_json = click.option("--json", "as_json", is_flag=True, help="As JSON.")
_name = click.argument("name", metavar="NAME")
_never = Span("never")


@click.group()
def keys() -> None:
    """API keys: who may send events, and who may manage by script."""


@keys.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those that are revoked.")
@_json
@spoken()
def list_keys(everything: bool, as_json: bool) -> None:
    """Which keys there are. Times are in UTC."""
    now = datetime.now(UTC)
    with transaction(services().engine) as conn:
        found = [key for key in rows.listed(conn) if everything or key.revoked_at is None]
    if as_json:
        click.echo(orjson.dumps([_told(key, now) for key in found], option=orjson.OPT_INDENT_2))
        return
    listed = [
        (
            escape(key.name),
            ", ".join(key.scopes),
            ", ".join(key.formats) or "all",
            key.quota or "",
            _state(key, now),
            _day(key.last_used_at) or "never",
            escape(_source(key)),
            escape(key.note),
        )
        for key in found
    ]
    titles = ["name", "scopes", "formats", "a minute", "state", "last used", "source", "note"]
    table("", titles, listed, numbers=[3])


@keys.command()
@_name
@_json
@spoken()
def show(name: str, as_json: bool) -> None:
    """What key NAME allows, and each text that it was given. Times are in UTC."""
    now = datetime.now(UTC)
    with transaction(services().engine) as conn, _known():
        key = rows.find(conn, name)
    if as_json:
        click.echo(orjson.dumps(_told(key, now), option=orjson.OPT_INDENT_2))
        return
    about = [
        ("scopes", ", ".join(key.scopes)),
        ("formats", ", ".join(key.formats) or "all"),
        ("quota", f"{key.quota} events a minute" if key.quota else "none"),
        ("signed", key.signing.header if key.signing else "no"),
        ("source", _source(key) or "nothing is known of it"),
        ("state", _state(key, now)),
        ("made", f"{_minute(key.created_at)} by {key.created_by}"),
        ("note", key.note),
    ]
    table("", ["name", escape(key.name)], [(what, escape(value)) for what, value in about])
    listed = [
        (
            f"…{escape(one.hint)}",
            _secret_state(key, one, now),
            _minute(one.created_at),
            _minute(one.expires_at),
            _minute(one.last_used_at),
        )
        for one in key.secrets
    ]
    table("", ["ends in", "state", "made", "expires", "last used"], listed)


@keys.command()
@_name
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    default=(INGEST,),
    show_default=True,
    help="What it is for; may be given twice.",
)
@click.option(
    "--format", "formats", multiple=True, help="A format that it may send; may be repeated.  [default: all]"
)
@click.option("--quota", type=int, help="Events a minute that it may send.  [default: as many as it likes]")
@click.option("--expires", type=_never, default="never", show_default=True, help="How long it is good: 90d.")
@click.option("--note", default="", help="Whose it is, where it is used.")
@_who
@_reason
@spoken()
def make(name: str, expires: timedelta, who: str | None, reason: str, **given: Any) -> None:
    """Make key NAME, and print it, once."""
    with change_of_keys() as conn:
        ends = datetime.now(UTC) + expires if expires else None
        key, text = rows.make(conn, name, expires_at=ends, **given, **said(who, reason))
    publish()
    _print(key.name, text, ends)


@keys.command()
@_name
@click.option("--scope", "scopes", multiple=True, type=click.Choice(SCOPES), help="Only these, from now on.")
@click.option("--format", "formats", multiple=True, help="Only these, from now on; 'all' for every one.")
@click.option("--quota", type=click.IntRange(0), help="Events a minute, from now on; 0: as many as it likes.")
@click.option("--note", help="Another note.")
@_who
@_reason
@spoken()
def change(
    name: str,
    scopes: tuple[str, ...],
    formats: tuple[str, ...],
    quota: int | None,
    note: str | None,
    who: str | None,
    reason: str,
) -> None:
    """Change what key NAME allows; what is not said stays. Its text stays the same."""
    with change_of_keys() as conn:
        before = rows.find(conn, name, lock=True)
        rows.change(
            conn,
            name,
            scopes=scopes or before.scopes,
            formats=() if formats == ("all",) else formats or before.formats,
            quota=before.quota if quota is None else quota or None,
            note=before.note if note is None else note,
            **said(who, reason),
        )
    publish()
    click.echo(f"changed: {name}", err=True)


@keys.command()
@_name
@click.option(
    "--overlap",
    type=Span("0"),
    default="24h",
    show_default=True,
    help="How long the old text stays good; 0 ends it now.",
)
@click.option("--expires", type=_never, help="How long the new one is good.  [default: as the one before]")
@_who
@_reason
@spoken()
def rotate(name: str, overlap: timedelta, expires: timedelta | None, who: str | None, reason: str) -> None:
    """Give key NAME a new text, and print it, once. It keeps its name and all that hangs on it."""
    with change_of_keys() as conn:
        before = rows.find(conn, name, lock=True)
        lasts = before.lifetime if expires is None else expires
        ends = datetime.now(UTC) + lasts if lasts else None
        text = rows.rotate(conn, name, overlap, ends, **said(who, reason))
        old = rows.find(conn, name).secrets[1:]
    publish()
    _print(name, text, ends)
    for one in old:
        if one.is_live(datetime.now(UTC)):
            click.echo(
                f"the one that ends in {one.hint} is good until {_minute(one.expires_at)} UTC", err=True
            )


@keys.command()
@_name
@click.option(
    "--hint", help="Only the text that ends in these characters; the key goes on with its other one."
)
@_who
@_reason
@spoken()
def revoke(name: str, hint: str | None, who: str | None, reason: str) -> None:
    """End key NAME for good, within seconds."""
    with change_of_keys() as conn:
        if hint is None:
            rows.revoke(conn, name, **said(who, reason))
        else:
            rows.revoke_secret(conn, name, _digest(rows.find(conn, name), hint), **said(who, reason))
    if not publish():
        raise NotTold(f"{name} is revoked, and is taken until Redis is back and housekeeping has told it")
    click.echo(f"revoked: {name}" + (f", the text that ends in {hint}" if hint else ""), err=True)


@contextlib.contextmanager
def change_of_keys() -> Iterator[Connection]:
    """One transaction; nothing is begun where its outcome could not be published."""
    services().settings.need("database_url", "stream_url")
    with transaction(services().engine) as conn, _known():
        yield conn


@contextlib.contextmanager
def _known() -> Iterator[None]:
    try:
        yield
    except LookupError as error:
        raise NoKey(f"{error}: see `mutt keys list --all`") from None


def publish() -> bool:
    why = not_published(services())
    if why:
        click.echo(why, err=True)
    return not why


def not_published(services_: Services) -> str:
    """Publish the keys to Redis. Empty, or why that was not possible: a sentence."""
    try:
        keyring.publish(services_)
    except (redis.RedisError, StoreDown) as error:
        return (
            f"Redis can't be told of the keys now, housekeeping tells it within a minute: {first_line(error)}"
        )
    return ""


def _print(name: str, text: str, ends: datetime | None) -> None:
    click.echo(text)
    until = f"until {_minute(ends)} UTC" if ends else "until it is revoked"
    click.echo(f"this is the key {name}, good {until}. It is not kept, nor shown again.", err=True)


def _digest(key: Key, hint: str) -> str:
    now = datetime.now(UTC)
    fit = [one for one in key.live(now) if one.hint == hint.removeprefix("…")]
    if len(fit) != 1:
        live = ", ".join(f"…{one.hint}" for one in key.live(now)) or "none"
        raise NoKey(f"of {key.name} there is no live text that alone ends in {hint}; live are: {live}")
    return fit[0].digest


def _told(key: Key, now: datetime) -> dict[str, Any]:
    return {
        "name": key.name,
        "scopes": key.scopes,
        "formats": key.formats,
        "quota": key.quota,
        "signed": key.signing.header if key.signing else None,
        "source": msgspec.structs.asdict(key.source),
        "note": key.note,
        "state": _state(key, now),
        "created_at": key.created_at,
        "created_by": key.created_by,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
        "secrets": [
            {
                "hint": one.hint,
                "state": _secret_state(key, one, now),
                "created_at": one.created_at,
                "expires_at": one.expires_at,
                "revoked_at": one.revoked_at,
                "last_used_at": one.last_used_at,
            }
            for one in key.secrets
        ],
    }


def _source(key: Key) -> str:
    return ", ".join(f"{what} {value}" for what, value in key.source.told.items())


def _state(key: Key, now: datetime) -> str:
    if key.revoked_at:
        return "revoked"
    live = len(key.live(now))
    return "no live text" if not live else "live" if live == 1 else f"{live} live"


def _secret_state(key: Key, one: Secret, now: datetime) -> str:
    if one.revoked_at or key.revoked_at:
        return "revoked"
    return "live" if one.is_live(now) else "expired"


def _minute(at: datetime | None) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}" if at else ""


def _day(at: datetime | None) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d}" if at else ""


def said(who: str | None, reason: str) -> Said:
    return {"changed_by": who or getpass.getuser(), "reason": reason}
