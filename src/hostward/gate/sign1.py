"""COSE_Sign1 with Ed25519: one signature over one payload (RFC 9052, section 4.2; RFC 9053, section 2.2)."""

from __future__ import annotations

from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hostward.errors import LeaseError
from hostward.gate.cbor import Tagged, Value, decode, encode

_SIGN1 = 18
_ALGORITHM, _CONTENT_TYPE = 1, 3
_EDDSA = -8
_SIGNATURE_BYTES = 64


def sign(key: Ed25519PrivateKey, content_type: str, payload: Mapping[int, Value]) -> bytes:
    """A signed message. ``content_type`` is part of what is signed, so that none is taken for one of another kind."""
    protected = encode({_ALGORITHM: _EDDSA, _CONTENT_TYPE: content_type})
    body = encode(payload)
    return encode(Tagged(_SIGN1, [protected, {}, body, key.sign(_signed(protected, body))]))


def verify(key: Ed25519PublicKey, content_type: str, message: bytes) -> Mapping[int, Value]:
    """The payload of a message that this key signed. Raises LeaseError."""
    match decode(message):
        case Tagged(18, [bytes(protected), dict(unprotected), bytes(body), bytes(signature)]) if not unprotected:
            pass
        case _:
            raise LeaseError("this is no COSE_Sign1 message")
    if protected != encode({_ALGORITHM: _EDDSA, _CONTENT_TYPE: content_type}):
        raise LeaseError(f"it is not signed as {content_type}, by Ed25519")
    if len(signature) != _SIGNATURE_BYTES:
        raise LeaseError(f"a signature of {len(signature)} bytes, not {_SIGNATURE_BYTES}")
    try:
        key.verify(signature, _signed(protected, body))
    except InvalidSignature:
        raise LeaseError("the signature is another's, or over something else") from None
    payload = decode(body)
    if not isinstance(payload, dict):
        raise LeaseError("what is signed is no map")
    return payload


def _signed(protected: bytes, body: bytes) -> bytes:
    return encode(["Signature1", protected, b"", body])
