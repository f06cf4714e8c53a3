"""The controller's private certificate authority: the only root that hosts and the controller trust for each other.

Owns the CA's key and certificate in the state directory, and says what goes into a certificate. Whether somebody may have
one is decided elsewhere (``enrolment``, ``sessions``).
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hostward.agent.identity import CLOCK_SKEW, SERVER_NAME, host_name_in, key_pem, make_key
from hostward.agent.join_token import pin_of
from hostward.errors import EnrolmentError, StoreError
from hostward.private_files import make_private_directory, write_private_file

AUTHORITY_FILE = "authority.pem"
SERVER_FILE = "server.pem"

_AUTHORITY_LIFE = timedelta(days=3650)
_SERVER_LIFE = timedelta(days=365)
HOST_LIFE = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was just signed."""

    pem: bytes
    serial: str
    until: datetime


class Authority:
    """Signs; knows nothing of tokens or of who is admitted."""

    def __init__(self, directory: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._directory = directory
        self._key = key
        self._certificate = certificate

    @property
    def pem(self) -> bytes:
        """The CA's certificate."""
        return self._certificate.public_bytes(Encoding.PEM)

    @property
    def pin(self) -> str:
        """What join tokens carry."""
        return pin_of(self._certificate)

    def issue_host(
        self, request: bytes, host: str, now: datetime, life: timedelta = HOST_LIFE, endorsement: str = ""
    ) -> Issued:
        """Sign a host's request. Raises EnrolmentError unless it asks, provably, for exactly the name ``host``.

        ``endorsement`` is the SHA-256 of its TPM's endorsement key where good evidence earned the certificate.
        """
        try:
            csr = x509.load_pem_x509_csr(request)
            asked = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            names = asked.get_values_for_type(x509.DNSName)
            proven = csr.is_signature_valid
        except (ValueError, x509.ExtensionNotFound, InvalidSignature) as error:
            raise EnrolmentError("the signing request is malformed", subject=host) from error
        key = csr.public_key()
        if not proven or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise EnrolmentError("the signing request proves no ECDSA P-256 key", subject=host)
        if names != [host] or len(list(asked)) != 1:
            raise EnrolmentError(f"the signing request is for {names}, not for this host", subject=host)
        until = now + life
        called: list[x509.GeneralName] = [x509.DNSName(host)]
        if endorsement:
            called.append(x509.UniformResourceIdentifier(f"urn:hostward:ek:{endorsement}"))
        certificate = (
            _builder(host, self._certificate.subject, key, now - CLOCK_SKEW, until)
            .add_extension(x509.SubjectAlternativeName(called), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        return Issued(certificate.public_bytes(Encoding.PEM), serial_text(certificate), certificate.not_valid_after_utc)

    def renew_server(self, now: datetime) -> Path:
        """Make the controller's own key and certificate anew and return the file that holds both."""
        key = make_key()
        certificate = (
            _builder(SERVER_NAME, self._certificate.subject, key.public_key(), now - CLOCK_SKEW, now + _SERVER_LIFE)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        path = self._directory / SERVER_FILE
        write_private_file(path, key_pem(key) + certificate.public_bytes(Encoding.PEM))
        return path


def open_authority(directory: Path, now: datetime) -> Authority:
    """Load the CA from the state directory, or make it there the first time."""
    make_private_directory(directory)
    path = directory / AUTHORITY_FILE
    if not path.exists():
        key = make_key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Hostward controller CA")])
        made = (
            _builder("Hostward controller CA", name, key.public_key(), now - CLOCK_SKEW, now + _AUTHORITY_LIFE, ca=True)
            .sign(key, hashes.SHA256())
            .public_bytes(Encoding.PEM)
        )
        write_private_file(path, key_pem(key) + made)
    try:
        content = path.read_bytes()
        loaded = load_pem_private_key(content, password=None)
        certificate = x509.load_pem_x509_certificate(content)
    except (OSError, ValueError) as error:
        raise StoreError(
            f"the CA cannot be read: {error}",
            subject=str(path),
            hint="restore it from a backup; without it every host has to join again",
        ) from error
    if not isinstance(loaded, ec.EllipticCurvePrivateKey) or loaded.public_key() != certificate.public_key():
        raise StoreError("key and certificate do not belong together", subject=str(path), hint="restore a backup")
    return Authority(directory, loaded, certificate)


def serial_text(certificate: x509.Certificate) -> str:
    """A serial as the store and the log write it."""
    return f"{certificate.serial_number:x}"


def peer_of(certificate_der: bytes) -> tuple[str, str, datetime]:
    """Host name, serial and end of a peer's certificate that TLS has already verified."""
    certificate = x509.load_der_x509_certificate(certificate_der)
    return host_name_in(certificate), serial_text(certificate), certificate.not_valid_after_utc


def channel_context(server_file: Path, authority: Authority) -> ssl.SSLContext:
    """TLS 1.3 for the agents' channel: a client without a certificate of this CA gets no further than the handshake."""
    context = enrolment_context(server_file)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=authority.pem.decode())
    return context


def enrolment_context(server_file: Path) -> ssl.SSLContext:
    """TLS 1.3 for the enrolment port: the controller proves itself, the client has nothing to prove with yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # a resumed session would outlive the check of the certificate's end
    context.load_cert_chain(server_file)
    return context


def _builder(
    common_name: str,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    start: datetime,
    end: datetime,
    *,
    ca: bool = False,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
    )
