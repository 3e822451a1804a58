"""What listeners promise on real sockets: nobody is lost for want of room, and nobody holds up the others."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
import ssl
import threading
import time
import unittest.mock
from types import SimpleNamespace

import pytest

from mutt.errors import SettingsError
from mutt.listen import tcp as tcp_module
from mutt.listen.syslog import listeners_of
from mutt.listen.tcp import SECURE, Connection, TcpListener
from mutt.listen.udp import UdpListener
from mutt.listen.wire import connections_within
from mutt.settings import Settings
from mutt.tls import ServerFiles, client_context
from tests.private_ca import Registry
from tests.waiting import wait_until


class Relayed:
    """Takes records as a relay does; ``has_room`` is the test's to say."""

    def __init__(self):
        self.records, self.has_room, self.works = [], True, True

    def put(self, record, peer, at):
        if self.has_room:
            self.records.append(record)
        return self.has_room


class Running:
    """A listener on a loop in a thread."""

    def __init__(self, listener):
        self.listener, self.loop = listener, asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.run(listener.start())

    def run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(15)

    def stop(self):
        self.run(self.listener.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)
        self.loop.close()

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.listener.port), timeout=10)


@pytest.fixture
def relay():
    return Relayed()


@pytest.fixture
def tcp(relay):
    """Makes listeners, and stops them."""
    with contextlib.ExitStack() as stack:

        def make(**more):
            told = {"name": "LISTEN_SYSLOG_TCP", "most": 1000, "connections": 3, **more}
            running = Running(TcpListener("127.0.0.1", 0, relay, **told))
            stack.callback(running.stop)
            return running

        yield make


def hung_up(sock):
    """Did the listener hang up on it?"""
    sock.settimeout(10)
    with contextlib.suppress(ConnectionResetError):
        return sock.recv(1) == b""
    return True


def test_where_there_is_no_room_its_sender_waits_and_nothing_is_lost(tcp, relay):
    running = tcp()
    relay.has_room = False
    with running.connect() as sock:
        sock.settimeout(0.3)
        sent = 0
        with pytest.raises(TimeoutError):  # the kernel's buffers are full at last
            while True:
                sock.sendall(b"".join(b"<13>%d\n" % n for n in range(sent, sent + 1000)))
                sent += 1000
        assert running.listener.counts.received == 0
        relay.has_room = True
        wait_until(lambda: len(relay.records) >= sent, 20)
    assert relay.records[:sent] == [b"<13>%d" % n for n in range(sent)]
    assert running.listener.counts.no_room == 0


def test_while_there_is_no_room_nobody_is_read(tcp, relay):
    """Each would bring some of it into memory: a thousand senders, hundreds of megabytes."""
    running = tcp()
    with running.connect() as one, running.connect() as two:
        wait_until(lambda: running.listener.counts.connections == 2)
        relay.has_room = False
        one.sendall(b"<13>one\n")
        wait_until(lambda: any(connection._waiting for connection in running.listener.open))
        two.sendall(b"<13>two\n")
        with running.connect() as three:
            three.sendall(b"<13>three\n")
            wait_until(lambda: running.listener.counts.connections == 3)
            wait_until(lambda: all(connection._paused for connection in running.listener.open))
            assert [connection._waiting for connection in running.listener.open if connection._waiting] == [
                [b"<13>one"]
            ]
            relay.has_room = True
            wait_until(lambda: sorted(relay.records) == [b"<13>one", b"<13>three", b"<13>two"])


def test_an_error_of_our_own_does_not_leave_a_listener_that_reads_nobody(tcp, monkeypatch):
    def broken(_connection):
        raise ZeroDivisionError

    monkeypatch.setattr(Connection, "go_on", broken)
    running = tcp()
    with running.connect():
        wait_until(lambda: any(task.done() for task in running.listener._tasks))
        with pytest.raises(ZeroDivisionError):
            running.listener.look()


