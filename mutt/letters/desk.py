"""The desk: what an operator does with dead letters, from a shell or from a page.

Each change is a settle in Redis and a note in the configuration history. The note is committed first: what can't be
noted is not moved, and nothing is moved unnoted. The history never holds what a letter holds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
import orjson
from sqlalchemy import Connection, select

from mutt import codec, names
from mutt.alert import Alert, Outcome, Status
from mutt.entry import Entry, again, deliver
from mutt.errors import (
    MuttError,
    NewerEntry,
    NoRuleset,
    Refused,
    RejectedBody,
    SettingsError,
    StoreDown,
    UndecodableEntry,
)
from mutt.event import Envelope, Event, Segment, State, uuid7
from mutt.formats import registry
from mutt.formats.base import Context, Parsed
from mutt.formats.values import clean_text
from mutt.letters import copies, pace
from mutt.letters.apart import Bounds, try_apart
from mutt.letters.trial import Trial, try_entry, try_event
from mutt.pipeline.accept import Acceptor, Contribution, Request
from mutt.pipeline.evaluate import Policy
from mutt.rules.redaction import Redactions
from mutt.services import Services
from mutt.source import UNKNOWN, Source
from mutt.store import alerts as alert_rows
from mutt.store import audit, history, keys
from mutt.store.engine import transaction
from mutt.store.rulebook import Rulebook
from mutt.store.tables import alerts
from mutt.streams.bound import Inlet
from mutt.streams.letters import (
    Letter,
    Letters,
    NoLetter,
    Successor,
    alert_in,
    check_replayable,
    is_outcome,
    letter_of,
    why_of,
)
from mutt.streams.spare import load

log = logging.getLogger("mutt.letters")

#: Seconds that a copy may take to be accepted.
ACCEPT_WITHIN = 1.0

#: In the place of what a letter holds, where it may hold what no page shows.
NOT_SHOWN = "not shown: what is to be taken out of it is told by PostgreSQL, which does not answer"

REPLAY, DROP, EDIT = "REPLAY", "DROP", "EDIT"


class NotEditable(MuttError):
    """What this letter holds can't be changed in a copy."""


class Order(msgspec.Struct, kw_only=True):
    """Letters to be replayed or dropped, and how far it is; as JSON it survives in Redis."""

    queue: str
    what: str  #: REPLAY or DROP
    who: str
    reason: str = ""
    group: str = ""  #: only letters of this reason; empty: all
    ids: list[str] = []  #: only these; empty: all up to ``until``
    rate: float = 0.0  #: letters a second, at most; 0: as there is room
    given: str = ""  #: when, RFC 3339
    now: bool = False  #: whether there is room or not
    until: str = ""  #: the youngest letter when it was given: what comes back is not sent round and round
    total: int = 0  #: letters it was about when it was given
    after: str = ""  #: how far it looked
    letters: int = 0  #: moved
    events: int = 0
    outcomes: int = 0  #: not dropped, for they say what became of an alert
    missing: list[str] = []  #: of ``ids``: not there any more, or not to be read
    note: int | None = None  #: its row in the history
    waits: str = ""  #: why nothing moves now
    done: bool = False
    ended: str = ""  #: when, RFC 3339


class Copy(msgspec.Struct, frozen=True):
    """A copy that was accepted."""

    ids: list[str]  #: of the events or the alert
    changed: list[str]  #: names of fields
    kept: bool  #: does the original still stand?


