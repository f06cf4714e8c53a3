"""Certificates in files: DER alone, or any number as PEM."""

from __future__ import annotations

import base64
import binascii
import re

from hostward.errors import EvidenceError

_MOST_CERTIFICATES = 64
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----")


def certificates_in(content: bytes) -> list[bytes]:
    """The certificates of a file, each as DER. Raises EvidenceError."""
    if b"-----BEGIN" not in content:
        return [content]
    blocks = _BLOCK.findall(content)
    if not blocks or len(blocks) > _MOST_CERTIFICATES:
        raise EvidenceError(f"{len(blocks)} certificates in PEM, not 1 to {_MOST_CERTIFICATES}")
    try:
        return [base64.b64decode(b"".join(block.split()), validate=True) for block in blocks]
    except binascii.Error as error:
        raise EvidenceError(f"a certificate in PEM that cannot be read: {error}") from error