def test_what_waits_for_room_when_its_sender_hangs_up_goes_before_what_it_had_begun(relay):
    listener = TcpListener("127.0.0.1", 0, relay, name="LISTEN_SYSLOG_TCP", most=1000, connections=1)
    connection, relay.has_room = Connection(listener), False
    connection.connection_made(unittest.mock.MagicMock())
    connection.data_received(b"<13>one\n<13>begun")
    relay.has_room = True
    connection.connection_lost(None)
    assert relay.records == [b"<13>one", b"<13>begun"]
    assert (listener.counts.received, listener.counts.no_room) == (2, 0)
    listener._socket.close()


def test_who_is_not_accepted_yet_at_the_end_is_heard(tcp, relay, monkeypatch):
    async def never(_loop, _sock):
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_accept", never)
    running = tcp()
    with running.connect() as sock:
        sock.sendall(b"<13>one\n")
        running.run(running.listener.stop())
    assert relay.records == [b"<13>one"]


def test_who_is_being_accepted_at_the_end_is_heard(tcp, relay):
    """The loop has his connection, and the task that waits for it has not run yet."""
    running = tcp()

    async def end():
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        sock = running.connect()
        sock.sendall(b"<13>one\n")

        async def stop():
            await running.listener.stop()
            ended.set()

        # In the loop's next turn, in which it sees the connection, too: then stop has the turn after that before him.
        tasks = []
        loop.call_soon(lambda: tasks.append(loop.create_task(stop())))
        await ended.wait()
        sock.close()

    running.run(end())
    assert relay.records == [b"<13>one"]


def test_what_is_here_at_the_end_is_taken_however_busy_the_machine_is(tcp, relay, monkeypatch):
    """Nobody has the processor for a while, just when connections are opened."""

    async def never(_loop, _sock):
        await asyncio.Event().wait()

    open_ = TcpListener._open

    async def late(listener, connection, sock):
        time.sleep(0.2)
        await open_(listener, connection, sock)

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_accept", never)
    monkeypatch.setattr(TcpListener, "_open", late)
    running = tcp()
    with running.connect() as sock:
        sock.sendall(b"<13>one\n")
        running.run(running.listener.stop())
    assert relay.records == [b"<13>one"]


def test_one_connection_too_many_is_turned_away_and_the_others_go_on(tcp, relay, caplog):
    running = tcp(connections=2)
    with running.connect() as one, running.connect() as two:
        wait_until(lambda: running.listener.counts.connections == 2)
        for _ in range(2):
            with running.connect() as three:
                assert hung_up(three)
        one.sendall(b"<13>one\n")
        two.sendall(b"<13>two\n")
        wait_until(lambda: sorted(relay.records) == [b"<13>one", b"<13>two"])
    wait_until(lambda: running.listener.counts.connections == 0)
    assert running.listener.counts.turned_away == 2
    (told,) = [record.getMessage() for record in caplog.records]
    assert "2 stand: LISTEN_CONNECTIONS" in told
    with running.connect() as again:
        again.sendall(b"<13>again\n")
        wait_until(lambda: b"<13>again" in relay.records)


def test_who_is_gone_without_a_word_is_found_out_within_minutes(tcp):
    """After a power cut of a site all of its senders come back; the places that they had are to be free by then."""
    running = tcp()
    with running.connect():
        wait_until(lambda: running.listener.open)
        (connection,) = running.listener.open
        sock = connection._transport.get_extra_info("socket")
        told = [
            sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
            for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
        ]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert told[0] + told[1] * told[2] <= 120


def test_large_messages_that_many_begin_do_not_fill_the_memory(tcp, relay, monkeypatch):
    monkeypatch.setattr("mutt.listen.tcp.PARTIAL", 4000)
    running = tcp(most=2000, connections=10)
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(running.connect()) for _ in range(5)]
        for sock in socks:
            sock.sendall(b"<13>" + b"x" * 1900)
        small = stack.enter_context(running.connect())
        wait_until(lambda: running.listener.counts.connections < 6 and relay.records)
        small.sendall(b"<13>small\n")
        wait_until(lambda: b"<13>small" in relay.records)
        wait_until(lambda: running.listener.partial <= 4000)
        assert relay.records[0] == b"<13>" + b"x" * 1900  # what came of it is kept
    wait_until(lambda: not running.listener.open)
    assert running.listener.partial == 0


