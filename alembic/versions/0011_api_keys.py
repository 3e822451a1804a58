"""Keys: who may send, and who may manage by script."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_instant = sa.DateTime(timezone=True)
_now = sa.text("now()")
_none = sa.text("'{}'::text[]")


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Integer(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("formats", postgresql.ARRAY(sa.Text()), server_default=_none, nullable=False),
        sa.Column("quota", sa.Integer()),
        sa.Column("signing", postgresql.JSONB()),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", _instant, server_default=_now, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("revoked_at", _instant),
        sa.Column("signed_at", _instant),
        sa.CheckConstraint(
            "name ~ '^[a-z0-9][a-z0-9._-]{0,63}$' AND name <> 'bootstrap'", name=op.f("ck_api_keys_name")
        ),
        sa.CheckConstraint(
            "scopes <@ ARRAY['ingest', 'management'] AND cardinality(scopes) > 0",
            name=op.f("ck_api_keys_scopes"),
        ),
        sa.CheckConstraint("quota > 0", name=op.f("ck_api_keys_quota")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("name", name=op.f("uq_api_keys_name")),
    )
    op.create_table(
        "api_key_secrets",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Integer(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("created_at", _instant, server_default=_now, nullable=False),
        sa.Column("expires_at", _instant),
        sa.Column("revoked_at", _instant),
        sa.Column("last_used_at", _instant),
        sa.CheckConstraint("digest ~ '^[0-9a-f]{64}$'", name=op.f("ck_api_key_secrets_digest")),
        sa.ForeignKeyConstraint(
            ["key_id"], ["api_keys.id"], name=op.f("fk_api_key_secrets_key_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_api_key_secrets")),
    )
    op.create_index(op.f("ix_api_key_secrets_key_id"), "api_key_secrets", ["key_id"])


def downgrade() -> None:
    for table in ("api_key_secrets", "api_keys"):
        op.drop_table(table)
