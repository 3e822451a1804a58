"""The OpenID provider: where its logins begin, and who came back from one. Authlib speaks with it.

It is asked when somebody logs in, never at the start. What it says of itself is believed for an hour, its keys too; a
key that is not among them is looked for at once, for it may have a new one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from authlib.integrations.base_client import BaseApp, OAuth2Mixin, OAuthError, OpenIDMixin
from authlib.integrations.requests_client import OAuth2Session
from joserfc.errors import JoseError

from mutt.errors import LoginFailed, SettingsError
from mutt.settings import Settings, safe_url
from mutt.words import printable

#: Seconds that the provider's description of itself holds, and that its silence does.
_FRESH, _SILENT = 3600.0, 3.0

#: Seconds that its clock and ours may differ.
_LEEWAY = 60

#: By a key that only the provider has. Whoever knows the public one, or the client's secret, could write the others.
_SIGNED = frozenset(
    ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
)

#: Of what it says: where we send browsers, the code, and ourselves.
_NEEDED = ("authorization_endpoint", "token_endpoint", "jwks_uri")
_MORE = ("userinfo_endpoint", "end_session_endpoint")

#: How the client's secret is shown, where the provider takes it so.
_POSTED = "client_secret_post"

# It writes the secrets of a login into its debug lines.
logging.getLogger("authlib").setLevel(logging.INFO)


class _Session(OAuth2Session):
    """The CA that is given to it outweighs the environment's; nobody sends it on elsewhere."""

    def request(self, method: str, url: str, **more: Any) -> Any:
        more.setdefault("verify", self.verify)
        return super().request(method, url, **more | {"allow_redirects": False})


class _Client(OAuth2Mixin, OpenIDMixin, BaseApp):
    client_cls = _Session


