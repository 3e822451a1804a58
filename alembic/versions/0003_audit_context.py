"""The audit keeps what rules can see of an event beside its columns, so that it can be judged again."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _index_beside_the_work()
    # Without a default: no row is rewritten. NULL says that a row is older than this, or has nothing to add.
    op.add_column("event_audit_log", sa.Column("context", sa.Text()))


def _index_beside_the_work() -> None:
    # First: what is done in a migration before is committed by it. What an attempt left that was broken off goes.
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0; SET statement_timeout = 0")  # nobody queues behind it
        op.drop_index(
            op.f("ix_audit_ledger_at"), "audit_ledger", if_exists=True, postgresql_concurrently=True
        )
        op.create_index(
            op.f("ix_audit_ledger_at"),
            "audit_ledger",
            ["at"],
            postgresql_using="brin",
            postgresql_concurrently=True,
        )
        op.execute("SET lock_timeout = '5s'; SET statement_timeout = '60s'")


def downgrade() -> None:
    op.drop_index(op.f("ix_audit_ledger_at"), "audit_ledger")
    op.drop_column("event_audit_log", "context")
