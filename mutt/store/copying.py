"""COPY's text format, a column at a time: what is done once for a column is not done once for each of its values."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Column, Connection, DateTime, Integer, SmallInteger, Table, Text, Uuid

#: One column's values as COPY's text.
Encoder = Callable[[Sequence[Any]], Iterable[str]]

_NULL = "\\N"
_READ_SIZE = 1 << 18  # bytes handed to libpq at a time


def plain(values: Sequence[UUID] | Sequence[datetime]) -> list[str]:
    # As JSON, all at once: a tenth of what str() or isoformat() take for each.
    return msgspec.json.encode(values)[2:-2].decode().split('","')


def numbers(values: Sequence[int]) -> Iterable[str]:
    return map(str, values)


def texts(values: Sequence[str]) -> list[str]:
    # Looking for a character is a search of memory, and most texts hold none of these.
    return [
        _escaped(text) if "\\" in text or "\t" in text or "\n" in text or "\r" in text else text
        for text in values
    ]


def or_null(encode: Encoder) -> Encoder:
    """The same for a column that may hold None."""

    def encoded(values: Sequence[Any]) -> list[str]:
        said = iter(encode([value for value in values if value is not None]))
        return [_NULL if value is None else next(said) for value in values]

    return encoded


def _escaped(text: str) -> str:
    # The backslash first: it is what the others become.
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


_ENCODERS: dict[type, Encoder] = {
    Uuid: plain,
    DateTime: plain,
    Integer: numbers,
    SmallInteger: numbers,
    Text: texts,
}


class Copy:
    """COPY into ``table``; ``columns`` names the values of a row, in their order."""

    def __init__(self, table: Table, columns: Sequence[str]) -> None:
        self._statement = f"COPY {table.name} ({', '.join(columns)}) FROM STDIN"
        self._encoders = [_encoder(table.c[name]) for name in columns]

    def lines(self, columns: Sequence[Sequence[Any]]) -> str:
        """What COPY is sent for rows that are given as their columns: a line each, in the order given."""
        encoded = [encode(column) for encode, column in zip(self._encoders, columns, strict=True)]
        return "\n".join([*map("\t".join, zip(*encoded, strict=True)), ""])

    def write(self, conn: Connection, columns: Sequence[Sequence[Any]]) -> None:
        """Append rows, of which there is at least one. What PostgreSQL raises passes through."""
        blob = self.lines(columns).encode()
        with contextlib.closing(conn.connection.cursor()) as cursor:
            cursor.copy_expert(self._statement, io.BytesIO(blob), _READ_SIZE)


def _encoder(column: Column[Any]) -> Encoder:
    encode = _ENCODERS[type(column.type)]
    return or_null(encode) if column.nullable else encode