class Desk:
    """The use cases. ``redis.RedisError`` passes through, PostgreSQL's errors come as StoreDown."""

    def __init__(self, services: Services) -> None:
        self.bounds = Bounds()
        self._services, self._rulebook = services, Rulebook(services.settings.unhandled_default_team)

    @property
    def letters(self) -> Letters:
        return self._services.letters

    def show(self, queue: str, id_: str) -> Letter:
        """One letter with what it holds, but for what is to be taken out of events. Raises NoLetter."""
        letter = letter_of(queue, self.letters.one(queue, id_), payload=True)
        redactions = self._redactions()
        if redactions is None:
            return msgspec.structs.replace(letter, payload=NOT_SHOWN)
        return letter if not redactions else _redacted(letter, redactions)

    def refused_of(self, key_id: str, want: int) -> list[Letter]:
        """What ingest refused last of a key, the newest first, but for what is to be taken out of events."""
        redactions = self._redactions()
        if redactions is None:
            return []
        found = [letter_of("ingest", one, payload=True) for one in self.letters.refused_of(key_id, want)]
        return [_redacted(one, redactions) for one in found] if redactions else found

    def _redactions(self) -> Redactions | None:
        """Those in force, or the last that were; None: PostgreSQL has not said any yet."""
        try:
            with transaction(self._services.engine) as conn:
                return self._rulebook.current(conn).redactions
        except (StoreDown, NoRuleset, SettingsError):
            last = self._rulebook.last
            return None if last is None else last.redactions

    # ---- replay and drop

    def order(
        self,
        queue: str,
        what: str,
        *,
        who: str,
        reason: str = "",
        group: str = "",
        ids: Sequence[str] = (),
        rate: float = 0.0,
        now: bool = False,
    ) -> Order:
        """An order about the letters that stand now. Raises NotReplayable; Refused for a drop without a reason, and for
        a rate that is no number."""
        if not math.isfinite(rate):
            raise Refused(
                "rate", "is no number of letters a second; leave it out to send them as there is room"
            )
        if what == REPLAY:
            check_replayable(queue)
        elif not reason.strip():
            raise Refused("reason", "is empty; say why the letters are given up")
        told = {"who": who, "reason": clean_text(reason).strip(), "group": group, "rate": rate}
        told["given"] = datetime.now(UTC).isoformat(timespec="seconds")
        order = Order(queue=queue, what=what, now=now or what == DROP, **told)  # type: ignore[arg-type]
        if ids:
            order.ids = list(dict.fromkeys(ids))
            order.total = len(order.ids)
        else:
            counts = self.letters.counts(queue)
            order.total = counts.get(group, 0) if group else sum(counts.values())
            order.until = self.letters.newest(queue)
        order.done = not order.total
        return order

    def run(
        self,
        order: Order,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        within: float | None = None,
    ) -> Iterator[Order]:
        """Carry an order out in steps, at its pace; yields it after each. Ends when it is done, or after ``within``
        seconds. What was moved is moved, wherever it is stopped."""
        started, moved = monotonic(), order.letters
        while not order.done:
            self._step(order, self._most(order, order.letters - moved, monotonic() - started))
            yield order
            if order.done or (order.now and not order.rate):
                rest = 0.0
            else:
                rest = pace.tick(self._services.settings.moog_rate_period)
            if within is not None and monotonic() + rest - started >= within:
                return
            if rest and not order.done:
                sleep(rest)

    def _most(self, order: Order, moved: int, elapsed: float) -> int:
        """How many letters may go now; notes in the order why none."""
        most, order.waits = pace.STEP, ""
        if not order.now:
            settings = self._services.settings
            services = self._services
            busy = load(services.redis, services.budget, services.elsewhere)
            found = pace.room(order.queue, busy, settings.moog_rate_limit)
            most, order.waits = found.letters, found.waits
        if order.rate:
            most = int(min(most, order.rate * elapsed + 1 - moved))
        return max(0, most)

    def _step(self, order: Order, most: int) -> None:
        if not most:
            return
        asked, behind = self._next(order, most)
        letters = self.letters.read(order.queue, asked) if asked else []
        kept = [letter for letter in letters if order.what == DROP and is_outcome(letter)]
        letters = [letter for letter in letters if letter not in kept]
        gone = self._move(order, letters) if letters else []
        order.outcomes += len(kept)
        if order.ids:
            order.missing += sorted(set(asked) - {letter.id for letter in (*gone, *kept)})
        if order.ids:
            order.ids = order.ids[len(asked) :]
            order.done = not order.ids
        else:
            order.after = behind
            order.done = len(asked) < most
        if order.done:
            order.ended = datetime.now(UTC).isoformat(timespec="seconds")

    def _next(self, order: Order, most: int) -> tuple[list[str], str]:
        if order.ids:
            return order.ids[:most], ""
        return self.letters.ids(order.queue, order.group, after=order.after, until=order.until, want=most)

    def _move(self, order: Order, letters: Sequence[Entry]) -> list[Entry]:
        """Note it, and then move these: what can't be noted is not moved, and what is moved is noted.

        Killed in between, the history counts letters that still stand. Where fewer went, it is put right.
        """
        first = order.note is None
        with transaction(self._services.engine) as conn:
            order.note = self._note_order(conn, order, letters)
            if order.what == DROP and order.queue == "moog":
                letters = _read_again(conn, letters)
                # Whose alert can't be read has no outcome to be recorded. Before the letter goes: if we die here it
                # still stands, and is dropped again.
                unread = [letter for letter in letters if alert_in(letter) is None]
                _hold_rows(conn, unread)
                alert_rows.set_status(
                    conn, _alert_ids(unread), Status.DROPPED, f"{order.reason} ({order.who})"
                )
        gone = self._sent_again(order, letters) if order.what == REPLAY else self._given_up(order, letters)
        order.letters += len(gone)
        order.events += sum(letter.n for letter in gone)
        if len(gone) < len(letters):
            # The letters have moved: a note that can't be put right counts too many, and is no reason to say otherwise.
            with contextlib.suppress(StoreDown), transaction(self._services.engine) as conn:
                more, moved = _counts(letters), _counts(gone)
                history.add(conn, order.note, {name: moved[name] - more[name] for name in more})
                if first and not gone:
                    history.withdraw(conn, order.note)
                    order.note = None
        return gone

    def _given_up(self, order: Order, letters: Sequence[Entry]) -> list[Entry]:
        """The alerts' rows follow: what became of them goes to housekeeping in the step that drops the letters."""
        return self.letters.drop(order.queue, letters, reason=order.reason, who=order.who)

    def _sent_again(self, order: Order, letters: Sequence[Entry]) -> list[Entry]:
        """Redis before the rows: a row that waits while its letter still stands would be swept into a lane, and stand
        twice. The other way round a crash leaves a row that says parked, which the alert's next outcome puts right. The
        rows are held meanwhile, so that an outcome that comes at once is written after ours, and not under it.
        """
        if order.queue != "moog":
            return self.letters.replay(order.queue, letters)
        gone: list[Entry] = []
        try:
            with transaction(self._services.engine) as conn:
                _hold_rows(conn, letters)
                gone = self.letters.replay(order.queue, _read_again(conn, letters))
                alert_rows.set_status(conn, _alert_ids(gone), Status.WAITING, "sent again by hand")
        except StoreDown as error:
            if not gone:
                raise
            log.warning(
                "%d alerts were sent again, their rows say so with their next outcome: %s", len(gone), error
            )
        return gone

    @staticmethod
    def _note_order(conn: Connection, order: Order, letters: Sequence[Entry]) -> int:
        """One note an order, which counts on with its steps: what a killed process moved is in it. The note's id."""
        counts = _counts(letters)
        if order.note is not None:
            history.add(conn, order.note, counts)
            return order.note
        about = letters[0].id if order.total == 1 else order.group or "several letters"
        queue = names.DLQS[order.queue]
        return history.note(conn, order.who, order.what, queue, about, after=counts, reason=order.reason)

    # ---- copies

    def original(self, queue: str, id_: str) -> Event | Alert:
        """What a copy of this letter begins with. Raises NoLetter, NotEditable."""
        return _original(queue, self.letters.one(queue, id_))

    def edit(
        self,
        queue: str,
        id_: str,
        changes: Mapping[str, Any],
        *,
        who: str,
        reason: str = "",
        keep: bool = False,
    ) -> Copy:
        """Accept a changed copy of a parked event or alert; the letter is dropped in the same step, unless ``keep``.

        The copy of an event is an event of its own, with an id and a stamp of its own, and is evaluated by the present
        rules. The copy of an alert goes to its lane under the signature of the original. Raises Refused with the field
        at fault, NoLetter, NotEditable, Unavailable.
        """
        letter = self.letters.one(queue, id_)
        before = _original(queue, letter)
        if isinstance(before, Alert):
            if keep:
                raise Refused(
                    "keep", "is not for alerts: the original and its copy would be one alert at Moog"
                )
            return self._edit_alert(letter, before, changes, who=who, reason=reason)
        now = datetime.now(UTC)
        after = copies.of_event(before, changes)
        changed = copies.changed(before, after)
        copy = msgspec.structs.replace(after, event_id=uuid7(now.timestamp()), received_at=now, item=0)
        request = Request(str(uuid7()), _correlation(letter), "dead letters")
        parsed = Parsed([copy], [], [])
        return self._accept(queue, letter, request, parsed, changed, who=who, reason=reason, keep=keep)

    def edit_rejected(
        self, id_: str, text: str, *, format_: str = "", who: str, reason: str = "", keep: bool = False
    ) -> Copy:
        """Send a mended text of a rejected item through ingest's own checks; the letter goes, unless ``keep``.

        Raises Refused with the field at fault, NoLetter, Unavailable.
        """
        letter = self.letters.one("ingest", id_)
        parsed = self._parsed(letter, text, format_)
        changed = ["text"] if text != rejected_text(letter) else []
        key_id = str(why_of(letter).get("key", ""))
        request = Request(str(uuid7()), str(uuid7()), key_id)
        return self._accept("ingest", letter, request, parsed, changed, who=who, reason=reason, keep=keep)

    def _parsed(self, letter: Entry, text: str, format_: str) -> Parsed:
        body = text.encode(errors="replace")
        settings, key_id = self._services.settings, str(why_of(letter).get("key", ""))
        # The sender's address is not kept with the item: a line that names no host is refused.
        context = Context(
            datetime.now(UTC), key_id, settings.ingest_max_event, "", source=self._source_of(key_id)
        )
        if format_ and registry.get(format_) is None:
            raise Refused("format", f"is not known; there are: {', '.join(sorted(registry.FORMATS))}")
        try:
            parsed = registry.parse(registry.choose(format_, body, "", context), body, context)
        except RejectedBody as error:
            raise Refused(error.field, error.reason) from error
        if parsed.rejected:
            raise Refused(parsed.rejected[0].field, parsed.rejected[0].reason)
        return parsed

    def _source_of(self, key_id: str) -> Source:
        """What is known of a key's sender. Raises StoreDown."""
        with transaction(self._services.engine) as conn:
            try:
                return keys.find(conn, key_id).source
            except LookupError:
                return UNKNOWN  # of INGEST_API_KEY nothing can be said

    def _accept(
        self,
        queue: str,
        letter: Entry,
        request: Request,
        parsed: Parsed,
        changed: list[str],
        *,
        who: str,
        reason: str,
        keep: bool,
    ) -> Copy:
        ids = [str(event.event_id) for event in parsed.events]
        settings = self._services.settings
        inlet: dict[str, Any] = {
            "stream": self._services.ingest_stream,
            "max_events": settings.ingest_max_depth,
            "max_bytes": settings.ingest_max_bytes,
            "dedup_window": settings.ingest_dedup_window,
        }
        with self._noted(queue, letter.id, ids, changed, who=who, reason=reason, keep=keep):
            said = {"reason": f"replaced by {_some(ids)}", "who": who}
            door = Inlet(**inlet) if keep else Successor(self.letters, queue, letter, said, **inlet)
            Acceptor(door).accept_events([Contribution(request, parsed)], time.monotonic() + ACCEPT_WITHIN)
        return Copy(ids, changed, keep)

    def _edit_alert(
        self, letter: Entry, before: Alert, changes: Mapping[str, Any], *, who: str, reason: str
    ) -> Copy:
        after = copies.of_alert(before, changes)
        changed = copies.changed(before, after)
        copy = msgspec.structs.replace(after, alert_id=uuid4())
        ids = [str(copy.alert_id)]
        counts = {"alerts.raised": 1, "alerts.waiting": 1}
        # Both rows are housekeeping's, by outcomes that go in the same step: whoever asked may die right after.
        waits = Outcome(alert=copy, status=Status.WAITING, attempts=0, at=datetime.now(UTC))
        follow = [again(copy), deliver(waits)]
        with self._noted("moog", letter.id, ids, changed, who=who, reason=reason, alert=copy):
            if not self.letters.replace(
                "moog", letter, counts, follow, reason=f"replaced by {ids[0]}", who=who
            ):
                raise NoLetter(f"letter {letter.id} is not there any more: nothing was accepted")
        return Copy(ids, changed, False)

    @contextlib.contextmanager
    def _noted(
        self,
        queue: str,
        id_: str,
        ids: list[str],
        changed: list[str],
        *,
        who: str,
        reason: str,
        keep: bool = False,
        alert: Alert | None = None,
    ) -> Iterator[None]:
        """Note a copy before it is accepted; the note is taken back where it was refused for certain."""
        # Names of fields alone: what they hold is the sender's.
        after = {
            "copy": _some(ids),
            "changed": ", ".join(changed) or "nothing",
            "original": "stays" if keep else "dropped",
        }
        with transaction(self._services.engine) as conn:
            note = history.note(
                conn, who, EDIT, names.DLQS[queue], id_, after=after, reason=clean_text(reason)
            )
            if alert is not None:
                audit.write_ledger(conn, 0, 1)
                with conn.begin_nested() as trial:  # what PostgreSQL refuses is refused here
                    alert_rows.insert(conn, [alert])
                    trial.rollback()
        try:
            yield
        except MuttError as error:
            if not getattr(error, "sent", False):
                with contextlib.suppress(StoreDown), transaction(self._services.engine) as conn:
                    history.withdraw(conn, note)
                    if alert is not None:
                        audit.write_ledger(conn, 0, -1)
            raise

    # ---- trial

    def try_(self, queue: str, id_: str, *, format_: str = "") -> Trial:
        """What the present rules and PostgreSQL would make of a letter, told by a process that it may end.

        Raises NoLetter, StoreDown.
        """
        letter = self.letters.one(queue, id_)
        return try_apart(self._services.settings, queue, letter, format_, self.bounds)

    def tried(self, queue: str, letter: Entry, format_: str) -> Trial:
        """The same in this process. Nothing is written. Raises StoreDown, NoRuleset."""
        if queue == "ingest":
            return self._try_rejected(letter, format_)
        if queue == "alerts":
            return try_entry(letter, self._services.engine, self._rulebook, self._policy)
        return self._try_alert(letter)

    @property
    def _policy(self) -> Policy:
        s = self._services.settings
        return Policy(s.alert_queue_max, s.unhandled_threshold, s.unhandled_window)

    def _try_event(self, event: Event) -> Trial:
        return try_event(event, self._services.engine, self._rulebook, self._policy)

    def _try_rejected(self, letter: Entry, format_: str) -> Trial:
        try:
            parsed = self._parsed(letter, rejected_text(letter), format_)
        except Refused as error:
            return Trial(outcome="refused", fault=f"{error.field}: {error.reason}")
        return self._try_event(parsed.events[0])

    def _try_alert(self, letter: Entry) -> Trial:
        """An alert is sent as it is stored; what the rules would make of its event today is told beside it."""
        try:
            alert = _alert_of(letter)
        except UndecodableEntry as error:
            return Trial(outcome="parked", fault=f"undecodable: {error}")
        event, whole = event_of(alert)
        # Under a key of its own: the audit has the event's row, and this is not about it.
        trial = self._try_event(msgspec.structs.replace(event, event_id=uuid7()))
        trial.note = "A replay sends this alert as it is stored, whatever the rules say by now." + (
            ""
            if whole
            else " An alert does not keep its event's tags and OID: rules about them are not told."
        )
        return trial


