"""The command: ``python -m benchmarks [STEP…] [--quick] [--save] [--compare] [--json FILE] [--markdown FILE]``."""

from __future__ import annotations

import dataclasses
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import click
import msgspec

from benchmarks import compare, steps
from benchmarks.bench import QUICK, Bench, Plan, Step
from benchmarks.load import Loader
from benchmarks.machine import machine, versions
from benchmarks.report import Report
from benchmarks.site import Failed, Site, private_site

STEPS = steps.found()


def _help() -> str:
    about = {
        name: (sys.modules[step.run.__module__].__doc__ or "").split("\n")[0] for name, step in STEPS.items()
    }
    lines = [f"  {name:14} {text}" for name, text in about.items()]
    quick = ", ".join(name for name, step in STEPS.items() if step.quick)
    apart = ", ".join(name for name, step in STEPS.items() if step.only_named)
    named = f"; all but {apart}, which take long," if apart else "; all of them"
    return (
        "Measure MUTT against a list-and-row design and plain Celery, on servers of its own.\n\n"
        "\b\nSTEP is one of\n" + "\n".join(lines) + f"\n\nThey run in this order{named} if none is named "
        f"(with --quick: {quick})."
    )


def _file(_context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    """A file's name may be left out, and then what comes next would pass for it."""
    if path and str(path) in STEPS:
        name = option.opts[0]
        raise click.BadParameter(f"put {name} behind the steps, or write {name}=FILE")
    return path


def _saved(context: click.Context, option: click.Parameter, path: Path | None) -> Report | None:
    """Read before anything is measured, and before --save replaces it."""
    try:
        return compare.read(path) if _file(context, option, path) and path else None
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}; --save writes one") from error
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(help=_help())
@click.argument("chosen", nargs=-1, type=click.Choice(list(STEPS)), metavar="[STEP…]")
@click.option("--quick", is_flag=True, help="The figures that matter most, short runs: within a minute.")
@click.option(
    "--pool", default="", help="The workers' pool (prefork, solo, threads); as `mutt up` has it if not given."
)
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1), help="Evaluating workers.")
@click.option(
    "--stored",
    default=Plan.stored,
    show_default=True,
    type=click.IntRange(100_000),
    help="Rows that growth stores.",
)
@click.option(
    "--soak-seconds",
    default=Plan.soak_seconds,
    show_default=True,
    type=click.FloatRange(30),
    help="How long soak sends.",
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write every run of every figure there."
)
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path), help="Write the table there.")
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    is_flag=False,
    flag_value=str(compare.SAVED),
    callback=_file,
    help="Write it for later comparisons (the table beside it): to the release's own file if none is named.",
)
@click.option(
    "--compare",
    "saved",
    type=click.Path(path_type=Path),
    is_flag=False,
    flag_value=str(compare.SAVED),
    callback=_saved,
    help="Print each figure beside the saved one; the release's if no file is named.",
)
def main(
    chosen: tuple[str, ...],
    quick: bool,
    pool: str,
    workers: int,
    stored: int,
    soak_seconds: float,
    json_file: Path | None,
    markdown_file: Path | None,
    save: Path | None,
    saved: Report | None,
) -> None:
    plan = dataclasses.replace(
        QUICK if quick else Plan(), pool=pool, alerts=workers, stored=stored, soak_seconds=soak_seconds
    )
    began = time.monotonic()
    # Asked to end, it leaves no servers and no files behind.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    with private_site() as site, Loader() as loader:
        report = _report(site, plan)
        failed = measure(Bench(site, loader, report, plan), _chosen(chosen, quick))
    print(f"took {time.monotonic() - began:.0f} s")
    for file, text in ((json_file, report.to_json()), (markdown_file, report.to_markdown().encode())):
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text)
    if saved:
        print(f"\n{compare.comparison(report, saved)}")
    if failed:
        print(f"not measured: {', '.join(failed)}{'; nothing is saved' if save else ''}", file=sys.stderr)
        sys.exit(1)
    if save:
        compare.save(report, save)


def measure(bench: Bench, chosen: Mapping[str, Step]) -> list[str]:
    """The names of the steps that failed: what the others found is worth having."""
    failed = []
    for name, step in chosen.items():
        try:
            step.run(bench)
        except Failed as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed.append(name)
    return failed


def _chosen(named: tuple[str, ...], quick: bool) -> dict[str, Step]:
    """The named steps, else those of the run, in their order."""
    if named:
        return {name: step for name, step in STEPS.items() if name in named}
    return {name: step for name, step in STEPS.items() if not step.only_named and (step.quick or not quick)}


def _report(site: Site, plan: Plan) -> Report:
    settings = {**dataclasses.asdict(plan), **_durability(site)}
    # As a file gives them back, to be compared with one: JSON has no tuples.
    settings = msgspec.json.decode(msgspec.json.encode(settings))
    report = Report(machine(site.directory), versions(site.redis_url, site.database_url), settings)
    where = report.machine
    print(
        f"{where['cores']} cores, {where['cpu']}, fdatasync {where['fdatasync_us']} µs, load {where['load_before']}"
    )
    return report


def _durability(site: Site) -> dict[str, str]:
    found = {name: str(site.ask(f"SHOW {name}")[0][0]) for name in ("fsync", "synchronous_commit")}
    return {**found, "appendonly": "yes", "appendfsync": "always", "rules": "100"}


if __name__ == "__main__":
    main()
