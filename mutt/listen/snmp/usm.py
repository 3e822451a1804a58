"""SNMPv3 with users (RFC 3414, 3412): what makes a message authentic, and the answers that this receiver gives.

For an inform the receiver is the authority: its engine id, boots and time are asked for and kept to. For a trap its
sender is: any engine id is good with the right keys, and each engine's time may not go back, user by user.
pysnmp gives messages, keys and ciphers; docs/decisions/0054 says why not its engine, too.
"""

from __future__ import annotations

import hmac
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pyasn1.codec.ber import encoder
from pyasn1.type import univ
from pysnmp.proto import api, rfc1905
from pysnmp.proto.error import ProtocolError, StatusInformation
from pysnmp.proto.mpmod.rfc3412 import HeaderData, ScopedPDU, SNMPv3Message
from pysnmp.proto.secmod.rfc3414.service import UsmSecurityParameters

from mutt.listen.snmp.engine import MOST_BOOTS, Engine
from mutt.listen.snmp.pdu import ASKED, MOST_BYTES, TOO_MANY, UNREADABLE, V3, Dropped, decode, octets, within
from mutt.listen.snmp.users import AUTH, PRIV, User

#: RFC 3414 2.2.3: seconds that two clocks may be apart.
WINDOW = 150

#: Engines whose time is remembered, each for each of its users.
_MOST_ENGINES = 65_536

_REPORTABLE = 4
_USM = 3

#: usmStats (RFC 3414 5): by the reason that a message was not taken.
_STATS = "1.3.6.1.6.3.15.1.1."
LEVEL, LATE, USER, ENGINE, DIGEST, DECRYPTION = (
    "security level", "outside the time window", "unknown user", "unknown engine id", "wrong password",
    "undecipherable",
)  # fmt: skip
_REPORTS = {
    reason: f"{_STATS}{number}.0"
    for number, reason in enumerate((LEVEL, LATE, USER, ENGINE, DIGEST, DECRYPTION), start=1)
}
_REPORTS[ASKED] = _REPORTS[ENGINE]

#: What a message of v3 is made of: its version, its head, the security parameters, its content.
_PARTS = 4
_DATA, _SECURITY, _SCOPED = HeaderData(), UsmSecurityParameters(), ScopedPDU()


class Reported(Dropped):
    """A message that is not taken, and whose sender is told why: ``answer``."""

    def __init__(self, reason: str, answer: bytes) -> None:
        super().__init__(reason)
        self.answer = answer


class Header(NamedTuple):
    """What stands before a message's content."""

    msg_id: int
    flags: int
    engine_id: bytes
    boots: int
    time: int
    user: bytes
    digest: bytes
    salt: Any

    @property
    def level(self) -> int:
        return self.flags & (AUTH | PRIV)


class Received(NamedTuple):
    """The content of a message that is what it says."""

    header: Header
    user: User
    context: tuple[bytes, bytes]  #: the engine that it speaks of, and the name of a part of it
    pdu: Any


