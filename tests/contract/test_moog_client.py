"""What the Moog client promises, held against the simulator in each dialect."""

from __future__ import annotations

import contextlib
import logging
import shlex
import shutil
import socket
import ssl
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import format_datetime

import psutil
import pytest

from mutt.alert import Alert
from mutt.budget.permit import Permit
from mutt.errors import SettingsError
from mutt.event import State, uuid7
from mutt.moog.client import MoogClient
from mutt.moog.dialects import DIALECTS
from mutt.moog.outcome import Kind, Reason
from mutt.moogsim.script import MARKER, Step
from mutt.moogsim.server import Simulator
from mutt.settings import Settings
from tests.servers import lacking

SECRET = "k3y-that-nobody-sees"
SELF_SIGNED = shlex.split(
    "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
    "-subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
)


def alert(**changes):
    now = datetime.now(UTC)
    values = {
        "alert_id": uuid7(),
        "event_id": uuid7(),
        "received_at": now,
        "occurred_at": now,
        "hostname": "core-sw-07",
        "rule_id": 118,
        "handling": "Page_and_ticket",
        "environment": "production",
        "team": "NetOps",
        "lane": "major",
        "severity": 4,
        "signature": "core-sw-07::rule-118",
        "description": "Te1/0/12 down",
        "state": State.RAISE,
        "source": "syslog",
        "correlation_id": "c-1",
        "type": "LINK-DOWN",
    }
    return Alert(**(values | changes))


def permit(seconds=5.0):
    return Permit("token", 1, time.monotonic() + seconds)


@contextlib.contextmanager
def cut_off():
    """What is done in here ends by its deadline of half a second: the answers would take 4 s and more to their end."""
    before = time.monotonic()
    yield
    assert 0.45 <= time.monotonic() - before < 3


def until(condition, seconds=5.0):
    """Wait until ``condition`` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.005)


@pytest.fixture
def moog():
    with Simulator(require_key=SECRET) as simulator:
        yield simulator


@pytest.fixture(params=DIALECTS)
def make(request, moog):
    """Makes clients of one dialect: ``make(secret=…, timeout=…)``."""
    made = []

    def client(secret=SECRET, user="", timeout=5.0, url=None, **how):
        url = url or {"enterprise": moog.enterprise_url, "cloud": moog.cloud_url}[request.param]
        made.append(MoogClient(url, DIALECTS[request.param], secret, user, timeout, **how))
        return made[-1]

    yield client
    for one in made:
        one.close()


@pytest.fixture
def path(make, moog):
    return make()._url.removeprefix(moog.url)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A key and a certificate for 127.0.0.1 that vouches for itself."""
    if not shutil.which("openssl"):
        lacking("openssl is not on PATH")
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(
        ["openssl", *SELF_SIGNED, "-keyout", file, "-out", f"{file}.crt"],
        check=True,
        capture_output=True,
    )
    file.write_text(file.read_text() + file.with_name("both.pem.crt").read_text())
    return file


