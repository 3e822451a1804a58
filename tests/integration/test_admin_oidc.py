"""Login by an OpenID provider over HTTP: who gets in, as what, and whom nothing that a provider says lets in."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine

from mutt import passwords
from mutt.errors import SettingsError
from mutt.settings import Settings
from mutt.store import users
from mutt.store.engine import transaction
from mutt.store.tables import config_audit_log
from mutt.store.users import Role, User
from mutt.web.admin.app import make_admin
from tests.admin_client import PASSWORD, hidden, settings_of
from tests.admin_client import log_in as log_in_as_administrator
from tests.oidc_provider import (
    ALICE,
    CLIENT_ID,
    CLIENT_SECRET,
    Provider,
    log_in,
    own_certificate,
    provider,
    visit,
)

HOME = "http://localhost"
BACK = HOME + "/login/oidc/callback"
BY_US: Any = {"changed_by": "test", "reason": "", "correlation_id": ""}


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with provider() as made:
        yield made


@pytest.fixture
def op(running: Provider) -> Provider:
    """The provider, as if it had been started just now."""
    running.__dict__ |= {
        "person": dict(ALICE), "fault": "", "only_userinfo": set(), "redirect_uris": {BACK, HOME + "/login"},
        "ends_sessions": True, "secret": CLIENT_SECRET, "seen": [],
    }  # fmt: skip
    return running


class Site:
    """An admin whose users log in at the provider."""

    def __init__(self, engine: Engine, database_url: str, op: Provider, **more: Any) -> None:
        self.engine, self.op = engine, op
        told = {
            "oidc_issuer": op.issuer, "oidc_client_id": CLIENT_ID, "oidc_client_secret": CLIENT_SECRET,
            "admin_url": HOME, "oidc_name": "Example ID",
            "oidc_roles": (("netops", "operator"), ("mutt-admins", "admin"), ("visitors", "viewer")),
        }  # fmt: skip
        self.app: Flask = make_admin(settings_of(database_url, **told | more), engine)
        self.client: FlaskClient = self.app.test_client()

    def log_in(self, page: str = "/login/oidc") -> Any:
        return log_in(self.client, page)

    def is_in(self) -> bool:
        return self.client.get("/").status_code == 200

    def user(self, subject: str = ALICE["sub"]) -> User | None:  # type: ignore[assignment]
        with transaction(self.engine) as conn:
            return users.by_subject(conn, self.op.issuer, subject)

    def in_session(self) -> dict[str, Any]:
        with self.client.session_transaction() as found:
            return dict(found)


@pytest.fixture
def site(engine: Engine, database_url: str, op: Provider) -> Site:
    return Site(engine, database_url, op)


def test_who_logs_in_there_is_a_user_here_with_the_highest_role_of_their_groups(site: Site) -> None:
    site.op.person["groups"] = ["visitors", "netops", "nobody's"]
    answer = site.log_in("/login/oidc?next=/rules/?q=fan")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/rules/?q=fan")
    assert site.is_in()
    found = site.user()
    assert found
    assert (found.name, found.role, found.password_hash) == ("alice", Role.OPERATOR, None)
    assert found.last_login_at


def test_the_request_has_pkce_state_and_nonce_and_none_of_them_twice(site: Site) -> None:
    asked = [parse_qs(urlsplit(site.client.get("/login/oidc").headers["Location"]).query) for _ in range(2)]
    assert asked[0]["code_challenge_method"] == ["S256"]
    assert asked[0]["redirect_uri"] == [BACK]
    for name in ("code_challenge", "state", "nonce"):
        assert len(asked[0][name][0]) >= 20
        assert asked[0][name] != asked[1][name]


def test_a_forged_host_moves_no_address_of_ours(site: Site) -> None:
    answer = site.client.get("/login/oidc", headers={"Host": "evil.example.net", "X-Forwarded-Host": "evil"})
    assert parse_qs(urlsplit(answer.headers["Location"]).query)["redirect_uri"] == [BACK]
    assert "evil" not in site.client.get("/login", headers={"Host": "evil.example.net"}).text


def test_the_role_is_renewed_at_each_login_and_another_one_ends_the_sessions_of_the_old(site: Site) -> None:
    site.log_in()
    other = site.app.test_client()
    site.op.person["groups"] = ["mutt-admins"]
    assert log_in(other).status_code == 302
    found = site.user()
    assert found
    assert found.role is Role.ADMIN
    assert not site.is_in()
    with transaction(site.engine) as conn:
        notes = config_audit_log.select().where(config_audit_log.c.table_name == "users").order_by("id")
        made, changed = conn.execute(notes)
    assert (made.operation, changed.operation) == ("CREATE", "UPDATE")
    assert (changed.changed_by, changed.before["role"], changed.after["role"]) == (
        "mutt",
        "operator",
        "admin",
    )


def test_first_logins_at_once_make_one_user(site: Site) -> None:
    browsers = [site.app.test_client() for _ in range(4)]
    with ThreadPoolExecutor(len(browsers)) as pool:
        assert [answer.status_code for answer in pool.map(log_in, browsers)] == [302] * len(browsers)
    assert [browser.get("/").status_code for browser in browsers] == [200] * len(browsers)


def test_another_process_knows_who_came_first_to_this_one(site: Site, database_url: str) -> None:
    other = Site(site.engine, database_url, site.op)
    assert log_in_as_administrator(other.client).status_code == 302
    assert other.client.get("/users/").status_code == 200  # its copy of the users is new, and without them
    site.log_in()
    cookie = site.client.get_cookie("mutt_admin")
    assert cookie
    browser = other.app.test_client()
    browser.set_cookie("mutt_admin", cookie.value)
    assert browser.get("/").status_code == 200


def test_who_has_no_role_stays_out_and_who_lost_it_is_out_at_once(site: Site) -> None:
    site.op.person["groups"] = ["everybody"]
    assert site.log_in().status_code == 403
    assert site.user() is None
    site.op.person["groups"] = ["netops"]
    assert site.log_in().status_code == 302
    site.op.person["groups"] = []
    assert log_in(site.app.test_client()).status_code == 403
    assert not site.is_in()


def test_everybodys_role_is_for_whom_the_provider_knows(
    engine: Engine, database_url: str, op: Provider
) -> None:
    site = Site(engine, database_url, op, oidc_roles=(("*", "viewer"), ("netops", "operator")))
    op.person |= {"groups": None, "sub": "bob", "preferred_username": "bob"}
    assert site.log_in().status_code == 302
    found = site.user("bob")
    assert found
    assert found.role is Role.VIEWER


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("roles", ["netops"]),
        ("roles", "netops"),
        ("realm_access.roles", {"realm_access": {"roles": ["x", "netops"]}}),
        ("https://example.net/roles", ["netops"]),
    ],
)
def test_the_claim_with_the_groups_may_be_anywhere(
    engine: Engine, database_url: str, op: Provider, claim: str, value: Any
) -> None:
    site = Site(engine, database_url, op, oidc_role_claim=claim)
    op.person |= value if isinstance(value, dict) else {claim: value}
    assert site.log_in().status_code == 302


def test_groups_that_only_the_userinfo_tells_count(site: Site) -> None:
    site.op.only_userinfo = {"groups"}
    assert site.log_in().status_code == 302
    assert "/userinfo" in site.op.seen


def test_a_name_is_what_can_be_one_here(site: Site) -> None:
    for n, (claims, name) in enumerate(
        (
            ({"preferred_username": "A.Example@Example.net"}, "a.example@example.net"),
            ({"preferred_username": "Älice"}, "alice@example.net"),
            ({"preferred_username": "<b>", "email": None}, "oidc-"),
            ({"preferred_username": 5, "email": ["x"]}, "oidc-"),
        )
    ):
        site.op.person = {**ALICE, **claims, "sub": f"one-{n}"}
        assert log_in(site.app.test_client()).status_code == 302
        found = site.user(f"one-{n}")
        assert found
        assert found.name.startswith(name)


def test_a_user_is_known_by_their_subject_whatever_they_are_called_now(site: Site) -> None:
    site.log_in()
    first = site.user()
    site.op.person["preferred_username"] = "alice-married"
    assert log_in(site.app.test_client()).status_code == 302
    assert first
    assert site.user() and site.user().name == first.name  # type: ignore[union-attr]


@pytest.mark.parametrize("taken", ["local", "another subject", "admin", "api"])
def test_nobody_is_taken_for_a_user_of_the_same_name(site: Site, taken: str) -> None:
    with transaction(site.engine) as conn:
        if taken == "local":
            users.make(conn, "alice", Role.ADMIN, password_hash=passwords.hashed("x" * 20), **BY_US)
        elif taken == "another subject":
            users.make(conn, "alice", Role.ADMIN, issuer=site.op.issuer, subject="of another", **BY_US)
        else:
            site.op.person["preferred_username"] = taken
    answer = site.log_in()
    assert answer.status_code == 409
    assert not site.is_in()
    assert site.user() is None


def test_a_disabled_user_stays_out(site: Site) -> None:
    site.log_in()
    with transaction(site.engine) as conn:
        users.change(conn, "alice", is_active=False, **BY_US)
    assert not site.is_in()
    assert log_in(site.app.test_client()).status_code == 403


FORGED = (
    "wrong nonce", "no nonce", "wrong audience", "wrong party", "wrong issuer", "wrong access token", "expired",
    "of tomorrow", "no end", "no subject", "empty subject", "alg none", "HS256 by the public key",
    "HS256 by the client's secret", "unknown key", "another's key", "no token at all", "no id token",
)  # fmt: skip


def test_a_token_that_is_not_right_in_everything_lets_nobody_in(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    for fault in FORGED:
        site.op.fault = fault
        caplog.clear()
        assert site.log_in().status_code == 403, fault
        assert not site.is_in(), fault
        assert any(record.name == "mutt.admin" for record in caplog.records), fault
    assert site.user() is None
    site.op.fault = ""
    assert site.log_in().status_code == 302


def test_a_provider_that_fails_before_the_login_is_a_page_and_a_login_after_it_is_well(
    engine: Engine, database_url: str, op: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mutt.web.provider._SILENT", 0.0)
    hasty, site = Site(engine, database_url, op, oidc_timeout=0.5), Site(engine, database_url, op)
    for fault in ("away", "slow", "another issuer", "plain http", "a list"):
        site.op.fault = fault
        answer = (hasty if fault == "slow" else site).client.get("/login/oidc")
        assert answer.status_code == 503, fault
        assert 'href="/login"' in answer.text
    site.op.fault = ""
    assert site.log_in().status_code == 302


def test_a_provider_that_is_away_is_not_asked_by_each_visitor(site: Site) -> None:
    site.op.fault = "away"
    assert {site.client.get("/login/oidc").status_code for _ in range(5)} == {503}
    assert len(site.op.seen) == 1


def test_a_provider_that_fails_on_the_way_is_a_page(site: Site) -> None:
    for fault, status in (("500 /token", 503), ("500 /jwks", 503), ("denied", 403), ("wrong state", 400)):
        site.op.fault = fault
        answer = site.log_in()
        assert answer.status_code == status, fault
        assert "<b>" not in answer.text
        assert not site.is_in()


def test_the_admin_starts_and_the_administrator_logs_in_while_the_provider_is_away(
    engine: Engine, database_url: str, op: Provider
) -> None:
    site = Site(engine, database_url, op, oidc_issuer="http://127.0.0.1:9", oidc_only=True)
    assert log_in_as_administrator(site.client, PASSWORD).status_code == 302
    assert site.is_in()


def test_a_new_key_of_the_provider_is_found(site: Site) -> None:
    site.log_in()
    site.op.rotate()
    assert log_in(site.app.test_client()).status_code == 302


def test_without_a_secret_the_client_is_a_public_one(engine: Engine, database_url: str, op: Provider) -> None:
    op.secret = ""
    assert Site(engine, database_url, op, oidc_client_secret="").log_in().status_code == 302


def test_no_secret_of_a_login_is_in_a_log_or_on_a_page(
    engine: Engine, database_url: str, op: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    site = Site(engine, database_url, op, oidc_client_secret="not-the-secret-of-the-client")
    told = []
    for fault in ("", "no id token"):
        site.op.fault = fault
        back = urlsplit(visit(site.client.get("/login/oidc").headers["Location"]))
        kept = site.in_session()["oidc"]
        op.secret = CLIENT_SECRET if fault else "not-the-secret-of-the-client"[:-1]
        told.append(site.client.get(f"{back.path}?{back.query}").text)
        secrets = [
            parse_qs(back.query)["code"][0],
            kept["code_verifier"],
            kept["nonce"],
            "the-secret-of-the-client",
        ]
        ours = [
            record.getMessage()
            for record in caplog.records
            if record.name.split(".")[0] in ("mutt", "authlib")
        ]
        assert ours
        assert not [secret for secret in secrets for text in (*told, *ours) if secret in text]


def test_the_way_back_is_open_once_and_only_to_the_browser_that_began(site: Site) -> None:
    back = urlsplit(visit(site.client.get("/login/oidc").headers["Location"]))
    page = f"{back.path}?{back.query}"
    other = site.app.test_client()
    assert other.get(page).status_code == 400
    other.get("/login/oidc")
    assert other.get(page).status_code == 400
    copy = site.client.get_cookie("mutt_admin")
    assert copy
    assert site.client.get(page).status_code == 302
    again = site.app.test_client()
    again.set_cookie("mutt_admin", copy.value)
    assert again.get(page).status_code == 502  # the provider takes a code once


def test_a_login_that_took_too_long_is_begun_anew(site: Site) -> None:
    back = urlsplit(visit(site.client.get("/login/oidc").headers["Location"]))
    with site.client.session_transaction() as found:
        found["oidc"] = {**found["oidc"], "at": found["oidc"]["at"] - 601}
    assert site.client.get(f"{back.path}?{back.query}").status_code == 400
    assert site.log_in().status_code == 302


def test_an_answer_of_another_provider_is_none(site: Site) -> None:
    back = urlsplit(visit(site.client.get("/login/oidc").headers["Location"]))
    page = f"{back.path}?{back.query}&{urlencode({'iss': 'https://evil.example.net'})}"
    assert site.client.get(page).status_code == 403


def test_who_logs_out_here_is_led_to_the_providers_logout_and_back(site: Site) -> None:
    site.log_in()
    shown = site.client.get("/").text
    answer = site.client.post("/logout", data={"csrf_token": hidden(shown, "csrf_token")})
    assert answer.headers["Location"] == "/login"
    assert "/logout/oidc" in site.client.get("/login").text
    there = site.client.get("/logout/oidc").headers["Location"]
    assert there.startswith(site.op.issuer + "/logout?")
    assert urlsplit(visit(there))._replace(query="").geturl() == HOME + "/login"
    site.client.get("/login/oidc")


def test_a_provider_without_a_logout_leaves_one_at_the_login(site: Site) -> None:
    site.op.ends_sessions = False
    assert site.client.get("/logout/oidc").headers["Location"] == "/login"


def test_oidc_only_keeps_passwords_out_but_the_administrators(
    engine: Engine, database_url: str, op: Provider
) -> None:
    with transaction(engine) as conn:
        users.make(conn, "bob", Role.ADMIN, password_hash=passwords.hashed("correct horse"), **BY_US)
    for only, status in ((False, 302), (True, 403)):
        client = Site(engine, database_url, op, oidc_only=only).client
        page = client.get("/login").text
        given = {"name": "bob", "password": "correct horse", "csrf_token": hidden(page, "csrf_token")}
        assert client.post("/login", data=given).status_code == status


def test_oidc_only_ends_the_sessions_that_began_with_a_password(
    engine: Engine, database_url: str, op: Provider
) -> None:
    with transaction(engine) as conn:
        users.make(conn, "bob", Role.ADMIN, password_hash=passwords.hashed("correct horse"), **BY_US)
    before, after = (Site(engine, database_url, op, oidc_only=only) for only in (False, True))
    page = before.client.get("/login").text
    given = {"name": "bob", "password": "correct horse", "csrf_token": hidden(page, "csrf_token")}
    assert before.client.post("/login", data=given).status_code == 302
    assert before.client.get("/").status_code == 200
    after.client.set_cookie("mutt_admin", before.client.get_cookie("mutt_admin").value)
    assert after.client.get("/").status_code == 302


def test_a_provider_with_a_ca_of_its_own_is_believed_by_that_alone(
    engine: Engine, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = own_certificate(tmp_path / "provider.pem")
    other = own_certificate(tmp_path / "other.pem")
    # What the environment names is not asked when there is one of the provider's.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    with provider(certificate) as op:
        op.redirect_uris.add(BACK)
        assert Site(engine, database_url, op, oidc_ca=str(other)).client.get("/login/oidc").status_code == 503
        good = Site(engine, database_url, op, oidc_ca=str(certificate))
        assert log_in(good.client, certificate=certificate).status_code == 302


GOOD: dict[str, str] = {
    "OIDC_ISSUER": "https://id.example.net/realms/x", "OIDC_CLIENT_ID": "mutt", "OIDC_ROLES": "netops=operator",
    "ADMIN_URL": "https://mutt.example.net/", "ADMIN_PASSWORD": "x", "DATABASE_URL": "postgresql://x/y",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OIDC_ISSUER", "http://id.example.net"),
        ("OIDC_ISSUER", "https://user:password@id.example.net"),
        ("OIDC_ISSUER", "id.example.net"),
        ("OIDC_ISSUER", "https://[::1"),
        ("OIDC_ISSUER", "https://id.example.net:port"),
        ("OIDC_ISSUER", "https://id.example.net/?x"),
        ("OIDC_CLIENT_ID", ""),
        ("OIDC_ROLES", ""),
        ("OIDC_ROLES", "netops"),
        ("OIDC_ROLES", "netops=root"),
        ("OIDC_ROLES", "=viewer"),
        ("OIDC_CA", "/no/such/file"),
        ("ADMIN_URL", ""),
        ("ADMIN_URL", "http://mutt.example.net"),
        ("ADMIN_URL", "https://mutt.example.net/mutt"),
    ],
)
def test_a_setting_that_is_wrong_or_missing_stops_the_start_by_its_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        make_admin(Settings.from_env({**GOOD, name: value}))
    assert refused.value.name == name
    assert "password" not in str(refused.value)


def test_settings_of_the_provider_are_read_as_they_are_written() -> None:
    told = Settings.from_env({**GOOD, "OIDC_ROLES": "cn=netops,ou=groups=Operator; *=viewer"})
    assert told.oidc_roles == (("cn=netops,ou=groups", "operator"), ("*", "viewer"))
    assert told.admin_url == "https://mutt.example.net"
    make_admin(told)