def _redacted(letter: Letter, redactions: Redactions) -> Letter:
    return msgspec.structs.replace(
        letter, payload=_without(letter.payload, redactions), detail=redactions.text(letter.detail)
    )


def _without(held: Any, redactions: Redactions) -> Any:
    """What a letter holds, as it would be kept. The host's name stays, as it does in an event."""
    if isinstance(held, str):
        return redactions.text(held)
    if isinstance(held, list):
        return [_without(one, redactions) for one in held]
    if not isinstance(held, dict):
        return held
    return {
        redactions.text(name): one
        if name == "hostname"
        else redactions.named(name, one)
        if isinstance(one, str)
        else _without(one, redactions)
        for name, one in held.items()
    }


def _counts(letters: Sequence[Entry]) -> dict[str, int]:
    return {"letters": len(letters), "events or alerts": sum(letter.n for letter in letters)}


def rejected_text(letter: Entry) -> str:
    """The text of a rejected item as it came: what was no UTF-8 stands as \\xNN."""
    with contextlib.suppress(orjson.JSONDecodeError):
        told = orjson.loads(letter.fields.get(b"d", b"null"))
        if isinstance(told, dict):
            return str(told.get("raw", ""))
    return ""


def event_of(alert: Alert) -> tuple[Event, bool]:
    """An alert's event, read again from its text; True: whole, False: what the alert itself says."""
    own: dict[str, Any] = {
        "event_id": alert.event_id,
        "received_at": alert.received_at,
        "occurred_at": alert.occurred_at,
        "raw": alert.raw,
    }
    context = Context(alert.received_at, "", max(1, len(alert.raw.encode(errors="replace"))), alert.hostname)
    with contextlib.suppress(RejectedBody):
        body = alert.raw.encode(errors="replace")
        found = registry.get(alert.source) or registry.sniff(body, "")
        events = registry.parse(found, body, context).events
        if [(one.hostname, one.message) for one in events] == [(alert.hostname, alert.description)]:
            return msgspec.structs.replace(events[0], **own), True
    if alert.rule_id is None:
        own["template"] = alert.signature  # MUTT's own: no rule is asked
    plain = {"hostname": alert.hostname, "message": alert.description, "source": alert.source}
    state = State.CLEAR if alert.state is State.CLEAR else State.RAISE
    return Event(**own, **plain, state=state, clear_key=alert.clear_key), False  # type: ignore[arg-type]


