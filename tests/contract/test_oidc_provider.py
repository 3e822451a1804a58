"""The tests' OpenID provider is one: Authlib, by itself, finds it in order and logs in at it."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from authlib.oidc.discovery import OpenIDProviderMetadata
from joserfc import jwt
from joserfc.jwk import KeySet

from tests.oidc_provider import ALICE, CLIENT_ID, CLIENT_SECRET, Provider, provider, visit

BACK = "http://127.0.0.1:1/back"
VERIFIER = "v" * 48


@pytest.fixture(scope="module")
def op() -> Iterator[Provider]:
    with provider() as made:
        made.redirect_uris.add(BACK)
        yield made


def session() -> OAuth2Session:
    return OAuth2Session(
        CLIENT_ID, CLIENT_SECRET, redirect_uri=BACK, scope="openid profile", code_challenge_method="S256"
    )


def asked(op: Provider, client: OAuth2Session) -> str:
    url, state = client.create_authorization_url(f"{op.issuer}/authorize", code_verifier=VERIFIER, nonce="n")
    back = visit(url)
    assert parse_qs(urlsplit(back).query)["state"] == [state]
    return back


def test_its_discovery_document_is_valid(op: Provider) -> None:
    told = requests.get(f"{op.issuer}/.well-known/openid-configuration", timeout=10).json()
    # Authlib demands https of each address, as the provider would have it outside of this machine.
    OpenIDProviderMetadata({name: _https(value) for name, value in told.items()}).validate()


def _https(value: object) -> object:
    return value.replace("http:", "https:") if isinstance(value, str) else value


def test_its_login_passes_all_of_authlibs_checks(op: Provider) -> None:
    client = session()
    token = client.fetch_token(
        f"{op.issuer}/token", authorization_response=asked(op, client), code_verifier=VERIFIER
    )
    keys = KeySet.import_key_set(requests.get(f"{op.issuer}/jwks", timeout=10).json())
    found = jwt.decode(token["id_token"], keys, algorithms=["RS256"])
    claims = CodeIDToken(
        found.claims,
        found.header,
        {"iss": {"value": op.issuer}, "aud": {"value": CLIENT_ID}},
        {"nonce": "n", "client_id": CLIENT_ID, "access_token": token["access_token"]},
    )
    claims.validate()
    assert claims["sub"] == ALICE["sub"]
    assert client.get(f"{op.issuer}/userinfo").json() == ALICE


def test_it_gives_no_token_for_a_code_of_another_verifier_or_one_that_was_used(op: Provider) -> None:
    client = session()
    back = asked(op, client)
    for _ in range(2):  # the first try uses it up
        with pytest.raises(OAuthError) as refused:
            client.fetch_token(f"{op.issuer}/token", authorization_response=back, code_verifier="w" * 48)
        assert refused.value.error == "invalid_grant"
    with pytest.raises(OAuthError) as refused:
        client.fetch_token(f"{op.issuer}/token", authorization_response=back, code_verifier=VERIFIER)
    assert refused.value.error == "invalid_grant"


@pytest.mark.parametrize("wrong", [{"client_id": "another"}, {"redirect_uri": "http://evil.example.net/"}])
def test_it_sends_nobody_to_an_address_that_is_not_the_clients(op: Provider, wrong: dict[str, str]) -> None:
    query = {
        "response_type": "code",
        "scope": "openid",
        "client_id": CLIENT_ID,
        "redirect_uri": BACK,
        "state": "s",
    }
    found = requests.get(f"{op.issuer}/authorize", params=query | wrong, allow_redirects=False, timeout=10)
    assert found.status_code == 400
