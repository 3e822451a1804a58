"""Rules say how often is too often, and carry examples; storms are collapsed by policies of their own."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_instant = sa.DateTime(timezone=True)
_now = sa.text("now()")
_PAIRS = (("threshold_count", "threshold_window"), ("flap_count", "flap_window"))


def upgrade() -> None:
    op.add_column("alert_rules", sa.Column("dedup_window", sa.Integer()))
    op.create_check_constraint(op.f("ck_alert_rules_dedup_window"), "alert_rules", "dedup_window > 0")
    for count, window in _PAIRS:
        op.add_column("alert_rules", sa.Column(count, sa.Integer()))
        op.add_column("alert_rules", sa.Column(window, sa.Integer()))
        op.create_check_constraint(
            op.f(f"ck_alert_rules_{count}"),
            "alert_rules",
            f"({count} IS NULL) = ({window} IS NULL) AND {count} > 1 AND {window} > 0",
        )
    op.add_column(
        "alert_rules",
        sa.Column("examples", postgresql.JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
    )
    op.create_check_constraint(
        op.f("ck_alert_rules_examples"), "alert_rules", "jsonb_typeof(examples) = 'array'"
    )
    op.create_table(
        "storm_policies",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("group_by", sa.Text(), nullable=False),
        sa.Column("alert_count", sa.Integer(), nullable=False),
        sa.Column("alert_window", sa.Integer(), nullable=False),
        sa.Column("hostname", sa.Text()),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", _instant, server_default=_now, nullable=False),
        sa.Column("updated_at", _instant, server_default=_now, nullable=False),
        sa.CheckConstraint("alert_count > 1", name=op.f("ck_storm_policies_alert_count")),
        sa.CheckConstraint("alert_window > 0", name=op.f("ck_storm_policies_alert_window")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_storm_policies")),
    )


def downgrade() -> None:
    op.drop_table("storm_policies")
    for name in ("dedup_window", *(name for pair in _PAIRS for name in pair), "examples"):
        op.drop_column("alert_rules", name)