@pytest.fixture
def trusted(certificate, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", f"{certificate}.crt")


# What each answer becomes:


@pytest.mark.parametrize(
    ("behaviour", "kind", "reason", "status"),
    [
        ("ok", Kind.DELIVERED, Reason.OK, 200),
        ("202", Kind.DELIVERED, Reason.OK, 202),
        ("hangup_after", Kind.DELIVERED, Reason.OK, 200),
        ("success_false", Kind.REFUSED, Reason.SUCCESS_FALSE, 200),
        ("401", Kind.AUTH, Reason.AUTH, 401),
        ("403", Kind.AUTH, Reason.AUTH, 403),
        ("404", Kind.CONFIG, Reason.CONFIG, 404),
        ("redirect", Kind.CONFIG, Reason.REDIRECT, 302),
        ("413", Kind.TOO_LARGE, Reason.TOO_LARGE, 413),
        ("429", Kind.THROTTLED, Reason.HTTP_429, 429),
        ("500", Kind.RETRY, Reason.HTTP_5XX, 500),
        ("503", Kind.RETRY, Reason.HTTP_5XX, 503),
        ("hangup_before", Kind.RETRY, Reason.CONNECTION, None),
    ],
)
def test_each_answer_becomes_its_kind_with_one_request(make, moog, behaviour, kind, reason, status):
    moog.behave(behaviour)
    answer = make().send([alert()], permit())
    assert (answer.kind, answer.reason, answer.moog_status) == (kind, reason, status)
    assert len(moog.starts) == 1  # neither repeated nor followed


def test_the_time_of_the_first_byte_is_told(make, moog):
    before = time.monotonic()
    answer = make().send([alert()], permit())
    assert before < answer.started_at <= moog.starts[0] < answer.started_at + 0.5


def test_what_moog_took_is_what_was_sent(make, moog):
    sent = alert(severity=5, description="ä „quoted“ \n line", raw="raw")
    make().send([sent], permit())
    (one,) = moog.received
    assert (one.came.signature, one.came.event_id) == (sent.signature, str(sent.event_id))
    assert (one.came.severity, one.came.description) == (5, sent.description)


def test_what_is_said_of_a_key_that_was_replaced_meanwhile_is_no_verdict(make, moog):
    """The alert is sent again with the new key; a key that stands is refused for good."""
    client = make(secret=lambda _at_once: SECRET if moog.starts else "old")
    refused = client.send([alert()], permit())
    assert (refused.kind, refused.reason, refused.moog_status) == (Kind.RETRY, Reason.AUTH, 401)
    assert client.send([alert()], permit()).kind is Kind.DELIVERED
    standing = make(secret=lambda _at_once: "old")
    assert standing.send([alert()], permit()).kind is Kind.AUTH


def test_a_batch_is_one_request(make, moog):
    answer = make().send([alert(signature=str(n)) for n in range(20)], permit())
    assert answer.kind is Kind.DELIVERED
    assert (moog.book.stats()["requests"], moog.book.stats()["taken"]) == (1, 20)


def test_only_a_batch_with_the_bad_alert_is_refused(make, moog):
    moog.behave("bad_marked")
    client, bad = make(), alert(description=f"x {MARKER} y")
    assert client.send([alert(), bad], permit()).kind is Kind.REFUSED
    assert client.send([alert()], permit()).kind is Kind.DELIVERED
    assert client.send([bad], permit()).kind is Kind.REFUSED


def test_a_batch_that_is_too_large_goes_through_in_parts(make, moog):
    moog.behave("413", max_events=1)
    client = make()
    assert client.send([alert(), alert()], permit()).kind is Kind.TOO_LARGE
    assert client.send([alert()], permit()).kind is Kind.DELIVERED


@pytest.mark.parametrize("behaviour", ["429", "503"])
def test_retry_after_is_told_in_seconds(make, moog, behaviour):
    client = make()
    moog.behave(behaviour, retry_after=7)
    assert client.send([alert()], permit()).retry_after == 7.0
    moog.behave(
        behaviour, retry_after=format_datetime(datetime.fromtimestamp(time.time() + 30, UTC), usegmt=True)
    )
    assert 28 <= client.send([alert()], permit()).retry_after <= 30
    moog.behave(behaviour)
    assert client.send([alert()], permit()).retry_after is None


def test_a_moog_that_is_away_is_a_retry_and_its_return_a_delivery(make, moog):
    client = make()
    assert client.send([alert()], permit()).kind is Kind.DELIVERED
    moog.stop()
    away = client.send([alert()], permit())
    assert (away.kind, away.reason, away.started_at) == (Kind.RETRY, Reason.CONNECTION, None)
    assert away.text == "ConnectionRefusedError: Connection refused"
    moog.start()
    assert client.send([alert()], permit()).kind is Kind.DELIVERED


def test_a_name_that_is_unknown_is_a_retry(make):
    answer = make(url="http://moog.invalid/events/x").send([alert()], permit())
    assert (answer.kind, answer.reason) == (Kind.RETRY, Reason.CONNECTION)


# The deadline:


@pytest.mark.parametrize("behaviour", ["drip", "drip_body", "delay"])
def test_the_deadline_holds_however_slowly_the_answer_drips(make, moog, behaviour):
    moog.behave(behaviour, delay={"delay": 30}.get(behaviour, 0.1))
    with cut_off():
        answer = make(timeout=0.5).send([alert()], permit())
    assert (answer.kind, answer.reason) == (Kind.RETRY, Reason.TIMEOUT)
    assert answer.started_at is not None


def test_the_deadline_holds_on_a_kept_connection(make, moog):
    moog.script.set(Step("ok", times=1), Step("drip", delay=0.05))
    client = make(timeout=0.5)
    assert client.send([alert()], permit()).kind is Kind.DELIVERED
    with cut_off():
        assert client.send([alert()], permit()).reason is Reason.TIMEOUT
    moog.behave("ok")
    assert client.send([alert()], permit()).kind is Kind.DELIVERED


def test_a_slow_answer_inside_the_deadline_is_an_answer(make, moog):
    moog.behave("drip_body", delay=0.005)
    assert make().send([alert()], permit()).kind is Kind.DELIVERED


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_deadline_holds_against_a_server_that_never_speaks(make, scheme):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        client = make(url=f"{scheme}://127.0.0.1:{mute.getsockname()[1]}/events/x", timeout=0.5)
        with cut_off():
            answer = client.send([alert()], permit())
    assert (answer.kind, answer.reason) == (Kind.RETRY, Reason.TIMEOUT)
    assert (answer.started_at is None) == (scheme == "https")  # there the handshake never ended


def test_no_more_of_an_answer_is_read_than_its_bound(make):
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 200_000
    with _speaks(endless) as (url, _):
        assert make(url=url).send([alert()], permit()).kind is Kind.DELIVERED


@pytest.mark.parametrize(
    "noise", [b"\x00\xff not HTTP\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"]
)
def test_an_answer_that_breaks_off_is_a_retry(make, noise):
    with _speaks(noise) as (url, _):
        assert make(url=url).send([alert()], permit()).reason is Reason.CONNECTION


# TLS:


def test_a_certificate_that_nobody_vouches_for_is_a_fault_of_configuration(make, moog, path, certificate):
    with _TLSFront(certificate, moog) as front:
        answer = make(url=front.url(path)).send([alert()], permit())
    assert (answer.kind, answer.reason, answer.started_at) == (Kind.CONFIG, Reason.CERTIFICATE, None)
    assert moog.starts == []


def test_the_deadline_holds_over_tls(make, moog, path, certificate, trusted):
    moog.behave("drip", delay=0.05)
    with _TLSFront(certificate, moog) as front:
        client = make(url=front.url(path), timeout=0.5)
        with cut_off():
            answer = client.send([alert()], permit())
    assert (answer.reason, answer.started_at is None) == (Reason.TIMEOUT, False)


# The permit:


def test_an_expired_permit_sends_nothing_and_keeps_the_connection(make, moog):
    client = make()
    answer = client.send([alert()], permit(-0.001))
    assert (answer.kind, answer.reason, answer.started_at) == (Kind.UNSENT, Reason.EXPIRED, None)
    assert moog.starts == []
    first = _one(moog)
    assert client.send([alert()], permit()).kind is Kind.DELIVERED
    assert _open(moog) == first


def test_a_permit_that_runs_out_in_the_handshake_sends_no_byte(make, moog, path, certificate, trusted):
    with _TLSFront(certificate, moog, delay=0.3) as front:
        client = make(url=front.url(path))
        assert client.send([alert()], permit(0.1)).kind is Kind.UNSENT
        assert moog.starts == []
        assert client.send([alert()], permit()).kind is Kind.DELIVERED
        assert front.connections == 1, "it is kept: there is no second handshake"


def test_a_warm_connection_is_there_before_the_permit(make, moog):
    client = make()
    assert client.warm().kind is Kind.UNSENT
    first = _one(moog)
    assert client.warm().kind is Kind.UNSENT
    assert client.send([alert()], permit()).kind is Kind.DELIVERED
    assert _open(moog) == first
    assert len(moog.starts) == 1
    moog.stop()
    assert client.warm().reason is Reason.CONNECTION


# Connections:


def test_close_closes_what_is_open_and_the_next_request_opens_anew(make, moog):
    client = make()
    assert client.send([alert()], permit()).kind is Kind.DELIVERED
    first = _one(moog)
    client.close()
    until(lambda: not _open(moog))
    assert client.send([alert()], permit()).kind is Kind.DELIVERED
    assert _one(moog) != first


def test_a_connection_is_kept(make, moog):
    client, first = make(), None
    for behaviour in ("ok", "404", "429", "202", "500", "redirect"):
        moog.behave(behaviour)
        client.send([alert()], permit())
        first = first or _one(moog)
        assert _open(moog) == first


def test_a_kept_connection_that_moog_closed_is_no_failure(make, moog):
    moog.behave("hangup_after")
    client = make()
    for _ in range(5):
        assert client.send([alert()], permit()).kind is Kind.DELIVERED
        until(lambda: _states(moog) == {psutil.CONN_CLOSE_WAIT})
    assert len(moog.starts) == 5


def test_a_connection_that_was_idle_for_long_is_not_trusted(make, moog):
    client = make(idle=0.0)
    client.send([alert()], permit())
    first = _open(moog)
    assert client.send([alert()], permit()).kind is Kind.DELIVERED
    until(lambda: first.isdisjoint(_open(moog)))


def test_threads_share_a_client(make, moog):
    client = make()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: client.send([alert(signature=str(n))], permit()), range(200)))
    assert {answer.kind for answer in answers} == {Kind.DELIVERED}
    stats = moog.book.stats()
    assert (stats["requests"], stats["signatures"], stats["duplicates"]) == (200, 200, 0)
    assert len(_open(moog)) <= 8


