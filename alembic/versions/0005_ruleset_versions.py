"""Every version of the ruleset can be read again: a transaction makes one, and each row keeps its revisions."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_instant = sa.DateTime(timezone=True)

#: Tables that make the ruleset, and the column that names a row.
_KEYS = {
    "alert_rules": "id",
    "development_hosts": "hostname",
    "device_teams": "hostname",
    "storm_policies": "id",
}

_BUMP = """
CREATE OR REPLACE FUNCTION bump_ruleset_version() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE made integer;
BEGIN
    -- One version a transaction, however many statements it takes. The row's lock makes writers queue. With its time:
    -- a database restored on another server may meet the same number again.
    UPDATE ruleset_version SET version = version + 1, changed_at = now(), changed_in = pg_current_xact_id() || ' ' || now()
    WHERE id = 1 AND changed_in IS DISTINCT FROM pg_current_xact_id() || ' ' || now()
    RETURNING version INTO made;
    IF FOUND THEN
        INSERT INTO ruleset_versions (version) VALUES (made) ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$
"""

_KEEP = """
CREATE FUNCTION keep_rule_revision() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    at integer := (SELECT version FROM ruleset_version WHERE id = 1);
    changed text := TG_TABLE_NAME;  -- a name would not find its way through an index of texts
    was jsonb;
    becomes jsonb;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        UPDATE rule_revisions SET until_version = at WHERE table_name = changed AND until_version IS NULL;
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        was := to_jsonb(OLD) - 'created_at' - 'updated_at';
    END IF;
    IF TG_OP <> 'DELETE' THEN
        becomes := to_jsonb(NEW) - 'created_at' - 'updated_at';
    END IF;
    IF was = becomes THEN
        RETURN NULL;
    END IF;
    IF was IS NOT NULL THEN
        -- What this transaction itself wrote, nobody saw.
        DELETE FROM rule_revisions
        WHERE table_name = changed AND record_id = was ->> TG_ARGV[0]
          AND until_version IS NULL AND since_version = at;
        UPDATE rule_revisions SET until_version = at
        WHERE table_name = changed AND record_id = was ->> TG_ARGV[0] AND until_version IS NULL;
    END IF;
    IF becomes IS NOT NULL THEN
        INSERT INTO rule_revisions (table_name, record_id, since_version, data)
        VALUES (changed, becomes ->> TG_ARGV[0], at, becomes);
    END IF;
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    op.add_column("ruleset_version", sa.Column("changed_in", sa.Text()))
    op.create_table(
        "ruleset_versions",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", _instant, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_ruleset_versions")),
    )
    op.create_table(
        "rule_revisions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("record_id", sa.Text(), nullable=False),
        sa.Column("since_version", sa.Integer(), nullable=False),
        sa.Column("until_version", sa.Integer()),
        sa.Column("data", postgresql.JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rule_revisions")),
    )
    op.create_index(
        "ix_rule_revisions_standing",
        "rule_revisions",
        ["table_name", "record_id"],
        unique=True,
        postgresql_where=sa.text("until_version IS NULL"),
    )
    op.create_index(
        op.f("ix_rule_revisions_table_name_record_id_since_version"),
        "rule_revisions",
        ["table_name", "record_id", "since_version"],
    )
    op.add_column("config_audit_log", sa.Column("ruleset_version", sa.Integer()))
    op.add_column("config_audit_log", sa.Column("undoes", sa.BigInteger()))
    op.execute("INSERT INTO ruleset_versions (version, at) SELECT version, changed_at FROM ruleset_version")
    op.execute(_BUMP)
    op.execute(_KEEP)
    for table, key in _KEYS.items():
        watch(table, key)


def watch(table: str, key: str) -> None:
    """From now on a change of ``table`` makes a version, and its rows keep their revisions."""
    op.execute(f"DROP TRIGGER IF EXISTS {table}_version ON {table}")
    # Before the rows: their revisions carry the version that this makes.
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
    op.execute(
        "INSERT INTO rule_revisions (table_name, record_id, since_version, data) "
        f"SELECT '{table}', t.{key}::text, (SELECT version FROM ruleset_version WHERE id = 1), "  # noqa: S608
        f"to_jsonb(t) - 'created_at' - 'updated_at' FROM {table} t"
    )


_BUMP_OF_0001 = """
CREATE OR REPLACE FUNCTION bump_ruleset_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE ruleset_version SET version = version + 1, changed_at = now() WHERE id = 1;
    RETURN NULL;
END $$
"""


def downgrade() -> None:
    for table in _KEYS:
        for trigger in ("version", "revision", "emptied"):
            op.execute(f"DROP TRIGGER {table}_{trigger} ON {table}")
    op.execute("DROP FUNCTION keep_rule_revision()")
    op.execute(_BUMP_OF_0001)
    for table in ("alert_rules", "development_hosts", "device_teams"):
        op.execute(
            f"CREATE TRIGGER {table}_version AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION bump_ruleset_version()"
        )
    op.drop_column("config_audit_log", "undoes")
    op.drop_column("config_audit_log", "ruleset_version")
    op.drop_table("rule_revisions")
    op.drop_table("ruleset_versions")
    op.drop_column("ruleset_version", "changed_in")
