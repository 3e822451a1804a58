"""Who may do what in PostgreSQL: one table of MUTT's roles, as SQL that may be run again and again.

Everything belongs to whoever runs the migrations. Each role of MUTT has a login of its own, which may do what stands
here and nothing else. What needs the owner's power (months of the audit, the end of a note) is a function of the
owner. Nobody has UPDATE or DELETE on the audit and on the history of the configuration.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterator, Mapping

from sqlalchemy import Connection

PREFIX = "mutt_"

#: Who has a login. ``moog``, ``beat`` and ``flower`` need no PostgreSQL.
ROLES = ("ingest", "alerts", "housekeeping", "backtests", "admin", "cli", "reader")

#: One letter a right, as ``\\dp`` of psql has them.
_LETTERS = {"r": "SELECT", "a": "INSERT", "w": "UPDATE", "d": "DELETE"}

#: Of the ruleset: people keep them, workers read them.
_RULESET = {
    "admin": "rawd",
    "cli": "rawd",
    "alerts": "r",
    "housekeeping": "r",
    "backtests": "r",
    "reader": "r",
}
#: Written by triggers and functions alone.
_HISTORY = dict.fromkeys(("alerts", "housekeeping", "backtests", "admin", "cli", "reader"), "r")
_RECEIPTS = {"admin": "raw", "cli": "raw", "alerts": "raw", "housekeeping": "rawd", "reader": "r"}
#: Those of the shadow that runs.
_SEEN = {"alerts": "raw", "housekeeping": "rd", "admin": "r", "cli": "r", "reader": "r"}
#: Keys and people: no worker sees them, and no replica's reader.
_PEOPLE = {"admin": "raw", "cli": "raw"}

#: Table -> role -> rights. Every table of :mod:`mutt.store.tables` stands here.
TABLES: Mapping[str, Mapping[str, str]] = {
    # The admin and the shell try a dead letter out: all that it writes is rolled back.
    "event_audit_log": {
        "alerts": "ra",
        "housekeeping": "ra",
        "backtests": "r",
        "admin": "ra",
        "cli": "ra",
        "reader": "r",
    },
    # A month becomes one of these by audit_begin_restore alone: what stands here may be dropped.
    "restored_months": {"housekeeping": "rd", "backtests": "r", "admin": "r", "cli": "r", "reader": "r"},
    "audit_ledger": {"alerts": "ra", "housekeeping": "r", "admin": "ra", "cli": "ra", "reader": "r"},
    "alerts": {
        "alerts": "raw",
        "housekeeping": "raw",
        "backtests": "r",
        "admin": "raw",
        "cli": "raw",
        "reader": "r",
    },
    "alert_attempts": {"housekeeping": "rad", "admin": "r", "cli": "r", "reader": "r"},
    "recent_clears": {"alerts": "ra", "housekeeping": "rd", "admin": "ra", "cli": "ra", "reader": "r"},
    "ingest_spill": {"ingest": "ra", "housekeeping": "rwd", "admin": "r", "cli": "r"},
    "ingest_spill_size": {"ingest": "rw", "housekeeping": "rw", "admin": "r", "cli": "r"},
    "alert_rules": _RULESET,
    "development_hosts": _RULESET,
    "device_teams": _RULESET,
    "storm_policies": _RULESET,
    "maintenance_windows": _RULESET,
    "redactions": _RULESET,
    "maintenance_receipts": _RECEIPTS,
    "maintenance_burning": _RECEIPTS,
    "ruleset_version": _HISTORY,
    "ruleset_versions": _HISTORY,
    "rule_revisions": _HISTORY,
    "shadows": {"alerts": "rw", "housekeeping": "rwd", "admin": "raw", "cli": "raw", "reader": "r"},
    "shadow_counts": _SEEN,
    "shadow_differences": _SEEN,
    # Added to by whoever changes something, a worker that stops a shadow among them.
    "config_audit_log": {"alerts": "ra", "housekeeping": "ra", "admin": "ra", "cli": "ra", "reader": "r"},
    "backtests": {"backtests": "rw", "housekeeping": "rd", "admin": "raw", "cli": "raw", "reader": "r"},
    # Housekeeping copies the keys for ingest, and notes when each was used.
    "api_keys": {**_PEOPLE, "housekeeping": "r"},
    "api_key_secrets": {**_PEOPLE, "housekeeping": "r"},
    # Their names are the keys'.
    "sources": {"housekeeping": "raw", "admin": "r", "cli": "r"},
    "source_reports": {"housekeeping": "rw", "admin": "r", "cli": "r"},
    "users": _PEOPLE,
    # Alembic's own: what the schema is.
    "alembic_version": dict.fromkeys(ROLES, "r"),
}

#: (table, column) that a role may change, where it may not change the others.
COLUMNS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("api_key_secrets", "last_used_at"): ("housekeeping",),
    ("api_keys", "signed_at"): ("housekeeping",),
    ("restored_months", "rows"): ("cli",),
    ("restored_months", "until"): ("cli",),
}

#: Tables whose ids are asked for ahead of the row.
NUMBERED = ("alert_rules", "storm_policies", "maintenance_windows", "redactions")
_NUMBERS = {"admin": "USAGE, SELECT", "cli": "USAGE, SELECT", "backtests": "SELECT"}

_LETTERS_DESK = ("admin", "cli", "housekeeping")
_MONTHS = ("housekeeping", "cli")

#: Functions of the owner -> who may call them.
FUNCTIONS: Mapping[str, tuple[str, ...]] = {
    "audit_make_default()": _MONTHS,
    "audit_make_month(timestamptz)": _MONTHS,
    "audit_months_in_default()": (*_MONTHS, "admin", "reader"),
    "audit_freeze_month(text)": ("housekeeping", "cli"),
    "audit_drop_month(text)": ("housekeeping",),
    "audit_begin_restore(text, timestamptz, text)": ("cli",),
    "audit_drop_restored(text)": ("cli",),
    "audit_forget_control(uuid, timestamptz)": ("alerts", *_LETTERS_DESK),
    "history_count(bigint, jsonb)": _LETTERS_DESK,
    "history_withdraw(bigint)": _LETTERS_DESK,
    "history_prune(timestamptz)": ("housekeeping",),
    "versions_prune(integer)": ("housekeeping",),
}

_LOCK = 7_165_840_004  # two who grant at once would meet in the catalog

_GRANTS = """
DO $mutt$
DECLARE
    given record;
    here text := current_schema();
    login text;
