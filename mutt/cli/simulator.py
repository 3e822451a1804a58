"""``mutt moogsim``: a Moog that answers as told."""

from __future__ import annotations

import click

from mutt.errors import MuttError
from mutt.moogsim.server import serve


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8888, show_default=True, help="0 takes any free port.")
@click.option("--require-key", envvar="MOOGSIM_KEY", default="", help="Answer 401 to any other key.")
def moogsim(host: str, port: int, require_key: str) -> None:
    """Run the Moog simulator: a page at /, what came at /received, figures at /stats."""
    try:
        serve(host, port, require_key=require_key)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise MuttError(f"can't listen on {host}:{port}: {why} (--port 0 takes any free port)") from error
