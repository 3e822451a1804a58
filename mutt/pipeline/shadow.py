"""Shadow: what a draft of the rules would have said of events that were just judged, while there is time for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime

from mutt.entry import Entry
from mutt.pipeline.work import Item
from mutt.rules.evaluate import Ruleset, evaluate
from mutt.rules.shadow import Difference, Kind, Seen, hour_of, kind_of

#: Seconds that a share of a take spends on a draft; the rest of it is skipped. A usual draft takes a fifth of that.
BUDGET = 0.025

#: Events of entries that have waited for so many seconds are skipped: the worker is behind, and first catches up.
LAG = 5.0


def compare(items: Sequence[Item], draft: Ruleset | None, now: float, monotonic: Callable[[], float]) -> Seen:
    """Judge ``items``, which have their verdicts, once more, by ``draft``. ``now``: seconds since the epoch.

    Counted as skipped are those of entries that come again (were it the draft that ended their worker, it is not to
    end another), those that have waited, and what the time is not enough for; all, while there is no ``draft`` yet.
    """
    if draft is None:
        return Seen(Counter((hour_of(item.event), Kind.SKIPPED) for item in items), [])
    counts = Counter[tuple[datetime, Kind]]()
    differences: list[Difference] = []
    fit: dict[str, bool] = {}  # by the entry's id
    ends = monotonic() + BUDGET
    for item in items:
        event, entry, kind = item.event, item.result.entry, Kind.SKIPPED
        if entry.id not in fit:
            fit[entry.id] = _is_fit(entry, now)
        if fit[entry.id] and monotonic() < ends:
            verdict = evaluate(draft.redactions.redact(item.whole), draft)
            kind = kind_of(item.verdict, verdict)
            if kind.differs:
                differences.append(Difference(kind, event, item.verdict, verdict))
        counts[hour_of(event), kind] += 1
    return Seen(counts, differences)


def _is_fit(entry: Entry, now: float) -> bool:
    return entry.attempts == 1 and now - entry.at < LAG
