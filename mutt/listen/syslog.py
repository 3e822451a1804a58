"""``mutt listen syslog``: the listeners that the settings ask for."""

from __future__ import annotations

from mutt.errors import SettingsError
from mutt.listen.relay import Relay
from mutt.listen.serve import Listener, serve
from mutt.listen.tcp import TcpListener
from mutt.listen.udp import UdpListener
from mutt.listen.wire import connections_within
from mutt.settings import Settings
from mutt.tls import ServerFiles, check_ca, check_pair


def listen(settings: Settings) -> None:
    """Hear syslog until told to stop. Raises :class:`~mutt.errors.SettingsError`."""
    relay = Relay.of(settings, "syslog")
    try:
        listeners = listeners_of(settings, relay)
    except SettingsError:
        relay.close()
        raise
    serve(settings, relay, listeners)


def listeners_of(settings: Settings, relay: Relay) -> dict[str, Listener]:
    """By name: syslog-udp, syslog-tcp, syslog-tls. Raises :class:`~mutt.errors.SettingsError`, also for none."""
    s, made = settings, dict[str, Listener]()
    tls = _tls(settings)
    if s.listen_syslog_udp:
        made["syslog-udp"] = UdpListener(s.listen_host, s.listen_syslog_udp, relay, most=s.ingest_max_event)
    streams = [
        (kind, port, files)
        for kind, port, files in (("tcp", s.listen_syslog_tcp, None), ("tls", s.listen_syslog_tls, tls))
        if port and (kind == "tcp" or files)
    ]
    connections = connections_within(s.listen_connections, len(streams)) if streams else 0
    for kind, port, files in streams:
        made[f"syslog-{kind}"] = TcpListener(
            s.listen_host,
            port,
            relay,
            name=f"LISTEN_SYSLOG_{kind.upper()}",
            most=s.ingest_max_event,
            connections=connections,
            tls=files,
        )
    if not made:
        raise SettingsError(
            "LISTEN_SYSLOG_UDP", "0", "a port here, or for LISTEN_SYSLOG_TCP, or _TLS with TLS_CERT"
        )
    return made


def _tls(settings: Settings) -> ServerFiles | None:
    cert, key = check_pair("TLS_CERT", settings.tls_cert, "TLS_KEY", settings.tls_key)
    client_ca = check_ca("TLS_CLIENT_CA", settings.tls_client_ca)
    return ServerFiles(cert, key, client_ca) if cert else None