def test_who_begins_a_message_and_does_not_go_on_is_hung_up_on_and_what_came_is_kept(tcp, relay, monkeypatch):
    """By a clock that goes on when the test says so: a machine that is busy for a moment is no slow sender."""
    later = [0.0]
    clock = SimpleNamespace(time=time.time, monotonic=lambda: time.monotonic() + later[0])
    monkeypatch.setattr("mutt.listen.tcp.time", clock)
    monkeypatch.setattr("mutt.listen.tcp.LOOK", 0.02)
    running = tcp()
    with running.connect() as silent, running.connect() as slow, running.connect() as busy:
        slow.sendall(b"<13>begun")
        busy.sendall(b"<13>")
        wait_until(lambda: sum(one._begun_at > 0 for one in running.listener.open) == 2)
        for n in range(4):  # it always has begun one, and always goes on
            later[0] += 0.6 * tcp_module.WHOLE
            busy.sendall(b"%d\n<13>" % n)
            wait_until(lambda n=n: b"<13>%d" % n in relay.records)
        assert hung_up(slow)
        wait_until(lambda: b"<13>begun" in relay.records)
        silent.sendall(b"<13>still here\n")
        wait_until(lambda: b"<13>still here" in relay.records)
        assert running.listener.counts.connections == 2


def test_over_tls_a_message_that_was_begun_is_taken_at_the_end(tcp, relay, papers):
    running = tcp(tls=ServerFiles(*map(str, papers.right)))
    context = client_context(str(papers.ca.pem))
    with running.connect() as plain, context.wrap_socket(plain, server_hostname="localhost") as sock:
        sock.sendall(b"<13>whole\n<13>no end")
        wait_until(lambda: relay.records == [b"<13>whole"])
        running.run(running.listener.stop())
        assert relay.records == [b"<13>whole", b"<13>no end"]
        assert running.listener.counts.received == 2


def test_who_is_not_read_for_want_of_room_is_not_hung_up_on_for_being_slow(tcp, relay, monkeypatch):
    monkeypatch.setattr("mutt.listen.tcp.WHOLE", 0.1)
    monkeypatch.setattr("mutt.listen.tcp.LOOK", 0.02)
    running = tcp()
    with running.connect() as one, running.connect() as two:
        wait_until(lambda: running.listener.counts.connections == 2)
        relay.has_room = False
        two.sendall(b"<13>be")
        wait_until(lambda: running.listener.partial)
        one.sendall(b"<13>one\n")
        wait_until(lambda: all(connection._paused for connection in running.listener.open))
        time.sleep(0.3)
        two.sendall(b"gun\n")
        relay.has_room = True
        wait_until(lambda: sorted(relay.records) == [b"<13>begun", b"<13>one"])


def test_what_came_before_the_end_is_taken_also_of_who_goes_on(tcp, relay):
    running = tcp()
    stop = threading.Event()

    def goes_on():
        with running.connect() as sock, contextlib.suppress(OSError):
            while not stop.is_set():
                sock.sendall(b"<13>more\n")

    with running.connect() as sock:
        sock.sendall(b"".join(b"<13>%d\n" % n for n in range(5000)) + b"<13>no end")
        busy = threading.Thread(target=goes_on)
        busy.start()
        wait_until(lambda: b"<13>more" in relay.records)
        running.run(running.listener.stop())
        stop.set()
        busy.join(5)
    assert {b"<13>%d" % n for n in range(5000)} | {b"<13>no end"} <= set(relay.records)


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    return Registry(tmp_path_factory.mktemp("papers"))


def say(running, context, message):
    with running.connect() as plain, context.wrap_socket(plain, server_hostname="localhost") as sock:
        sock.sendall(message)
        sock.settimeout(0.05)
        with contextlib.suppress(TimeoutError):  # TLS 1.3 turns a client away behind its handshake
            sock.recv(1)


