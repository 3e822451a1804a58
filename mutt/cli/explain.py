"""``mutt explain``: what became of one event, and why it did not alert."""

from __future__ import annotations

import sys

import click
import orjson
from rich.markup import escape

from mutt.cli.common import console, services, table
from mutt.cli.outages import spoken
from mutt.explain.facts import AlertStory, Explanation
from mutt.explain.gather import Explainer
from mutt.rules.trace import Trace
from mutt.words import age, printable, span


@click.command()
@click.argument("event_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
@spoken()
def explain(event_id: str, as_json: bool) -> None:
    """Say what became of the event ID: "Why did this not alert?" in the first sentence.

    ID is the event's UUID, or the id that its sender gave it. Exit 1 if no such event is known.
    """
    found = Explainer(services()).event(event_id)
    if as_json:
        click.echo(orjson.dumps(found.as_json(), option=orjson.OPT_INDENT_2))
    else:
        _print(found)
    sys.exit(1 if found.found == "nowhere" else 0)


def _print(found: Explanation) -> None:
    _say(f"[bold]{_safe(found.answer)}[/]")
    for note in found.notes:
        _say(f"[yellow]Mind:[/] {_safe(note)}")
    if found.row:
        row = found.row
        by = "no rule" if row.rule_id is None else f"rule {row.rule_id}"
        _say(
            f"\nAudited at {row.received_at:%Y-%m-%d %H:%M:%S} UTC: {_safe(row.handling)} by {by}, "
            f"team {_safe(row.team or 'none')}, rules version {row.ruleset_version}."
        )
    if found.others:
        times = ", ".join(f"{row.received_at:%Y-%m-%d %H:%M:%S}" for row in found.others)
        _say(f"The same id was audited also at {times} UTC.")
    if found.fields:
        _say("")
        table(
            "how it was read",
            ["field", "value", ""],
            [_row(*(one.name, one.value, one.note)) for one in found.fields],
        )
    if found.kept:
        _say(_safe(found.kept))
    if found.then:
        _trace("the rules that judged it", found.then)
    if found.now and (found.then is None or found.changed):
        _trace(found.changed or "today's rules", found.now)
    if found.counted and found.counted.count is not None:
        counted = found.counted
        _say(
            f"\n{counted.count} of {counted.threshold} unhandled events of its kind; the window of "
            f"{span(counted.window_s)} ends in {age(counted.left_s)}: {_safe(counted.template)}"
        )
    for alert in found.alerts:
        _alert(alert)


def _trace(title: str, trace: Trace) -> None:
    _say("")
    rows = [
        _row(f"{one.rule_id} {one.name}", str(one.priority), "decides" if one.decides else "", one.why)
        for one in trace.tried
    ]
    table(f"{title} (version {trace.ruleset_version})", ["rule", "priority", "", "why"], rows, numbers=[1])
    _say(
        f"{trace.asked} of {trace.in_force} rules in force were asked, {trace.untold} are not shown. "
        f"{_safe(trace.environment_why)}; {_safe(trace.team_why)}."
    )


def _alert(alert: AlertStory) -> None:
    _say(f"\nAlert {alert.alert_id}: {_safe(alert.answer)}")
    _say(f"  lane {alert.lane}, severity {alert.severity}, signature {_safe(alert.signature)}")
    if alert.cleared_by:
        _say(f"  ended by alert {alert.cleared_by}")
    if alert.attempts:
        rows = [
            _row(str(one.attempt), f"{one.at:%Y-%m-%d %H:%M:%S}", one.kind, one.reason, str(one.moog_status or ""),
                 one.answer[:80])
            for one in alert.attempts
        ]  # fmt: skip
        table(
            "attempts at Moog", ["#", "at (UTC)", "came to", "reason", "status", "answer"], rows, numbers=[0]
        )


def _say(text: str) -> None:
    console.print(text, soft_wrap=True)


def _safe(text: str) -> str:
    return escape(printable(text))


def _row(*cells: str) -> list[str]:
    return [_safe(cell) for cell in cells]