BEGIN
    PERFORM pg_advisory_xact_lock({lock});
    FOR login IN SELECT rolname FROM pg_roles WHERE rolname = ANY (ARRAY[{roles}]) LOOP
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), login);
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', here, login);
        -- What was given by an older MUTT, and is not any more.
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM %I', here, login);
        EXECUTE format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA %I FROM %I', here, login);
        EXECUTE format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA %I FROM %I', here, login);
    END LOOP;
    IF NOT FOUND THEN
        RETURN;  -- whoever has no roles of MUTT's runs all of it as one
    END IF;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('REVOKE ALL ON SCHEMA %I FROM PUBLIC', here);
    EXECUTE format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA %I FROM PUBLIC', here);
    EXECUTE 'ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC';
    FOR given IN SELECT * FROM (VALUES
{rows}
    ) AS v (kind, what, login, rights) LOOP
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = given.login) AND (CASE given.kind
            WHEN 'FUNCTION' THEN to_regprocedure(given.what) IS NOT NULL
            ELSE to_regclass(given.what) IS NOT NULL
        END) THEN
            EXECUTE format('GRANT %s ON %s %s TO %I', given.rights, given.kind, given.what, given.login);
        END IF;
    END LOOP;
END
$mutt$;
"""

_ROLE = """
DO $mutt$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{login}') THEN CREATE ROLE {login}; END IF;
END $mutt$;
ALTER ROLE {login} LOGIN PASSWORD '{verifier}';
"""


def login_of(role: str) -> str:
    """The name by which a role of MUTT logs in."""
    return PREFIX + role


def rights_of(role: str, table: str) -> set[str]:
    """What a role may do with a whole table: SELECT, INSERT, UPDATE, DELETE."""
    return {_LETTERS[letter] for letter in TABLES[table].get(role, "")}


def grants() -> str:
    """Who may do what, for those of the roles and tables that there are; all else is taken from them, and from PUBLIC.

    Run it again after a migration (``mutt migrate`` does).
    """
    rows = ",\n".join(
        f"        ('{kind}', '{what}', '{login_of(role)}', '{rights}')"
        for kind, what, role, rights in _rows()
    )
    roles = ", ".join(f"'{login_of(role)}'" for role in ROLES)
    return _GRANTS.format(lock=_LOCK, roles=roles, rows=rows).strip() + "\n"


def _rows() -> Iterator[tuple[str, str, str, str]]:
    for table, roles in TABLES.items():
        for role, letters in roles.items():
            yield "TABLE", table, role, ", ".join(_LETTERS[letter] for letter in letters)
    for (table, column), may in COLUMNS.items():
        for role in may:
            yield "TABLE", table, role, f"UPDATE ({column})"
    for table in NUMBERED:
        for role, rights in _NUMBERS.items():
            yield "SEQUENCE", f"{table}_id_seq", role, rights
    for function, may in FUNCTIONS.items():
        for role in may:
            yield "FUNCTION", function, role, "EXECUTE"


def logins(passwords: Mapping[str, str]) -> str:
    """The logins, made where they lack, with these passwords (by role of MUTT), which are not in it themselves."""
    made = (_ROLE.format(login=login_of(role), verifier=verifier(passwords[role])) for role in ROLES)
    return "".join(made).strip() + "\n"


def verifier(password: str, salt: bytes = b"") -> str:
    """What PostgreSQL keeps of a password, for SCRAM-SHA-256: so it is in no statement and no log."""
    salt, rounds = salt or secrets.token_bytes(16), 4096
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${rounds}:{encoded[0]}${encoded[1]}:{encoded[2]}"


def apply(conn: Connection, passwords: Mapping[str, str] | None = None) -> None:
    """Make the logins, where passwords are given, and grant. The connection must be the owner's."""
    cursor = conn.connection.cursor()
    if passwords is not None:
        cursor.execute(logins(passwords))
    cursor.execute(grants())
