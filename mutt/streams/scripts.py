"""The Lua scripts, put together and registered."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from redis.commands.core import Script

from mutt.streams.connect import Client

#: What stands in for the budget's gate where a queue has none: always open.
NO_GATE = """
local gate = {}
function gate.wake() end
function gate.ask() end
function gate.spend() return '', 0 end
function gate.report() end
function gate.strike() return 0 end
function gate.shuns() return false end
function gate.relent() end
"""


def source(name: str, gate: str = "", parts: tuple[str, ...] = ("prelude",)) -> str:
    """The whole text of one script: shebang, what it shares with others (``parts``), gate, body."""
    body = _read(name)
    shebang = ""
    if body.startswith("#!"):
        shebang, body = body.split("\n", 1)
    return "\n".join((shebang, *map(_read, parts), gate or NO_GATE, body))


def _read(name: str) -> str:
    return (files(__package__) / f"{name}.lua").read_text()


class Scripts:
    """The four scripts on one Redis client; ``gate`` is Lua for the budget, a string."""

    def __init__(self, client: Client, gate: str = "") -> None:
        self.client = client
        self.append = client.register_script(source("append"))
        self.take = client.register_script(source("take", gate))
        self.settle = client.register_script(
            source("settle", gate, ("prelude", "signatures", "storms", "cleared", "noise"))
        )
        self.release = client.register_script(source("release", gate))


def call(script: Script, options: bytes, client: Any = None) -> Any:
    """Run one script with its options (MessagePack). ``redis.RedisError`` passes through."""
    return script(args=[options], client=client)
