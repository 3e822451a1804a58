"""The command: ``python -m benchmarks [--quick] [STEP…] [--json FILE] [--markdown FILE]``."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path

import click

from benchmarks import steps, subjects
from benchmarks.figures import Report
from benchmarks.load import Loader
from benchmarks.machine import machine, versions
from benchmarks.runs import alive
from benchmarks.site import Failed, Site, private_site
from benchmarks.steps import QUICK, Bench, Plan

STEPS = ("ingest", "evaluate", "audit", "end-to-end", "latency")
QUICK_STEPS = ("end-to-end", "latency")


@click.command()
@click.argument("chosen", nargs=-1, type=click.Choice(STEPS), metavar="[STEP…]")
@click.option("--quick", is_flag=True, help="The figures that matter most, short runs: within a minute.")
@click.option(
    "--pool", default="", help="The workers' pool (prefork, solo, threads); as `mutt up` has it if not given."
)
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1), help="Evaluating workers.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write every run of every figure there."
)
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path), help="Write the table there.")
def main(
    chosen: tuple[str, ...],
    quick: bool,
    pool: str,
    workers: int,
    json_file: Path | None,
    markdown_file: Path | None,
) -> None:
    """Measure MUTT against a list-and-row design and plain Celery, on servers of its own.

    STEP: ingest, evaluate, audit, end-to-end, latency. All of them if none is named (with --quick: the last two).
    """
    plan = dataclasses.replace(QUICK if quick else Plan(), pool=pool, alerts=workers)
    names = set(chosen or (QUICK_STEPS if quick else STEPS))
    began = time.monotonic()
    try:
        with private_site() as site, Loader() as loader:
            report = _report(site, plan, quick)
            measure(Bench(site, loader, report, plan), names)
    except Failed as error:
        print(f"not measured: {error}", file=sys.stderr)
        sys.exit(1)
    print(f"took {time.monotonic() - began:.0f} s")
    for file, text in ((json_file, report.to_json()), (markdown_file, report.to_markdown().encode())):
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text)


def _report(site: Site, plan: Plan, quick: bool) -> Report:
    settings = {"quick": quick, **dataclasses.asdict(plan), **_durability(site)}
    report = Report(machine(site.directory), versions(site.redis_url, site.database_url), settings)
    where = report.machine
    print(
        f"{where['cores']} cores, {where['cpu']}, fdatasync {where['fdatasync_us']} µs, load {where['load_before']}"
    )
    return report


def _durability(site: Site) -> dict[str, str]:
    found = {name: str(site.ask(f"SHOW {name}")[0][0]) for name in ("fsync", "synchronous_commit")}
    return {**found, "appendonly": "yes", "appendfsync": "always", "rules": "100"}


def measure(bench: Bench, names: set[str]) -> None:
    """Carry out the steps of these names."""
    if "ingest" in names:
        steps.ingest(bench)
    if "evaluate" in names:
        steps.rules(bench)
    if "audit" in names:
        steps.audit(bench)
    if "end-to-end" in names:
        steps.baselines(bench)
    if names & {"end-to-end", "latency"}:
        subject = subjects.mutt_itself(bench.site, alerts=bench.plan.alerts, pool=bench.plan.pool)
        with alive(bench.site, bench.loader, subject) as running:
            if "end-to-end" in names:
                steps.end_to_end(bench, running)
            if "latency" in names:
                steps.latency(bench, running)


if __name__ == "__main__":
    main()
