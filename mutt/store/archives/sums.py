"""Sums: how many rows, and the sum of their hashes: PostgreSQL's rows and a file's are the same ones if both agree.

A row's hash is the low half of the MD5 of its values; the sum knows no order. It finds damage and what is missing, not
somebody who means to deceive: that is what the SHA-256 of a file is for.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection, text

from mutt.store.audit import AuditRow

if TYPE_CHECKING:
    import duckdb

_OPTIONAL = ("severity", "matched_rule_id", "team", "context")
_TIMES = ("received_at", "occurred_at")


class Sums(NamedTuple):
    """What is compared."""

    rows: int
    hashes: int  #: modulo 2**64

    def __add__(self, other: Sums) -> Sums:  # type: ignore[override]
        return Sums(self.rows + other.rows, (self.hashes + other.hashes) % 2**64)

    @property
    def checksum(self) -> str:
        """The sum of the hashes as a manifest has it."""
        return f"{self.hashes:016x}"


NOTHING = Sums(0, 0)


def _value(name: str, micros: str) -> str:
    if name in _TIMES:
        return micros.format(name)
    return f"coalesce('v' || {name}::text, 'n')" if name in _OPTIONAL else f"{name}::text"


def _row(micros: str) -> str:
    values = ", ".join(_value(name, micros) for name in AuditRow._fields)
    return f"right(md5(concat_ws(chr(31), {values})), 16)"


_POSTGRES = (
    "count(*), coalesce(sum(('x' || "
    + _row("(extract(epoch FROM {}) * 1000000)::bigint::text")
    + ")::bit(64)::bigint), 0)"
)
_DUCK = "count(*), coalesce(sum(('0x' || " + _row("epoch_us({})::text") + ")::UBIGINT), 0)"


def of_table(conn: Connection, start: datetime, end: datetime) -> Sums:
    """Of the audit's rows from ``start`` up to, not including, ``end``."""
    query = f"SELECT {_POSTGRES} FROM event_audit_log WHERE received_at >= :start AND received_at < :end"  # noqa: S608
    rows, hashes = conn.execute(text(query), {"start": start, "end": end}).one()
    return Sums(rows, int(hashes) % 2**64)


def of_query(conn: duckdb.DuckDBPyConnection, query: str, given: list[object]) -> Sums:
    """Of what DuckDB answers to a query for whole rows."""
    # All of it: an answer that is not read to its end keeps the connection from the next question.
    [found] = conn.execute(f"SELECT {_DUCK} FROM ({query})", given).fetchall()  # noqa: S608
    return Sums(found[0], int(found[1]) % 2**64)
