"""A draft beside the live ruleset: where the two differ."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_instant = sa.DateTime(timezone=True)
_now = sa.text("now()")
_KINDS = "kind IN ('newly_alerts', 'no_longer_alerts', 'other_handling', 'other_rule', 'same', 'skipped')"


def upgrade() -> None:
    op.create_table(
        "shadows",
        sa.Column("id", sa.Integer(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", _instant, server_default=_now, nullable=False),
        sa.Column("updated_at", _instant, server_default=_now, nullable=False),
        sa.Column("base_version", sa.Integer(), nullable=False),
        sa.Column("draft", postgresql.JSONB(), nullable=False),
        sa.Column("status", sa.Text(), server_default="running", nullable=False),
        sa.Column("until", _instant, nullable=False),
        sa.Column("ended_at", _instant),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("promoted_version", sa.Integer()),
        sa.CheckConstraint(
            "status IN ('running', 'stopped', 'promoted', 'dropped')", name=op.f("ck_shadows_status")
        ),
        sa.CheckConstraint("jsonb_typeof(draft) = 'array'", name=op.f("ck_shadows_draft")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shadows")),
    )
    op.create_index(
        "ix_shadows_running",
        "shadows",
        ["status"],
        unique=True,
        postgresql_where=sa.text("status = 'running'"),
    )
    op.create_table(
        "shadow_counts",
        sa.Column("shadow_id", sa.Integer(), nullable=False),
        sa.Column("hour", _instant, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(_KINDS, name=op.f("ck_shadow_counts_kind")),
        sa.PrimaryKeyConstraint("shadow_id", "hour", "kind", "worker", name=op.f("pk_shadow_counts")),
    )
    op.create_table(
        "shadow_differences",
        sa.Column("shadow_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("received_at", _instant, nullable=False),
        sa.Column("live", postgresql.JSONB(), nullable=False),
        sa.Column("draft", postgresql.JSONB(), nullable=False),
        sa.CheckConstraint(_KINDS, name=op.f("ck_shadow_differences_kind")),
        sa.PrimaryKeyConstraint(
            "shadow_id", "kind", "event_id", "received_at", name=op.f("pk_shadow_differences")
        ),
    )


def downgrade() -> None:
    for table in ("shadow_differences", "shadow_counts", "shadows"):
        op.drop_table(table)
