"""Sources: what is seen of each who sends, and how far it is read."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_instant = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "sources",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("observed", sa.LargeBinary(), nullable=False),
        sa.Column("silent_since", _instant),
        sa.Column("silence", sa.Uuid()),
        sa.Column("owed", sa.LargeBinary()),
        sa.CheckConstraint(
            "(silent_since IS NULL) = (silence IS NULL)", name=op.f("ck_sources_silence")
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sources")),
    )
    op.create_table(
        "source_reports",
        sa.Column("id", sa.SmallInteger(), server_default="1", autoincrement=False, nullable=False),
        sa.Column("last", sa.Text(), server_default="0-0", nullable=False),
        sa.Column("since", sa.Float(53), server_default="0", nullable=False),
        sa.Column("until", sa.Float(53), server_default="0", nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_source_reports_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source_reports")),
    )
    op.execute("INSERT INTO source_reports DEFAULT VALUES")


def downgrade() -> None:
    op.drop_table("source_reports")
    op.drop_table("sources")
