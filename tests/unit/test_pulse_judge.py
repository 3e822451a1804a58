"""What holds the pipeline up is named by its rule: a row each, what looks like it and is not, and what always holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutt.pulse.judge import FULL, judge
from mutt.pulse.rates import point
from mutt.pulse.sample import EVERY, TROUBLES, Moog, Point, Postgres, Process, Queue, Redis, Sample, Trouble
from mutt.settings import Settings
from mutt.streams.bound import MEMORY_SHARE

#: When the first reading of each story was made.
BEGAN = 1_800_000_000.0

ROLES = {"ingest": 32, "alerts": 1, "moog": 32, "housekeeping": 2, "admin": 8}
LANES = tuple(f"alert_queue:{lane}" for lane in ("critical", "major", "minor", "info"))
QUEUES = ("ingest_queue", *LANES, "delivery_queue", "dlq:ingest", "dlq:alerts", "dlq:moog")

#: Of a story, what differs from a system that does 1,000 events a second and is well, by reading.
Story = Callable[[int], dict[str, Any]]


def healthy(i: int, **changed: Any) -> Sample:
    """The ``i``-th reading of a system that is well, but for what changed.

    ``roles``: changes of each role's process (None: there is none), ``queues``: entries and age of the oldest,
    ``out``: events done a second, ``queued`` and ``waiting``: as the books have it, ``sent``: alerts a second.
    """
    at = BEGAN + i * EVERY
    accepted = round(1000 * EVERY * (i + 20) * changed.get("into", 1.0))
    queued, waiting = changed.get("queued", 0), changed.get("waiting", 0)
    roles = changed.get("roles", {})
    queues = changed.get("queues", {})
    return Sample(
        at=at,
        queues=tuple(Queue(name, *queues.get(name, (0, 0.0))) for name in QUEUES),
        events={"accepted": accepted, "settled": accepted - queued, "queued": queued},
        alerts={"raised": 10_000 + i * 50, "delivered": 10_000 + i * 50 - waiting, "waiting": waiting},
        processes=tuple(
            process(role, at, roles.get(role)) for role in ROLES if roles.get(role, ()) is not None
        ),
        redis=(changed.get("redis", Redis("127.0.0.1:6379", 50 << 20, 1 << 30, 0.2, 5000.0)),),
        postgres=changed.get("postgres", Postgres(0.5, 1000.0, 4.0, 20, 100)),
        moog=changed.get("moog", Moog(limit=50, used=10, latency_ms=20.0, slots=32)),
        away=changed.get("away", {}),
        silent=changed.get("silent", {}),
    )


def process(role: str, at: float, changed: dict[str, Any] | None) -> Process:
    usual: dict[str, Any] = {"cpu": 0.3, "rss": 100 << 20, "busy": 0.3, "slots": ROLES[role], "p99_ms": 20.0}
    return Process(name="host:1", role=role, at=at, **(usual | {"store_share": 0.3} | (changed or {})))


def told(story: Story, readings: int = 13) -> tuple[list[Sample], list[Point]]:
    """The samples and points of a story."""
    samples = [healthy(i, **story(i)) for i in range(readings)]
    return samples, [point(before, now) for before, now in zip([None, *samples], samples, strict=False)]


def judged(story: Story, readings: int = 13) -> list[Trouble]:
    return judge(*told(story, readings))


def named(story: Story, readings: int = 13) -> list[str]:
    return [trouble.name for trouble in judged(story, readings)]


def always(**changed: Any) -> Story:
    return lambda _i: changed


def late(i: int, **more: Any) -> dict[str, Any]:
    """Events that nobody keeps up with: half of what comes in stays."""
    return {"queued": 2500 * (i + 1), "queues": {"ingest_queue": (5 * (i + 1), 10.0 + 2.5 * i)}, **more}


def alerts_late(i: int, **more: Any) -> dict[str, Any]:
    """Alerts of which more come than go: 10 a second are raised, 2 of them go."""
    waiting = 400 + 40 * i
    return {"waiting": waiting, "queues": {LANES[2]: (waiting, 20.0 + 2.0 * i)}, **more}


def asked(i: int, **moog: Any) -> dict[str, Any]:
    """Alerts of which none goes: all forwarders wait for Moog."""
    return alerts_late(i, waiting=400 + 50 * i, moog=Moog(**{"limit": 50, "slots": 32} | moog))


def no(role: str) -> dict[str, Any]:
    return {"roles": {role: None}}


#: Nothing is done of what comes in.
def stands(i: int, **more: Any) -> dict[str, Any]:
    accepted = round(1000 * EVERY * (i + 20))
    return late(i, **more) | {"queued": accepted - 50_000}


def full(share: float) -> Redis:
    return Redis("10.0.0.5:6379", round(share * (1 << 30)), 1 << 30, 0.2, 5000.0)


BUSY = {"busy": 0.98, "cpu": 0.95}
LIMIT = Moog(limit=50, used=50, latency_ms=20.0, slots=32)
SLOW = Moog(limit=50, used=16, latency_ms=2000.0, slots=32)
OPEN = Moog(breaker="open", reason="timeout", until=BEGAN + 90, limit=50, used=0, slots=32)

nobody = {"roles": dict.fromkeys(ROLES)}

#: What is told, by the trouble that has to be named first, and a pattern in what is said of it.
ROWS: Sequence[tuple[str, str, Story]] = (
    # Redis answers nobody: nothing else is known, and nothing else is said.
    ("redis-away", "does not answer", always(away={"redis": "it does not answer: timeout"}, **nobody)),
    # From 80 % on ingest refuses; 76 % is time to look.
    ("redis-memory", "ingest refuses", always(redis=full(0.81))),
    ("redis-memory", "filling up", always(redis=full(0.76))),
    # PostgreSQL is gone: the backlog that grows is no lack of workers.
    ("postgres-away", "does not answer", lambda i: late(i, away={"postgres": "it does not answer"}, postgres=None)),
    # Nobody takes events in, and none comes in.
    ("ingest-away", "No process of ingest", always(into=0.0, **no("ingest"))),
    # Nobody who evaluates says anything, and what came in waits.
    ("alerts-away", "No alerts worker", lambda i: stands(i, **no("alerts"))),
    # Nobody forwards.
    ("moog-away", "No forwarder", lambda i: alerts_late(i, waiting=400 + 50 * i, **no("moog"))),
    # Nobody writes what became of alerts.
    ("record-away", "No housekeeping", always(queues={"delivery_queue": (40, 20.0)}, **no("housekeeping"))),
    # The breaker is open: why, until when, and that more forwarders don't help.
    ("moog-outage", "asked again in 30 s", lambda i: alerts_late(i, moog=OPEN)),
    ("moog-outage", "MOOG_API_KEY", lambda i: alerts_late(i, moog=msgspec.structs.replace(OPEN, reason="auth"))),
    ("moog-outage", "MOOG_URL", lambda i: alerts_late(i, moog=msgspec.structs.replace(OPEN, reason="config"))),
    ("moog-outage", "MOOG_CA", lambda i: alerts_late(i, moog=msgspec.structs.replace(OPEN, reason="certificate"))),
    # Moog asked for a pause.
    ("moog-outage", "everyone pauses", always(moog=Moog(limit=50, used=0, paused_until=BEGAN + 90, slots=32))),
    # Moog takes requests and says nothing: before the breaker knows of it.
    ("moog-outage", "none comes", lambda i: asked(i, used=3) | {"roles": {"moog": BUSY}}),
    # Workers are busy, and what they do is wait for PostgreSQL: it writes, too slowly, or nothing at all.
    ("postgres-writes", "writes are too slow", lambda i: late(i, roles={"alerts": BUSY | {"store_share": 0.9}})),
    ("postgres-writes", "takes no writes", lambda i: stands(i, roles={"alerts": BUSY | {"store_share": 1.0}})),
    # Nothing waits yet, but a COMMIT takes most of a second.
    ("postgres-writes", "keeps up so far", always(postgres=Postgres(0.5, 1000.0, 700.0, 20, 100))),
    # Redis has one core for commands.
    ("redis-core", "of the core", always(redis=Redis("h:1", 50 << 20, 1 << 30, 0.97, 90_000.0))),
    # Workers are busy with evaluating: more of them help.
    ("alerts-behind", "about 3 in all", lambda i: late(i, roles={"alerts": BUSY})),
    # The machine has no core left: not here.
    ("alerts-behind", "its cores are taken", lambda i: late(i, roles={"alerts": BUSY | {"cpu": 0.4, "starved": 0.55}})),
    # They run, do nothing, and the work stands.
    ("alerts-behind", "take no work", lambda i: stands(i, roles={"alerts": {"busy": 0.1, "store_share": 0.2}})),
    # Ingest has its core, or would have it if others left it to it.
    ("ingest-cpu", "no processor left", always(roles={"ingest": {"cpu": 0.97, "p99_ms": 700.0}})),
    ("ingest-cpu", "others left it", always(roles={"ingest": {"cpu": 0.5, "starved": 0.5, "p99_ms": 700.0}})),
    # The processor is free, and answers are slow or refused: Redis, or the queue is full.
    ("ingest-latency", "answers slowly", always(roles={"ingest": {"cpu": 0.2, "p99_ms": 900.0}})),
    ("ingest-latency", "are refused", always(roles={"ingest": {"cpu": 0.2, "refused": 40.0}})),
    # The budget is used up while alerts wait: more forwarders send no more.
    ("moog-limit", "More forwarders will not help", lambda i: alerts_late(i, moog=LIMIT)),
    ("moog-limit", "drained in", lambda i: alerts_late(i, moog=LIMIT, waiting=2000 - 40 * i)),
    # The budget is free, and every thread waits for Moog's answer: rate times latency is more than there are threads.
    ("forwarders-behind", "about 200 threads", lambda i: alerts_late(i, moog=SLOW, roles={"moog": BUSY})),
    # Threads, budget and alerts are there, and little goes: the machine has no core for them, or Redis is slow.
    ("forwarders-behind", "a free core", lambda i: alerts_late(i, roles={"moog": {"busy": 0.02, "starved": 1.3}})),
    ("forwarders-behind", "how long Redis takes", lambda i: alerts_late(i, roles={"moog": {"busy": 0.02}})),
    # A part of the budget is free and alerts wait: their limit it is not.
    ("forwarders-behind", "41 of 50", lambda i: alerts_late(i, moog=msgspec.structs.replace(LIMIT, used=41))),
    # They get fewer, and would go at once: the budget is free.
    ("forwarders-behind", "drained in", lambda i: alerts_late(i, waiting=400 - 5 * i, queues={LANES[2]: (9, 92.0)})),
    # Most stand behind others of their signature: the lane itself is young, and what goes takes minutes for them.
    ("forwarders-behind", "drained in", lambda i: alerts_late(i, waiting=9000 - 40 * i, queues={LANES[2]: (400, 6.0)})),
    # They live and send nothing, longer than a dead one's alerts need to be taken over.
    ("forwarders-behind", "send nothing", lambda i: asked(i) | {"queues": {LANES[2]: (9, 60.0 + 5 * i)}}),
    # Outcomes wait to be written: nobody is held up, but pages are wrong.
    ("record-behind", "written late", always(queues={"delivery_queue": (900, 60.0)})),
    # Pages take seconds.
    ("slow-pages", "DATABASE_READ_URL", always(roles={"admin": {"p99_ms": 4200.0}})),
    # Any dead letter wants a person.
    ("dead-letters", "3 in alerts", always(queues={"dlq:alerts": (3, 500.0)})),
    # A source that should speak says nothing.
    ("source-silent", "of probe", always(silent={"probe": BEGAN - 900})),
)  # fmt: skip


@pytest.mark.parametrize(("name", "says", "story"), ROWS, ids=[f"{i}-{row[0]}" for i, row in enumerate(ROWS)])
def test_each_trouble_is_named_first_with_figures_and_what_to_do(name: str, says: str, story: Story) -> None:
    troubles = judged(story)
    assert troubles, "nothing was named"
    first = troubles[0]
    assert first.name == name, troubles
    assert says in " ".join((first.title, first.why, first.do)), first
    assert re.search(r"\d", first.why) and first.do.endswith(".") and first.command


def test_every_trouble_has_a_row() -> None:
    assert {name for name, _, _ in ROWS} == set(TROUBLES)


#: What one reading is enough for: dead letters, a breaker that is open, and who has said nothing for ten seconds.
AT_ONCE = {
    "dead-letters",
    "source-silent",
    "redis-away",
    "moog-outage",
    "alerts-away",
    "moog-away",
    "record-away",
    "ingest-away",
}


@pytest.mark.parametrize("name", [name for name in TROUBLES if name not in AT_ONCE])
def test_what_is_wrong_in_one_reading_alone_is_no_trouble(name: str) -> None:
    story = next(story for of, _, story in ROWS if of == name)
    quiet: Story = lambda i: story(i) if i == 12 else {}  # noqa: E731
    assert name not in named(quiet)


@pytest.mark.parametrize(
    ("name", "reached"),
    [
        ("10.0.0.5:6379", "-h 10.0.0.5 -p 6379"),
        ("10.0.0.5:6379/3", "-h 10.0.0.5 -p 6379"),
        ("mutt@s1:26379,s2:26379", "-h PRIMARY"),
        ("/run/redis/redis.sock", "-s /run/redis/redis.sock"),
        ("/run/redis/redis.sock/2", "-s /run/redis/redis.sock"),
    ],
    ids=["tcp", "database", "sentinel", "socket", "database-of-socket"],
)
def test_the_command_that_gives_redis_room_reaches_it(name: str, reached: str) -> None:
    redis = Redis(name, 900 << 20, 1 << 30, 0.2, 5000.0)
    [trouble] = judged(always(redis=redis))
    assert trouble.command == f"redis-cli {reached} CONFIG SET maxmemory 1800mb"


def test_a_system_that_is_well_has_no_trouble() -> None:
    assert judged(always()) == []
    assert judged(always(), readings=1) == []


def test_an_idle_system_has_no_trouble() -> None:
    idle = {"cpu": 0.01, "busy": 0.0, "p99_ms": None, "store_share": 0.0}
    assert judged(always(into=0.0, roles=dict.fromkeys(ROLES, idle))) == []


def test_no_reading_is_no_trouble() -> None:
    assert judge([], []) == []


def test_a_storm_that_is_drained_is_not_behind() -> None:
    # 60,000 events wait and become 2,000 fewer a reading: gone in two and a half minutes, whoever does nothing.
    story: Story = lambda i: {  # noqa: E731
        "queued": 60_000 - 2000 * i,
        "queues": {"ingest_queue": (120 - 4 * i, 45.0 - i)},
        "roles": {"alerts": BUSY},
    }
    assert named(story) == []


def test_a_backlog_that_would_be_drained_tomorrow_is_behind() -> None:
    story: Story = lambda i: {  # noqa: E731
        "queued": 600_000 - 20 * i,
        "queues": {"ingest_queue": (1200, 600.0)},
        "roles": {"alerts": BUSY},
    }
    assert named(story) == ["alerts-behind"]


def test_what_a_dead_worker_held_until_it_is_taken_over_is_no_backlog() -> None:
    story: Story = lambda i: {"queued": 500, "queues": {"ingest_queue": (1, 5.0 * i)}}  # noqa: E731
    assert named(story) == []


def test_a_full_budget_without_a_wait_is_no_trouble() -> None:
    assert named(always(moog=LIMIT, waiting=20, queues={LANES[0]: (20, 0.3)})) == []


def test_what_swings_around_a_limit_does_not_flicker() -> None:
    shares = [0.71, 0.72] + [0.69, 0.71] * 5
    found = [
        "redis-memory" in named(lambda i: {"redis": full(shares[i])}, readings=n)
        for n in range(2, len(shares) + 1)
    ]
    assert all(found)


def test_without_an_answer_of_redis_nobody_is_said_to_be_gone() -> None:
    samples, points = told(always())
    away = Sample(at=samples[-1].at + EVERY, away={"redis": "Redis at h:1 does not answer: refused"})
    later = Sample(at=away.at + EVERY, away=away.away)
    assert [one.name for one in judge([*samples, away, later], points)] == ["redis-away"]
    # Where nobody else looks, the first reading is believed.
    assert [one.name for one in judge([away], [])] == ["redis-away"]


def test_what_postgresql_held_up_is_nobody_elses_fault_for_a_while() -> None:
    """The backlog of an outage that is over is worked off: nobody is told to start workers for it."""
    gone = {"away": {"postgres": "it does not answer"}, "postgres": None}
    assert named(lambda i: late(i, roles={"alerts": BUSY}, **(gone if 5 < i < 10 else {}))) == []


def test_a_role_that_an_older_mutt_serves_without_a_word_is_not_gone() -> None:
    # Events are settled, so somebody is there.
    assert "alerts-away" not in named(lambda i: {**late(i), **no("alerts")})


@pytest.mark.parametrize("used", range(51))
def test_whatever_the_budget_alerts_that_pile_up_have_one_name(used: int) -> None:
    moog = msgspec.structs.replace(LIMIT, used=used)
    story: Story = lambda i: alerts_late(i, moog=moog)  # noqa: E731
    assert named(story) == ["moog-limit" if used >= 45 else "forwarders-behind"]


@pytest.mark.parametrize(
    "outage",
    [{"moog": OPEN}, {"moog": Moog(), "away": {"redis": "it does not answer"}, "queues": {}}],
    ids=["of-moog", "of-redis"],
)
def test_an_outage_that_is_over_is_worked_off_at_moogs_limit_and_nobody_is_held_up(
    outage: dict[str, Any],
) -> None:
    def story(i: int) -> dict[str, Any]:
        waiting = 2000 if i < 8 else 2000 - 250 * (i - 7)
        usual = {"waiting": waiting, "queues": {LANES[2]: (waiting, 300.0)}, "moog": LIMIT}
        return usual | outage if i < 8 else usual

    assert "forwarders-behind" not in {name for n in range(8, 14) for name in named(story, n)}


def test_a_critical_alert_that_waits_is_urgent_however_soon_the_rest_is_gone() -> None:
    story: Story = lambda i: alerts_late(i, moog=LIMIT, waiting=2000 - 40 * i)  # noqa: E731
    assert [one.urgent for one in judged(story)] == [False]
    critical: Story = lambda i: {**story(i), "queues": {LANES[0]: (50, 9.0)}}  # noqa: E731
    assert [one.urgent for one in judged(critical)] == [True]


def test_ingest_refuses_where_the_judge_says_so() -> None:
    assert FULL == MEMORY_SHARE


def test_settings_that_are_spoken_of_exist() -> None:
    spoken = " ".join(f"{one.why} {one.do}" for _, _, story in ROWS for one in judged(story))
    known = {field.upper() for field in Settings.__dataclass_fields__} | {"STREAM_URLS"}
    assert set(re.findall(r"\b[A-Z]+_[A-Z_]+\b", spoken)) <= known


counts = st.integers(0, 1 << 40)
numbers = st.floats(0, 1e9)


def _some(cls: type[Any], **more: Any) -> st.SearchStrategy[Any]:
    """Any value of a struct: by its fields' types."""
    of = {"str": st.text(max_size=5), "int": counts, "float": numbers, "float | None": st.none() | numbers}
    fields = {
        f.name: more.get(f.name, of.get(str(cls.__annotations__[f.name]), st.none()))
        for f in msgspec.structs.fields(cls)
    }
    return st.builds(cls, **fields)


