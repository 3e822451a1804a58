"""The questions: what PostgreSQL, the rules of then and of now, and Redis know of one event or alert."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

import msgspec
import redis
from sqlalchemy import Connection

from mutt.entry import kind_key
from mutt.errors import ArchiveUnreadable, NoRuleset, SettingsError, StoreDown
from mutt.event import Event
from mutt.explain import answer, standing
from mutt.explain.facts import AlertStory, Attempt, Counted, Explanation, Field, Place, Row
from mutt.formats.base import ID_SPACE
from mutt.grant import BOOTSTRAP
from mutt.rules.evaluate import Ruleset
from mutt.rules.rule import UNHANDLED
from mutt.rules.template import template_of
from mutt.rules.trace import Trace, trace
from mutt.services import Services
from mutt.store import attempts, audit, keys, lookup, stories, versions
from mutt.store.archives import reading
from mutt.streams.connect import Client

#: Compiled rulesets of earlier versions that are kept: a page is looked at more than once.
RULESETS_KEPT = 4

#: What is said of a row without a context.
_PLAIN = (
    "It keeps no program, facility, tags or OIDs: the event had none, or its row is older than that column."
)

_REDIS_AWAY = "Redis does not answer: where it stands now can't be told."


class Explainer:
    """Explains events and alerts. Threads may share it. Raises StoreDown; without Redis it says what it can't tell."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._rulesets: dict[int, Ruleset] = {}

    def event(self, asked: str, at: datetime | None = None) -> Explanation:
        """What became of the event of this id; ``at`` is the received_at of the row that is meant, else the newest.

        An id that is no UUID is looked for under every API key that is known.
        """
        notes: list[str] = []
        ids = self._ids(asked.strip(), notes)

        def look(conn: Connection) -> tuple[Any, Explanation] | None:
            own: list[str] = []
            rows = list(stories.audited(conn, sorted(ids))) if ids else []
            if at is not None and not any(row.received_at == at for row in rows):
                rows += self._archived(conn, ids, at, own)
            if not rows:
                return None
            chosen = next((row for row in rows if row.received_at == at), rows[0])
            return chosen, self._audited(conn, asked, chosen, rows, own)

        found, source = self._services.reader.find(look)
        notes += [source.says] if source.says else []
        if found is None:
            elsewhere = self._elsewhere(asked, ids, notes)
            found = self._only_archived(asked, ids) if ids and elsewhere.found == "nowhere" else None
            if found is None:
                return elsewhere
        row, told = found
        notes += told.notes
        # Behind the transaction: it takes one of its own.
        now = self._now(audit.event_of(row), notes)
        return msgspec.structs.replace(told, notes=notes, now=now, changed=answer.changed(row, now))

    def _only_archived(self, asked: str, ids: set[UUID]) -> tuple[Any, Explanation] | None:
        """Its newest row in archives, where no month that PostgreSQL holds has one."""
        own: list[str] = []
        with lookup.reading(self._services.engine) as conn:
            rows = self._archived(conn, ids, None, own)
            return (rows[0], self._audited(conn, asked, rows[0], rows, own)) if rows else None

    def _archived(self, conn: Connection, ids: set[UUID], at: datetime | None, notes: list[str]) -> list[Any]:
        """Its rows in archives, the newest first."""
        duck = self._services.archives
        try:
            source = reading.source(conn, duck.directory, at, at)
            names = source.names
            rows = (
                reading.by_id(duck, names, sorted(ids), at, lookup.PATIENCE, stories.ROWS_MAX)
                if names
                else []
            )
        except (ArchiveUnreadable, StoreDown) as error:
            notes.append(f"Archives are left out: {error}.")
            return []
        if rows:
            notes.append(f"Its row is read from the archive of {rows[0].received_at:%Y-%m}.")
        return rows

    def alert(self, alert_id: UUID, notes: list[str]) -> AlertStory | None:
        """What became of one alert; None: there is none of this id. ``notes`` takes what a reader has to know."""

        def look(conn: Connection) -> AlertStory | None:
            row = stories.alert(conn, alert_id)
            return None if row is None else self._stories(conn, [row], [])[0]

        found, source = self._services.reader.find(look)
        notes += [source.says] if source.says else []
        return found

    def _ids(self, asked: str, notes: list[str]) -> set[UUID]:
        """The event ids that may be meant: a sender's own is stored as a UUID made of it and of its API key's name."""
        with contextlib.suppress(ValueError):
            return {UUID(asked)}
        # People and keys are the primary's alone.
        with lookup.reading(self._services.engine) as conn:
            known = {BOOTSTRAP.name, *keys.names(conn)}
        notes.append(
            f"{asked!r} is a sender's own id. It is stored as a UUID made of it and of its API key's name: "
            f"it was looked for under {', '.join(sorted(known))}."
        )
        return {uuid5(uuid5(ID_SPACE, name), asked) for name in known}

    @contextlib.contextmanager
    def _redis(self, notes: list[str]) -> Iterator[Client | None]:
        """Redis, or None where it is not set or does not answer; then a note says so."""
        try:
            client = self._services.redis
        except SettingsError:
            notes.append("REDIS_URL is not set: where it stands now can't be told.")
            yield None
            return
        try:
            yield client
        except redis.RedisError:
            if _REDIS_AWAY not in notes:
                notes.append(_REDIS_AWAY)

    def _audited(
        self, conn: Connection, asked: str, row: Any, rows: Sequence[Any], notes: list[str]
    ) -> Explanation:
        event = audit.event_of(row)
        made_at = _version_made_at(conn, row.ruleset_version)
        then = self._then(conn, event, row, notes)
        told = self._stories(conn, stories.alerts_of(conn, row.event_id, row.received_at), notes)
        counted = self._counted(event, notes) if row.handling == UNHANDLED else None
        if then is not None and (then.verdict.rule_id, then.verdict.handling) != (
            row.matched_rule_id,
            row.handling,
        ):
            notes.append(
                f"Judged once more under version {row.ruleset_version} it comes out as {then.verdict.handling} "
                f"({then.verdict.why}): the row does not hold all that was judged. What the row says is what was done."
            )
        return Explanation(
            asked=asked,
            event_id=str(row.event_id),
            found="audited",
            answer=answer.of_event(event, row, then, told, counted),
            notes=notes,
            fields=fields_of(event),
            raw=event.raw,
            kept="" if row.context else _PLAIN,
            row=_row(row, made_at),
            others=[_row(other, None) for other in rows if other.received_at != row.received_at],
            then=then,
            counted=counted,
            alerts=told,
        )

    def _elsewhere(self, asked: str, ids: set[UUID], notes: list[str]) -> Explanation:
        """The event is not audited: is it still on its way, a dead letter, or did it never come in?"""
        place = Place(where="unknown", says="Where it is can't be told without Redis.")
        event: Event | None = None
        with self._redis(notes) as client:
            if client:
                place, event = standing.of_event(
                    client, ids, asked if len(asked) >= 4 else "", self._services.elsewhere
                )
        found = {"queue": "queued", "letter": "parked"}.get(place.where, "nowhere")
        found = "rejected" if place.queue == "ingest" else found
        says = {
            "queued": "It has not alerted yet: it is not evaluated.",
            "parked": "It did not alert because it could not be evaluated.",
            "rejected": "It did not alert because it was never accepted.",
            "nowhere": "The audit has no such event: it was never accepted, is older than what is kept, or was a "
            "repeat that counted as a duplicate of another row.",
        }[found]
        event_id = str(event.event_id if event else next(iter(sorted(ids)), asked))
        event = self._as_kept(event, notes) if event else None
        now = self._now(event, notes) if event else None
        return Explanation(
            asked=asked,
            event_id=event_id,
            found=found,
            answer=f"{says} {place.says}",
            notes=notes,
            fields=fields_of(event) if event else [],
            raw=event.raw if event else "",
            now=now,
            place=place,
        )

    def _as_kept(self, event: Event, notes: list[str]) -> Event | None:
        """An event that is not evaluated yet, without what is to be taken out of it; None: that can't be told."""
        try:
            with self._services.store.transaction() as tx:
                return tx.ruleset().redactions.redact(event)
        except NoRuleset as error:
            notes.append(f"The event is not shown: what is to be taken out of it can't be told: {error}.")
            return None

    def _now(self, event: Event, notes: list[str]) -> Trace | None:
        try:
            with self._services.store.transaction() as tx:
                ruleset = tx.ruleset()
                return trace(ruleset.redactions.redact(event), ruleset)
        except NoRuleset as error:
            notes.append(f"Today's rules can't be asked: {error}.")
            return None

    def _then(self, conn: Connection, event: Event, row: Any, notes: list[str]) -> Trace | None:
        """The trace under the rules that judged it."""
        version = row.ruleset_version
        ruleset = self._rulesets.get(version)
        if ruleset is None:
            try:
                ruleset = versions.load(conn, version, self._services.settings.unhandled_default_team)
            except (LookupError, NoRuleset) as error:
                notes.append(f"The rules that judged it can't be read again: {error}.")
                return None
            while len(self._rulesets) >= RULESETS_KEPT:
                self._rulesets.pop(next(iter(self._rulesets)), None)
            self._rulesets[version] = ruleset
        return trace(event, ruleset)

    def _counted(self, event: Event, notes: list[str]) -> Counted:
        settings = self._services.settings
        template = template_of(event.message)
        count, left = None, 0.0
        with self._redis(notes) as client:
            if client:
                key = kind_key((event.hostname, template))
                told, ttl = client.get(key), client.pttl(key)
                count, left = (int(told) if told else None), max(0, ttl) / 1000
        return Counted(
            template=template,
            count=count,
            threshold=settings.unhandled_threshold,
            window_s=round(settings.unhandled_window),
            left_s=left,
        )

    def _stories(self, conn: Connection, rows: Sequence[Any], notes: list[str]) -> list[AlertStory]:
        tried = attempts.of(conn, [row.alert_id for row in rows]) if rows else {}
        return [self._story(conn, row, tried.get(row.alert_id, []), notes) for row in rows]

    def _story(self, conn: Connection, row: Any, tried: Sequence[Any], notes: list[str]) -> AlertStory:
        place: Place | None = None
        with self._redis(notes) as client:
            if client and row.status == "waiting":
                place = standing.of_alert(client, row)
            elif client and row.status == "parked":
                place = standing.letter_of_alert(client, str(row.alert_id))
        ended = stories.alert(conn, row.cleared_by) if row.cleared_by else None
        return AlertStory(
            alert_id=str(row.alert_id),
            event_id=str(row.event_id),
            received_at=row.received_at,
            hostname=row.hostname,
            state=row.state,
            status=row.status,
            lane=row.lane,
            severity=row.severity,
            team=row.team,
            rule_id=row.rule_id,
            type=row.type,
            description=row.description,
            signature=row.signature,
            clear_key=row.clear_key,
            created_at=row.created_at,
            delivered_at=row.delivered_at,
            attempts_made=row.attempts,
            moog_status=row.moog_status,
            moog_answer=row.moog_answer,
            reason=row.reason,
            answer=answer.of_alert(row, place, row.attempts),
            place=place,
            attempts=[
                Attempt(
                    attempt=one.attempt,
                    at=one.at,
                    kind=one.kind,
                    reason=one.reason,
                    moog_status=one.moog_status,
                    answer=one.answer,
                )
                for one in tried
            ],
            cleared_by=str(row.cleared_by) if row.cleared_by else None,
            cleared_at=ended.received_at if ended else None,
            cleared_event=str(ended.event_id) if ended else None,
        )


