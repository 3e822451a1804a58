"""``mutt users``: who may log in to the admin, and as what. A password comes from a prompt or from stdin."""

from __future__ import annotations

import contextlib
import getpass
import sys
from collections.abc import Iterator
from datetime import datetime

import click
import orjson
from rich.markup import escape
from sqlalchemy import Connection

from mutt import passwords
from mutt.cli.common import console, services, table
from mutt.cli.outages import spoken
from mutt.errors import MuttError
from mutt.store import users as rows
from mutt.store.engine import transaction
from mutt.store.history import Said
from mutt.store.users import Role

_who = click.option("--who", help="Who does it.  [default: you]")
_reason = click.option("--reason", default="", help="Why; kept in the history.")
_stdin = click.option("--password-stdin", is_flag=True, help="Read the password from stdin, its first line.")
_role = click.Choice([role.value for role in Role])


class NoUser(MuttError):
    """There is no such user."""


@click.group()
def users() -> None:
    """People who may log in to the admin's pages."""


@users.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@spoken()
def list_users(as_json: bool) -> None:
    """Who may log in, and as what. Times are in UTC."""
    with transaction(services().engine) as conn:
        found = rows.listed(conn)
    if as_json:
        shown = ("name", "role", "is_active", "issuer", "created_at", "password_changed_at", "last_login_at")
        told = [{name: getattr(user, name) for name in shown} for user in found]
        click.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2))
        return
    lines = [
        (
            user.name,
            user.role,
            "" if user.is_active else "kept out",
            escape(user.issuer or "password"),
            _time(user.created_at),
            _time(user.last_login_at),
        )
        for user in found
    ]
    table("", ["name", "role", "", "logs in by", "made", "last login"], lines)


@users.command()
@click.argument("name")
@click.option("--role", type=_role, required=True, help="What they may do.")
@_stdin
@_reason
@_who
@spoken()
def make(name: str, role: str, password_stdin: bool, reason: str, who: str | None) -> None:
    """Let somebody log in."""
    hashed = _hashed(rows.check_name(name), password_stdin)
    administrator = services().settings.admin_user
    with transaction(services().engine) as conn:
        user = rows.make(
            conn, name, role, password_hash=hashed, administrator=administrator, **_said(who, reason)
        )
    console.print(f"{user.name} can log in, as {user.role}.")


@users.command()
@click.argument("name")
@click.argument("role", type=_role)
@_reason
@_who
@spoken()
def role(name: str, role: str, reason: str, who: str | None) -> None:
    """Give somebody another role; their sessions end."""
    with _changing(name) as conn:
        user = rows.change(conn, name.lower(), role=role, **_said(who, reason))
    console.print(f"{user.name} is {user.role} now; their sessions end within 5 seconds.")


@users.command()
@click.argument("name")
@_reason
@_who
@spoken()
def disable(name: str, reason: str, who: str | None) -> None:
    """Keep somebody out; their sessions end."""
    with _changing(name) as conn:
        user = rows.change(conn, name.lower(), is_active=False, **_said(who, reason))
    console.print(f"{user.name} is kept out; their sessions end within 5 seconds.")


@users.command()
@click.argument("name")
@_reason
@_who
@spoken()
def enable(name: str, reason: str, who: str | None) -> None:
    """Let somebody in again."""
    with _changing(name) as conn:
        user = rows.change(conn, name.lower(), is_active=True, **_said(who, reason))
    console.print(f"{user.name} can log in again.")


@users.command()
@click.argument("name")
@_stdin
@_reason
@_who
@spoken()
def password(name: str, password_stdin: bool, reason: str, who: str | None) -> None:
    """Give somebody another password; their sessions end."""
    hashed = _hashed(name, password_stdin)
    with _changing(name) as conn:
        user = rows.change(conn, name.lower(), password_hash=hashed, **_said(who, reason))
    console.print(f"{user.name} has another password; their sessions end within 5 seconds.")


@contextlib.contextmanager
def _changing(name: str) -> Iterator[Connection]:
    try:
        with transaction(services().engine) as conn:
            yield conn
    except LookupError:
        raise NoUser(f"there is no user {name}: see `mutt users list`") from None


def _hashed(name: str, from_stdin: bool) -> str:
    """The hash of a password that is typed or sent. Raises Refused."""
    if from_stdin:
        given = sys.stdin.readline().rstrip("\r\n")
    else:
        given = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    passwords.check(given, name)
    return passwords.hashed(given)


def _time(time: datetime | None) -> str:
    return "" if time is None else f"{time:%Y-%m-%d %H:%M}"


def _said(who: str | None, reason: str) -> Said:
    return {"changed_by": who or getpass.getuser(), "reason": reason}
