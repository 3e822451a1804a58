"""``mutt keys sign``: whose posts are signed, and how; and the keys that seal the secrets of it."""

from __future__ import annotations

import secrets
from typing import Any, TextIO

import click
import msgspec

from mutt.cli.common import services
from mutt.cli.keys import change_of_keys, publish, said
from mutt.cli.outages import spoken
from mutt.grant import Signing
from mutt.sealing import Sealer, new_key
from mutt.store import keys
from mutt.web.signatures import ALGORITHMS, ENCODINGS, PRESETS, TOLERANCE, checked, checked_secret
from mutt.words import many

_who = click.option("--who", help="Who does it.  [default: you]")
_reason = click.option("--reason", default="", help="Why; kept in the history.")


@click.command()
@click.argument("name", metavar="NAME")
@click.option(
    "--preset",
    type=click.Choice(tuple(PRESETS)),
    help="How a known sender signs; options change parts of it.",
)
@click.option("--header", help="The header that holds the signature.")
@click.option("--prefix", help="Before the signature, such as sha256=")
@click.option("--algorithm", type=click.Choice(ALGORITHMS))
@click.option("--encoding", type=click.Choice(ENCODINGS))
@click.option("--timestamp-header", help="The header that holds the time, in seconds since 1970.")
@click.option("--template", help="What is signed: {body}, {timestamp}.{body} …")
@click.option(
    "--tolerance", type=click.IntRange(1), help=f"Seconds that the time may be off.  [default: {TOLERANCE}]"
)
@click.option(
    "--secret-file",
    type=click.File(),
    help="The secret that the source gave; - reads it from the standard input."
    "  [default: one is made, and shown once; where one is kept already, it stays]",
)
@_who
@_reason
@spoken()
def sign(
    name: str, preset: str | None, secret_file: TextIO | None, who: str | None, reason: str, **given: Any
) -> None:
    """Have the posts of key NAME signed: at /signed/NAME without the key, and wherever the key is sent.

    For example: mutt keys sign deploys --preset github --secret-file secret.txt
    """
    sealer = Sealer(services().settings.sealing_key)
    changes = {field: value for field, value in given.items() if value is not None}
    if preset is None and "header" not in changes:
        raise click.UsageError("say how it signs: --preset, or --header")
    base = PRESETS[preset or "generic"]
    signing = checked(msgspec.structs.replace(base, **changes))
    secret = checked_secret(secret_file.read()) if secret_file else ""
    made = ""
    with change_of_keys() as conn:
        standing = keys.find(conn, name, lock=True).signing
        if not secret and standing is None:
            secret = made = secrets.token_urlsafe(32)
        sealed = sealer.seal(secret) if secret else standing.secret if standing else ""
        keys.sign_with(conn, name, msgspec.structs.replace(signing, secret=sealed), **said(who, reason))
    publish()
    click.echo(f"posts of {name} must be signed: {_told(signing)}", err=True)
    if made:
        click.echo("its secret, shown this once:", err=True)
        click.echo(made)


@click.command()
@click.argument("name", metavar="NAME")
@_who
@_reason
@spoken()
def unsign(name: str, who: str | None, reason: str) -> None:
    """Ask the posts of key NAME for no signature any more; /signed/NAME is closed."""
    with change_of_keys() as conn:
        keys.sign_with(conn, name, None, **said(who, reason))
    publish()
    click.echo(f"posts of {name} need no signature any more", err=True)


@click.command("sealing-key")
def sealing_key() -> None:
    """Make a key for SEALING_KEY, which ingest and the admin need to check signatures. Nothing is kept."""
    click.echo(new_key())


@click.command()
@_who
@spoken()
def reseal(who: str | None) -> None:
    """Seal all signing secrets with the first key of SEALING_KEY: the others can be taken away after it."""
    sealer = Sealer(services().settings.sealing_key)
    with change_of_keys() as conn:
        # Each as it stands under its lock: somebody may be giving it another secret.
        found = [keys.find(conn, name, lock=True) for name in keys.names(conn)]
        signed = [(key, key.signing) for key in found if key.signing and key.revoked_at is None]
        for key, signing in signed:
            renewed = msgspec.structs.replace(signing, secret=sealer.renew(signing.secret))
            keys.sign_with(conn, key.name, renewed, **said(who, "sealed anew"))
    publish()
    click.echo(f"{many(len(signed), 'secret')} sealed with the first key of SEALING_KEY", err=True)


def _told(signing: Signing) -> str:
    time = f", the time in {signing.timestamp_header}" if signing.timestamp_header else ""
    behind = f" behind {signing.prefix}" if signing.prefix else ""
    what = f"HMAC-{signing.algorithm.upper()} of {signing.template} in {signing.encoding}"
    return f"{what}{behind} in {signing.header}{time}"