class Provider:
    """Talks to the provider that the settings name. Everything here may raise :class:`LoginFailed`."""

    def __init__(self, settings: Settings) -> None:
        """Raises :class:`SettingsError` if another setting is missing."""
        for name in ("oidc_client_id", "oidc_roles", "admin_url"):
            if not getattr(settings, name):
                raise SettingsError(name.upper(), "", "a value: OIDC_ISSUER is set, and needs it")
        if settings.oidc_ca and not Path(settings.oidc_ca).is_file():
            raise SettingsError("OIDC_CA", settings.oidc_ca, "a file of certificates (PEM)")
        self.issuer = settings.oidc_issuer
        self._settings = settings
        self._lock = threading.Lock()
        self._client: _Client | None = None
        self._failure: LoginFailed | None = None
        self._asked_at = float("-inf")

    def begin(self, back: str) -> Mapping[str, str]:
        """A new login: the ``url`` to go to, and the ``state``, ``nonce`` and ``code_verifier`` to keep until then."""
        made: Mapping[str, str] = self._described().create_authorization_url(back)
        return made

    def finish(self, back: str, code: str, nonce: str, code_verifier: str) -> dict[str, Any]:
        """The claims about who logged in; all of them are checked."""
        client = self._described()
        try:
            token = client.fetch_access_token(back, code=code, code_verifier=code_verifier)
            claims = client.parse_id_token(
                token,
                nonce,
                claims_options={
                    "iss": {"essential": True, "value": self.issuer},
                    "aud": {"essential": True, "value": self._settings.oidc_client_id},
                    "sub": {"essential": True},
                },
                leeway=_LEEWAY,
            )
            if claims is None:
                raise LoginFailed("token", "there is no ID token in its answer")
            return self._with_userinfo(client, token, dict(claims))
        except OAuthError as error:
            hidden = (code, code_verifier, client.client_secret or "")
            raise LoginFailed("code", said(error.error, error.description, hidden)) from None
        except requests.RequestException as error:
            raise LoginFailed("away", type(error).__name__) from None
        except (JoseError, ValueError, TypeError, LookupError, AttributeError) as error:
            # Also an answer of another shape than the standard's.
            what = getattr(error, "claim", "")
            raise LoginFailed("token", f"{type(error).__name__} {what}".strip()) from None

    def logout_url(self, back: str) -> str:
        """Where its own session is ended, and the browser sent ``back``; empty: it has no such place."""
        client = self._described()
        if "end_session_endpoint" not in client.server_metadata:
            return ""
        return str(client.create_logout_url(back, client_id=self._settings.oidc_client_id)["url"])

    def _with_userinfo(self, client: _Client, token: Any, claims: dict[str, Any]) -> dict[str, Any]:
        """The claims, with those that the provider tells only when it is asked once more."""
        told = client.server_metadata.get("userinfo_endpoint")
        if not told or values_of(claims, self._settings.oidc_role_claim) is not None:
            return claims
        more = client.userinfo(token=token)
        if more.get("sub") != claims["sub"]:
            raise LoginFailed("token", "the userinfo is of another subject")
        return {**more, **claims}

    def _described(self) -> _Client:
        """A client that knows the provider's description. One thread asks, those that wait get its answer."""
        with self._lock:
            age = time.monotonic() - self._asked_at
            if self._client is not None and age < _FRESH:
                self._client.client_secret = self._secret()
                return self._client
            if self._failure is not None and age < _SILENT:
                raise LoginFailed(self._failure.kind, self._failure.why)
            try:
                self._client, self._failure = self._describe(), None
            except LoginFailed as failure:
                self._client, self._failure = None, failure
                raise
            finally:
                self._asked_at = time.monotonic()
            return self._client

    def _describe(self) -> _Client:
        settings = self._settings
        kept = {"default_timeout": settings.oidc_timeout, "verify": settings.oidc_ca or True}
        url = self.issuer.rstrip("/") + "/.well-known/openid-configuration"
        try:
            with _Session(**kept) as session:
                answer = session.request("GET", url, withhold_token=True)
                answer.raise_for_status()
                told = answer.json()
        except (requests.RequestException, ValueError, OSError) as error:
            raise LoginFailed("away", f"{url}: {type(error).__name__}") from None
        checked = self._checked(told if answer.status_code == 200 else None)
        secret = self._secret()
        if secret and _POSTED in _words(told, "token_endpoint_auth_methods_supported"):
            # As it is: how its characters are written in Basic is read differently by providers.
            kept["token_endpoint_auth_method"] = _POSTED
        return _Client(
            None,
            client_id=settings.oidc_client_id,
            client_secret=secret,
            client_kwargs={**kept, "scope": settings.oidc_scopes, "code_challenge_method": "S256"},
            **checked,
        )

    def _secret(self) -> str | None:
        return self._settings.current("oidc_client_secret") or None

    def _checked(self, told: Any) -> dict[str, Any]:
        """What of its description we use."""
        if not isinstance(told, dict) or told.get("issuer") != self.issuer:
            named = printable(str(told.get("issuer"))[:200]) if isinstance(told, dict) else "nothing"
            raise LoginFailed("setup", f"OIDC_ISSUER is {self.issuer}, but the provider calls itself {named}")
        found = {name: str(told[name]) for name in (*_NEEDED, *_MORE) if told.get(name)}
        missing = [name for name in _NEEDED if name not in found]
        if missing:
            raise LoginFailed("setup", f"the provider names no {', '.join(missing)}")
        for name, url in found.items():
            try:
                safe_url(name, urlsplit(url)._replace(query="", fragment="").geturl())
            except (SettingsError, ValueError):
                raise LoginFailed("setup", f"the provider's {name} is no https:// address") from None
        signed = [name for name in _words(told, "id_token_signing_alg_values_supported") if name in _SIGNED]
        return {**found, "issuer": self.issuer, "id_token_signing_alg_values_supported": signed or ["RS256"]}


def values_of(claims: Mapping[str, Any], path: str) -> list[str] | None:
    """The texts of a claim: of this very name, else by dots into what it holds. None: there is no such claim."""
    found: Any = claims.get(path)
    if found is None:
        found = claims
        for name in path.split("."):
            found = found.get(name) if isinstance(found, Mapping) else None
    if found is None:
        return None
    return [value for value in (found if isinstance(found, list) else [found]) if isinstance(value, str)]


def said(error: object, description: object, hidden: Sequence[str] = ()) -> str:
    """What a provider says of an error, for a log: no secret of the login is in it."""
    text = ": ".join(printable(str(part)).replace("\n", " ") for part in (error, description) if part)
    for secret in filter(None, hidden):
        text = text.replace(secret, "…")
    return text[:300]


def _words(told: Mapping[str, Any], name: str) -> list[str]:
    found = told.get(name)
    return [word for word in found if isinstance(word, str)] if isinstance(found, list) else []
