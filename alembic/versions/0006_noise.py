"""What held an alert back, and the alerts that are released again."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("alerts", sa.Column("held", sa.Text(), server_default="", nullable=False))
    op.create_index(
        "ix_alerts_held",
        "alerts",
        ["reason", "received_at"],
        postgresql_where=sa.text("status = 'cancelled'"),
    )


def downgrade() -> None:
    op.drop_index("ix_alerts_held", table_name="alerts")
    op.drop_column("alerts", "held")
