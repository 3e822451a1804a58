"""The audit keeps what rules can see of an event beside its columns, so that it can be judged again."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Without a default: no row is rewritten. NULL says that a row is older than this, or has nothing to add.
    op.add_column("event_audit_log", sa.Column("context", sa.Text()))
    op.create_index(op.f("ix_audit_ledger_at"), "audit_ledger", ["at"], postgresql_using="brin")


def downgrade() -> None:
    op.drop_index(op.f("ix_audit_ledger_at"), "audit_ledger")
    op.drop_column("event_audit_log", "context")