def _original(queue: str, letter: Entry) -> Event | Alert:
    if queue == "ingest" or is_outcome(letter):
        raise NotEditable(f"letter {letter.id} holds no event or alert that could be changed")
    try:
        if queue == "moog":
            return _alert_of(letter)
        events = [event for segment in _envelope(letter).segments for event in segment.events]
    except UndecodableEntry as error:
        raise NotEditable(
            f"letter {letter.id} can't be read, so nothing of it can be changed: {error}"
        ) from error
    if len(events) != 1:
        raise NotEditable(f"letter {letter.id} holds {len(events)} events; only a single one can be changed")
    return events[0]


def _envelope(letter: Entry) -> Envelope:
    return letter.decode(Envelope)


def _alert_of(letter: Entry) -> Alert:
    return letter.decode(Outcome).alert if is_outcome(letter) else letter.decode(Alert)


def _correlation(letter: Entry) -> str:
    segments: list[Segment] = _envelope(letter).segments
    return segments[0].correlation_id


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:3]) + (f" and {len(ids) - 3} more" if len(ids) > 3 else "")


def _hold_rows(conn: Connection, letters: Sequence[Entry]) -> None:
    """Hold the rows of these letters' alerts, in the order in which the sweep and record lock them."""
    order = alerts.c.received_at, alerts.c.alert_id
    chosen = alerts.c.alert_id.in_(_alert_ids(letters))
    conn.execute(select(alerts.c.alert_id).where(chosen).order_by(*order).with_for_update())


