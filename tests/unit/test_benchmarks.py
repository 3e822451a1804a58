"""The benchmark's books: figures, ratios, the saved table and what is said of it, and the steps that are found."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import STEPS, main, measure
from benchmarks.bench import Bench, Step
from benchmarks.compare import BEYOND, UNKNOWN, absolutes, comparison, ratios, read, save
from benchmarks.figures import LIST_AND_ROW, MUTT, Figure, Ratio
from benchmarks.report import Report, line
from benchmarks.site import Failed

MACHINE = {"cpu": "a CPU", "cores": 2, "memory_gib": 8.0, "load_before": 0.3}


def _report(*figures: Figure, **machine: object) -> Report:
    report = Report({**MACHINE, **machine}, {"mutt": "1"}, {"quick": False, "sizes": [1, 500]})
    for figure in figures:
        report.add(figure)
    return report


def _rates(*runs: float, name: str = "end to end x500", subject: str = MUTT) -> Figure:
    return Figure(name, subject, "events/s", list(runs))


def _baseline(*runs: float, variant: str = "") -> Figure:
    return _rates(*runs, name="end to end single", subject=LIST_AND_ROW + variant)


def test_a_ratio_is_of_the_medians_and_spans_what_the_runs_allow() -> None:
    assert Ratio.of([20, 30, 28], [2, 1, 4]) == Ratio(14.0, 5.0, 30.0)


def test_what_goes_from_end_to_end_is_compared_with_single_posts_of_the_best_variant_of_a_baseline() -> None:
    report = _report(
        _baseline(2, variant=", 1 consumer"), _baseline(4, variant=", 2 consumers"), _rates(40, 60)
    )
    assert report.figures[-1].times == {LIST_AND_ROW: Ratio(12.5, 10.0, 15.0)}


def test_a_figure_of_another_unit_is_compared_with_nothing_by_itself() -> None:
    latency = Figure("end to end single", MUTT, "ms", [3.0])
    assert _report(_baseline(2), latency).figures[-1] == latency


def test_a_line_says_value_ratio_share_spread_goal_and_who_else_was_busy() -> None:
    figure = Figure("it", MUTT, "events/s", [500, 600, 700], goal="20x that", others=0.5)
    figure = figure.as_times(Figure("that", "", "events/s", [30]))
    figure = figure.as_share(Figure("the ceiling", "", "rows/s", [1200]))
    said = "600 events/s  20.0x that  50 % of the ceiling  [500 .. 700]  (goal: 20x that)  (0.5 cores busy elsewhere)"
    assert line(figure).split(maxsplit=1) == ["it", said]


def test_the_table_has_a_row_for_each_figure_with_its_costs() -> None:
    figure = Figure("it", MUTT, "ms", [1.5], cpu={"ingest": 12.34}, memory={"redis": 20.4}, note="so")
    (row,) = [row for row in _report(figure).to_markdown().splitlines() if row.startswith("| it ")]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        *("it", "1.5", "", "ms", "", "", "ingest 12.3", "redis 20", "0.0", "so")
    ]


def test_what_is_saved_is_read_back_and_stands_beside_it_as_a_table(tmp_path: Path) -> None:
    report = _report(_baseline(2, 3), _rates(40, 60))
    save(report, tmp_path / "new" / "saved.json")
    assert read(tmp_path / "new" / "saved.json") == report
    assert (tmp_path / "new" / "saved.md").read_text() == report.to_markdown()


def test_a_file_of_something_else_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"figures": 7}')
    with pytest.raises(ValueError, match=r"other\.json holds no figures of this benchmark"):
        read(tmp_path / "other.json")


@pytest.mark.parametrize(
    ("now", "saved", "remark"),
    [
        ((10, 12), (11, 13), ""),
        ((10, 12), (12, 13), ""),
        ((10, 12), (13, 14), BEYOND),
        ((13, 14), (10, 12), BEYOND),
        ((10,), (13, 14), UNKNOWN),
        ((10, 12), (13,), UNKNOWN),
    ],
)
def test_only_what_lies_apart_differs_by_more_than_the_spread(
    now: tuple[float, ...], saved: tuple[float, ...], remark: str
) -> None:
    (pair,) = absolutes(_report(_rates(*now)), _report(_rates(*saved)))
    assert pair.remark == remark


def test_ratios_come_before_absolute_figures_and_each_stands_beside_the_saved_one() -> None:
    now, saved = _report(_baseline(2, 2), _rates(40, 60)), _report(_baseline(1, 1), _rates(40, 60))
    (ratio,) = ratios(now, saved)
    assert (ratio.now.value, ratio.saved.value, ratio.change) == (25.0, 50.0, -0.5)
    lines = comparison(now, saved).splitlines()
    assert [text.split("  ")[1] for text in lines if text.startswith("  ")] == [
        "end to end x500 : list-and-row",
        "end to end single, list-and-row",
        "end to end x500",
    ]
    assert lines[1].endswith(f"-50%  {BEYOND}")


def test_absolute_figures_of_another_machine_are_said_to_mean_little() -> None:
    said = comparison(_report(_rates(1)), _report(_rates(1), cores=4, load_before=0.9))
    assert "another machine (cores 2 (saved: 4)), so they say little" in said
    assert "the same kind of machine" in comparison(_report(_rates(1)), _report(_rates(1), load_before=0.9))


def test_what_only_one_of_both_has_is_named() -> None:
    said = comparison(_report(_rates(1, name="new")), _report(_rates(1, name="old")))
    assert "Not in the saved table: new." in said
    assert "Saved, and not measured now: old." in said
    many = [_rates(1, name=f"old {number}") for number in range(9)]
    assert "Saved, and not measured now: 9 figures." in comparison(_report(), _report(*many))


def test_settings_and_versions_that_differ_are_named() -> None:
    now, saved = _report(), _report()
    saved.settings["quick"], saved.versions["mutt"] = True, "0"
    said = comparison(now, saved)
    assert "Settings that differ: quick False (saved: True)." in said
    assert "Versions that differ: mutt 1 (saved: 0)." in said


def test_a_step_that_fails_is_named_and_the_others_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    ran: list[str] = []

    def fails(_bench: Bench) -> None:
        raise Failed("3 rows of 4 events")

    steps = {"first": Step(fails, 1), "second": Step(lambda _bench: ran.append("second"), 2)}
    assert measure(None, steps) == ["first"]
    assert ran == ["second"]
    assert capsys.readouterr().err == "first: 3 rows of 4 events\n"


@pytest.mark.parametrize("option", ["--save", "--compare"])
def test_a_step_behind_an_option_that_may_name_a_file_is_not_taken_for_one(option: str) -> None:
    done = CliRunner().invoke(main, [option, "latency"])
    assert done.exit_code == 2
    assert f"put {option} behind the steps" in done.output


def test_comparing_with_a_file_that_is_not_there_is_said_before_anything_is_measured(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, [f"--compare={tmp_path / 'none.json'}"])
    assert done.exit_code == 2
    assert "No such file or directory; --save writes one" in done.output


def test_every_step_says_in_one_line_what_it_measures() -> None:
    for name, step in STEPS.items():
        about = (sys.modules[step.run.__module__].__doc__ or "").split("\n")[0]
        assert about.endswith("."), name
        assert about in CliRunner().invoke(main, ["--help"], terminal_width=200).output
