"""Months that were put back from their archives, and how the shell takes one of them away again."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_instant = sa.DateTime(timezone=True)

_DROP = """
    BEGIN
        PERFORM audit_check_month(name);
        -- Only what stands in an archive: whoever may do this may drop nothing else.
        DELETE FROM restored_months WHERE month = replace(right(name, 7), '_', '-');
        IF NOT FOUND THEN
            RAISE insufficient_privilege USING MESSAGE = format('%s was not restored', name);
        END IF;
        EXECUTE format('ALTER TABLE event_audit_log DETACH PARTITION %I', name);
        EXECUTE format('DROP TABLE %I', name);
    END"""


def upgrade() -> None:
    op.create_table(
        "restored_months",
        sa.Column("month", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("restored_at", _instant, server_default=sa.text("now()"), nullable=False),
        sa.Column("until", _instant, nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("month", name=op.f("pk_restored_months")),
    )
    schema = op.get_bind().execute(sa.text("SELECT quote_ident(current_schema())")).scalar_one()
    op.execute(
        sa.text(
            "CREATE FUNCTION audit_drop_restored(name text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER"
            f" SET search_path = {schema}, pg_temp SET timezone = 'UTC' AS $${_DROP}$$"
        )
    )
    op.execute(sa.text("REVOKE ALL ON FUNCTION audit_drop_restored(text) FROM PUBLIC"))


def downgrade() -> None:
    op.execute(sa.text("DROP FUNCTION audit_drop_restored(text)"))
    op.drop_table("restored_months")
