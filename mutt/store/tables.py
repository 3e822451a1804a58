"""The tables: what MUTT keeps in PostgreSQL. Alembic makes them; a test holds the two together."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from mutt.alert import LANES, Status
from mutt.event import State
from mutt.rules.rule import Handling, MatchType
from mutt.rules.shadow import Kind
from mutt.rules.shadow import Status as ShadowStatus

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)

_instant = DateTime(timezone=True)
_now = text("now()")


def _one_of(column: str, words: type[StrEnum] | dict[str, tuple[int, ...]]) -> CheckConstraint:
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _pair(count: str, window: str) -> CheckConstraint:
    both = f"({count} IS NULL) = ({window} IS NULL)"
    return CheckConstraint(f"{both} AND {count} > 1 AND {window} > 0", name=count)


#: One row for every event. This table's write cost is the system's ceiling: think twice before adding an index.
event_audit_log = Table(
    "event_audit_log",
    metadata,
    Column("event_id", Uuid, primary_key=True),
    Column("received_at", _instant, primary_key=True),
    Column("occurred_at", _instant, nullable=False),
    Column("hostname", Text, nullable=False),
    Column("severity", SmallInteger),
    Column("source", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("matched_rule_id", Integer),
    Column("ruleset_version", Integer, nullable=False),
    Column("handling", Text, nullable=False),
    Column("team", Text),
    Column("batch_id", Text, nullable=False),
    Column("item", Integer, nullable=False),
    Column("correlation_id", Text, nullable=False),
    Column("raw", Text, nullable=False),
    Column("context", Text),  #: JSON: what rules can see of the event beside these columns; see audit.Context
    Index(None, "hostname", "received_at"),
    Index(None, "matched_rule_id", "received_at", postgresql_where=text("matched_rule_id IS NOT NULL")),
    Index(None, "received_at", postgresql_using="brin"),
    postgresql_partition_by="RANGE (received_at)",
)

#: Months that were put back from their archives. Retention leaves them until then.
restored_months = Table(
    "restored_months",
    metadata,
    Column("month", Text, primary_key=True),  #: 2026-05
    Column("rows", BigInteger, nullable=False),
    Column("restored_at", _instant, nullable=False, server_default=_now),
    Column("until", _instant, nullable=False),
    Column("who", Text, nullable=False),
)

#: One row for each committed drain: the audit's own sum, which outlives retention.
audit_ledger = Table(
    "audit_ledger",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", _instant, nullable=False, server_default=_now),
    Column("rows", Integer, nullable=False),
    Column("alerts", Integer, nullable=False),
    Index(None, "at", postgresql_using="brin"),
)

#: What Moog is to be told, and was told. Redis is its cache of work.
alerts = Table(
    "alerts",
    metadata,
    Column("alert_id", Uuid, primary_key=True),
    Column("event_id", Uuid, nullable=False),
    Column("received_at", _instant, nullable=False),
    Column("occurred_at", _instant, nullable=False),
    Column("hostname", Text, nullable=False),
    Column("rule_id", Integer),
    Column("handling", Text, nullable=False),
    Column("environment", Text, nullable=False),
    Column("team", Text, nullable=False),
    Column("lane", Text, nullable=False),
    Column("severity", SmallInteger, nullable=False),
    Column("signature", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("correlation_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("clear_key", Text),
    Column("raw", Text, nullable=False),
    Column("cause", Uuid),
    Column("held", Text, nullable=False, server_default=""),  #: by the verdict; see alert.Alert
    Column("status", Text, nullable=False, server_default=Status.WAITING.value),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("created_at", _instant, nullable=False, server_default=_now),
    Column("updated_at", _instant, nullable=False, server_default=_now),
    Column("delivered_at", _instant),
    Column("moog_status", Integer),
    Column("moog_answer", Text, nullable=False, server_default=""),
    Column("reason", Text, nullable=False, server_default=""),
    Column("cleared_by", Uuid),
    _one_of("lane", LANES),
    _one_of("state", State),
    _one_of("status", Status),
    CheckConstraint("severity BETWEEN 0 AND 5", name="severity"),
    Index(None, "event_id"),
    Index(None, "cause", postgresql_where=text("cause IS NOT NULL")),
    Index(None, "received_at"),
    Index(
        "ix_alerts_open",
        "hostname",
        "clear_key",
        "received_at",
        postgresql_where=text("clear_key IS NOT NULL AND state = 'raise' AND cleared_by IS NULL"),
    ),
    Index("ix_alerts_waiting", "received_at", "alert_id", postgresql_where=text("status = 'waiting'")),
    Index(
        "ix_alerts_ended",
        "cleared_by",
        postgresql_where=text("cleared_by IS NOT NULL AND status = 'waiting'"),
    ),
    Index("ix_alerts_held", "reason", "received_at", postgresql_where=text("status = 'cancelled'")),
)

#: Each request to Moog that an alert was in: the answer to "what did Moog say, and when".
alert_attempts = Table(
    "alert_attempts",
    metadata,
    Column("alert_id", Uuid, primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("at", _instant, nullable=False),
    Column("kind", Text, nullable=False),  #: delivered, retry, refused … (moog/outcome.Kind)
    Column("reason", Text, nullable=False),
    Column("moog_status", Integer),
    Column("answer", Text, nullable=False),
    Index(None, "at", postgresql_using="brin"),
)

#: The clears of a day: a raise that is older and evaluated later finds here what ended it.
recent_clears = Table(
    "recent_clears",
    metadata,
    Column("event_id", Uuid, primary_key=True),
    Column("received_at", _instant, primary_key=True),
    Column("hostname", Text, nullable=False),
    Column("clear_key", Text, nullable=False),
    Column("correlation_id", Text, nullable=False),
    Column("event", LargeBinary, nullable=False),
    Index(None, "hostname", "clear_key", "received_at"),
    Index(None, "received_at"),
)

#: Rounds that came in while Redis was away: from here they flow back (pipeline/spill).
ingest_spill = Table(
    "ingest_spill",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("spilled_at", _instant, nullable=False, server_default=_now),
    Column("round_id", Text, nullable=False),
    Column("events", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("sent_at", _instant),  #: since when it may be in the stream; NULL: it is not
    Column("late", Integer, nullable=False, server_default="0"),
    Column("due_at", _instant, nullable=False, server_default=_now),
    Column("reason", Text, nullable=False, server_default=""),
    Column("data", LargeBinary, nullable=False),
    Index("ix_ingest_spill_set_aside", "id", postgresql_where=text("reason <> ''")),
)

#: One row: what the table above holds. Moved in the same transactions, so that nobody has to count.
ingest_spill_size = Table(
    "ingest_spill_size",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("rounds", BigInteger, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)

alert_rules = Table(
    "alert_rules",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("name", Text, nullable=False),
    Column("match_type", Text, nullable=False),
    Column("match_string", Text, nullable=False, server_default=""),
    Column("field", Text, nullable=False, server_default="message"),
    Column("trap_oid", Text),
    Column("syslog_severity", SmallInteger),
    Column("hostname", Text),
    Column("source", Text),
    Column("program", Text),
    Column("tags", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("priority", Integer, nullable=False, server_default="100"),
    Column("prod_handling", Text, nullable=False),
    Column("dev_handling", Text, nullable=False),
    Column("team_assignment", Text, nullable=False),
    Column("moog_severity", SmallInteger),
    Column("is_active", Boolean, nullable=False, server_default=text("true")),
    Column("created_at", _instant, nullable=False, server_default=_now),
    Column("updated_at", _instant, nullable=False, server_default=_now),
    Column("dedup_window", Integer),
    Column("threshold_count", Integer),
    Column("threshold_window", Integer),
    Column("flap_count", Integer),
    Column("flap_window", Integer),
    Column("examples", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    _one_of("match_type", MatchType),
    _one_of("prod_handling", Handling),
    _one_of("dev_handling", Handling),
    CheckConstraint("syslog_severity BETWEEN 0 AND 7", name="syslog_severity"),
    CheckConstraint("moog_severity BETWEEN 0 AND 5", name="moog_severity"),
    CheckConstraint("jsonb_typeof(tags) = 'object'", name="tags"),
    CheckConstraint("jsonb_typeof(examples) = 'array'", name="examples"),
    CheckConstraint("dedup_window > 0", name="dedup_window"),
    _pair("threshold_count", "threshold_window"),
    _pair("flap_count", "flap_window"),
)

development_hosts = Table("development_hosts", metadata, Column("hostname", String(255), primary_key=True))

device_teams = Table(
    "device_teams",
    metadata,
    Column("hostname", String(255), primary_key=True),
    Column("team_assignment", Text, nullable=False),
)

#: When many alerts of one key (a host, a rule, a team, a tag's value) are a storm, of which Moog gets one summary.
storm_policies = Table(
    "storm_policies",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("name", Text, nullable=False),
    Column("group_by", Text, nullable=False),  #: host, rule, team, source or tags.NAME
    Column("alert_count", Integer, nullable=False),
    Column("alert_window", Integer, nullable=False),  #: seconds
    Column("hostname", Text),  #: scope: a name, a glob or a CIDR
    Column("is_active", Boolean, nullable=False, server_default=text("true")),
    Column("created_at", _instant, nullable=False, server_default=_now),
    Column("updated_at", _instant, nullable=False, server_default=_now),
    CheckConstraint("alert_count > 1", name="alert_count"),
    CheckConstraint("alert_window > 0", name="alert_window"),
)

#: What is taken out of an event before it is kept. See rules/redaction.Redaction.
redactions = Table(
    "redactions",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("name", Text, nullable=False),
    Column("pattern", Text, nullable=False),  #: re2's
    Column("replacement", Text, nullable=False, server_default="[redacted]"),
    Column("is_active", Boolean, nullable=False, server_default=text("true")),
    Column("position", Integer, nullable=False, server_default="100"),  #: the lowest goes first
    Column("created_at", _instant, nullable=False, server_default=_now),
    Column("updated_at", _instant, nullable=False, server_default=_now),
    CheckConstraint("pattern <> ''", name="pattern"),
    UniqueConstraint("name", deferrable=True, initially="DEFERRED"),
)

#: When hosts, teams or rules are in maintenance: their alerts are held. See rules/windows.Window.
maintenance_windows = Table(
    "maintenance_windows",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("name", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("hostname", Text),  #: scope: a name, a glob or a CIDR
    Column("team", Text),
    Column("rule_id", Integer),
    Column("starts_at", _instant, nullable=False),  #: of the first occurrence
    Column("ends_at", _instant, nullable=False),
    Column("timezone", Text, nullable=False, server_default="UTC"),
    Column("recurrence", Text),  #: an RRULE
    Column("release", Boolean, nullable=False, server_default=text("true")),
    Column("is_active", Boolean, nullable=False, server_default=text("true")),
    Column("ended_at", _instant),  #: by hand, in the middle of an occurrence
    Column("created_at", _instant, nullable=False, server_default=_now),
    Column("updated_at", _instant, nullable=False, server_default=_now),
    CheckConstraint("num_nonnulls(hostname, team, rule_id) > 0", name="scope"),
    CheckConstraint("ends_at > starts_at", name="ends_at"),
)

#: What became of one occurrence of a window. It outlives the window.
maintenance_receipts = Table(
    "maintenance_receipts",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("window_id", Integer, nullable=False),
    Column("starts_at", _instant, nullable=False),
    Column("ends_at", _instant, nullable=False),  #: planned, until it has ended
    Column("name", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("release", Boolean, nullable=False),
    Column("ended_at", _instant),  #: when its end was noticed; NULL: it is on
    Column("counted_at", _instant),
    Column("held", Integer, nullable=False, server_default="0"),
    Column("cleared", Integer, nullable=False, server_default="0"),
    Column("burning", Integer, nullable=False, server_default="0"),  #: at its end
    Column("released", Integer, nullable=False, server_default="0"),
    Column(
        "hosts", JSONB, nullable=False, server_default=text("'[]'::jsonb")
    ),  #: [host, held], the most first
    Column(
        "rules", JSONB, nullable=False, server_default=text("'[]'::jsonb")
    ),  #: [rule, held], the most first
    Index(None, "window_id", "starts_at", unique=True),
    Index(None, "ends_at"),
)

#: What still burned at the end of an occurrence, and what came of it. An alert stands on one receipt.
maintenance_burning = Table(
    "maintenance_burning",
    metadata,
    Column("alert_id", Uuid, primary_key=True),
    Column("receipt_id", Integer, nullable=False),
    Column("done_at", _instant),  #: when it was released, or was cleared before that; NULL: it is held
    Column("released", Boolean, nullable=False, server_default=text("false")),
    Index(None, "receipt_id"),
)

#: One row. Triggers on the tables of the ruleset move it, so that any writer is seen, psql too: once a transaction.
ruleset_version = Table(
    "ruleset_version",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("changed_at", _instant, nullable=False, server_default=_now),
    Column("changed_in", Text),  #: the transaction that made it
    CheckConstraint("id = 1", name="one_row"),
)

#: Each version there was, and when.
ruleset_versions = Table(
    "ruleset_versions",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("at", _instant, nullable=False, server_default=_now),
)

#: The rows of the ruleset's tables as they stood from one version up to, not including, another. Triggers write it.
rule_revisions = Table(
    "rule_revisions",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("table_name", Text, nullable=False),
    Column("record_id", Text, nullable=False),
    Column("since_version", Integer, nullable=False),
    Column("until_version", Integer),  #: NULL: it stands
    Column("data", JSONB, nullable=False),
    Index(
        "ix_rule_revisions_standing",
        "table_name",
        "record_id",
        unique=True,
        postgresql_where=text("until_version IS NULL"),
    ),
    Index(None, "table_name", "record_id", "since_version"),
)

#: Drafts of the rules that run, or ran, beside those in force.
shadows = Table(
    "shadows",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("created_at", _instant, nullable=False, server_default=_now),
    Column("updated_at", _instant, nullable=False, server_default=_now),
    Column("base_version", Integer, nullable=False),  #: the ruleset that it was drafted on
    Column("draft", JSONB, nullable=False),  #: changes to single rules: rules/shadow.DraftChange
    Column("status", Text, nullable=False, server_default=ShadowStatus.RUNNING.value),
    Column("until", _instant, nullable=False),  #: then it ends by itself
    Column("ended_at", _instant),
    Column("error", Text, nullable=False, server_default=""),  #: why it could not go on
    Column("promoted_version", Integer),  #: the ruleset that it became
    _one_of("status", ShadowStatus),
    CheckConstraint("jsonb_typeof(draft) = 'array'", name="draft"),
    Index("ix_shadows_running", "status", unique=True, postgresql_where=text("status = 'running'")),
)

#: Of how many events a draft said what. Each worker has rows of its own: none waits for another's commit.
shadow_counts = Table(
    "shadow_counts",
    metadata,
    Column("shadow_id", Integer, primary_key=True, autoincrement=False),
    Column("hour", _instant, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("worker", Text, primary_key=True),
    Column("n", BigInteger, nullable=False),
    _one_of("kind", Kind),
)

#: Some of the events on which the two did not agree.
shadow_differences = Table(
    "shadow_differences",
    metadata,
    Column("shadow_id", Integer, primary_key=True, autoincrement=False),
    Column("kind", Text, primary_key=True),
    Column("event_id", Uuid, primary_key=True),
    Column("received_at", _instant, primary_key=True),
    Column("live", JSONB, nullable=False),  #: what of the verdicts is compared, and why
    Column("draft", JSONB, nullable=False),
    _one_of("kind", Kind),
)

config_audit_log = Table(
    "config_audit_log",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", _instant, nullable=False, server_default=_now),
    Column("changed_by", Text, nullable=False),
    Column("operation", Text, nullable=False),
    Column("table_name", Text, nullable=False),
    Column("record_id", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("before", JSONB),
    Column("after", JSONB),
    Column("correlation_id", Text, nullable=False, server_default=""),
    Column("ruleset_version", Integer),  #: the version that the change made, or in which it was made
    Column("undoes", BigInteger),  #: the note of the change that this one takes back
    Index(None, "at"),
)


class Backtesting(StrEnum):
    """Where a back-test stands; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


