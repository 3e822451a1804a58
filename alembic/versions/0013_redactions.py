"""Redactions: what is taken out of an event before it is kept."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_instant = sa.DateTime(timezone=True)
_now = sa.text("now()")
_REDACTIONS = "redactions"


def upgrade() -> None:
    op.create_table(
        _REDACTIONS,
        sa.Column("id", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("pattern", sa.Text(), nullable=False),
        sa.Column("replacement", sa.Text(), server_default="[redacted]", nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("position", sa.Integer(), server_default="100", nullable=False),
        sa.Column("created_at", _instant, server_default=_now, nullable=False),
        sa.Column("updated_at", _instant, server_default=_now, nullable=False),
        sa.CheckConstraint("pattern <> ''", name=op.f("ck_redactions_pattern")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_redactions")),
        # Deferred: a version that is restored may exchange two names.
        sa.UniqueConstraint("name", name=op.f("uq_redactions_name"), deferrable=True, initially="DEFERRED"),
    )
    watch(_REDACTIONS, "id")


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
    op.drop_table(_REDACTIONS)
    op.execute(f"DELETE FROM rule_revisions WHERE table_name = '{_REDACTIONS}'")  # noqa: S608
