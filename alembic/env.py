"""Runs the migrations: one transaction, one migrator at a time, never long in anyone's way."""

from alembic import context
from sqlalchemy import text

from mutt.settings import Settings
from mutt.store.engine import one_shot_engine
from mutt.store.tables import is_ours, metadata

#: Two migrators queue on this number; it only has to be the same everywhere.
MIGRATORS = 7_165_840_001


def run() -> None:
    url = context.config.attributes.get("database_url") or _from_settings()
    engine = one_shot_engine(url, role="migrate")
    with engine.connect() as connection:
        context.configure(
            connection=connection, target_metadata=metadata, include_name=is_ours, compare_type=True
        )
        with context.begin_transaction():
            # Waiting for another migrator may take long; waiting for a table must not, for all others queue behind.
            connection.execute(text("SET LOCAL timezone = 'UTC'"))
            connection.execute(text("SET LOCAL statement_timeout = '10min'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATORS})
            connection.execute(text("SET LOCAL lock_timeout = '5s'"))
            connection.execute(text("SET LOCAL statement_timeout = '60s'"))
            context.run_migrations()


def _from_settings() -> str:
    settings = Settings.from_env()
    settings.need("database_url")
    return settings.database_url


if context.is_offline_mode():
    raise SystemExit("Migrations run against a database: set DATABASE_URL, and leave out --sql.")
run()