def fields_of(event: Event) -> list[Field]:
    """Each field of an event as it was read, and what could not be read."""
    occurred = ""
    if event.occurred_text is not None:
        occurred = f"the sender wrote {event.occurred_text!r}: its time or its zone could not be read"
    told = [
        Field("hostname", event.hostname),
        Field("message", event.message),
        Field(
            "severity",
            "" if event.severity is None else str(event.severity),
            _none(event.severity, "severity"),
        ),
        Field("state", event.state.value),
        Field("source", event.source, "the format it came in, or what the sender calls its source"),
        Field("received_at", event.received_at.isoformat()),
        Field("occurred_at", event.occurred_at.isoformat(), occurred),
        Field("program", event.program or ""),
        Field("facility", event.facility or ""),
        Field("trap_oid", event.trap_oid or ""),
        Field("instance", event.instance or ""),
        Field("clear_key", event.clear_key or ""),
        _by_key("default_team", event.default_team),
        _by_key("environment", event.environment),
        *(Field(f"varbind {one.oid}", one.value) for one in event.varbinds),
        *(Field(f"tags.{name}", value) for name, value in sorted(event.tags.items())),
    ]
    return [one for one in told if one.value or one.note]


def _by_key(name: str, value: str | None) -> Field:
    return Field(name, value or "", "as was known of the source of its API key" if value else "")


def _none(value: object, what: str) -> str:
    return f"the sender gave no {what} that can be read" if value is None else ""


def _version_made_at(conn: Connection, version: int) -> datetime | None:
    try:
        return versions.made_at(conn, version)
    except LookupError:
        return None


def _row(row: Any, made_at: datetime | None) -> Row:
    return Row(
        received_at=row.received_at,
        rule_id=row.matched_rule_id,
        handling=row.handling,
        team=row.team,
        ruleset_version=row.ruleset_version,
        version_made_at=made_at,
        batch_id=row.batch_id,
        item=row.item,
        correlation_id=row.correlation_id,
    )
