"""Flower shows every task and stops any worker, so it has a login and listens on the loopback, unless told otherwise.

How much it keeps is limited, for it runs for months (docs/scaling.md, "Flower").

``celery -A mutt flower`` comes by here before it begins, however it was started.
"""

from __future__ import annotations

from collections.abc import Sequence

from mutt.errors import SettingsError
from mutt.settings import Settings, inherited, offer

#: How people tell Flower who may come in, in its options and its variables.
_LOGINS = ("basic_auth", "auth")

#: What it keeps, where nothing was said. A task takes 4.7 KB of its memory: the 100,000 that Flower keeps by itself are
#: half a gigabyte, and half an hour of alerts at the usual budget; these are a few minutes. A worker that ended an hour
#: ago is forgotten: replicas that are scaled come under new names, for ever.
_KEPT = {"max_tasks": "10000", "purge_offline_workers": "3600"}

_EXPECTED = (
    "a login for Flower, name:password (or set ADMIN_PASSWORD, and it is the admin's; `mutt up` has one)"
)


def is_flower(argv: Sequence[str]) -> bool:
    """Is this command Flower? Its options come after the word."""
    return "flower" in argv[1:] and argv[0].rpartition("/")[2] in ("celery", "__main__.py")


def behind_login(argv: Sequence[str], settings: Settings) -> None:
    """Give Flower the admin's login, the loopback and a limit of memory where nothing was said.

    Raises :class:`SettingsError`.
    """
    told = {arg.lstrip("-").partition("=")[0].replace("-", "_") for arg in argv if arg.startswith("--")}
    told |= {name.removeprefix("FLOWER_").lower() for name, value in inherited().items() if value}
    if not told & set(_LOGINS):
        if not settings.admin_password:
            raise SettingsError("FLOWER_BASIC_AUTH", "", _EXPECTED)
        if "," in settings.admin_password:
            raise SettingsError("ADMIN_PASSWORD", "…", "no comma: Flower would take it for two logins")
        offer("FLOWER_BASIC_AUTH", f"{settings.admin_user}:{settings.admin_password}")
    if "address" not in told:
        offer("FLOWER_ADDRESS", "127.0.0.1")
    for option, value in _KEPT.items():
        if option not in told:
            offer(f"FLOWER_{option.upper()}", value)
    _close_metrics()


def _close_metrics() -> None:
    """Flower tells its own metrics to everyone who asks: not here."""
    # Only Flower needs Flower.
    from flower.views.monitor import Metrics  # noqa: PLC0415
    from tornado.web import authenticated  # noqa: PLC0415

    Metrics.get = authenticated(Metrics.get)
