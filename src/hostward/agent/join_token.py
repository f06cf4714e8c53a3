"""The join token: what an operator carries from the controller to a new host, once.

``hw1.HOST.SECRET.PIN``: the host name it is bound to (empty: any), 32 random bytes, and the SHA-256 of the controller CA's
public key. The pin lets a host that knows nothing yet tell the controller from an impostor before it says anything.
"""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hostward.errors import EnrolmentError

_FORMAT = re.compile(r"hw1\.([a-z0-9-]{0,63})\.([A-Za-z0-9_-]{43})\.([A-Za-z0-9_-]{43})")
# Host names go into certificates and file names: an RFC 1123 label, nothing else.
HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A parsed token. Its text is a secret until it has been redeemed."""

    host: str
    secret: str
    pin: str

    def __str__(self) -> str:
        return f"hw1.{self.host}.{self.secret}.{self.pin}"

    def __repr__(self) -> str:
        return f"JoinToken(host={self.host!r}, secret=…, pin={self.pin!r})"


def parse_join_token(text: str) -> JoinToken:
    """Parse a token. Raises EnrolmentError without repeating the text, which may be most of a secret."""
    match = _FORMAT.fullmatch(text.strip())
    if match is None:
        raise EnrolmentError(
            "this is not a join token",
            hint="it looks like hw1.HOST.SECRET.PIN and is printed once by: hostward host token HOST",
        )
    return JoinToken(*match.groups())


def check_host_name(name: str) -> str:
    """Return ``name`` if it can be a host's name, else raise EnrolmentError."""
    if HOST_NAME.fullmatch(name) is None:
        raise EnrolmentError(
            "it cannot be a host's name", subject=repr(name), hint="use 1-63 of a-z, 0-9 and -, as in a DNS label"
        )
    return name


def hash_secret(secret: str) -> str:
    """What the store keeps of a token's secret. The secret has 256 random bits, so a plain hash is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


def pin_of(certificate: x509.Certificate) -> str:
    """The pin of a CA: SHA-256 over its public key, so that it survives a renewed self-signature."""
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return urlsafe_b64encode(hashlib.sha256(key).digest()).rstrip(b"=").decode()
