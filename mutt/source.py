"""Source: what is known beforehand of who sends with a key, so that its events need not say it. Values only."""

from __future__ import annotations

import msgspec

from mutt.words import short_span

#: What ``environment`` can say.
ENVIRONMENTS = ("production", "development")


class Source(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the posts of one key are read, and what its events are taken for where they don't say it themselves."""

    format: str = ""  #: posts to /ingest are of this one; empty: they are looked at
    mapping: str = ""  #: how JSON that no format claims becomes events; empty: it is not
    team: str = ""  #: of alerts for whom neither a rule nor a device names one
    environment: str = ""  #: production or development, whatever the host is; empty: by the host
    severity: int | None = None  #: syslog's 0 to 7, of events without one
    every: float | None = (
        None  #: seconds in which it should be heard at least once; 0: it may be silent; None: as learned
    )
    in_address: bool = False  #: may its key stand in the address (?key=…)? For senders that can set no header

    @property
    def told(self) -> dict[str, str]:
        """What is known, for people; what is not is left out."""
        every = "" if self.every is None else short_span(self.every) if self.every else "0, it may be silent"
        said = {
            "format": self.format,
            "mapping": f"{self.mapping.strip().count(chr(10)) + 1} lines" if self.mapping else "",
            "team": self.team,
            "environment": self.environment,
            "severity": "" if self.severity is None else str(self.severity),
            "every": every,
            "in address": "yes" if self.in_address else "",
        }
        return {name: value for name, value in said.items() if value}

    @property
    def tells_of_events(self) -> bool:
        """Does it say anything that an event of its is given?"""
        return self.severity is not None or bool(self.team or self.environment)


#: Of a key about which nobody said anything.
UNKNOWN = Source()
