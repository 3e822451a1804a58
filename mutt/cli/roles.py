"""``mutt roles``: a user for each role of MUTT, at Redis and at PostgreSQL, that may do what its role does."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

import click

from mutt.cli.common import owner_url, table
from mutt.cli.outages import spoken
from mutt.settings import Settings
from mutt.store import privileges
from mutt.store.engine import one_shot_engine, transaction
from mutt.streams import acl

_passwords = click.option(
    "--passwords",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="A directory with a file for each role (redis_ingest, postgres_ingest …); what lacks is made.",
)


@click.group()
def roles() -> None:
    """Users of Redis and PostgreSQL, one a role: what each may do, and nothing else."""


@roles.command()
@_passwords
@click.option(
    "--default-password",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file: the user without a name stays, may do everything, and has this password.  [default: off]",
)
@click.option(
    "--db", type=click.IntRange(0), default=0, show_default=True, help="The broker's database number."
)
@click.option(
    "--part",
    type=click.Choice([acl.DATA_PART, acl.BROKER_PART]),
    help="What this Redis holds, where STREAM_URL and BROKER_URL are two.  [default: both]",
)
@click.option(
    "--template", is_flag=True, help="With the names of the files in place of hashes (#redis_ingest)."
)
def redis(
    directory: Path | None, default_password: Path | None, db: int, part: str | None, template: bool
) -> None:
    """Print the ACL file for Redis 7.0 or Valkey: `aclfile` in its configuration, ACL LOAD on a change."""
    if template:
        hashes = {role: f"#redis_{role}" for role in acl.ROLES}
        default = "#redis_password"
    else:
        hashes = {
            role: acl.hashed(password) for role, password in _kept(directory, "redis", acl.ROLES).items()
        }
        default = acl.hashed(default_password.read_text().strip()) if default_password else ""
    click.echo(acl.file(hashes, default=default, db=db, part=part or ""), nl=False)


@roles.command()
@_passwords
@click.option(
    "--apply",
    is_flag=True,
    help="Run it, as DATABASE_OWNER_URL (else DATABASE_URL), whose user owns MUTT's tables.",
)
@spoken()
def postgres(directory: Path | None, apply: bool) -> None:
    """Print the SQL that makes a login for each role and grants what it needs; it may be run again and again.

    Before or after `mutt migrate`, which grants anew what comes with it.
    """
    passwords = _kept(directory, "postgres", privileges.ROLES)
    if not apply:
        click.echo(privileges.logins(passwords) + privileges.grants(), nl=False)
        return
    settings = Settings.from_env()
    engine = one_shot_engine(owner_url(settings), role="cli", ca=settings.database_ca)
    with transaction(engine) as conn:
        privileges.apply(conn, passwords)
    click.echo(f"{len(passwords)} roles may log in: {', '.join(map(privileges.login_of, passwords))}")


@roles.command("list")
def list_() -> None:
    """Show which role may do what with which table."""
    letters = {"SELECT": "r", "INSERT": "a", "UPDATE": "w", "DELETE": "d"}
    rows = [
        (
            name,
            *(
                "".join(
                    letter for right, letter in letters.items() if right in privileges.rights_of(role, name)
                )
                or "-"
                for role in privileges.ROLES
            ),
        )
        for name in privileges.TABLES
    ]
    table("r SELECT, a INSERT, w UPDATE, d DELETE", ["table", *privileges.ROLES], rows)


def _kept(directory: Path | None, server: str, names: Iterable[str]) -> dict[str, str]:
    """The password of each role; made where its file lacks, which its owner alone may read."""
    if directory is None:
        raise click.UsageError("say where the passwords are, or are to be kept: --passwords DIRECTORY")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return {name: _password(directory / f"{server}_{name}") for name in names}


def _password(file: Path) -> str:
    if file.exists():
        kept = file.read_text().strip()
        if not kept:
            raise click.UsageError(f"{file} is empty: remove it, and a password is made")
        return kept
    made = secrets.token_hex(32)
    descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        opened.write(made + "\n")
    return made
