"""An SNS of the tests' own: it signs messages, shows its certificates over https, and confirms subscriptions."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.private_ca import DAY, Authority, Papers

TOPIC = "arn:aws:sns:us-west-2:123456789012:MyTopic"
TOKEN = "2336412f37fb687f5d51e6e241d09c805a5a57b30d712f794cc5f6a988666d92"

#: Seconds between the bytes of an answer that never ends.
_DRIP = 0.05


class FakeSns:
    """As a context manager; ``asked`` holds the paths that were asked for, ``logins`` who asked said to be."""

    def __init__(self, directory: Path) -> None:
        ca = Authority(directory, "aws")
        self.ca, self._directory = ca.pem, directory
        self._signers = {name: ca.signer(name) for name in ("good", "another")}
        self._signers["expired"] = ca.signer("expired", -DAY)
        self.asked: list[str] = []
        self.logins: list[str] = []
        self.confirms = 200  #: the status of the answer to who confirms
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.socket = _secured(self._server, ca.server("sns", "localhost"))
        self.host = f"localhost:{self._server.server_port}"

    def __enter__(self) -> FakeSns:
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def message(self, type_: str = "Notification", **more: Any) -> dict[str, Any]:
        """A message that is not signed yet."""
        found = {"Type": type_, "MessageId": f"{len(self.asked)}-1", "TopicArn": TOPIC, "Message": "Hello\nwörld",
                 "Timestamp": "2012-05-02T00:54:06.655Z"}  # fmt: skip
        if type_ != "Notification":
            confirm = f"https://{self.host}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token={TOKEN}"
            found |= {"Token": TOKEN, "SubscribeURL": confirm}
        return found | more

    def signed(self, message: dict[str, Any], version: str = "1", signer: str = "good") -> dict[str, Any]:
        """``message`` with its signature, written down here after Amazon's page and not after MUTT's code."""
        names = ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
        text = "".join(f"{name}\n{message[name]}\n" for name in names if name in message)
        key = serialization.load_pem_private_key(self._signers[signer].key.read_bytes(), None)
        assert isinstance(key, rsa.RSAPrivateKey)
        hashed = hashes.SHA1() if version == "1" else hashes.SHA256()
        signature = base64.b64encode(key.sign(text.encode(), padding.PKCS1v15(), hashed)).decode()
        where = {"SigningCertURL": f"https://{self.host}/{signer}.pem"}
        return message | {"SignatureVersion": version, "Signature": signature} | where

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        sns = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                sns.asked.append(self.path)
                if login := self.headers["Authorization"]:
                    sns.logins.append(login)
                name = self.path.partition("?")[0].removeprefix("/").removesuffix(".pem")
                if self.path.startswith("/?Action=ConfirmSubscription&"):
                    self._say(sns.confirms, b"<ConfirmSubscriptionResponse/>")
                elif name in sns._signers:
                    self._say(200, sns._signers[name].cert.read_bytes())
                elif name == "elsewhere":
                    self.send_response(302)
                    self.send_header("Location", "/good.pem")
                    self.end_headers()
                elif name == "endless":
                    self._drip()
                else:
                    self._say(200, b"no certificate" if name == "text" else b"x" * 100_000)

            def _say(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def _drip(self) -> None:
                self.send_response(200)
                self.end_headers()
                try:
                    for _ in range(200):
                        self.wfile.write(b"-")
                        time.sleep(_DRIP)
                except OSError:  # nobody listens any more
                    return

            def log_message(self, *_args: object) -> None:
                """Nobody reads it."""

        return Handler


def _secured(server: ThreadingHTTPServer, papers: Papers) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(papers.cert, papers.key)
    return context.wrap_socket(server.socket, server_side=True)


def body_of(message: dict[str, Any]) -> bytes:
    """As SNS writes it."""
    return json.dumps(message).encode()
