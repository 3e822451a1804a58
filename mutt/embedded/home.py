"""MUTT_HOME: who runs there, the secrets made for it, and ``up.json``, by which other commands find the stack."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hmac
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from mutt.errors import MuttError, StackGone
from mutt.settings import read_up

#: Seconds that a start waits for the remains of a killed stack to be cleared away.
CLEARING = 20.0


class NotUsable(MuttError):
    """MUTT_HOME can't be made, or is closed to us."""


class AlreadyRunning(MuttError):
    """Another ``mutt up`` runs in this home; ``pid`` says which."""

    def __init__(self, home: Path, pid: int) -> None:
        super().__init__(
            f"MUTT already runs in {home} (process {pid}): stop it first, or choose another MUTT_HOME"
        )
        self.home, self.pid = home, pid


@dataclass(frozen=True)
class Secrets:
    """Made at the first start, the same ever after. Hexadecimal: safe in an address, a header and a shell."""

    api_key: str = field(repr=False)
    management_key: str = field(repr=False)
    admin_password: str = field(repr=False)
    secret_key: str = field(repr=False)
    sealing_key: str = field(repr=False)
    moog_key: str = field(repr=False)
    redis_password: str = field(repr=False)
    postgres_password: str = field(repr=False)
    roles_secret: str = field(repr=False)

    def password(self, server: str, role: str) -> str:
        """What a role of MUTT logs in with at the private ``redis`` or ``postgres``: made of ``roles_secret``."""
        return hmac.digest(self.roles_secret.encode(), f"{server}:{role}".encode(), "sha256").hex()


#: Bytes of randomness. People type the admin's password.
_SIZES = {"admin_password": 10}
_SIZE = 32


class Home:
    """The directory of one embedded stack."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()

    def make(self) -> Home:
        """Make the directory. Others may pass through root's (its PostgreSQL must), and see nothing on the way.

        Raises :class:`NotUsable`.
        """
        try:
            self.path.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
            inside = [self.path, *self.path.iterdir()]
        except OSError as error:
            raise NotUsable(f"MUTT_HOME={self.path} can't be used: {error.strerror}") from error
        closed = [path for path in inside if not os.access(path, os.R_OK | os.W_OK)]
        if closed:
            raise NotUsable(
                f"MUTT_HOME={self.path} can't be used: {closed[0]} is not ours to write "
                "(was it made by another user?)"
            )
        return self

    def directory(self, name: str) -> Path:
        """A directory in it for us alone, made if need be."""
        place = self.path / name
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        return place

    def log(self, name: str) -> Path:
        """Where process ``name`` logs."""
        return self.directory("logs") / f"{name}.log"

    @contextlib.contextmanager
    def lock(self, clearing: float = CLEARING) -> Iterator[int]:
        """Hold this home; gives the lock's file descriptor, which the supervisor keeps open in its guard.

        So a home stays locked after a kill until nothing of the old stack is left: waits ``clearing`` seconds for
        that. Raises :class:`AlreadyRunning`.
        """
        descriptor = os.open(self.path / "up.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            self._take(descriptor, time.monotonic() + clearing)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            yield descriptor
        finally:
            os.close(descriptor)

    def _take(self, descriptor: int, deadline: float) -> None:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = int(os.pread(descriptor, 32, 0) or 0)
                if psutil.pid_exists(holder) or time.monotonic() > deadline:
                    raise AlreadyRunning(self.path, holder) from None
                time.sleep(0.05)
            else:
                return

    @property
    def has_secrets(self) -> bool:
        """Did anything ever start here?"""
        return (self.path / "secrets.json").exists()

    def secrets(self, token: Callable[[int], str] = secrets.token_hex) -> Secrets:
        """This home's secrets; what is missing is made by ``token(bytes)`` and kept, with mode 0600."""
        kept = self._read("secrets.json")
        names = [one.name for one in dataclasses.fields(Secrets)]
        full = {name: str(kept.get(name) or token(_SIZES.get(name, _SIZE))) for name in names}
        if full != kept:
            self._write("secrets.json", {**kept, **full})
        return Secrets(**full)

    def write_up(self, up: Mapping[str, Any]) -> None:
        """Replace ``up.json`` in one step, with mode 0600."""
        self._write("up.json", up)

    def read_up(self) -> dict[str, Any]:
        """What runs here, as ``up.json`` says; empty: nothing does. Raises :class:`StackGone`."""
        if read_up(self.path, gone=True):
            raise StackGone(self.path)
        return self._read("up.json")

    def clear_up(self) -> None:
        """Remove ``up.json``: nothing runs here any more."""
        (self.path / "up.json").unlink(missing_ok=True)

    def _read(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads((self.path / name).read_text())
        except FileNotFoundError:
            return {}
        except ValueError:
            # To make new secrets would lock the owner out of their own data.
            raise MuttError(f"{self.path / name} is damaged: mend it, or remove it to start afresh") from None
        return dict(found)

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        new = self.path / f".{name}.new"
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path / name)
