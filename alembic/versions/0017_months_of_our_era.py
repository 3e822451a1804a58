"""audit_make_month makes months that their names can tell: of the years 1 to 9999."""

from alembic import op
from sqlalchemy import text

revision = "0017"
down_revision = "0015"
branch_labels = None
depends_on = None

# A month before our era would be named as one of ours, one after the year 9999 as no partition is.
_GUARD = """BEGIN
        IF month IS NULL OR extract(year FROM month) NOT BETWEEN 1 AND 9999 THEN
            RAISE insufficient_privilege USING MESSAGE = format('%s is no month of the audit', month);
        END IF;"""


def upgrade() -> None:
    _replace("BEGIN", _GUARD)


def downgrade() -> None:
    _replace(_GUARD, "BEGIN")


def _replace(old: str, new: str) -> None:
    """The function as it stands, with this part once changed: what else was changed in it stays."""
    query = text("SELECT pg_get_functiondef('audit_make_month(timestamptz)'::regprocedure)")
    standing = str(op.get_bind().execute(query).scalar_one())
    op.get_bind().exec_driver_sql(standing.replace(old, new, 1).replace("%", "%%"))
