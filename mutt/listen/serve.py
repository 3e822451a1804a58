"""A process that listens: its logs and metrics, its signals, and the order in which it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Mapping
from typing import Protocol

from mutt import scrape
from mutt.errors import MuttError
from mutt.listen import counts
from mutt.listen.counts import Counts
from mutt.listen.relay import Relay
from mutt.logs import configure
from mutt.settings import Settings

log = logging.getLogger("mutt.listen")

#: Seconds between two lines of the log that say how much came, and between two looks at what listeners can't hear.
EVERY, LOOK = 60.0, 1.0


class Listener(Protocol):
    """Something that hears messages and gives them to a relay."""

    @property
    def counts(self) -> Counts:
        """What it has seen."""

    @property
    def port(self) -> int:
        """Where it listens."""

    async def start(self) -> None:
        """Begin to listen."""

    async def stop(self) -> None:
        """Take what is here, and nothing more."""

    def look(self) -> None:
        """Called each second: for what has to be looked at."""


def serve(settings: Settings, relay: Relay, listeners: Mapping[str, Listener]) -> None:
    """Listen until SIGTERM or SIGINT; then take what is here, write it to disk, and end.

    What ingest has not taken by then is sent at the next start. Raises :class:`~mutt.errors.SettingsError`, and
    :class:`~mutt.errors.MuttError` where it ends by itself.
    """
    configure(settings, settings.mutt_role or "listen")
    metrics, seen = scrape.listen(settings), {name: one.counts for name, one in listeners.items()}
    if metrics is not None:
        scrape.serve(metrics, lambda: counts.text(seen, relay))
    relay.start()
    try:
        asyncio.run(_until_stopped(relay, listeners))
        if not relay.works:
            raise MuttError(
                "the listener does not write or send any more, so it ends: see its log, and start it anew"
            )
    finally:
        relay.close()
        log.info("the end", extra=counts.line(seen, relay))


async def _until_stopped(relay: Relay, listeners: Mapping[str, Listener]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    for name, listener in listeners.items():
        await listener.start()
        log.info("%s listens on port %s", name, listener.port)
    looking = asyncio.create_task(_look(relay, listeners))
    looking.add_done_callback(lambda _: stop.set())
    await stop.wait()
    looking.cancel()
    await asyncio.gather(*(listener.stop() for listener in listeners.values()))
    with contextlib.suppress(asyncio.CancelledError):
        await looking  # what ended it, if that was an error


async def _look(relay: Relay, listeners: Mapping[str, Listener]) -> None:
    seen, turn = {name: one.counts for name, one in listeners.items()}, 0
    while relay.works:
        await asyncio.sleep(LOOK)
        for listener in listeners.values():
            listener.look()
        turn += 1
        if turn % round(EVERY / LOOK) == 0:
            log.info("listening", extra=counts.line(seen, relay))
