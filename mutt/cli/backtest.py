"""``mutt rules backtest``: a draft of the rules over the stored past, here and now."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from mutt.backtest.draft import Draft
from mutt.backtest.run import NOW, THEN, Question, Stopped, Watch, run
from mutt.backtest.tally import Peak, Result
from mutt.cli.common import services, table
from mutt.cli.outages import spoken
from mutt.errors import SettingsError
from mutt.rules.book import items_of
from mutt.settings import span
from mutt.store import rulebook
from mutt.store.engine import transaction
from mutt.words import many

#: Kinds of change that are shown.
SHOWN = 20


@click.command()
@click.argument("file", type=click.File("rb"), required=False)
@click.option("--rule", "rule_id", type=int, help="In place of FILE: this rule, as it stands or with --set.")
@click.option(
    "--set", "changes", multiple=True, metavar="FIELD=VALUE", help="A field of --rule, as it would be."
)
@click.option("--replace", is_flag=True, help="Without the rules that FILE does not name.")
@click.option(
    "--since", default="7d", show_default=True, help="A span before the end (90s, 24h, 7d), or a time."
)
@click.option(
    "--until", help="The end: a span before now, or a time such as 2026-03-04T09:30Z.  [default: now]"
)
@click.option("--host", default="", help="Only events of these: a name, a glob or a network.")
@click.option(
    "--then", is_flag=True, help="Compare with what was decided then, not with the rules as they are now."
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@spoken()
def backtest(
    file: BinaryIO | None,
    rule_id: int | None,
    changes: tuple[str, ...],
    replace: bool,
    since: str,
    until: str | None,
    host: str,
    then: bool,
    as_json: bool,
) -> None:
    """What would a draft of the rules have made of the stored events? Nothing is changed. Ctrl-C cancels.

    FILE holds rules, YAML or JSON, that are known by their names, as `import` knows them. A rule that is tried as it
    stands is compared with what was decided then.
    """
    draft = _draft(file, rule_id, changes, replace)
    now = datetime.now(UTC)
    end = _time("--until", until, now) if until else now
    baseline = THEN if then or (rule_id is not None and not changes) else NOW
    question = Question(draft, _time("--since", since, end), end, host, baseline)
    question.check()
    told = _run(question)
    if as_json:
        click.echo(msgspec.json.encode(told))
    else:
        _show(told)


def _draft(file: BinaryIO | None, rule_id: int | None, changes: Sequence[str], replace: bool) -> Draft:
    if (file is None) is (rule_id is None):
        raise click.UsageError("give a FILE of rules, or --rule ID")
    if file is not None:
        if changes:
            raise click.UsageError("--set changes a field of --rule; a FILE says it itself")
        return Draft.of_file(items_of(file.name, file.read()), replace=replace)
    assert rule_id is not None
    with transaction(services().engine) as conn:
        rule = rulebook.get_rule(conn, rule_id)
    if rule is None:
        raise click.UsageError(f"there is no rule {rule_id}")
    fields = msgspec.to_builtins(rule)
    return Draft.of_rule({**fields, **_changes(changes)}, rule_id)


def _changes(changes: Sequence[str]) -> Mapping[str, str]:
    found = {}
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise click.UsageError(f"--set {change}: write FIELD=VALUE")
        found[name] = value
    return found


def _time(option: str, given: str, end: datetime) -> datetime:
    """A span before ``end``, or a time of its own; one without a zone is in UTC."""
    try:
        return end - timedelta(seconds=span()(option, given))
    except (SettingsError, OverflowError):
        pass
    try:
        found = datetime.fromisoformat(given)
    except ValueError:
        raise click.UsageError(
            f"{option} {given}: write a span such as 7d, or a time such as 2026-03-04T09:30Z"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _run(question: Question) -> Result:
    """In a thread, so that Ctrl-C is heard while PostgreSQL searches; it says how far it is."""
    s, watch, ended, over = services(), Watch(), list[Result | BaseException](), threading.Event()

    def work() -> None:
        try:
            ended.append(run(question, s.settings, s.engine, s.read_engine, watch))
        except BaseException as error:  # noqa: BLE001 it is raised where it is waited for
            ended.append(error)
        finally:
            over.set()

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as line:
        task = line.add_task("", total=1.0)
        threading.Thread(target=work, name="backtest", daemon=True).start()
        while not over.is_set():
            try:
                over.wait(0.2)
            except KeyboardInterrupt:
                watch.stop()
            events, estimate, share, rate = watch.progress
            line.update(task, completed=share, description=f"{events:,} of about {estimate:,}, {rate:,.0f}/s")
    (result,) = ended
    if isinstance(result, Stopped):
        click.echo("cancelled", err=True)
        sys.exit(130)
    if isinstance(result, BaseException):
        raise result
    return result


def _show(told: Result) -> None:
    click.echo(
        f"{many(told.events, 'event')}: {told.matched:,} matched by the draft ({told.matched_before:,} before), "
        f"{told.newly:,} newly, {told.no_longer:,} no longer, {told.changed:,} decided otherwise"
    )
    if told.note:
        click.echo(told.note)
    if told.bare:
        click.echo(f"{many(told.bare, 'event')} without more than host, severity, source and message")
    rows: list[tuple[Any, ...]] = [
        (
            "with the draft",
            told.new_alerts,
            told.new_requests,
            _peak(told.new_peak_hour),
            _peak(told.new_peak_minute),
        ),
        (
            "without",
            told.old_alerts,
            told.old_requests,
            _peak(told.old_peak_hour),
            _peak(told.old_peak_minute),
        ),
    ]
    table("", ["", "alerts", "requests", "peak hour", "peak minute"], rows, numbers=(1, 2))
    if told.changes:
        table(
            "",
            ["events", "was", "becomes", "for example"],
            [
                (
                    change.events,
                    _decision(told, change.old),
                    _decision(told, change.new),
                    escape(f"{change.samples[0].hostname}: {change.samples[0].message[:60]}"),
                )
                for change in told.changes[:SHOWN]
            ],
            numbers=(0,),
        )


def _decision(told: Result, kind: Any) -> str:
    if kind.rule_id is None:
        return escape(kind.handling)
    return escape(f"{told.names.get(kind.rule_id, kind.rule_id)}: {kind.handling}, {kind.team}")


def _peak(peak: Peak) -> str:
    return f"{peak.requests:,} of {peak.budget:,.0f}"
