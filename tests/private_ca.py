"""A CA of the tests' own, and what it issues: certificates that are good, and that are wrong in one way each."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


class Papers(NamedTuple):
    """A certificate and its key, as PEM files."""

    cert: Path
    key: Path


class Authority:
    """A private CA that keeps what it issues in ``directory``."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory, self._name = directory, _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        public = self._key.public_key()
        self._known_by = x509.SubjectKeyIdentifier.from_public_key(public)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = (
            self._builder(self._name, public, -DAY, 10 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(self._known_by, critical=False)
        )
        self.pem = directory / f"{name}.pem"
        self.pem.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))

    def server(
        self, name: str, *hosts: str, since: datetime.timedelta = -DAY, until: datetime.timedelta = DAY
    ) -> Papers:
        """For a server that is called by any of ``hosts``."""
        names = [_host(host) for host in hosts]
        return self._issued(
            name, ExtendedKeyUsageOID.SERVER_AUTH, x509.SubjectAlternativeName(names), since, until
        )

    def client(self, name: str) -> Papers:
        """For somebody who has to say who he is."""
        called = x509.SubjectAlternativeName([x509.DNSName(name)])
        return self._issued(name, ExtendedKeyUsageOID.CLIENT_AUTH, called, -DAY, DAY)

    def signer(self, name: str, until: datetime.timedelta = DAY) -> Papers:
        """For somebody who signs messages, by RSA."""
        called = x509.SubjectAlternativeName([x509.DNSName(name)])
        key = rsa.generate_private_key(65537, 2048)
        return self._issued(name, ExtendedKeyUsageOID.SERVER_AUTH, called, -2 * DAY, until, key)

    def _issued(
        self,
        name: str,
        use: x509.ObjectIdentifier,
        called: x509.SubjectAlternativeName,
        since: datetime.timedelta,
        until: datetime.timedelta,
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
    ) -> Papers:
        key = key or ec.generate_private_key(ec.SECP256R1())
        vouched = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._known_by)
        builder = (
            self._builder(_name(name), key.public_key(), since, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(called, critical=False)
            .add_extension(vouched, critical=False)
        )
        papers = Papers(self._directory / f"{name}.crt", self._directory / f"{name}.key")
        papers.cert.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))
        papers.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        papers.key.chmod(0o600)
        return papers

    def _builder(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
        since: datetime.timedelta,
        until: datetime.timedelta,
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + since)
            .not_valid_after(now + until)
        )


#: What may be wrong with a server's certificate.
WRONGS = ("of another CA", "of another host", "expired")


class Registry:
    """Two authorities, and a server's papers: the right ones and the wrong ones. ``localhost`` is who is meant."""

    def __init__(self, directory: Path) -> None:
        self.ca, self.other = Authority(directory, "ca"), Authority(directory, "other-ca")
        here = ("localhost", "127.0.0.1")
        self.right = self.ca.server("right", *here)
        self.renewed = self.ca.server("renewed", *here)
        self.wrong = {
            "of another CA": self.other.server("of-another-ca", *here),
            "of another host": self.ca.server("of-another-host", "elsewhere.example"),
            "expired": self.ca.server("expired", *here, since=-2 * DAY, until=-DAY),
        }
        self.client = self.ca.client("mutt")


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
