"""RabbitMQ as the broker: how its connections are made, how long anybody waits for it, and what waits there.

py-amqp waits without an end for an answer, and RabbitMQ stops reading where it is short of memory or disk: whoever
rings then would hang. Here every question has a time limit, and a broker that says that it takes nothing is believed.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import amqp
from amqp.exceptions import NotFound
from kombu.connection import Connection as KombuConnection
from kombu.exceptions import OperationalError
from kombu.transport import pyamqp

#: Seconds that an answer may take; and the word that a doorbell was taken.
ANSWER, TAKEN = 5.0, 1.0

#: Seconds that a broker which took nothing is not tried again: each try would cost TAKEN.
AGAIN = 5.0

#: So many doorbells wait in a queue at most, the oldest is dropped: one is as good as a thousand.
MOST = 1000


class Refuses(OperationalError):
    """The broker takes no messages now. Another connection would not help: kombu does not try one."""


class _Refusal:
    """What this process knows of a broker that takes nothing: kombu gives up the connection that heard of it."""

    def __init__(self) -> None:
        self._until, self._why = 0.0, ""

    def note(self, why: str) -> Refuses:
        self._until, self._why = time.monotonic() + AGAIN, why
        return Refuses(why)

    @property
    def stands(self) -> bool:
        return time.monotonic() < self._until

    def check(self) -> None:
        if self.stands:
            raise Refuses(self._why)


_refusal = _Refusal()


@contextlib.contextmanager
def as_away() -> Iterator[None]:
    """What RabbitMQ refuses is kombu's OperationalError: kombu says so only of what may pass by another try."""
    try:
        yield
    except (amqp.AMQPError, OSError) as error:
        raise OperationalError(str(error)) from error


class Channel(pyamqp.Channel):
    """A channel whose questions end, and which publishes nothing to a broker that takes nothing."""

    connection: Any
    _confirm_selected: bool

    def wait(
        self, method: Any, callback: Any = None, timeout: Any = None, returns_tuple: bool = False
    ) -> Any:
        return super().wait(method, callback, ANSWER if timeout is None else timeout, returns_tuple)

    def basic_publish(self, *args: Any, confirm_timeout: float | None = None, **kwargs: Any) -> Any:
        """Publish. A channel of which one message was confirmed confirms all: nobody takes one word for another."""
        self._look()
        if not (confirm_timeout or self._confirm_selected):
            return self._basic_publish(*args, **kwargs)
        within = confirm_timeout or TAKEN
        try:
            return self.basic_publish_confirm(*args, confirm_timeout=within, **kwargs)
        except TimeoutError:
            raise self._not_taken(within) from None

    def _look(self) -> None:
        """Hear what the broker said meanwhile: it may take messages again."""
        _refusal.check()
        if self.connection and self.connection.refuses:
            with contextlib.suppress(TimeoutError):
                self.connection.drain_events(timeout=0)
            if self.connection.refuses:
                raise _refusal.note(self.connection.refuses)

    def _not_taken(self, within: float) -> Refuses:
        why = self.connection.refuses or f"RabbitMQ did not say within {within:g} s that it took a message"
        # Whose answer is still under way is not asked again.
        self.connection.collect()
        return _refusal.note(why)

    def close(self, *args: Any, **kwargs: Any) -> Any:
        """Say goodbye, but not to a broker that does not read it."""
        if not _refusal.stands:
            return super().close(*args, **kwargs)
        connection, number = self.connection, self.channel_id
        self.collect()
        if connection and connection.channels is not None:
            # The broker has it open still: no other channel may have its number.
            connection._used_channel_ids.append(number)
        return None


class Connection(pyamqp.Connection):
    """A connection that knows whether the broker takes messages."""

    Channel = Channel

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.refuses = ""  #: why; empty: it takes them
        super().__init__(*args, on_blocked=self._refused, on_unblocked=self._taken, **kwargs)

    def wait(
        self, method: Any, callback: Any = None, timeout: Any = None, returns_tuple: bool = False
    ) -> Any:
        return super().wait(method, callback, ANSWER if timeout is None else timeout, returns_tuple)

    def close(self, *args: Any, **kwargs: Any) -> Any:
        """Likewise."""
        if not _refusal.stands:
            return super().close(*args, **kwargs)
        return self.collect()

    def _refused(self, _reason: str) -> None:
        self.refuses = "RabbitMQ takes no messages: it is short of memory or disk"

    def _taken(self) -> None:
        self.refuses = ""


class Transport(pyamqp.Transport):
    """Logs in with what the address says now, and over TLS checks the name that the address has."""

    Connection = Connection
    client: Any

    def establish_connection(self) -> Any:
        client = self.client
        if client.credential_provider:
            client.userid, client.password = client.credential_provider.get_credentials()
        if client.ssl:
            client.ssl = {**client.ssl, "server_hostname": client.hostname}
        established: Callable[[], Any] = super().establish_connection
        return established()


class SecureTransport(Transport):
    """Over TLS, whatever was not said: then with the system's CAs."""

    default_port: Any = pyamqp.DEFAULT_SSL_PORT

    def __init__(self, client: Any, **kwargs: Any) -> None:
        if not isinstance(client.ssl, dict):
            client.ssl = {"cert_reqs": ssl.CERT_REQUIRED}
        super().__init__(client, **kwargs)  # type: ignore[no-untyped-call]


class InRabbit:
    """What waits in RabbitMQ's queues, asked over a connection of its own. Its errors are kombu's OperationalError."""

    def __init__(self, connect: Callable[[], KombuConnection]) -> None:
        self._connect = connect
        self._connection: Any = None
        self._lock = threading.Lock()

    def waiting(self, queue: str) -> int:
        """Doorbells that wait in a queue; one that nobody made yet has none."""
        with self._lock:
            if self._connection is not None:
                # It may have broken since the last question.
                with contextlib.suppress(OperationalError):
                    return self._asked(queue)
            return self._asked(queue)

    def version(self) -> str:
        """What it calls itself."""
        with self._lock, as_away():
            told = self._open().connection.server_properties
            return f"{told.get('product', 'AMQP')} {told.get('version', '')}".strip()

    def close(self) -> None:
        """The next question makes a new connection."""
        connection, self._connection = self._connection, None
        if connection:
            # One that is dead already can't be said goodbye to.
            with contextlib.suppress(Exception):
                connection.collect()

    def _asked(self, queue: str) -> int:
        try:
            with as_away():
                return self._ask(queue)
        except BaseException:  # whatever ended it: nobody knows what the connection waits for
            self.close()
            raise

    def _ask(self, queue: str) -> int:
        channel = self._open().channel()
        try:
            return int(channel.queue_declare(queue, passive=True).message_count)
        except NotFound:
            return 0
        finally:
            with contextlib.suppress(amqp.AMQPError, OSError):
                # A goodbye in any case: who publishes nothing is read, whatever the broker is short of.
                pyamqp.Channel.close(channel)

    def _open(self) -> Any:
        if self._connection is not None and not self._connection.connected:
            self.close()
        if self._connection is None:
            made: Any = self._connect()
            # Without the seconds that kombu would rest in between: whoever asks has others to look after.
            made.ensure_connection(
                max_retries=1,
                interval_start=0,
                interval_step=0,
                interval_max=0,
                reraise_as_library_errors=False,
            )
            self._connection = made
        return self._connection
