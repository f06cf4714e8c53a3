"""The gate's own key and certificate, by which controllers know it: made here, kept here, trusted by its fingerprint."""

from __future__ import annotations

import hashlib
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from hostward.errors import StoreError
from hostward.private_files import make_private_directory, write_private_file

IDENTITY_FILE = "identity.pem"
# Nobody looks at the dates: it is the key that is pinned. RFC 5280, section 4.1.2.5: "no well-defined expiration".
_END = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def gate_fingerprint(state: Path) -> str:
    """SHA-256 of the gate's SubjectPublicKeyInfo, in hexadecimal; makes the key the first time. Raises StoreError."""
    make_private_directory(state)
    path = state / IDENTITY_FILE
    if not path.exists():
        write_private_file(path, _make_identity())
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StoreError(
            f"the gate's identity cannot be read: {error}",
            subject=str(path),
            hint="remove it, start the gate, and tell the controller the new fingerprint",
        ) from error
    return key_fingerprint(certificate)


def key_fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of a certificate's SubjectPublicKeyInfo, in hexadecimal."""
    info = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(info).hexdigest()


def server_context(state: Path) -> ssl.SSLContext:
    """TLS 1.3 with the gate's certificate. Clients prove themselves by what they sign, not by certificates."""
    gate_fingerprint(state)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(state / IDENTITY_FILE)
    return context


def _make_identity() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hostward gate")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(_END)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)
