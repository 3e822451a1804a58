"""API keys say what is known of their sender: how its posts are read, and what its events are taken for."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("source", postgresql.JSONB()))


def downgrade() -> None:
    op.drop_column("api_keys", "source")