#: Drafts of the rules that are tried on the stored past: what is asked, how far it is, what came of it.
backtests = Table(
    "backtests",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("who", Text, nullable=False),
    Column("created_at", _instant, nullable=False, server_default=_now),
    Column("name", Text, nullable=False),
    Column("draft", JSONB, nullable=False),
    Column("baseline", Text, nullable=False),
    Column("since", _instant, nullable=False),
    Column("until", _instant, nullable=False),
    Column("host", Text, nullable=False, server_default=""),
    Column("status", Text, nullable=False, server_default=Backtesting.QUEUED.value),
    Column("cancel", Boolean, nullable=False, server_default=text("false")),  #: somebody asked for it
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("worker", Text, nullable=False, server_default=""),  #: who has it
    Column("heartbeat", _instant),  #: when that one was last heard of
    Column("started_at", _instant),
    Column("ended_at", _instant),
    Column("progress", JSONB),
    Column("result", JSONB),
    Column("error", Text, nullable=False, server_default=""),
    _one_of("status", Backtesting),
    CheckConstraint("since < until", name="until"),
    Index(None, "created_at"),
    Index("ix_backtests_open", "created_at", postgresql_where=text("status IN ('queued', 'running')")),
)

#: API keys: who may send, and who may manage by script. The name is for ever; what opens is in the other table.
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column(
        "formats", ARRAY(Text), nullable=False, server_default=text("'{}'::text[]")
    ),  #: none: every format
    Column("quota", Integer),  #: events a minute
    Column("signing", JSONB),  #: grant.Signing; its secret is sealed
    Column("source", JSONB),  #: source.Source; nobody said anything: NULL
    Column("note", Text, nullable=False, server_default=""),
    Column("created_at", _instant, nullable=False, server_default=_now),
    Column("created_by", Text, nullable=False),
    Column("revoked_at", _instant),
    Column("signed_at", _instant),  #: when it was last used at /signed
    CheckConstraint("name ~ '^[a-z0-9][a-z0-9._-]{0,63}$' AND name <> 'bootstrap'", name="name"),
    CheckConstraint("scopes <@ ARRAY['ingest', 'management'] AND cardinality(scopes) > 0", name="scopes"),
    CheckConstraint("quota > 0", name="quota"),
    UniqueConstraint("name"),
)

