"""Maintenance windows: who is left alone, when, and why."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_instant = sa.DateTime(timezone=True)
_now, _true = sa.text("now()"), sa.text("true")
_WINDOWS = "maintenance_windows"


def upgrade() -> None:
    op.create_table(
        _WINDOWS,
        sa.Column("id", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("hostname", sa.Text()),
        sa.Column("team", sa.Text()),
        sa.Column("rule_id", sa.Integer()),
        sa.Column("starts_at", _instant, nullable=False),
        sa.Column("ends_at", _instant, nullable=False),
        sa.Column("timezone", sa.Text(), server_default="UTC", nullable=False),
        sa.Column("recurrence", sa.Text()),
        sa.Column("release", sa.Boolean(), server_default=_true, nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default=_true, nullable=False),
        sa.Column("ended_at", _instant),
        sa.Column("created_at", _instant, server_default=_now, nullable=False),
        sa.Column("updated_at", _instant, server_default=_now, nullable=False),
        sa.CheckConstraint(
            "num_nonnulls(hostname, team, rule_id) > 0", name=op.f("ck_maintenance_windows_scope")
        ),
        sa.CheckConstraint("ends_at > starts_at", name=op.f("ck_maintenance_windows_ends_at")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_maintenance_windows")),
    )
    watch(_WINDOWS, "id")
    op.create_table(
        "maintenance_receipts",
        sa.Column("id", sa.Integer(), sa.Identity(always=True), nullable=False),
        sa.Column("window_id", sa.Integer(), nullable=False),
        sa.Column("starts_at", _instant, nullable=False),
        sa.Column("ends_at", _instant, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("release", sa.Boolean(), nullable=False),
        sa.Column("ended_at", _instant),
        sa.Column("counted_at", _instant),
        sa.Column("held", sa.Integer(), server_default="0", nullable=False),
        sa.Column("cleared", sa.Integer(), server_default="0", nullable=False),
        sa.Column("burning", sa.Integer(), server_default="0", nullable=False),
        sa.Column("released", sa.Integer(), server_default="0", nullable=False),
        sa.Column("hosts", postgresql.JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("rules", postgresql.JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_maintenance_receipts")),
    )
    op.create_index(
        op.f("ix_maintenance_receipts_window_id_starts_at"),
        "maintenance_receipts",
        ["window_id", "starts_at"],
        unique=True,
    )
    op.create_index(op.f("ix_maintenance_receipts_ends_at"), "maintenance_receipts", ["ends_at"])
    op.create_table(
        "maintenance_burning",
        sa.Column("alert_id", sa.Uuid(), nullable=False),
        sa.Column("receipt_id", sa.Integer(), nullable=False),
        sa.Column("done_at", _instant),
        sa.Column("released", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("alert_id", name=op.f("pk_maintenance_burning")),
    )
    op.create_index(op.f("ix_maintenance_burning_receipt_id"), "maintenance_burning", ["receipt_id"])


def watch(table: str, key: str) -> None:
    """From now on a change of ``table``, which is new, makes a version, and its rows keep their revisions."""
    op.execute(
        f"CREATE TRIGGER {table}_version BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION bump_ruleset_version()"
    )
    op.execute(
        f"CREATE TRIGGER {table}_revision AFTER INSERT OR UPDATE OR DELETE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION keep_rule_revision('{key}')"
    )
    op.execute(
        f"CREATE TRIGGER {table}_emptied AFTER TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION keep_rule_revision()"
    )


def downgrade() -> None:
    for table in ("maintenance_burning", "maintenance_receipts", _WINDOWS):
        op.drop_table(table)
    op.execute(f"DELETE FROM rule_revisions WHERE table_name = '{_WINDOWS}'")  # noqa: S608
