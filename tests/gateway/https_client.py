"""A certificate authority for one test, and a client that trusts it and nobody else."""

import datetime
import http.client
import json
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY = datetime.timedelta(days=1)


class Authority:
    """Issues certificates; `path` holds its own."""

    def __init__(self, directory: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority")])
        self._certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
            )
            .add_extension(_usage(is_authority=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.path = directory / "authority.pem"
        self.path.write_bytes(_pem(self._certificate))

    def issue(self, directory: Path, *names: str, days: int = 30) -> int:
        """Write `cert.pem` and `key.pem` for these names; return the serial number."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        hosts = [x509.DNSName(name) for name in names]
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            self._builder(subject, key.public_key(), days)
            .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
            .add_extension(issuer, critical=False)
            .add_extension(_usage(is_authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        # The key first: for a moment they do not fit, as with any renewal.
        (directory / "key.pem").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        (directory / "cert.pem").write_bytes(_pem(certificate))
        return certificate.serial_number

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, days: int = 30
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + days * _DAY)
        )


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True, slots=True)
class Secure:
    """What came back over HTTPS, and by what certificate."""

    status: int
    headers: dict[str, str]
    body: bytes
    serial: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class HttpsClient:
    """Asks a port of the loopback by any name, and verifies the chain against one authority."""

    def __init__(self, port: int, authority: Path) -> None:
        self.port = port
        self.context = ssl.create_default_context(cafile=str(authority))

    def get(self, host: str, path: str = "/", method: str = "GET", **headers: str) -> Secure:
        """One exchange. Raises ssl.SSLError where the chain or the name is wrong."""
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=30) as plain,
            self.context.wrap_socket(plain, server_hostname=host) as link,
        ):
            connection = http.client.HTTPSConnection(host, self.port, timeout=30)
            connection.sock = link
            shown = {"Host": f"{host}:{self.port}", **headers}
            connection.request(method, path, headers=shown)
            answer = connection.getresponse()
            der = link.getpeercert(binary_form=True)
            assert der
            serial = x509.load_der_x509_certificate(der).serial_number
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Secure(answer.status, found, answer.read(), serial)
