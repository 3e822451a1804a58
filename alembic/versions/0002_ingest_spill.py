"""Where events go while Redis is away (INGEST_SPILL)."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_instant = sa.DateTime(timezone=True)
_now = sa.text("now()")


def upgrade() -> None:
    op.create_table(
        "ingest_spill",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("spilled_at", _instant, server_default=_now, nullable=False),
        sa.Column("round_id", sa.Text(), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("sent_at", _instant),
        sa.Column("late", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", _instant, server_default=_now, nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ingest_spill")),
    )
    # What is in there is compressed already.
    op.execute("ALTER TABLE ingest_spill ALTER COLUMN data SET STORAGE EXTERNAL")
    op.create_index(
        "ix_ingest_spill_set_aside", "ingest_spill", ["id"], postgresql_where=sa.text("reason <> ''")
    )
    op.create_table(
        "ingest_spill_size",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("rounds", sa.BigInteger(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ingest_spill_size")),
        sa.CheckConstraint("id = 1", name=op.f("ck_ingest_spill_size_one_row")),
    )
    op.execute("INSERT INTO ingest_spill_size (id, rounds, events, bytes) VALUES (1, 0, 0, 0)")


def downgrade() -> None:
    op.execute(
        "DO $$ BEGIN IF EXISTS (SELECT FROM ingest_spill) THEN"
        " RAISE EXCEPTION 'events stand in ingest_spill: let them flow back first'; END IF; END $$"
    )
    op.drop_table("ingest_spill_size")
    op.drop_table("ingest_spill")
