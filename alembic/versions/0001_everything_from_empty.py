"""Everything MUTT keeps, from empty."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_instant = sa.DateTime(timezone=True)
_now = sa.text("now()")
_RULE_TABLES = ("alert_rules", "development_hosts", "device_teams")


def upgrade() -> None:
    _audit()
    _alerts()
    _rules()
    _history()
    _count_versions()


def downgrade() -> None:
    for table in (
        "config_audit_log",
        "ruleset_version",
        *_RULE_TABLES,
        "recent_clears",
        "alerts",
        "audit_ledger",
        "event_audit_log",
    ):
        op.drop_table(table)
    op.execute("DROP FUNCTION bump_ruleset_version()")


def _audit() -> None:
    op.create_table(
        "event_audit_log",
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("received_at", _instant, nullable=False),
        sa.Column("occurred_at", _instant, nullable=False),
        sa.Column("hostname", sa.Text(), nullable=False),
        sa.Column("severity", sa.SmallInteger()),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("matched_rule_id", sa.Integer()),
        sa.Column("ruleset_version", sa.Integer(), nullable=False),
        sa.Column("handling", sa.Text(), nullable=False),
        sa.Column("team", sa.Text()),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("item", sa.Integer(), nullable=False),
        sa.Column("correlation_id", sa.Text(), nullable=False),
        sa.Column("raw", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("event_id", "received_at", name=op.f("pk_event_audit_log")),
        postgresql_partition_by="RANGE (received_at)",
    )
    op.create_index(
        op.f("ix_event_audit_log_hostname_received_at"), "event_audit_log", ["hostname", "received_at"]
    )
    op.create_index(
        op.f("ix_event_audit_log_matched_rule_id_received_at"),
        "event_audit_log",
        ["matched_rule_id", "received_at"],
        postgresql_where=sa.text("matched_rule_id IS NOT NULL"),
    )
    op.create_index(
        op.f("ix_event_audit_log_received_at"), "event_audit_log", ["received_at"], postgresql_using="brin"
    )
    op.create_table(
        "audit_ledger",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", _instant, server_default=_now, nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("alerts", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_ledger")),
    )
    # Catches a row whose month was never made; partitions.ensure moves it when it is.
    op.execute("CREATE TABLE event_audit_log_default PARTITION OF event_audit_log DEFAULT")


def _alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("alert_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("received_at", _instant, nullable=False),
        sa.Column("occurred_at", _instant, nullable=False),
        sa.Column("hostname", sa.Text(), nullable=False),
        sa.Column("rule_id", sa.Integer()),
        sa.Column("handling", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("team", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("severity", sa.SmallInteger(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("correlation_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("clear_key", sa.Text()),
        sa.Column("raw", sa.Text(), nullable=False),
        sa.Column("cause", sa.Uuid()),
        sa.Column("status", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", _instant, server_default=_now, nullable=False),
        sa.Column("updated_at", _instant, server_default=_now, nullable=False),
        sa.Column("delivered_at", _instant),
        sa.Column("moog_status", sa.Integer()),
        sa.Column("moog_answer", sa.Text(), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("cleared_by", sa.Uuid()),
        sa.CheckConstraint("lane IN ('critical', 'major', 'minor', 'info')", name=op.f("ck_alerts_lane")),
        sa.CheckConstraint("state IN ('raise', 'clear')", name=op.f("ck_alerts_state")),
        sa.CheckConstraint(
            "status IN ('waiting', 'delivered', 'parked', 'cancelled', 'dropped')",
            name=op.f("ck_alerts_status"),
        ),
        sa.CheckConstraint("severity BETWEEN 0 AND 5", name=op.f("ck_alerts_severity")),
        sa.PrimaryKeyConstraint("alert_id", name=op.f("pk_alerts")),
    )
    op.create_index(
        op.f("ix_alerts_cause"), "alerts", ["cause"], postgresql_where=sa.text("cause IS NOT NULL")
    )
    op.create_index(op.f("ix_alerts_event_id"), "alerts", ["event_id"])
    op.create_index(
        "ix_alerts_open",
        "alerts",
        ["hostname", "clear_key", "received_at"],
        postgresql_where=sa.text("clear_key IS NOT NULL AND state = 'raise' AND cleared_by IS NULL"),
    )
    op.create_index(op.f("ix_alerts_received_at"), "alerts", ["received_at"])
    op.create_index(
        "ix_alerts_waiting",
        "alerts",
        ["received_at", "alert_id"],
        postgresql_where=sa.text("status = 'waiting'"),
    )
    op.create_index(
        "ix_alerts_ended",
        "alerts",
        ["cleared_by"],
        postgresql_where=sa.text("cleared_by IS NOT NULL AND status = 'waiting'"),
    )
    op.create_table(
        "recent_clears",
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("received_at", _instant, nullable=False),
        sa.Column("hostname", sa.Text(), nullable=False),
        sa.Column("clear_key", sa.Text(), nullable=False),
        sa.Column("correlation_id", sa.Text(), nullable=False),
        sa.Column("event", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("event_id", "received_at", name=op.f("pk_recent_clears")),
    )
    op.create_index(
        op.f("ix_recent_clears_hostname_clear_key_received_at"),
        "recent_clears",
        ["hostname", "clear_key", "received_at"],
    )
    op.create_index(op.f("ix_recent_clears_received_at"), "recent_clears", ["received_at"])


def _rules() -> None:
    op.create_table(
        "alert_rules",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("match_type", sa.Text(), nullable=False),
        sa.Column("match_string", sa.Text(), server_default="", nullable=False),
        sa.Column("field", sa.Text(), server_default="message", nullable=False),
        sa.Column("trap_oid", sa.Text()),
        sa.Column("syslog_severity", sa.SmallInteger()),
        sa.Column("hostname", sa.Text()),
        sa.Column("source", sa.Text()),
        sa.Column("program", sa.Text()),
        sa.Column("tags", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("priority", sa.Integer(), server_default="100", nullable=False),
        sa.Column("prod_handling", sa.Text(), nullable=False),
        sa.Column("dev_handling", sa.Text(), nullable=False),
        sa.Column("team_assignment", sa.Text(), nullable=False),
        sa.Column("moog_severity", sa.SmallInteger()),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", _instant, server_default=_now, nullable=False),
        sa.Column("updated_at", _instant, server_default=_now, nullable=False),
        sa.CheckConstraint(
            "dev_handling IN ('Page_and_ticket', 'Page_only', 'Ticket_only', 'Ignore')",
            name=op.f("ck_alert_rules_dev_handling"),
        ),
        sa.CheckConstraint("jsonb_typeof(tags) = 'object'", name=op.f("ck_alert_rules_tags")),
        sa.CheckConstraint(
            "match_type IN ('contains', 'equals', 'prefix', 'regex', 'oid_prefix')",
            name=op.f("ck_alert_rules_match_type"),
        ),
        sa.CheckConstraint(
            "prod_handling IN ('Page_and_ticket', 'Page_only', 'Ticket_only', 'Ignore')",
            name=op.f("ck_alert_rules_prod_handling"),
        ),
        sa.CheckConstraint("moog_severity BETWEEN 0 AND 5", name=op.f("ck_alert_rules_moog_severity")),
        sa.CheckConstraint("syslog_severity BETWEEN 0 AND 7", name=op.f("ck_alert_rules_syslog_severity")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_rules")),
    )
    op.create_table(
        "development_hosts",
        sa.Column("hostname", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("hostname", name=op.f("pk_development_hosts")),
    )
    op.create_table(
        "device_teams",
        sa.Column("hostname", sa.String(length=255), nullable=False),
        sa.Column("team_assignment", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("hostname", name=op.f("pk_device_teams")),
    )
    op.create_table(
        "ruleset_version",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("changed_at", _instant, server_default=_now, nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_ruleset_version_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ruleset_version")),
    )


def _history() -> None:
    op.create_table(
        "config_audit_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", _instant, server_default=_now, nullable=False),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("record_id", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("before", postgresql.JSONB()),
        sa.Column("after", postgresql.JSONB()),
        sa.Column("correlation_id", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_config_audit_log")),
    )
    op.create_index(op.f("ix_config_audit_log_at"), "config_audit_log", ["at"])


def _count_versions() -> None:
    # A trigger, so that any writer is seen: the pages, the shell, psql. The row's lock makes writers queue, so
    # versions become visible in their order. 0 says: nobody has written a rule yet.
    op.execute("INSERT INTO ruleset_version (id, version) VALUES (1, 0)")
    op.execute(
        """
        CREATE FUNCTION bump_ruleset_version() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE ruleset_version SET version = version + 1, changed_at = now() WHERE id = 1;
            RETURN NULL;
        END $$
        """
    )
    for table in _RULE_TABLES:
        op.execute(
            f"""
            CREATE TRIGGER {table}_version
            AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION bump_ruleset_version()
            """
        )
