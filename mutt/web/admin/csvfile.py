"""Lists as CSV, for spreadsheets: out without giving them anything to run, and in again as it was."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from flask import Response

from mutt.errors import Refused

#: Rows that a file may have.
ROWS_MAX = 20_000

#: What a spreadsheet takes for a formula, or what we have put before one.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_DEFUSED = re.compile(r"'+[=+\-@\t\r\n＝＋－＠]")


class Line(NamedTuple):
    """A row of a file: the line it begins on, and its cells by their column."""

    number: int
    cells: dict[str, str]


def defused(value: object) -> str:
    """A cell that no spreadsheet takes for a formula: it begins with an apostrophe where it could be one."""
    text = "" if value is None else str(value)
    return "'" + text if _FORMULA.match(text) else text


def restored(text: str) -> str:
    """What :func:`defused` was given."""
    return text[1:] if _DEFUSED.match(text) else text


def write(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """The file: a line of columns, and a line each row."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows([defused(row.get(column)) for column in columns] for row in rows)
    return out.getvalue()


def download(name: str, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> Response:
    """The same as an answer that the browser saves as ``name``."""
    return Response(
        # With the mark by which spreadsheets know UTF-8.
        ("\ufeff" + write(columns, rows)).encode("utf-8", "replace"),
        mimetype="text/csv",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def read(body: bytes, columns: Sequence[str], needed: Sequence[str]) -> list[Line]:
    """The rows of a file, whose first line names some of ``columns``. Raises :class:`Refused`.

    Commas, semicolons or tabs part its cells, by what stands in the first line; empty lines are left out.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused("file", f"is no UTF-8 at byte {error.start}; save it as “CSV UTF-8”") from None
    if "\0" in text:
        raise Refused("file", "holds NUL bytes: it is no CSV; save it as “CSV UTF-8”")
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines: list[Line] = []
    try:
        names = [name.strip() for name in next(reader, [])]
        _check_names(names, columns, needed)
        begun = reader.line_num + 1
        for cells in reader:
            if any(cells):
                if len(cells) > len(names):
                    raise Refused("file", f"line {begun} has {len(cells)} cells for {len(names)} columns")
                whole = [*map(restored, cells), *[""] * (len(names) - len(cells))]
                lines.append(Line(begun, dict(zip(names, whole, strict=True))))
            if len(lines) > ROWS_MAX:
                raise Refused("file", f"has more than {ROWS_MAX:,} rows; cut it in two")
            begun = reader.line_num + 1
    except csv.Error as error:
        raise Refused("file", f"line {reader.line_num} is no CSV: {error}") from None
    return lines


def _check_names(names: Sequence[str], columns: Sequence[str], needed: Sequence[str]) -> None:
    if not any(names):
        raise Refused("file", f"is empty; its first line names columns: {', '.join(columns)}")
    for name in names:
        if name not in columns:
            raise Refused("file", f"names a column {name[:60]!r}; there are {', '.join(columns)}")
        if names.count(name) > 1:
            raise Refused("file", f"names the column {name} twice")
    if lacking := [name for name in needed if name not in names]:
        raise Refused("file", f"lacks the column {', '.join(lacking)}")
