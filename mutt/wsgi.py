"""The two WSGI applications, made when asked for: ``mutt.wsgi:ingest`` (8080) and ``mutt.wsgi:admin`` (8081)."""

from __future__ import annotations

from flask import Flask

from mutt.celery import BackgroundRing
from mutt.logs import configure
from mutt.services import Services
from mutt.settings import Settings
from mutt.web.admin.app import make_admin
from mutt.web.health import ingest_health
from mutt.web.ingest import keys_of, make_ingest


def _ingest() -> Flask:
    """Where events come in. Needs Redis, not PostgreSQL; with ``INGEST_SPILL`` one of them is enough."""
    settings = Settings.from_env()
    settings.need("stream_url", "ingest_api_key", *(["database_url"] if settings.ingest_spill else []))
    configure(settings, "ingest")
    services = Services(settings, BackgroundRing(), role="ingest", web=True)
    app = make_ingest(services)
    app.register_blueprint(ingest_health(services, keys_of(app).need))
    return app


def _admin() -> Flask:
    """Where rules are kept, and dead letters dealt with."""
    settings = Settings.from_env()
    settings.need("database_url")
    configure(settings, "admin")
    return make_admin(settings, ring=BackgroundRing())


_MAKERS = {"ingest": _ingest, "admin": _admin}


def __getattr__(name: str) -> Flask:
    """Each process makes the one application that it serves, and needs only what that one needs."""
    if name not in _MAKERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    app = globals()[name] = _MAKERS[name]()
    return app