#: The texts that a key was given: known by their SHA-256 alone.
api_key_secrets = Table(
    "api_key_secrets",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("key_id", ForeignKey("api_keys.id", ondelete="CASCADE"), nullable=False),
    Column("hint", Text, nullable=False),  #: the last characters
    Column("created_at", _instant, nullable=False, server_default=_now),
    Column("expires_at", _instant),
    Column("revoked_at", _instant),
    Column("last_used_at", _instant),
    CheckConstraint("digest ~ '^[0-9a-f]{64}$'", name="digest"),
    Index(None, "key_id"),
)


#: What is seen of each who sends, by the name of its key (mutt/sources).
sources = Table(
    "sources",
    metadata,
    Column("name", Text, primary_key=True),
    Column("observed", LargeBinary, nullable=False),  #: sources.observed.Observed, as MessagePack
    Column("silent_since", _instant),  #: its last event before the silence that was told of
    Column("silence", Uuid),  #: what that alert and its clear have in common
    Column("owed", LargeBinary),  #: MUTT's own event about it, until it stands in the queue
    CheckConstraint("(silent_since IS NULL) = (silence IS NULL)", name="silence"),
)

#: How far the reports in Redis are read that say so: one row. Seconds since the epoch.
source_reports = Table(
    "source_reports",
    metadata,
    Column("id", SmallInteger, primary_key=True, server_default="1", autoincrement=False),
    Column("last", Text, nullable=False, server_default="0-0"),  #: the id of the last one
    Column(
        "since", Float(53), nullable=False, server_default="0"
    ),  #: from when somebody listens, without a hole
    Column("until", Float(53), nullable=False, server_default="0"),
    CheckConstraint("id = 1", name="id"),
)