# The secret:


@pytest.mark.parametrize("user", ["", "graze"])
def test_the_key_opens_moog_and_is_seen_nowhere(make, moog, user, caplog):
    caplog.set_level(logging.DEBUG)
    client = make(user=user)
    answers = []
    for behaviour in ("ok", "401", "500", "redirect", "hangup_before"):
        moog.behave(behaviour)
        answers.append(client.send([alert()], permit()))
    assert answers[0].kind is Kind.DELIVERED
    assert SECRET not in repr(client) + repr(vars(client)["_headers"]) + repr(answers) + caplog.text
    assert SECRET not in repr([r.came.event for r in moog.received])


@pytest.mark.parametrize("secret", ["", "another"])
def test_without_its_key_moog_answers_auth(make, secret):
    assert make(secret=secret).send([alert()], permit()).kind is Kind.AUTH


def test_a_key_that_moog_echoes_is_struck_out(make):
    said = f'{{"message": "{SECRET} is no key"}}'.encode()
    with _speaks(b"HTTP/1.1 403 No\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said)) as (url, _):
        assert make(url=url).send([alert()], permit()).text == '{"message": "… is no key"}'


def test_no_netrc_puts_another_key_in(make, moog, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login other password wrong\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert make().send([alert()], permit()).kind is Kind.DELIVERED


def test_a_proxy_of_the_environment_is_asked_for_the_whole_address_with_its_login(make, monkeypatch):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with _speaks(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as (url, proxy):
        monkeypatch.setenv("http_proxy", url.replace("//", "//ops:word@"))
        assert make(url="http://moog.invalid/events/x").send([alert()], permit()).kind is Kind.DELIVERED
    head = proxy.came.split(b"\r\n\r\n")[0].splitlines()
    assert head[0] == b"POST http://moog.invalid/events/x HTTP/1.1"
    assert b"Proxy-Authorization: Basic b3BzOndvcmQ=" in head


def test_an_address_with_a_key_in_it_is_refused_without_showing_it(make):
    with pytest.raises(SettingsError) as caught:
        make(url=f"https://graze:{SECRET}@moog.example/events/x")
    assert SECRET not in str(caught.value)
    assert "moog.example" in str(caught.value)


def test_the_settings_make_a_client(moog, tmp_path):
    settings = Settings.from_env(
        {
            "MUTT_HOME": str(tmp_path),
            "MOOG_URL": moog.cloud_url,
            "MOOG_DIALECT": "cloud",
            "MOOG_API_KEY": SECRET,
        }
    )
    assert MoogClient.from_settings(settings).send([alert()], permit()).kind is Kind.DELIVERED
    with pytest.raises(SettingsError):
        MoogClient.from_settings(Settings.from_env({"MUTT_HOME": str(tmp_path)}))


# Servers that the simulator can't be:


def _open(moog):
    return set(moog._server._open)


def _states(moog):
    """What the connections to the simulator are on the client's side: it learns last that one was closed."""
    return {
        connection.status
        for connection in psutil.Process().net_connections("tcp")
        if connection.raddr and connection.raddr.port == moog.port
    }


def _one(moog):
    """The one connection that is open, once the simulator has taken it up."""
    until(lambda: len(_open(moog)) == 1)
    return _open(moog)


class _speaks:
    """A server that reads one request, says ``words`` as they are, and hangs up."""

    def __init__(self, words):
        self._words, self.came = words, b""
        self._server = socket.create_server(("127.0.0.1", 0))

    def __enter__(self):
        threading.Thread(target=self._run, daemon=True).start()
        return f"http://127.0.0.1:{self._server.getsockname()[1]}/events/x", self

    def __exit__(self, *_):
        self._server.close()

    def _run(self):
        peer, _ = self._server.accept()
        with peer:
            while b"}" not in self.came and (some := peer.recv(65536)):
                self.came += some
            peer.sendall(self._words)


class _TLSFront:
    """TLS before the simulator, whose handshake takes ``delay`` seconds."""

    def __init__(self, certificate, moog, delay=0.0):
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._moog, self._delay = moog, delay
        self._server = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()
        self.connections = 0

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._over.set()
        with contextlib.suppress(OSError):
            # A close alone leaves the thread that accepts where it is.
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def url(self, path):
        return f"https://127.0.0.1:{self._server.getsockname()[1]}{path}"

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._server.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer):
        self._over.wait(self._delay)
        with contextlib.suppress(OSError):
            with self._context.wrap_socket(peer, server_side=True) as peer:
                with socket.create_connection((self._moog.host, self._moog.port)) as moog:
                    threading.Thread(target=_pump, args=(moog, peer), daemon=True).start()
                    _pump(peer, moog)


def _pump(source, target):
    with contextlib.suppress(OSError):
        while some := source.recv(65536):
            target.sendall(some)
        target.shutdown(socket.SHUT_RDWR)
