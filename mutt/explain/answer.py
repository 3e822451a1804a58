"""The first sentence of an explanation: why did this not alert? Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mutt.alert import RELEASED
from mutt.event import Event, State
from mutt.explain.facts import AlertStory, Counted, Place
from mutt.rules.rule import META, UNHANDLED, Handling
from mutt.rules.trace import Trace
from mutt.words import many, span

#: Why an alert was kept from Moog, by the word before a colon in its reason.
HELD = {
    "maintenance": "maintenance window {} was open for it",
    "threshold": "there were fewer events of its kind than the rule's threshold asks for",
    "dedup": "it repeats an alert that went out shortly before; the rule counts such repeats",
    "storm": "it was part of a storm, of which Moog got one summary (policy {})",
    "flapping": "its signature flaps between raise and clear",
    "cleared": "its clear came before it was sent",
}


def held(reason: str) -> str:
    """What held an alert back, as part of a sentence; empty where the reason is none of noise control."""
    word, _, which = reason.partition(":")
    return HELD[word].format(which) if word in HELD else ""


def of_alert(row: Any, place: Place | None, attempts: int) -> str:
    """What became of one alert. ``row`` has the columns of ``alerts``."""
    said = _of_alert(row, place, attempts)
    return f"{said} It had been held back, and was released." if row.held == RELEASED else said


def _of_alert(row: Any, place: Place | None, attempts: int) -> str:
    what = "The clear" if row.state == State.CLEAR else "The alert"
    if row.status == "delivered":
        at = f" at {row.delivered_at:%Y-%m-%d %H:%M:%S} UTC" if row.delivered_at else ""
        return f"{what} was delivered: Moog took it{at}, with attempt {max(1, row.attempts)}."
    if row.status == "cancelled":
        why = held(row.reason) or row.reason or "no reason is kept"
        return f"{what} was held back and not sent: {why}."
    if row.status == "dropped":
        return f"{what} was given up by hand: {row.reason or 'no reason is kept'}."
    if row.status == "parked":
        why = " ".join(str(one) for one in (row.moog_status, row.reason) if one) or "no reason is kept"
        return f"{what} is a dead letter and was not delivered: {why}."
    tried = f", after {many(attempts, 'attempt')}" if attempts else ""
    return f"{what} waits{tried}. {place.says if place else ''}".strip()


def of_event(
    event: Event, row: Any, then: Trace | None, alerts: Sequence[AlertStory], counted: Counted | None
) -> str:
    """What became of an audited event. ``row`` has the columns of ``event_audit_log``."""
    own = [one for one in alerts if one.event_id == str(event.event_id)]
    if own:
        return _alerted(event, own[0])
    rule = _rule(row, then)
    if row.handling == UNHANDLED:
        return f"It did not alert because no rule matched{_kind(counted)}."
    if event.state is State.CLEAR:
        return (
            f"It did not alert because it reports the end of a fault ({rule}), and no open alert was found "
            "that it ends."
        )
    if row.handling == Handling.IGNORE:
        environment = f"; {then.environment_why}" if then else ""
        return f"It did not alert because {rule} has it ignored{environment}."
    if row.handling == META:
        return "MUTT raised it itself, and no alert of it is kept any more."
    return f"It was to alert ({row.handling}, by {rule}), and no alert of it is kept: somebody deleted it."


def _alerted(event: Event, alert: AlertStory) -> str:
    did = "It did alert." if alert.status == "delivered" else "It did not reach Moog."
    if alert.status == "waiting":
        did = "It has not reached Moog yet."
    elif event.state is State.CLEAR and alert.status == "delivered":
        did = "It ended an alert."
    return f"{did} {alert.answer}"


def _rule(row: Any, then: Trace | None) -> str:
    decides = then.deciding if then else None
    if row.matched_rule_id is None:
        return "no rule"
    if decides is None or decides.rule_id != row.matched_rule_id:
        return f"rule {row.matched_rule_id}"
    return f"rule {decides.rule_id} {decides.name}"


def _kind(counted: Counted | None) -> str:
    if counted is None:
        return ""
    window = span(counted.window_s)
    if counted.count is None:
        return f"; {counted.threshold} events of its kind within {window} would have made one alert of MUTT's own"
    if counted.count >= counted.threshold:
        return (
            f"; of its kind {counted.count} came within {window}, for which MUTT raised one alert of its own"
        )
    came = f"{counted.count} of the {counted.threshold}"
    return f"; of its kind {came} came that within {window} make one alert of MUTT's own"


def changed(row: Any, now: Trace | None) -> str:
    """What today's rules would do otherwise; empty: the same."""
    if now is None:
        return ""
    verdict = now.verdict
    if (verdict.rule_id, verdict.handling, verdict.team) == (row.matched_rule_id, row.handling, row.team):
        return ""
    by = "no rule" if verdict.rule_id is None else f"rule {verdict.rule_id}"
    return f"Today {by} would decide: {verdict.handling}, team {verdict.team or 'none'}."