roles = st.sampled_from([*ROLES])
samples = _some(
    Sample,
    at=st.floats(BEGAN, BEGAN + 120),
    queues=st.lists(_some(Queue, name=st.sampled_from(QUEUES)), max_size=2).map(tuple),
    events=st.dictionaries(st.sampled_from(["accepted", "settled", "queued", "parked"]), counts),
    alerts=st.dictionaries(st.sampled_from(["raised", "delivered", "waiting"]), counts),
    processes=st.lists(_some(Process, role=roles, at=st.floats(BEGAN, BEGAN + 99)), max_size=2).map(tuple),
    redis=st.lists(_some(Redis), max_size=2).map(tuple),
    postgres=st.none() | _some(Postgres),
    moog=_some(Moog, breaker=st.sampled_from(["closed", "open", "half open", "?"])),
    away=st.dictionaries(st.sampled_from(["redis", "postgres"]), st.text(max_size=9)),
    counters=st.just({}),
)  # fmt: skip


@given(st.lists(samples, max_size=3), st.lists(_some(Point), max_size=1))
def test_any_readings_are_judged_in_the_order_of_the_cure(found: list[Sample], points: list[Point]) -> None:
    names = [one.name for one in judge(found, points)]
    assert names == sorted(set(names), key=TROUBLES.index)
