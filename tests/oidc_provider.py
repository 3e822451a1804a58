"""A small OpenID provider over HTTP on this machine, which can be told to do wrong.

It checks what a provider checks (the client, the redirect address, PKCE, a code's one use), so that a login which it
lets through is one that a real provider lets through. ``tests/contract/test_oidc_provider.py`` holds it to that.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import secrets
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from flask import Flask, Response, jsonify, redirect, render_template_string, request
from flask.testing import FlaskClient
from joserfc import jwt
from joserfc.jwk import RSAKey
from werkzeug.serving import make_server
from werkzeug.test import TestResponse
from werkzeug.wrappers import Response as AnyResponse

CLIENT_ID, CLIENT_SECRET = "mutt", "the-secret-of-the-client"

#: Somebody whom it knows, as it tells clients of them.
ALICE = {
    "sub": "f3a1-alice",
    "preferred_username": "Alice",
    "email": "alice@example.net",
    "name": "Alice Example",
    "groups": ["netops", "everybody"],
}

_ASKS = """<!doctype html><html lang="en"><title>The provider</title><link rel="icon" href="data:,">
<h1>The provider</h1><form method="get" action="/authorize">
{% for name, value in asked.items() %}<input type="hidden" name="{{ name }}" value="{{ value }}">{% endfor %}
<button name="sure" value="yes">I am {{ who }}</button></form></html>"""


class Provider:
    """``person`` is who logs in next; ``fault`` what goes wrong, one of those that are asked for below."""

    def __init__(self) -> None:
        self.issuer = ""
        self.person: dict[str, Any] = dict(ALICE)
        self.fault = ""
        self.asks = False  #: does it show a page, instead of knowing its visitor already?
        self.only_userinfo: set[str] = set()  #: claims that are not in the ID token
        self.redirect_uris: set[str] = set()
        self.ends_sessions = True
        self.secret = CLIENT_SECRET  #: empty: a public client
        self.seen: list[str] = []  #: paths that were asked for
        self._keys: list[RSAKey] = []
        self._codes: dict[str, dict[str, str]] = {}
        self._tokens: dict[str, dict[str, Any]] = {}
        self._slept = threading.Event()
        self._anothers = RSAKey.generate_key(2048)  # not while a client waits: it may take a second
        self.rotate()
        self.app = Flask("oidc_provider")
        for path, view in (
            ("/.well-known/openid-configuration", self._discovery),
            ("/jwks", self._jwks),
            ("/authorize", self._authorize),
            ("/token", self._token),
            ("/userinfo", self._userinfo),
            ("/logout", self._logout),
        ):
            self.app.add_url_rule(path, path, view, methods=["GET", "POST"])
        self.app.before_request(self._before)

    def rotate(self) -> None:
        """It signs with a new key from now on, and shows no other."""
        self._keys = [RSAKey.generate_key(2048, {"kid": secrets.token_hex(4), "use": "sig", "alg": "RS256"})]

    def sign(self, claims: dict[str, Any], **header: str) -> str:
        return jwt.encode({"alg": "RS256", "kid": self._keys[0].kid, **header}, claims, self._keys[0])

    # ---- what it answers

    def _before(self) -> tuple[Response, int] | None:
        self.seen.append(request.path)
        if self.fault == "slow":
            self._slept.wait(3)
        if self.fault == "away" or self.fault == f"500 {request.path}":
            return Response("<h1>Bad gateway</h1>"), 502
        return None

    def _discovery(self) -> Response:
        wrong = self.fault == "another issuer"
        told = {
            "issuer": "https://evil.example.net" if wrong else self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": "http://evil.example.net/jwks"
            if self.fault == "plain http"
            else f"{self.issuer}/jwks",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            "code_challenge_methods_supported": ["S256"],
            "scopes_supported": ["openid", "profile", "email"],
        }
        if self.ends_sessions:
            told["end_session_endpoint"] = f"{self.issuer}/logout"
        return jsonify([] if self.fault == "a list" else told)

    def _jwks(self) -> Response:
        return jsonify({"keys": [key.as_dict(private=False) for key in self._keys]})

    def _authorize(self) -> AnyResponse:
        asked = request.args
        if asked.get("client_id") != CLIENT_ID or asked.get("redirect_uri") not in self.redirect_uris:
            return Response("no such client, or not its address", 400)
        back = asked["redirect_uri"]
        if asked.get("response_type") != "code" or "openid" not in asked.get("scope", "").split():
            return _to(back, error="invalid_request", state=asked.get("state", ""))
        if asked.get("code_challenge_method") != "S256" or not asked.get("code_challenge"):
            return _to(back, error="invalid_request", error_description="PKCE", state=asked.get("state", ""))
        if self.fault == "denied":
            return _to(back, error="access_denied", error_description="no <b>way</b>", state=asked["state"])
        if self.asks and "sure" not in asked:
            return Response(
                render_template_string(_ASKS, asked=asked, who=self.person["name"]), mimetype="text/html"
            )
        code = secrets.token_urlsafe(16)
        self._codes[code] = {
            name: asked.get(name, "") for name in ("redirect_uri", "code_challenge", "nonce")
        }
        return _to(back, code=code, state="of another" if self.fault == "wrong state" else asked["state"])

    def _token(self) -> tuple[Response, int]:
        given = request.form
        if not self._is_client():
            return jsonify(error="invalid_client", error_description=f"not with {self.secret[:-1]}x"), 401
        about = self._codes.pop(given.get("code", ""), None)
        challenge = _b64(hashlib.sha256(given.get("code_verifier", "").encode()).digest())
        if (
            given.get("grant_type") != "authorization_code"
            or about is None
            or about["redirect_uri"] != given.get("redirect_uri")
            or not hmac.compare_digest(about["code_challenge"], challenge)
        ):
            said = f"the code {given.get('code')} is not valid"
            return jsonify(error="invalid_grant", error_description=said), 400
        access = secrets.token_urlsafe(16)
        self._tokens[access] = self.person
        told: dict[str, Any] = {"access_token": access, "token_type": "Bearer", "expires_in": 300}
        if self.fault != "no id token":
            told["id_token"] = self._id_token(about["nonce"], access)
        return jsonify(told), 200

    def _is_client(self) -> bool:
        if not self.secret:
            return request.form.get("client_id") == CLIENT_ID
        login = request.authorization
        return login is not None and (login.username, login.password) == (CLIENT_ID, self.secret)

    def _id_token(self, nonce: str, access: str) -> str:
        now = int(time.time())
        half = hashlib.sha256(access.encode()).digest()[:16]
        person = {name: value for name, value in self.person.items() if name not in self.only_userinfo}
        claims: dict[str, Any] = {
            **person, "iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": nonce,
            "at_hash": _b64(half),
        }  # fmt: skip
        claims |= {
            "wrong nonce": {"nonce": "of another login"},
            "wrong audience": {"aud": "another", "azp": CLIENT_ID},
            "wrong party": {"aud": [CLIENT_ID, "another"], "azp": "another"},
            "wrong issuer": {"iss": "https://evil.example.net"},
            "wrong access token": {"at_hash": _b64(bytes(16))},
            "expired": {"iat": now - 900, "exp": now - 600},
            "of tomorrow": {"iat": now + 86_400, "exp": now + 90_000},
            "no end": {"exp": None},
            "no subject": {"sub": None},
            "empty subject": {"sub": ""},
            "no nonce": {"nonce": None},
        }.get(self.fault, {})
        claims = {name: value for name, value in claims.items() if value is not None}
        if self.fault == "alg none":
            return _unsigned({"alg": "none"}, claims) + "."
        if self.fault == "HS256 by the public key":
            body = _unsigned({"alg": "HS256", "kid": self._keys[0].kid}, claims)
            return f"{body}.{_b64(hmac.digest(self._keys[0].as_pem(private=False), body.encode(), 'sha256'))}"
        if self.fault == "HS256 by the client's secret":
            body = _unsigned({"alg": "HS256"}, claims)
            return f"{body}.{_b64(hmac.digest(self.secret.encode(), body.encode(), 'sha256'))}"
        if self.fault == "unknown key":
            return self.sign(claims, kid="nobody's")
        if self.fault == "another's key":
            return jwt.encode({"alg": "RS256", "kid": self._keys[0].kid}, claims, self._anothers)
        if self.fault == "no token at all":
            return "a.b.c"
        return self.sign(claims)

    def _userinfo(self) -> tuple[Response, int]:
        login = request.authorization
        person = self._tokens.get(login.token or "") if login and login.type == "bearer" else None
        if person is None:
            return jsonify(error="invalid_token"), 401
        return jsonify(person | ({"sub": "another"} if self.fault == "userinfo of another" else {})), 200

    def _logout(self) -> AnyResponse:
        back = request.args.get("post_logout_redirect_uri", "")
        if request.args.get("client_id") != CLIENT_ID or back not in self.redirect_uris:
            return Response("You are logged out.")
        return redirect(back)


@contextlib.contextmanager
def provider(certificate: Path | None = None) -> Iterator[Provider]:
    """One that answers until the block ends; by TLS, if there is a file with a certificate and its key."""
    made, tls = Provider(), None
    if certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
    server = make_server("127.0.0.1", 0, made.app, threaded=True, ssl_context=tls)
    made.issuer = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made._slept.set()
        server.shutdown()
        thread.join(10)
        server.server_close()


def own_certificate(file: Path) -> Path:
    """A certificate for this machine that nobody signed but itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    written = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + written)
    return file


def visit(url: str, certificate: Path | None = None) -> str:
    """A browser that the provider knows: where it is sent on to."""
    answer = requests.get(
        url, allow_redirects=False, timeout=10, verify=str(certificate) if certificate else True
    )
    assert answer.status_code == 302, answer.text
    return answer.headers["Location"]


def log_in(client: FlaskClient, page: str = "/login/oidc", certificate: Path | None = None) -> TestResponse:
    """Log in by the provider, in a browser that is ``client``: the answer to its return."""
    back = urlsplit(visit(client.get(page).headers["Location"], certificate))
    return client.get(f"{back.path}?{back.query}")


def _to(address: str, **said: str) -> AnyResponse:
    query = parse_qsl(urlsplit(address).query) + list(said.items())
    return redirect(f"{address.partition('?')[0]}?{urlencode(query)}")


def _unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    return ".".join(_b64(json.dumps(part).encode()) for part in (header, claims))


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
