"""What needs the owner's power, as functions of the owner: other roles get the deed, and not the power."""

from alembic import op
from sqlalchemy import text

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

#: The triggers of the ruleset write its history, which nobody else may.
_TRIGGERS = ("bump_ruleset_version()", "keep_rule_revision()")

# Whoever asks is session_user; the owner himself is not held to what others are.
_FUNCTIONS = {
    # -- the audit's months
    "audit_make_default() RETURNS void": """
    BEGIN
        CREATE TABLE event_audit_log_default PARTITION OF event_audit_log DEFAULT;
    END""",
    "audit_make_month(month timestamptz) RETURNS void": """
    DECLARE
        name text := 'event_audit_log_' || to_char(month, 'YYYY_MM');
        begins timestamptz := date_trunc('month', month);
        ends timestamptz := date_trunc('month', month) + interval '1 month';
        inside text := format('received_at >= %L AND received_at < %L', begins, ends);
    BEGIN
        -- CREATE … PARTITION OF would lock the whole audit, and fail where the default partition holds rows of the month.
        LOCK TABLE event_audit_log_default IN ACCESS EXCLUSIVE MODE;
        EXECUTE format('CREATE TABLE %I (LIKE event_audit_log'
            ' INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)', name);
        EXECUTE format('WITH moved AS (DELETE FROM event_audit_log_default WHERE %s RETURNING *)'
            ' INSERT INTO %I SELECT * FROM moved', inside, name);
        -- The check says what ATTACH wants to know, so that it need not read the rows.
        EXECUTE format('ALTER TABLE %I ADD CONSTRAINT within CHECK (%s)', name, inside);
        EXECUTE format('ALTER TABLE event_audit_log ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            name, begins, ends);
        EXECUTE format('ALTER TABLE %I DROP CONSTRAINT within', name);
    END""",
    "audit_months_in_default() RETURNS TABLE (month timestamptz, n bigint)": """
    BEGIN
        RETURN QUERY SELECT date_trunc('month', received_at), count(*) FROM event_audit_log_default
            GROUP BY 1 ORDER BY 1;
    END""",
    "audit_check_month(name text) RETURNS void": """
    BEGIN
        IF name !~ '^event_audit_log_[0-9]{4}_[0-9]{2}$' OR NOT EXISTS (
            SELECT FROM pg_inherits
            WHERE inhparent = 'event_audit_log'::regclass AND inhrelid = to_regclass(quote_ident(name))
        ) THEN
            RAISE insufficient_privilege USING MESSAGE = format('%s is no month of the audit', name);
        END IF;
        IF session_user <> current_user
            AND to_timestamp(right(name, 7), 'YYYY_MM') + interval '1 month' > now() - interval '1 day' THEN
            RAISE insufficient_privilege USING MESSAGE = format('%s is not over yet', name);
        END IF;
    END""",
    "audit_freeze_month(name text) RETURNS void": """
    BEGIN
        PERFORM audit_check_month(name);
        -- Read by anyone, written by no one until it is gone: no row slips in behind the archive.
        EXECUTE format('LOCK TABLE %I IN SHARE ROW EXCLUSIVE MODE', name);
        IF session_user <> current_user THEN
            EXECUTE format('GRANT SELECT ON %I TO %I', name, session_user);
        END IF;
    END""",
    "audit_drop_month(name text) RETURNS void": """
    BEGIN
        PERFORM audit_check_month(name);
        EXECUTE format('ALTER TABLE event_audit_log DETACH PARTITION %I', name);
        EXECUTE format('DROP TABLE %I', name);
    END""",
    "audit_forget_control(id uuid, at timestamptz) RETURNS bigint": """
    DECLARE gone bigint;
    BEGIN
        DELETE FROM event_audit_log WHERE event_id = id AND received_at = at
            AND hostname = 'mutt' AND message = 'control' AND batch_id = 'control' AND ruleset_version = 0;
        GET DIAGNOSTICS gone = ROW_COUNT;
        RETURN gone;
    END""",
    # -- the history: of dead letters alone a note counts on while they move
    "history_count(note bigint, counts jsonb) RETURNS void": """
    BEGIN
        UPDATE config_audit_log SET after = coalesce(after, '{}') || (
            SELECT coalesce(jsonb_object_agg(c.key, coalesce((after ->> c.key)::bigint, 0) + c.value::bigint), '{}')
            FROM jsonb_each_text(counts) AS c
        ) WHERE id = note AND operation IN ('REPLAY', 'EDIT', 'DROP');
    END""",
    "history_withdraw(note bigint) RETURNS void": """
    BEGIN
        DELETE FROM config_audit_log WHERE id = note AND operation IN ('REPLAY', 'EDIT', 'DROP')
            AND at > now() - interval '1 hour';
    END""",
    "history_prune(until timestamptz) RETURNS bigint": """
    DECLARE gone bigint;
    BEGIN
        IF session_user <> current_user THEN
            until := least(until, now() - interval '1 day');
        END IF;
        DELETE FROM config_audit_log WHERE at < until;
        GET DIAGNOSTICS gone = ROW_COUNT;
        RETURN gone;
    END""",
    "versions_prune(oldest integer) RETURNS bigint": """
    DECLARE gone bigint;
    BEGIN
        IF session_user <> current_user AND NOT EXISTS (
            SELECT FROM ruleset_versions WHERE version = oldest AND at < now() - interval '1 day'
        ) THEN
            RAISE insufficient_privilege USING MESSAGE = format('version %s is not old enough', oldest);
        END IF;
        DELETE FROM rule_revisions WHERE until_version <= oldest;
        DELETE FROM ruleset_versions WHERE version < oldest;
        GET DIAGNOSTICS gone = ROW_COUNT;
        RETURN gone;
    END""",
}


def upgrade() -> None:
    schema = op.get_bind().execute(text("SELECT quote_ident(current_schema())")).scalar_one()
    # The last is where others might put a table of theirs in the way.
    path = f"search_path = {schema}, pg_temp"
    for signature, body in _FUNCTIONS.items():
        op.execute(
            text(
                f"CREATE FUNCTION {signature} LANGUAGE plpgsql SECURITY DEFINER SET {path} SET timezone = 'UTC'"
                f" AS $${body}$$"
            )
        )
        op.execute(text(f"REVOKE ALL ON FUNCTION {_named(signature)} FROM PUBLIC"))
    for trigger in _TRIGGERS:
        op.execute(text(f"ALTER FUNCTION {trigger} SECURITY DEFINER SET {path}"))


def downgrade() -> None:
    for trigger in _TRIGGERS:
        op.execute(text(f"ALTER FUNCTION {trigger} SECURITY INVOKER RESET search_path"))
    for signature in _FUNCTIONS:
        op.execute(text(f"DROP FUNCTION {_named(signature)}"))


def _named(signature: str) -> str:
    return signature.partition(" RETURNS")[0]

