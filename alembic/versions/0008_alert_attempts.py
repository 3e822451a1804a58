"""Each attempt at Moog, kept with its alert."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alert_attempts",
        sa.Column("alert_id", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("moog_status", sa.Integer()),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("alert_id", "attempt", name=op.f("pk_alert_attempts")),
    )
    op.create_index(op.f("ix_alert_attempts_at"), "alert_attempts", ["at"], postgresql_using="brin")


def downgrade() -> None:
    op.drop_table("alert_attempts")
