"""From any older schema to this one: the migrations, then the months, then the rules to start with."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text

import mutt
from mutt.store import partitions, privileges, rulebook
from mutt.store.engine import one_shot_engine, transaction, translated

if TYPE_CHECKING:
    from alembic import config

#: MUTT is installed editable, or runs in a checkout: ``alembic/`` stands beside the package.
ROOT = Path(mutt.__file__).resolve().parent.parent


def upgrade(database_url: str, ca: str = "") -> None:
    """Bring a database up to date. May run any number of times, and twice at once. ``ca`` is DATABASE_CA.

    Raises :class:`StoreDown` when PostgreSQL is away, or a table is busy for longer than a few seconds.
    """
    from alembic import command  # noqa: PLC0415 late: it takes a tenth of a start, and few ever migrate

    with translated():
        command.upgrade(alembic_config(database_url, ca), "head")
    with transaction(one_shot_engine(database_url, role="migrate", ca=ca)) as conn:
        now: datetime = conn.execute(text("SELECT now()")).scalar_one()
        conn.execute(text("SET LOCAL timezone = 'UTC'"))
        partitions.ensure(conn, now)
        rulebook.seed(conn)
        # The roles that there are may do what this MUTT needs; where there are none, nothing changes.
        privileges.apply(conn)


def alembic_config(database_url: str, ca: str = "") -> config.Config:
    """Alembic's configuration for one database."""
    from alembic import config  # noqa: PLC0415 as above

    found = config.Config(ROOT / "alembic.ini")
    found.attributes["database"] = (database_url, ca)
    return found
