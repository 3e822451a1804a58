"""Remedies: what each reason means, and what to do about it. Pure."""

from __future__ import annotations

from typing import NamedTuple

from mutt.streams.letters import Letter


class Remedy(NamedTuple):
    """Two sentences for people."""

    means: str
    do: str


_MEND_AND_REPLAY = "Mend the cause, try it, and replay."

OF_EVENTS = {
    "refused by PostgreSQL": Remedy(
        "PostgreSQL refuses what this event holds, and took an ordinary one right after.",
        "Its words are below: edit a copy without what it refuses.",
    ),
    "evaluation failed": Remedy(
        "Evaluating this event failed: a fault in MUTT, not in the event.",
        "Report the traceback; replay it with a MUTT that mends it.",
    ),
    "undecodable": Remedy(
        "This entry can't be read: another version of MUTT wrote it, or it is damaged.",
        "Replay it once workers of the version that wrote it run, or drop it.",
    ),
    "killed its worker": Remedy(
        "Two workers died while they worked this event alone, or while they opened its entry.",
        "Edit a copy without what kills, or drop it; a replay costs workers again.",
    ),
}

OF_ALERTS = {
    "refused": Remedy(
        "Moog refused this alert and took others.",
        "Moog's answer says why: edit a copy, or mend Moog's side and replay.",
    ),
    "success_false": Remedy(
        "Moog answered 2xx and said that it did not succeed.",
        "Moog's answer says why: edit a copy, or mend Moog's side and replay.",
    ),
    "too_large": Remedy("This alert alone is too large for Moog.", "Edit a copy with a shorter description."),
    "auth": Remedy(
        "Moog, or a firewall before it, refused the key for this alert five times while it took others.",
        "Look for what in its text a firewall might refuse; then edit a copy or replay.",
    ),
    "forwarding failed": Remedy(
        "MUTT itself failed on this alert five times while Moog took others: a fault in MUTT.",
        "Report the traceback; replay it with a MUTT that mends it.",
    ),
    "undecodable": Remedy(
        "This entry can't be read: another version of MUTT wrote it, or it is damaged.",
        "Replay it: what is damaged is read again from its row in alerts. If it stays, it has none, or a newer MUTT "
        "wrote it: replay it once such workers run, or drop it.",
    ),
}

_STRUCK = Remedy(
    "Moog failed on this alert five times while it took others.",
    "Moog's answer says how. " + _MEND_AND_REPLAY,
)
_OUTCOME = Remedy(
    "PostgreSQL could not take the note of what became of this alert; the alert itself is at its end.",
    "Mend what PostgreSQL refuses, and replay: only the note is sent again.",
)
_UNREAD_OUTCOME = Remedy(
    "The note of what became of this alert can't be read: another version of MUTT wrote it, or it is damaged.",
    "Replay it once workers of the version that wrote it run.",
)
_REJECTED = Remedy(
    "Ingest refused this item; its sender was told which field and why.",
    "Mend the sender. If the event matters, edit a copy: it goes through ingest's own checks.",
)
_NO_EVENT = Remedy(
    "Ingest refused this item: it names no host, or does not say what happened, where MUTT looks for it.",
    "If its sender writes JSON of its own, say in a mapping where they stand: page Keys, Source, tries it on this. "
    "Else mend the sender. If the event matters, edit a copy: it goes through ingest's own checks.",
)
_UNKNOWN = Remedy("No reason is written on this letter.", "Look at what it holds; replay or drop it.")


#: How a refusal begins that a mapping may spare.
_MISSING = ("hostname: is missing", "message: is missing")


def remedy(letter: Letter) -> Remedy:
    """What a letter's reason means, and what to do about it."""
    if letter.queue == "ingest":
        return _NO_EVENT if letter.reason.startswith(_MISSING) else _REJECTED
    if letter.is_outcome:
        return _UNREAD_OUTCOME if letter.reason == "undecodable" else _OUTCOME
    known = OF_EVENTS if letter.queue == "alerts" else OF_ALERTS
    return known.get(letter.reason) or (_STRUCK if letter.queue == "moog" and letter.reason else _UNKNOWN)
