"""TPMT_SIGNATURE (TPM 2.0 Library, Part 2, 11.3) over a quote: RSASSA, RSAPSS and ECDSA."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from hostward.attest.algorithms import HASHES, STRONG, Algorithm, Hash, hash_of, name_of
from hostward.attest.cursor import Cursor
from hostward.attest.public import TpmPublic
from hostward.errors import EvidenceError

_ECDSA = {number: ec.ECDSA(HASHES[number].scheme) for number in STRONG}


@dataclass(frozen=True, slots=True)
class TpmSignature:
    """A signature; ``value`` is as `cryptography` takes it: RSA's integer, or ECDSA's two in DER."""

    scheme: int
    hash: Hash
    value: bytes


def parse_signature(data: bytes) -> TpmSignature:
    """Read TPMT_SIGNATURE as `tpm2_quote -s` writes it. Raises EvidenceError."""
    cursor = Cursor(data, "big")
    scheme = cursor.u16("signature algorithm")
    if scheme not in (Algorithm.RSASSA, Algorithm.RSAPSS, Algorithm.ECDSA):
        raise EvidenceError(f"the unknown signature algorithm {name_of(scheme)}", offset=0)
    number = cursor.u16("hash of the signature")
    used = hash_of(number, "the signature", 2)
    if number not in STRONG:
        raise EvidenceError(f"the signature is over {used.name}, which is too weak", offset=2)
    if scheme == Algorithm.ECDSA:
        r, s = (int.from_bytes(cursor.sized(what, 66), "big") for what in ("r", "s"))
        value = encode_dss_signature(r, s)
    else:
        value = cursor.sized("signature", 512)
    cursor.finish("the signature")
    return TpmSignature(scheme, used, value)


def verify_signature(key: TpmPublic, signature: TpmSignature, message: bytes) -> None:
    """Whether ``key`` signed ``message`` in the way that it is made for. Raises EvidenceError."""
    if key.scheme not in (Algorithm.NULL, signature.scheme):
        raise EvidenceError(
            f"the key signs by {name_of(key.scheme)}, and this is signed by {name_of(signature.scheme)}"
        )
    if key.scheme_hash not in (Algorithm.NULL, signature.hash.algorithm):
        raise EvidenceError(f"the key signs {name_of(key.scheme_hash)}, and this is signed over {signature.hash.name}")
    public = key.key
    try:
        if signature.scheme == Algorithm.ECDSA and isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(signature.value, message, _ECDSA[signature.hash.algorithm])
        elif signature.scheme == Algorithm.RSASSA and isinstance(public, rsa.RSAPublicKey):
            public.verify(signature.value, message, padding.PKCS1v15(), signature.hash.scheme)
        elif signature.scheme == Algorithm.RSAPSS and isinstance(public, rsa.RSAPublicKey):
            # A TPM takes the longest salt, or the hash's length in FIPS mode (Part 1, B.7): any is read.
            pss = padding.PSS(padding.MGF1(signature.hash.scheme), padding.PSS.AUTO)
            public.verify(signature.value, message, pss, signature.hash.scheme)
        else:
            raise EvidenceError(f"a signature by {name_of(signature.scheme)} is not one of this kind of key")
    except InvalidSignature:
        raise EvidenceError("the signature is not by this key, or not over this quote") from None
