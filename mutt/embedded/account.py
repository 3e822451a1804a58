"""Whom PostgreSQL runs as when MUTT runs as root, for PostgreSQL refuses root; and what that account can reach."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from mutt.errors import MuttError

#: Where root keeps what its PostgreSQL account must reach when MUTT_HOME lies below a private directory.
SHARED = Path("/var/lib/mutt")


class Unreachable(MuttError):
    """A file or directory that PostgreSQL's account needs is closed to it."""


@dataclass(frozen=True)
class Account:
    """A user of this machine to run a process as."""

    name: str
    uid: int
    gid: int

    def own(self, path: Path) -> None:
        """Give a file or directory to this account."""
        os.chown(path, self.uid, self.gid)


def postgres_account() -> Account | None:
    """None: as we are. Under root ``postgres``, else ``nobody``. Raises :class:`Unreachable` if there is neither."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, found.pw_uid, found.pw_gid)
    raise Unreachable(
        "PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody` to run it as"
    )


def can_reach(path: Path, account: Account) -> bool:
    """May ``account`` pass through every directory above ``path``? Directories yet to be made don't count."""
    return all(_may_enter(parent.stat(), account) for parent in path.resolve().parents if parent.exists())


def _may_enter(directory: os.stat_result, account: Account) -> bool:
    if directory.st_uid == account.uid:
        return bool(directory.st_mode & stat.S_IXUSR)
    if directory.st_gid == account.gid:
        return bool(directory.st_mode & stat.S_IXGRP)
    return bool(directory.st_mode & stat.S_IXOTH)


def shared_directory(base: Path = SHARED) -> Path:
    """Make ``base`` for root alone to write and everyone to pass. Raises :class:`Unreachable` if it is another's."""
    base.mkdir(mode=0o755, parents=True, exist_ok=True)
    found = base.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise Unreachable(
            f"{base} must be a directory that belongs to root and that no one else may write to"
        )
    base.chmod(0o755)
    return base
