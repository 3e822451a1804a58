"""Rules at random that can be saved, for properties."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from mutt.errors import RuleError
from mutt.rules.check import check_rule
from mutt.rules.rule import FIELDS, Handling, MatchType, Rule

#: Texts as senders write them, and texts that other readers make something else of.
_texts = st.one_of(
    st.sampled_from(
        ["fan", "Fan failed", "fan failed in bay 3", "LINK-DOWN", "no", "010", "1:30", "a: b", "two\nlines"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12),
)
_scopes = st.none() | st.sampled_from(["core-*", "10.0.0.0/8", "core-1", "lab-?", "10.1.2.3"])
_oids = st.none() | st.sampled_from(["1.3.6.1.4.1.9", "1.3.6.1.4", "1.3.6.1.6.3.1.1.5.3"])
_windows = st.sampled_from(
    [{}, {"threshold_count": 3, "threshold_window": 60}, {"flap_count": 2, "flap_window": 9}]
)


def rules(**fixed: Any) -> st.SearchStrategy[Rule]:
    """Rules with any fields, but for those that are fixed."""
    fields = {
        "name": st.sampled_from(["a", "b", "c"]) | _texts,
        "match_type": st.sampled_from([kind for kind in MatchType if kind is not MatchType.REGEX]),
        "match_string": _texts,
        "field": st.sampled_from([*FIELDS, "tags.site"]),
        "trap_oid": _oids,
        "syslog_severity": st.none() | st.integers(0, 7),
        "hostname": _scopes,
        "source": st.none() | st.sampled_from(["syslog", "SNMPTRAP"]),
        "program": st.none() | st.sampled_from(["sshd", "SSHD", "cron"]),
        "tags": st.dictionaries(st.sampled_from(["site", "rack"]), st.sampled_from(["lon1", "no", "", "7"])),
        "priority": st.integers(1, 3),
        "prod_handling": st.sampled_from(list(Handling)),
        "dev_handling": st.sampled_from(list(Handling)),
        "team_assignment": st.sampled_from(["NETO", "on", "Power"]),
        "moog_severity": st.none() | st.integers(0, 5),
        "is_active": st.booleans(),
        "noise": _windows,
    }
    fields |= {name: st.just(value) for name, value in fixed.items()}
    return st.fixed_dictionaries(fields).map(_checked).filter(lambda rule: rule is not None)  # type: ignore[arg-type, return-value]


def _checked(values: dict[str, Any]) -> Rule | None:
    given = dict(values)
    given |= given.pop("noise")
    if given["match_type"] is MatchType.OID_PREFIX:
        given["match_string"], given["trap_oid"] = "", given["trap_oid"] or "1.3.6.1"
    try:
        return check_rule(given)
    except RuleError:
        return None  # blanks only, say
