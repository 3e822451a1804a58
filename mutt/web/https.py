"""TLS at the worker's own sockets: without waiting, as all is read there, and with certificates that may be renewed."""

from __future__ import annotations

import contextlib
import socket
import ssl
from pathlib import Path
from typing import Any

from gunicorn.sock import ssl_context

from mutt.web.client import Client

#: What comes in the clear where TLS is spoken, as OpenSSL names it.
IN_THE_CLEAR = "HTTP_REQUEST"


class SecureClient(Client, ssl.SSLSocket):
    """A sender's connection over TLS."""

    def say_in_the_clear(self, data: bytes) -> None:
        """For one who does not speak TLS; he may not be there any more."""
        with contextlib.suppress(OSError):
            socket.socket.send(self, data)

    def shutdown(self, how: int) -> None:
        """End TLS before the connection ends, so that nobody takes the end for a cut. Does not wait."""
        with contextlib.suppress(OSError, ValueError):
            self.unwrap()
        super().shutdown(how)


class Certificates:
    """gunicorn's certificate, key and CAs of clients, and what they say when their files have changed."""

    def __init__(self, cfg: Any, log: Any) -> None:
        self._cfg, self._log = cfg, log
        self._files = [Path(file) for file in (cfg.certfile, cfg.keyfile, cfg.ca_certs) if file]
        self._seen, self._told = self._read(), ""
        self._context = self._made()

    def wrap(self, client: Client) -> Client:
        """``client`` over TLS; its handshake is still to be made. Raises ``OSError``: it is not there any more."""
        return self._context.wrap_socket(client, server_side=True, do_handshake_on_connect=False)  # type: ignore[return-value]

    def look(self) -> None:
        """Use new files for new connections. Files that are no good change nothing: they may be half way in."""
        try:
            found = self._read()
            if found == self._seen:
                return
            self._seen = found
            self._context = self._made()
        except OSError as error:
            if str(error) != self._told:
                self._told = str(error)
                self._log.warning("the new certificate can't be used, the last good one stays: %s", error)
        else:
            self._told = ""
            self._log.warning("the certificate has changed: new connections get the new one")

    def _read(self) -> list[bytes]:
        return [file.read_bytes() for file in self._files]

    def _made(self) -> ssl.SSLContext:
        made: ssl.SSLContext = ssl_context(self._cfg)
        made.sslsocket_class = SecureClient
        return made