def test_with_a_ca_of_clients_only_who_has_its_certificate_is_heard(tcp, relay, papers, caplog):
    ca = str(papers.ca.pem)
    running = tcp(tls=ServerFiles(*map(str, papers.right), client_ca=ca))
    say(running, client_context(ca, *map(str, papers.client)), b"14 <13>counted\nin")
    with contextlib.suppress(OSError):  # when it is told is OpenSSL's affair
        say(running, client_context(ca), b"<13>nobody\n")
    with running.connect() as plain:
        plain.sendall(b"<13>in the clear\n")
        assert hung_up(plain)
    say(running, client_context(ca, *map(str, papers.client)), b"<13>again\n")
    wait_until(lambda: len(relay.records) == 2)
    assert relay.records == [b"<13>counted\nin", b"<13>again"]
    (told,) = [record.getMessage() for record in caplog.records]  # one a minute
    assert told.startswith("the TLS handshake with 127.0.0.1 failed: ")


def test_a_handshake_that_does_not_go_on_ends(tcp, relay, papers, monkeypatch):
    running = tcp(tls=ServerFiles(*map(str, papers.right)))
    with monkeypatch.context() as hasty:
        hasty.setattr("mutt.listen.tcp.HANDSHAKE", 0.1)
        with running.connect() as silent:
            assert hung_up(silent)
    say(running, client_context(str(papers.ca.pem)), b"<13>x\n")
    wait_until(lambda: relay.records == [b"<13>x"])


def test_a_tls_connection_takes_little_memory_also_while_nobody_reads(tcp, relay, papers):
    """With Python's own buffers it was 270 KB for each, and 800 without room."""
    running = tcp(tls=ServerFiles(*map(str, papers.right)))
    context = client_context(str(papers.ca.pem))
    with running.connect() as plain, context.wrap_socket(plain, server_hostname="localhost"):
        wait_until(lambda: running.listener.open)
        (connection,) = running.listener.open
        assert len(connection._transport._ssl_protocol._ssl_buffer) == SECURE
        assert connection._transport._ssl_protocol._incoming_high_water == SECURE


def test_who_is_still_in_the_handshake_has_a_connection_like_any_other(tcp, relay, papers):
    running = tcp(tls=ServerFiles(*map(str, papers.right)), connections=2)
    with running.connect(), running.connect(), running.connect() as third:
        assert hung_up(third)
        assert running.listener.counts.turned_away == 1


def test_where_no_file_can_be_opened_who_comes_waits_and_the_log_has_one_line(
    tcp, relay, monkeypatch, caplog
):
    monkeypatch.setattr("mutt.listen.tcp.ACCEPT_AGAIN", 0.01)
    accept, full = asyncio.SelectorEventLoop.sock_accept, [True] * 20

    async def sock_accept(loop, sock):
        if full:
            full.pop()
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return await accept(loop, sock)

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_accept", sock_accept)
    running = tcp()
    with running.connect() as sock:
        sock.sendall(b"<13>one\n")
        wait_until(lambda: relay.records == [b"<13>one"])
    assert [record.getMessage() for record in caplog.records if record.name == "mutt.listen"] == [
        "no connection can be accepted, so who comes waits: Too many open files"
    ]


@pytest.mark.parametrize(
    ("soft", "hard", "fit", "then"),
    [(200, 200, 68, 200), (200, 300, 118, 300), (200, 4096, 1000, 2064), (4096, 4096, 1000, 4096)],
    ids=["few", "some more", "raised", "enough"],
)
def test_there_are_no_more_connections_than_files_may_be_open(monkeypatch, soft, hard, fit, then):
    limit = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: limit[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, both: limit.append(both))
    assert connections_within(1000, 2) == fit
    assert limit[-1] == (then, hard)


def test_a_renewed_certificate_is_shown_and_a_broken_one_is_not(tcp, papers, tmp_path):
    files = tmp_path / "cert", tmp_path / "key"

    def lay(pair):
        for file, new in zip(files, pair, strict=True):
            file.write_bytes(new.read_bytes())

    def shown():
        context = client_context(str(papers.ca.pem))
        with running.connect() as plain, context.wrap_socket(plain, server_hostname="localhost") as sock:
            return sock.getpeercert(binary_form=True)

    lay(papers.right)
    running = tcp(tls=ServerFiles(*map(str, files)))
    first = shown()
    files[0].write_bytes(papers.renewed.cert.read_bytes())  # its key is not there yet
    running.listener.look()
    assert shown() == first
    lay(papers.renewed)
    running.listener.look()
    assert shown() == ssl.PEM_cert_to_DER_cert(papers.renewed.cert.read_text())


