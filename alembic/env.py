"""Runs the migrations: a transaction each, one migrator at a time, never long in anyone's way."""

import time

from alembic import context
from sqlalchemy import Connection, text

from mutt.errors import SettingsError
from mutt.settings import Settings
from mutt.store.engine import one_shot_engine
from mutt.store.patience import has_session
from mutt.store.tables import is_ours, metadata

#: Two migrators queue on this number; it only has to be the same everywhere.
MIGRATORS = 7_165_840_001


#: Seconds that a migrator waits for another one.
PATIENCE = 600


def run() -> None:
    url, ca = context.config.attributes.get("database") or _from_settings()
    engine = one_shot_engine(url, role="migrate", ca=ca)
    with engine.connect() as connection:
        if not has_session(connection):
            raise SettingsError("DATABASE_OWNER_URL", "", "PostgreSQL itself: DATABASE_URL leads to a pooler")
        _alone(connection)
        # Waiting for a table must not take long, for all others queue behind.
        for setting in ("timezone = 'UTC'", "lock_timeout = '5s'", "statement_timeout = '60s'"):
            connection.execute(text(f"SET {setting}"))
        connection.commit()
        context.configure(
            connection=connection,
            target_metadata=metadata,
            include_name=is_ours,
            compare_type=True,
            # What one has locked is free again before the next one begins; one that fails leaves the others done.
            transaction_per_migration=True,
        )
        with context.begin_transaction():
            context.run_migrations()


def _alone(connection: Connection) -> None:
    # Asked again and again, and not waited for: who waits has a snapshot, for whose end an index would wait.
    give_up = time.monotonic() + PATIENCE
    while not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": MIGRATORS}).scalar_one():
        connection.rollback()
        if time.monotonic() > give_up:
            raise SystemExit(
                f"Another migrator has been at work for {PATIENCE} s: wait for its end, or end it."
            )
        time.sleep(0.1)


def _from_settings() -> tuple[str, str]:
    settings = Settings.from_env()
    if not settings.database_owner_url:
        settings.need("database_url")
    return settings.database_owner_url or settings.database_url, settings.database_ca


if context.is_offline_mode():
    raise SystemExit("Migrations run against a database: set DATABASE_URL, and leave out --sql.")
run()
