"""A host's own key and certificate: made here, kept here, the private key never leaves the machine."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from hostward.errors import EnrolmentError
from hostward.private_files import write_private_file

# Key, certificate and CA lie in one file, so that a crash cannot leave a key beside another key's certificate.
IDENTITY_FILE = "identity.pem"
# The name in the controller's certificate, whatever its address; no host can hold it, because of the dot.
SERVER_NAME = "controller.hostward"
# Certificates are dated back by this much, because hosts' clocks may lag behind the controller's.
CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class HostIdentity:
    """What a host shows the controller, and the CA by which it knows the controller; all PEM."""

    key: bytes
    certificate: bytes
    authority: bytes

    @property
    def host(self) -> str:
        """The host's name, from the certificate."""
        return host_name_in(x509.load_pem_x509_certificate(self.certificate))

    @property
    def valid_until(self) -> datetime:
        """When the certificate's life ends (UTC)."""
        return x509.load_pem_x509_certificate(self.certificate).not_valid_after_utc

    @property
    def renew_at(self) -> datetime:
        """Two thirds into the certificate's life (UTC)."""
        certificate = x509.load_pem_x509_certificate(self.certificate)
        life = self.valid_until - (certificate.not_valid_before_utc + CLOCK_SKEW)
        return self.valid_until - life / 3


def host_name_in(certificate: x509.Certificate) -> str:
    """The one DNS name in a host certificate. Raises EnrolmentError if there is not exactly one."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        names = []
    else:
        names = extension.value.get_values_for_type(x509.DNSName)
    if len(names) != 1:
        raise EnrolmentError("the certificate does not name exactly one host")
    return names[0]


def make_key() -> ec.EllipticCurvePrivateKey:
    """A fresh ECDSA P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The private key as PEM; only ever written with ``write_private_file``."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def make_request(key: ec.EllipticCurvePrivateKey, host: str) -> bytes:
    """A certificate signing request for ``host``, PEM."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


def save_identity(directory: Path, identity: HostIdentity) -> None:
    """Keep an identity, durably."""
    write_private_file(directory / IDENTITY_FILE, identity.key + identity.certificate + identity.authority)


def load_identity(directory: Path) -> HostIdentity | None:
    """The kept identity, or None where this host has not joined. Raises EnrolmentError if the file is damaged."""
    path = directory / IDENTITY_FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        key = load_pem_private_key(content, password=None)
        certificate, authority = x509.load_pem_x509_certificates(content)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ValueError("key and certificate do not belong together")
    except ValueError as error:
        raise EnrolmentError(
            f"it is damaged: {error}", subject=str(path), hint="remove it and join again: hostward host join TOKEN"
        ) from error
    return HostIdentity(key_pem(key), certificate.public_bytes(Encoding.PEM), authority.public_bytes(Encoding.PEM))


def client_context(directory: Path, authority: bytes) -> ssl.SSLContext:
    """TLS 1.3 towards the controller, both sides proven by certificates of the controller's own CA and no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=authority.decode())
    context.load_cert_chain(directory / IDENTITY_FILE)
    return context
