"""Tables of the shell fit their terminal."""

from __future__ import annotations

import pytest

from mutt.cli.common import table


def test_a_column_that_is_whole_is_not_folded_for_one_that_can_be(capsys: pytest.CaptureFixture[str]) -> None:
    line = "▁▂▃▄▅▆▇█▇▆▅▄"
    table("", ["name", "last hour"], [("n" * 200, line)], whole=[1])
    printed = capsys.readouterr().out.splitlines()
    assert any(line in row for row in printed)
    assert sum(row.count("n") for row in printed[1:]) == 200, "the other is folded, not cut"
