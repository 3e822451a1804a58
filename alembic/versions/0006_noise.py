"""What held an alert back, and the alerts that are released again."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _index_beside_the_work()
    op.add_column("alerts", sa.Column("held", sa.Text(), server_default="", nullable=False))


def _index_beside_the_work() -> None:
    # First: what is done in a migration before is committed by it. What an attempt left that was broken off goes.
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0; SET statement_timeout = 0")  # nobody queues behind it
        op.drop_index("ix_alerts_held", "alerts", if_exists=True, postgresql_concurrently=True)
        op.create_index(
            "ix_alerts_held",
            "alerts",
            ["reason", "received_at"],
            postgresql_where=sa.text("status = 'cancelled'"),
            postgresql_concurrently=True,
        )
        op.execute("SET lock_timeout = '5s'; SET statement_timeout = '60s'")


def downgrade() -> None:
    op.drop_index("ix_alerts_held", table_name="alerts")
    op.drop_column("alerts", "held")