def _read_again(conn: Connection, letters: Sequence[Entry]) -> list[Entry]:
    """These letters; an alert that was damaged in one is taken from its row, which is the authority."""
    damaged = [letter for letter in letters if alert_in(letter) is None and not _is_newer(letter)]
    rows = alert_rows.by_ids(conn, _alert_ids(damaged)) if damaged else {}
    return [_whole(letter, rows) if letter in damaged else letter for letter in letters]


def _whole(letter: Entry, rows: Mapping[UUID, Alert]) -> Entry:
    for alert_id in _alert_ids([letter]):
        if alert_id in rows:
            fields, _ = codec.encode(rows[alert_id], about=str(alert_id))
            told = [one if isinstance(one, bytes) else str(one).encode() for one in fields]
            why = {b"why": letter.fields[b"why"]} if b"why" in letter.fields else {}
            return dataclasses.replace(letter, fields={**codec.pairs(told), **why})
    return letter


def _is_newer(letter: Entry) -> bool:
    """Is it for the workers of a newer MUTT, who know more of it than its row tells us?"""
    try:
        letter.decode(Alert)
    except UndecodableEntry as error:
        return isinstance(error, NewerEntry)
    return False


def _alert_ids(letters: Sequence[Entry]) -> list[UUID]:
    """The alerts of these letters; a note of an outcome is none, its alert is at Moog."""
    found = []
    for letter in letters:
        with contextlib.suppress(ValueError):  # an entry that was damaged may not even name its alert
            if not is_outcome(letter):
                found.append(UUID(letter.fields.get(b"id", b"").decode(errors="replace")))
    return found