class Usm:
    """The receiver's side of the user-based security model. ``clock``: seconds that never go back."""

    def __init__(self, users: Mapping[bytes, User], engine: Engine, clock: Callable[[], float]) -> None:
        self._users, self._engine, self._clock = users, engine, clock
        self._times: OrderedDict[tuple[bytes, bytes], tuple[int, int]] = OrderedDict()
        self._reports = Counter[str]()

    @property
    def users(self) -> int:
        """How many may send."""
        return len(self._users)

    def receive(self, data: bytes, parts: Sequence[bytes]) -> Received:
        """The message ``data``, of these parts. Raises :class:`Dropped`, or :class:`Reported` where the sender is to
        be told."""
        if len(parts) != _PARTS:
            raise Dropped(UNREADABLE)
        header = read_header(parts[1], octets(parts[2]))
        if header.flags & _REPORTABLE and header.engine_id != self._engine.engine_id:
            raise self._refused(ENGINE if header.engine_id else ASKED, header)
        user = self._known(header)
        if header.level & ~user.level:
            raise self._refused(LEVEL, header)
        if header.level & AUTH:
            self._authenticate(header, user, data)
        if header.level != user.level:  # behind the time: those who ask for it do so unencrypted
            raise self._refused(LEVEL, header)
        scoped = self._scoped(parts[3], header, user)
        return Received(header, user, (bytes(scoped[0]), bytes(scoped[1])), scoped[2].getComponent())

    def respond(self, received: Received, pdu: Any) -> bytes:
        """The message with ``pdu`` that answers a received one."""
        return self._message(received.header, received.user, received.header.level, received.context, pdu)

    def _known(self, header: Header) -> User:
        user = self._users.get(header.user)
        ours = header.engine_id == self._engine.engine_id
        if user is None or not (ours or user.engine_id in (b"", header.engine_id)):
            raise self._refused(USER, header)
        return user

    def _authenticate(self, header: Header, user: User, data: bytes) -> None:
        length, blank = user.auth.digest_length, bytes(user.auth.digest_length)
        place = data.find(header.digest) if len(header.digest) == length else -1
        if place < 0:
            raise self._refused(DIGEST, header)
        signed = data[:place] + blank + data[place + length :]
        if not hmac.compare_digest(_digest(user, header.engine_id, signed, blank), header.digest):
            raise self._refused(DIGEST, header)
        if header.engine_id == self._engine.engine_id:
            self._check_ours(header, user)
        else:
            self._check_theirs(header)

    def _check_ours(self, header: Header, user: User) -> None:
        late = abs(header.time - self._engine.time(self._clock())) > WINDOW
        if header.boots != self._engine.boots or late:
            raise self._refused(LATE, header, user, AUTH)

    def _check_theirs(self, header: Header) -> None:
        """A trap that was recorded, and is sent again by somebody else, is too late (RFC 3414 3.2.7 b).

        Held against the latest that came, and not against how long ago that was: a device's clock may be slow, and
        a trap's sender would never learn that it is not heard. Each user's own: who has a password may write any
        engine's id and any boots, and would silence others with them.
        """
        sender = (header.engine_id, header.user)
        latest = self._times.get(sender, (0, 0))
        this = (header.boots, header.time)
        earlier = header.boots < latest[0] or (header.boots == latest[0] and header.time < latest[1] - WINDOW)
        if earlier or header.boots >= MOST_BOOTS:
            raise Dropped(LATE)
        if this >= latest:
            self._times[sender] = this
            self._times.move_to_end(sender)
            if len(self._times) > _MOST_ENGINES:
                self._times.popitem(last=False)

    def _scoped(self, part: bytes, header: Header, user: User) -> Any:
        if not header.level & PRIV:
            return decode(part, _SCOPED)
        sealed, key = univ.OctetString(octets(part)), user.keys(header.engine_id).priv
        try:
            plain = user.priv.decrypt_data(key, (header.boots, header.time, header.salt), sealed)
            return decode(plain[: within(plain)[1]], _SCOPED)  # DES pads what it encrypts
        except (Dropped, StatusInformation, ProtocolError, ValueError) as error:
            if isinstance(error, Dropped) and error.reason == TOO_MANY:
                raise
            raise self._refused(DECRYPTION, header) from None

    def _refused(self, reason: str, header: Header, user: User | None = None, level: int = 0) -> Dropped:
        """What to raise: with a Report, where the sender asks for one (RFC 3412 7.1, 3)."""
        self._reports[reason] += 1
        if not header.flags & _REPORTABLE:
            return Dropped(reason)
        report = rfc1905.ReportPDU()
        api.v2c.apiPDU.set_defaults(report)
        count = api.v2c.Counter32(self._reports[reason] % 2**32)
        api.v2c.apiPDU.set_varbinds(report, [(api.v2c.ObjectIdentifier(_REPORTS[reason]), count)])
        return Reported(reason, self._message(header, user, level, (self._engine.engine_id, b""), report))

    def _message(
        self, asked: Header, user: User | None, level: int, context: tuple[bytes, bytes], pdu: Any
    ) -> bytes:
        engine_id, boots = self._engine.engine_id, self._engine.boots
        time = self._engine.time(self._clock())
        scoped = ScopedPDU()
        scoped[0], scoped[1] = context
        scoped[2].setComponentByType(pdu.tagSet, pdu, matchTags=False, matchConstraints=False)
        message = SNMPv3Message()
        message[0] = V3
        for place, value in enumerate((asked.msg_id, MOST_BYTES, bytes([level]), _USM)):
            message[1][place] = value
        salt: Any = b""
        if user and level & PRIV:
            sealed, salt = user.priv.encrypt_data(
                user.keys(engine_id).priv, (boots, time, None), encoder.encode(scoped)
            )
            message[3].setComponentByPosition(1, sealed)
        else:
            message[3].setComponentByPosition(0, scoped)
        blank = bytes(user.auth.digest_length) if user and level & AUTH else b""
        security = UsmSecurityParameters()
        for place, value in enumerate((engine_id, boots, time, asked.user, blank, salt)):
            security[place] = value
        message[2] = encoder.encode(security)
        written = bytes(encoder.encode(message))
        return written if not (user and blank) else _signed(user, engine_id, written)


def read_header(part: bytes, parameters: bytes) -> Header:
    """Of a message's head and its security parameters. Raises :class:`Dropped`."""
    data = decode(part, _DATA)
    flags = bytes(data[2])[0]
    if int(data[3]) != _USM or flags & (AUTH | PRIV) == PRIV:
        raise Dropped(UNREADABLE)
    security = decode(parameters, _SECURITY)
    return Header(int(data[0]), flags, bytes(security[0]), int(security[1]), int(security[2]), bytes(security[3]),
                  bytes(security[4]), security[5])  # fmt: skip


def _digest(user: User, engine_id: bytes, signed: bytes, blank: bytes) -> bytes:
    """The authentication parameters of a message that has blanks in their place."""
    written = user.auth.authenticate_outgoing_message(user.keys(engine_id).auth, signed)
    place = signed.find(blank)
    return bytes(written[place : place + len(blank)])


def _signed(user: User, engine_id: bytes, written: bytes) -> bytes:
    return bytes(user.auth.authenticate_outgoing_message(user.keys(engine_id).auth, written))