class Role(StrEnum):
    """What somebody may do; each may all that those before it may, and that is their order."""

    VIEWER = "viewer"  #: read everything but secrets and people
    OPERATOR = "operator"  #: and deal with dead letters and maintenance windows, and try rules
    ADMIN = "admin"  #: and change what decides: rules, hosts, teams, keys, people

    @property
    def rank(self) -> int:
        return list(Role).index(self)

    # The order of their words, which text has, would be quite another.
    def __lt__(self, other: str) -> bool:
        return self.rank < Role(other).rank

    def __le__(self, other: str) -> bool:
        return self.rank <= Role(other).rank

    def __gt__(self, other: str) -> bool:
        return self.rank > Role(other).rank

    def __ge__(self, other: str) -> bool:
        return self.rank >= Role(other).rank


#: Who may log in beside the administrator of the settings.
users = Table(
    "users",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("password_hash", Text),  #: argon2id; none: logs in elsewhere
    Column("issuer", Text),  #: who says that it is them, and what it calls them there
    Column("subject", Text),
    Column("is_active", Boolean, nullable=False, server_default=text("true")),
    Column("epoch", Integer, nullable=False, server_default="1"),  #: raised: all of their sessions end
    Column("created_at", _instant, nullable=False, server_default=_now),
    Column("password_changed_at", _instant),
    Column("last_login_at", _instant),
    _one_of("role", Role),
    CheckConstraint("name = lower(name)", name="name"),
    CheckConstraint("(issuer IS NULL) = (subject IS NULL)", name="subject"),
    UniqueConstraint("name"),
    UniqueConstraint("issuer", "subject"),
)


def is_ours(name: str | None, kind: str, _parents: object = None) -> bool:
    """Does Alembic look after this table? It leaves the audit's months to ``partitions``."""
    return kind != "table" or name is None or not name.startswith(event_audit_log.name + "_")
