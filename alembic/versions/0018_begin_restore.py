"""audit_begin_restore notes a month as one that is put back while it is empty: only what was noted so may be dropped."""

from alembic import op
from sqlalchemy import text

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_BEGIN = """
    DECLARE found boolean;
    BEGIN
        PERFORM audit_check_month(name);
        -- Whoever could note a month that holds rows could have it dropped as restored, archived or not.
        EXECUTE format('SELECT EXISTS (SELECT FROM %I)', name) INTO found;
        IF found THEN
            RAISE insufficient_privilege USING MESSAGE = format('%s is not empty', name);
        END IF;
        INSERT INTO restored_months (month, rows, until, who)
            VALUES (replace(right($1, 7), '_', '-'), 0, $2, $3);
    END"""


def upgrade() -> None:
    schema = op.get_bind().execute(text("SELECT quote_ident(current_schema())")).scalar_one()
    op.execute(
        text(
            "CREATE FUNCTION audit_begin_restore(name text, until timestamptz, who text) RETURNS void"
            f" LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp SET timezone = 'UTC'"
            f" AS $${_BEGIN}$$"
        )
    )
    op.execute(text("REVOKE ALL ON FUNCTION audit_begin_restore(text, timestamptz, text) FROM PUBLIC"))


def downgrade() -> None:
    op.execute(text("DROP FUNCTION audit_begin_restore(text, timestamptz, text)"))
