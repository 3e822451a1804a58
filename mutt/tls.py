"""What every TLS of MUTT has in common: a floor, a server that is checked, and PEM files that are as they should be."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path

from mutt.errors import SettingsError

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
