"""Tables of the shell fit their terminal."""

from __future__ import annotations

import pytest

from mutt.cli.common import table


def test_a_column_that_is_whole_is_not_folded_for_those_that_can_be(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = "▁▂▃▄▅▆▇█▇▆▅▄"
    table("", ["n"] * 7 + ["last hour"], [("n" * 20,) * 7 + (line,)], whole=[7])
    _, *rows = capsys.readouterr().out.splitlines()
    assert any(line in row for row in rows)
    assert sum(row.count("n") for row in rows) == 7 * 20, "the others are folded, not cut"
