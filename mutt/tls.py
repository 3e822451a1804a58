"""What every TLS of MUTT has in common: a floor, a server that is checked, and PEM files that are as they should be."""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import Iterator
from pathlib import Path

from mutt.errors import SettingsError

log = logging.getLogger(__name__)

#: The least version that is spoken.
FLOOR = ssl.TLSVersion.TLSv1_2


def client_context(ca: str = "", cert: str = "", key: str = "") -> ssl.SSLContext:
    """How a server is spoken to: its certificate and its host name are checked before anything is sent.

    ``ca`` is a file with the CAs that are trusted, and no others are; empty: the system's. ``cert`` and ``key`` are
    what we show to a server that asks. Raises ``OSError`` (``ssl.SSLError`` is one) for files that are no good.
    """
    made = ssl.create_default_context(cafile=ca or None)
    made.minimum_version = FLOOR
    if cert:
        made.load_cert_chain(cert, key, password=_none)
    return made


def check_ca(name: str, file: str) -> str:
    """``file``, which the setting ``name`` names, if it holds certificates. Raises :class:`SettingsError`."""
    if file:
        with _expected(name, file, "a PEM file of CA certificates"):
            client_context(file)
    return file


def check_pair(cert_name: str, cert: str, key_name: str, key: str) -> tuple[str, str]:
    """A certificate's file and its key's, if they belong together. Raises :class:`SettingsError`."""
    if bool(cert) != bool(key):
        missing, there = (key_name, cert_name) if cert else (cert_name, key_name)
        raise SettingsError(missing, "", f"a PEM file, for {there} is set")
    if cert:
        with _expected(cert_name, cert, "a PEM file with a certificate"):
            Path(cert).read_bytes()
        with _expected(key_name, key, f"the PEM file of the key of {cert_name}, without a passphrase"):
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=_none)
    return cert, key


class ServerFiles:
    """How a server speaks TLS: with this certificate and key; with ``client_ca``, only to who has one of it.

    New connections get what the files hold after :meth:`look`. Raises ``OSError`` for files that are no good.
    """

    def __init__(self, cert: str, key: str, client_ca: str = "") -> None:
        self._cert, self._key, self._client_ca = cert, key, client_ca
        self._seen, self._warned = self._read(), False
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = FLOOR
        if client_ca:
            self.context.verify_mode = ssl.CERT_REQUIRED
        self._load()

    def look(self) -> None:
        """Use new files from now on. Files that are no good change nothing: they may be half way in."""
        try:
            found = self._read()
            if found == self._seen:
                return
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._cert, self._key, password=_none)
            self._load()
        except OSError as error:
            if not self._warned:
                log.warning("the new certificate can't be used, the last good one stays: %s", error)
            self._warned = True
        else:
            self._seen, self._warned = found, False
            log.warning("the certificate has changed: new connections get the new one")

    def _read(self) -> list[bytes]:
        return [Path(file).read_bytes() for file in (self._cert, self._key, self._client_ca) if file]

    def _load(self) -> None:
        self.context.load_cert_chain(self._cert, self._key, password=_none)
        if self._client_ca:
            self.context.load_verify_locations(self._client_ca)


def _none() -> str:
    """Asked for a passphrase. Without this OpenSSL would ask the terminal, and wait."""
    return ""


@contextlib.contextmanager
def _expected(name: str, file: str, what: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError as error:
        raise SettingsError(name, file, f"{what} ({error.reason or error})") from None
    except OSError as error:
        raise SettingsError(name, file, f"{what} ({error.strerror})") from None
