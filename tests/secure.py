"""Real servers that speak TLS, and one that only listens to what it is told in the clear."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psycopg2
import redis

from mutt.embedded.account import postgres_account
from mutt.embedded.process import Process
from mutt.embedded.redis import RedisServer
from mutt.moogsim.server import Simulator
from tests.ports import own_port
from tests.private_ca import Papers, Registry
from tests.servers import REDIS_BIN, Live, lacking, live_postgres
from tests.waiting import wait_until

PASSWORD = "pass-that-nobody-overhears"


class SecureRedis:
    """A Redis with a port for TLS, and one in the clear for the tests themselves."""

    def __init__(self, live: Live, port: int, binary: str) -> None:
        self.live, self.port, self.binary = live, port, binary
        self.url = f"rediss://:{PASSWORD}@localhost:{port}/0"

    def admin(self, *command: str) -> None:
        with redis.Redis.from_url(self.live.url) as client:
            client.execute_command(*command)

    def show(self, papers: Papers) -> None:
        """From now on it shows these."""
        self.admin("CONFIG", "SET", "tls-cert-file", str(papers.cert), "tls-key-file", str(papers.key))


@contextlib.contextmanager
def secure_redis(directory: Path, papers: Registry) -> Iterator[SecureRedis]:
    """One of those on PATH that speaks TLS. The packages' own does not."""
    port = own_port()
    extra = {
        "tls-port": str(port), "tls-cert-file": str(papers.right.cert), "tls-key-file": str(papers.right.key),
        "tls-ca-cert-file": str(papers.ca.pem), "tls-auth-clients": "no",
    }  # fmt: skip
    for binary in filter(None, (REDIS_BIN, shutil.which("valkey-server"), shutil.which("redis-server"))):
        server = RedisServer(Path(binary), directory / "redis", own_port(), PASSWORD, extra=extra)
        live = Live(server.url, server.process(directory / "redis.log"))
        try:
            live.start()
        except AssertionError:
            if "tls" not in (directory / "redis.log").read_text().lower():
                raise
            continue
        try:
            yield SecureRedis(live, port, binary)
        finally:
            live.stop()
        return
    lacking("no redis-server or valkey-server on PATH that speaks TLS")


@contextlib.contextmanager
def secure_sentinel(directory: Path, master: SecureRedis, papers: Registry) -> Iterator[str]:
    """A Sentinel that speaks nothing but TLS, and watches ``master``: the address by way of it."""
    port, file = own_port(), directory / "sentinel.conf"
    lines = {
        "port": "0", "tls-port": str(port), "dir": str(directory), "tls-replication": "yes", "tls-auth-clients": "no",
        "tls-cert-file": str(papers.right.cert), "tls-key-file": str(papers.right.key),
        "tls-ca-cert-file": str(papers.ca.pem),
        "sentinel resolve-hostnames": "yes", "sentinel announce-hostnames": "yes",
        "sentinel monitor": f"mutt localhost {master.port} 1", "sentinel auth-pass": f"mutt {PASSWORD}",
    }  # fmt: skip
    file.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))

    def ready() -> bool:
        with redis.Redis("localhost", port, ssl=True, ssl_ca_certs=str(papers.ca.pem)) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    argv = (master.binary, str(file), "--sentinel")
    live = Live("", Process(name="sentinel", argv=argv, log=directory / "sentinel.log", ready=ready))
    try:
        live.start()
        yield f"sentinels://:{PASSWORD}@localhost:{port}/0?master=mutt"
    finally:
        live.stop()


class SecurePostgres:
    """A PostgreSQL that speaks TLS as well."""

    def __init__(self, live: Live, files: Papers) -> None:
        self.live, self._files = live, files
        self.url = live.url.replace("127.0.0.1", "localhost")

    def admin(self, statement: str) -> None:
        with contextlib.closing(psycopg2.connect(self.live.url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)

    def show(self, papers: Papers) -> None:
        """From now on it shows these."""
        for file, new in zip(self._files, papers, strict=True):
            file.write_bytes(new.read_bytes())
        self.admin("SELECT pg_reload_conf()")
        wanted = ssl.PEM_cert_to_DER_cert(papers.cert.read_text())
        wait_until(lambda: self._shown() == wanted, 10, "PostgreSQL to show its new certificate")

    def _shown(self) -> bytes | None:
        port = int(self.live.url.rpartition(":")[2].partition("/")[0])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", port), 5) as plain:
            plain.sendall(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")  # SSLRequest
            assert plain.recv(1) == b"S"
            with context.wrap_socket(plain) as sock:
                return sock.getpeercert(binary_form=True)


@contextlib.contextmanager
def secure_postgres(directory: Path, papers: Registry) -> Iterator[SecurePostgres]:
    """The machine's own, or the packages': whichever is found speaks TLS, or the test is skipped."""
    files = Papers(directory / "postgres.crt", directory / "postgres.key")
    account = postgres_account()
    for file, right in zip(files, papers.right, strict=True):
        file.write_bytes(right.read_bytes())
        file.chmod(0o600)
        if account:
            account.own(file)
    extra = {"ssl": "on", "ssl_cert_file": str(files.cert), "ssl_key_file": str(files.key)}
    with contextlib.ExitStack() as stack:
        try:
            live = stack.enter_context(live_postgres(directory, password=PASSWORD, extra=extra))
        except AssertionError as error:
            if "SSL is not supported by this build" in str(error):
                lacking("the PostgreSQL that was found is built without TLS")
            raise
        yield SecurePostgres(live, files)


class SecureMoog(Simulator):
    """The simulator behind TLS."""

    def __init__(self, papers: Papers, require_key: str) -> None:
        super().__init__(require_key=require_key)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.show(papers)

    def show(self, papers: Papers) -> None:
        """From now on it shows these."""
        self._context.load_cert_chain(*papers)

    def age(self, version: ssl.TLSVersion) -> None:
        """From now on it speaks nothing newer."""
        self._context.set_ciphers("ALL:@SECLEVEL=0")
        self._context.minimum_version = self._context.maximum_version = version

    def require(self, key: str) -> None:
        """From now on this is the key."""
        assert self._server
        self._server.moog = msgspec.structs.replace(self._server.moog, key=key)

    def start(self) -> Simulator:
        super().start()
        assert self._server
        self._server.socket = self._context.wrap_socket(self._server.socket, server_side=True)
        return self

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"


class Eavesdropper:
    """A server without TLS that keeps what it is told. ``says`` is its answer to the first bytes."""

    def __init__(self, says: bytes = b"") -> None:
        self.heard = b""
        self._says = says
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                with sock, contextlib.suppress(OSError):
                    sock.settimeout(2)
                    self.heard += sock.recv(4096)
                    sock.sendall(self._says or b"-ERR I speak no TLS\r\n")
                    self.heard += sock.recv(4096)

    def __enter__(self) -> Eavesdropper:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
