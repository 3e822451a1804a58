"""A secret in a file that changes while processes run: a Kubernetes secret, what a Vault agent writes, a new password.

Looked at when it is asked for, at most once a second. It is read and not only dated: that is a few dozen bytes, and no
file system's clock decides whether a change is seen.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mutt.errors import SettingsError

log = logging.getLogger(__name__)

#: Seconds between two looks.
EVERY = 1.0


class SecretFile:
    """``path``, whose text ``reader`` turns into the value of the setting ``name``; ``value`` is what it was at first.

    A file that can't be read, is empty or holds what can't be changes nothing: the last good value stays, and one line
    of the log says why. Threads may share one, and it may be forked: it holds no lock.
    """

    def __init__(self, name: str, path: Path, reader: Callable[[str, str], Any], value: Any) -> None:
        self._name, self._path, self._reader, self._value = name, path, reader, value
        self._next_look = time.monotonic() + EVERY
        self._warned = False

    def __repr__(self) -> str:
        return f"SecretFile({self._name}, {self._path})"

    def current(self, *, at_once: bool = False) -> Any:
        """The value. ``at_once``: look, however recently somebody did."""
        now = time.monotonic()
        if at_once or now >= self._next_look:
            self._next_look = now + EVERY
            self._look()
        return self._value

    def _look(self) -> None:
        try:
            found = self._read()
        except SettingsError as error:
            if not self._warned:
                log.warning("%s can't be used, the last good value stays: %s", self._name, error)
            self._warned = True
            return
        self._warned = False
        if found != self._value:
            self._value = found
            log.info("%s has changed: the new value is used from now on", self._name)

    def _read(self) -> Any:
        file = f"{self._name}_FILE"
        try:
            text = self._path.read_text().strip()
        except OSError as error:
            raise SettingsError(file, str(self._path), f"a readable file ({error.strerror})") from None
        except UnicodeDecodeError:
            raise SettingsError(file, str(self._path), "a file of text in UTF-8") from None
        if not text:
            raise SettingsError(file, str(self._path), "a file that is not empty")
        return self._reader(self._name, text)