def test_datagrams_that_find_no_room_are_lost_and_counted(relay):
    running = Running(UdpListener("127.0.0.1", 0, relay))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", running.listener.port))
        sock.send(b"<13>one")
        wait_until(lambda: relay.records == [b"<13>one"])
        relay.has_room = False
        sock.send(b"<13>two")
        wait_until(lambda: running.listener.counts.no_room == 1)
    running.stop()
    assert running.listener.counts.received == 2


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM], ids=["udp", "tcp"])
def test_a_message_that_is_no_utf8_is_cut_where_ingest_would_find_it_too_large(tcp, relay, kind):
    """There each such byte is four characters, and with one too many the whole message would be refused."""
    udp = kind == socket.SOCK_DGRAM
    running = Running(UdpListener("127.0.0.1", 0, relay, most=1000)) if udp else tcp()
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.connect(("127.0.0.1", running.listener.port))
        for message in (b"<13>" + b"\xfc" * 900, b"<13>" + b"\xfc" * 200, b"<13>" + b"x" * 900):
            sock.send(message + (b"" if udp else b"\n"))
    wait_until(lambda: len(relay.records) == 3)
    if udp:
        running.stop()
    assert relay.records[0] == b"<13>" + b"\\xfc" * 249
    assert relay.records[1:] == [b"<13>" + b"\xfc" * 200, b"<13>" + b"x" * 900]
    wait_until(lambda: running.listener.counts.cut == 1)


def test_who_floods_a_port_does_not_keep_it_from_ending(relay, monkeypatch):
    monkeypatch.setattr("mutt.listen.udp.GOODBYE", 0.05)
    listener = UdpListener("127.0.0.1", 0, relay)
    running, turns = Running(listener), iter([True] * 100_000)  # they would take a second or so
    monkeypatch.setattr(listener, "_read", lambda: time.sleep(0.00001) or next(turns))
    running.stop()
    assert next(turns)


def test_datagrams_that_the_kernel_has_no_room_for_are_counted(relay, monkeypatch):
    monkeypatch.setattr("mutt.listen.udp.KERNEL_BUFFER", 4096)
    listener = UdpListener("127.0.0.1", 0, relay)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for n in range(100):
            sock.sendto(b"<13>%d" % n, ("127.0.0.1", listener.port))  # nobody reads
    running = Running(listener)
    running.stop()
    assert listener.counts.unread > 0
    assert listener.counts.unread + listener.counts.received == 100


def test_an_address_of_ipv6_hears_ipv4_and_calls_it_so():
    heard = []

    class Peers(Relayed):
        def put(self, record, peer, at):
            heard.append(peer)
            return True

    try:
        listener = UdpListener("::", 0, Peers())
    except SettingsError:
        pytest.skip("no IPv6 here")
    running = Running(listener)
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"<13>x", (host, listener.port))
    wait_until(lambda: len(heard) == 2)
    running.stop()
    assert sorted(heard) == ["127.0.0.1", "::1"]


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({"LISTEN_SYSLOG_UDP": "0", "LISTEN_SYSLOG_TCP": "0"}, "LISTEN_SYSLOG_UDP"),
        ({"LISTEN_HOST": "203.0.113.1"}, "LISTEN_SYSLOG_UDP"),
        ({"LISTEN_SYSLOG_UDP": "0", "LISTEN_HOST": "203.0.113.1"}, "LISTEN_SYSLOG_TCP"),
        ({"TLS_CERT": "/nowhere"}, "TLS_KEY"),
    ],
    ids=["none", "another's address", "another's address over TCP", "half a pair"],
)
def test_listeners_that_can_not_be_are_a_sentence(relay, env, told):
    with pytest.raises(SettingsError, match=told):
        listeners_of(Settings.from_env(env), relay)
