"""API keys in PostgreSQL: what is made is good, what ends is not, and the history tells of it without a secret."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, select, text, update

from mutt.errors import Refused
from mutt.grant import INGEST, MANAGEMENT, Signing, digest_of
from mutt.store import keys
from mutt.store.engine import transaction
from mutt.store.history import Said
from mutt.store.tables import api_key_secrets, api_keys, config_audit_log

SAID: Said = {"changed_by": "anna", "reason": "a new site", "correlation_id": "corr"}
HOUR = timedelta(hours=1)


@pytest.fixture
def conn(engine: Engine) -> Iterator[Connection]:
    with transaction(engine) as made:
        yield made


def is_good(conn: Connection, key: str) -> bool:
    return digest_of(key.encode()) in keys.copy(conn)


def notes(conn: Connection) -> list[Any]:
    noted = config_audit_log.c
    query = select(config_audit_log).where(noted.table_name == api_keys.name)
    return list(conn.execute(query.order_by(noted.id)))


def expire(conn: Connection, key: str) -> None:
    """As if its time were over."""
    mine = api_key_secrets.c.digest == digest_of(key.encode())
    conn.execute(update(api_key_secrets).where(mine).values(expires_at=datetime.now(UTC) - HOUR))


def test_a_new_key_is_good_for_what_was_said(conn: Connection) -> None:
    """Its grant says its name, scopes, formats, quota and end; its text is 256 bits that stand nowhere."""
    ends = datetime.now(UTC) + HOUR
    made, key = keys.make(
        conn, "site-7", [MANAGEMENT, INGEST], ["syslog", "native"], 600, ends, "rack 4", **SAID
    )
    grant = keys.copy(conn)[digest_of(key.encode())]
    assert (grant.name, grant.scopes, grant.formats) == ("site-7", (INGEST, MANAGEMENT), ("native", "syslog"))
    assert (grant.quota, grant.expires, grant.signing) == (600, ends.timestamp(), None)
    assert (made.note, made.created_by, made.secrets[0].hint) == ("rack 4", "anna", key[-4:])
    assert key.startswith("mutt_") and len(key) == len("mutt_") + 43
    assert key not in str(conn.execute(select(api_keys, api_key_secrets).join(api_keys)).all())


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("name", {"name": "Site"}),
        ("name", {"name": ""}),
        ("name", {"name": "a" * 65}),
        ("name", {"name": "a\n"}),
        ("name", {"name": "bootstrap"}),
        ("scopes", {"scopes": []}),
        ("scopes", {"scopes": ["all"]}),
        ("formats", {"formats": ["carrier-pigeon"]}),
        ("quota", {"quota": 0}),
        ("quota", {"quota": 2**31}),
        ("expires_at", {"expires_at": datetime.now(UTC) - HOUR}),
        ("note", {"note": "x" * 501}),
    ],
)
def test_what_a_key_cannot_be_is_refused_by_field(
    conn: Connection, field: str, given: dict[str, Any]
) -> None:
    """And nothing is made, nor noted."""
    with pytest.raises(Refused) as caught:
        keys.make(conn, **{"name": "site-7", "scopes": [INGEST], **given}, **SAID)
    assert caught.value.field == field
    assert keys.listed(conn) == [] == notes(conn)


def test_a_name_is_given_once(conn: Connection) -> None:
    """Also where its key is revoked: rows and repeats hang on it."""
    keys.make(conn, "site-7", [INGEST], **SAID)
    keys.revoke(conn, "site-7", **SAID)
    with pytest.raises(Refused) as caught:
        keys.make(conn, "site-7", [INGEST], **SAID)
    assert caught.value.field == "name"


def test_two_texts_are_good_at_once_and_a_third_is_refused(conn: Connection) -> None:
    """Until one has ended, by its time or because it was revoked."""
    _, first = keys.make(conn, "site-7", [INGEST], **SAID)
    second = keys.rotate(conn, "site-7", HOUR, **SAID)
    assert is_good(conn, first) and is_good(conn, second)
    with pytest.raises(Refused) as caught:
        keys.rotate(conn, "site-7", HOUR, **SAID)
    assert caught.value.field == "name"
    expire(conn, first)
    third = keys.rotate(conn, "site-7", HOUR, **SAID)
    assert [is_good(conn, key) for key in (first, second, third)] == [False, True, True]
    keys.revoke_secret(conn, "site-7", digest_of(second.encode()), **SAID)
    assert [is_good(conn, key) for key in (second, third)] == [False, True]
    assert {grant.name for grant in keys.copy(conn).values()} == {"site-7"}
    with pytest.raises(Refused):
        keys.rotate(conn, "site-7", -HOUR, **SAID)


def test_an_overlap_never_lengthens_a_life_and_none_ends_it_now(conn: Connection) -> None:
    """Who rotates because a key leaked is rid of every older one."""
    soon = datetime.now(UTC) + timedelta(minutes=5)
    _, first = keys.make(conn, "site-7", [INGEST], expires_at=soon, **SAID)
    second = keys.rotate(conn, "site-7", HOUR, soon + HOUR, **SAID)
    assert keys.copy(conn)[digest_of(first.encode())].expires == soon.timestamp()
    assert keys.find(conn, "site-7").lifetime > HOUR
    third = keys.rotate(conn, "site-7", timedelta(), **SAID)
    assert [is_good(conn, key) for key in (first, second, third)] == [False, False, True]
    assert keys.find(conn, "site-7").lifetime is None


def test_a_revoked_key_is_dead_for_good(conn: Connection) -> None:
    """Every text of it, also those to come; to revoke it once more says nothing."""
    _, first = keys.make(conn, "site-7", [INGEST], **SAID)
    second = keys.rotate(conn, "site-7", HOUR, **SAID)
    keys.revoke(conn, "site-7", **SAID)
    noted = len(notes(conn))
    keys.revoke(conn, "site-7", **SAID)
    assert len(notes(conn)) == noted
    assert not is_good(conn, first) and not is_good(conn, second)
    for attempt in (
        lambda: keys.rotate(conn, "site-7", HOUR, **SAID),
        lambda: keys.change(conn, "site-7", scopes=[INGEST], formats=[], quota=None, note="", **SAID),
        lambda: keys.sign_with(conn, "site-7", None, **SAID),
    ):
        with pytest.raises(Refused):
            attempt()


def test_of_a_key_that_there_is_not_nothing_can_be_done(conn: Connection) -> None:
    keys.make(conn, "site-7", [INGEST], **SAID)
    for attempt in (
        lambda: keys.find(conn, "site-8"),
        lambda: keys.rotate(conn, "site-8", HOUR, **SAID),
        lambda: keys.revoke(conn, "site-8", **SAID),
        lambda: keys.revoke_secret(conn, "site-7", "0" * 64, **SAID),
    ):
        with pytest.raises(LookupError):
            attempt()


def test_rights_change_without_a_new_text(conn: Connection) -> None:
    """What is in use goes on, with other rights; no change is no note."""
    _, key = keys.make(conn, "site-7", [INGEST], **SAID)
    keys.change(conn, "site-7", scopes=[INGEST], formats=["syslog"], quota=10, note="n", **SAID)
    signing = Signing("X-Signature", "sealed", prefix="sha256=")
    keys.sign_with(conn, "site-7", signing, **SAID)
    grant = keys.copy(conn)[digest_of(key.encode())]
    assert (grant.formats, grant.quota, grant.signing) == (("syslog",), 10, signing)
    assert keys.signed(conn)["site-7"].signing == signing
    noted = len(notes(conn))
    keys.change(conn, "site-7", scopes=[INGEST], formats=["syslog"], quota=10, note="n", **SAID)
    assert len(notes(conn)) == noted
    keys.sign_with(conn, "site-7", None, **SAID)
    assert keys.signed(conn) == {}
    assert conn.execute(text("SELECT signing IS NULL FROM api_keys")).scalar_one()


def test_the_history_tells_who_and_what_and_nothing_that_opens(conn: Connection) -> None:
    """One note a change, with the rights before and after; no text, no digest, no signing secret."""
    _, key = keys.make(conn, "site-7", [INGEST], note="rack 4", **SAID)
    texts = [key, keys.rotate(conn, "site-7", HOUR, **SAID)]
    keys.sign_with(conn, "site-7", Signing("X-Signature", "a sealed secret"), **SAID)
    keys.revoke_secret(conn, "site-7", digest_of(key.encode()), **SAID)
    keys.change(conn, "site-7", scopes=[INGEST], formats=[], quota=5, note="", **SAID)
    keys.revoke(conn, "site-7", **SAID)
    told = notes(conn)
    assert [note.operation for note in told] == ["CREATE", *["UPDATE"] * 5]
    assert {(note.table_name, note.record_id, note.changed_by, note.reason) for note in told} == {
        ("api_keys", "site-7", "anna", "a new site")
    }
    assert [len(note.after["secrets"]) for note in told] == [1, 2, 2, 2, 2, 2]
    assert (told[4].before["quota"], told[4].after["quota"]) == (None, 5)
    written = str([(note.before, note.after) for note in told])
    for secret in (*texts, *(digest_of(one.encode()) for one in texts), "a sealed secret"):
        assert secret not in written
    assert texts[0] not in repr(keys.listed(conn))


def test_a_change_that_is_taken_back_leaves_no_note(engine: Engine) -> None:
    """A change and its note are one transaction."""
    with pytest.raises(ZeroDivisionError), transaction(engine) as conn:
        keys.make(conn, "site-7", [INGEST], **SAID)
        1 / 0  # noqa: B018
    with transaction(engine) as conn:
        assert keys.listed(conn) == [] == notes(conn)


def test_the_last_use_only_moves_on(conn: Connection) -> None:
    """Replicas tell of it in any order."""
    _, key = keys.make(conn, "site-7", [INGEST], **SAID)
    digest, now = digest_of(key.encode()), datetime.now(UTC)
    assert keys.note_use(conn, {digest: now, "0" * 64: now}) == 1
    assert keys.note_use(conn, {digest: now - HOUR}) == 0
    assert keys.find(conn, "site-7").last_used_at == now
    assert keys.note_use(conn, {}) == 0
