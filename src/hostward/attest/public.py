"""TPMT_PUBLIC (TPM 2.0 Library, Part 2, 12.2): a key of a TPM, its name, and what its attributes promise.

An attribute that is not checked is a way around the TPM: a key that is not restricted signs whatever its holder hashes, and
one that is not fixedTPM may lie in a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hostward.attest.algorithms import STRONG, Algorithm, Hash, hash_of, name_of
from hostward.attest.cursor import Cursor
from hostward.errors import EvidenceError

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
_CURVES: dict[int, type[ec.EllipticCurve]] = {3: ec.SECP256R1, 4: ec.SECP384R1, 5: ec.SECP521R1}
_LEAST_RSA_BITS = 2048
_MOST_RSA_BITS = 4096
_DEFAULT_EXPONENT = 65_537


class Attribute(IntFlag):
    """TPMA_OBJECT."""

    FIXED_TPM = 1 << 1
    ST_CLEAR = 1 << 2
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    ADMIN_WITH_POLICY = 1 << 7
    NO_DA = 1 << 10
    ENCRYPTED_DUPLICATION = 1 << 11
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN = 1 << 18
    X509_SIGN = 1 << 19


_OF_THIS_TPM = Attribute.FIXED_TPM | Attribute.FIXED_PARENT | Attribute.SENSITIVE_DATA_ORIGIN | Attribute.RESTRICTED
_WORDS = {
    Attribute.FIXED_TPM: "fixedTPM",
    Attribute.FIXED_PARENT: "fixedParent",
    Attribute.SENSITIVE_DATA_ORIGIN: "sensitiveDataOrigin",
    Attribute.RESTRICTED: "restricted",
    Attribute.DECRYPT: "decrypt",
    Attribute.SIGN: "sign",
    Attribute.X509_SIGN: "x509sign",
    Attribute.ENCRYPTED_DUPLICATION: "encryptedDuplication",
}


@dataclass(frozen=True, slots=True)
class Symmetric:
    """How a storage key protects what lies under it."""

    algorithm: int
    bits: int
    mode: int


@dataclass(frozen=True, slots=True)
class TpmPublic:
    """A key of a TPM. ``name`` is what identifies it: the hash of the whole area behind its algorithm."""

    hash: Hash
    attributes: Attribute
    auth_policy: bytes
    symmetric: Symmetric | None
    scheme: int
    scheme_hash: int
    key: PublicKey
    name: bytes

    def subject_public_key_info(self) -> bytes:
        """The key in the form that certificates have it."""
        return self.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def parse_public(data: bytes) -> TpmPublic:
    """Read TPMT_PUBLIC, with or without the length that TPM2B_PUBLIC puts before it. Raises EvidenceError."""
    wrapped = len(data) >= 2 and int.from_bytes(data[:2], "big") == len(data) - 2
    area = data[2:] if wrapped else data
    cursor = Cursor(area, "big", base=2 if wrapped else 0)
    kind = cursor.u16("type of key")
    if kind not in (Algorithm.RSA, Algorithm.ECC):
        raise EvidenceError(f"a key of the type {name_of(kind)}, neither rsa nor ecc", offset=cursor.place - 2)
    name_hash = hash_of(cursor.u16("name algorithm"), "the key's name", cursor.place - 2)
    attributes = Attribute(cursor.u32("attributes"))
    policy = cursor.sized("authorization policy", 64)
    symmetric = _symmetric(cursor)
    scheme = cursor.u16("scheme")
    scheme_hash = Algorithm.NULL.value
    if scheme not in (Algorithm.NULL, Algorithm.RSAES):
        scheme_hash = cursor.u16("hash of the scheme")
    key = _rsa(cursor) if kind == Algorithm.RSA else _ecc(cursor)
    cursor.finish("the public area")
    name = name_hash.algorithm.to_bytes(2, "big") + name_hash.digest(area)
    return TpmPublic(name_hash, attributes, policy, symmetric, scheme, scheme_hash, key, name)


def _symmetric(cursor: Cursor) -> Symmetric | None:
    algorithm = cursor.u16("symmetric algorithm")
    if algorithm == Algorithm.NULL:
        return None
    return Symmetric(algorithm, cursor.u16("bits of the symmetric key"), cursor.u16("symmetric mode"))


def _rsa(cursor: Cursor) -> rsa.RSAPublicKey:
    bits = cursor.u16("bits of the key")
    if not _LEAST_RSA_BITS <= bits <= _MOST_RSA_BITS:
        raise cursor.error(f"an RSA key of {bits} bits, not {_LEAST_RSA_BITS} to {_MOST_RSA_BITS}")
    exponent = cursor.u32("exponent") or _DEFAULT_EXPONENT
    if exponent != _DEFAULT_EXPONENT:
        raise cursor.error(f"an RSA key with the exponent {exponent}, not {_DEFAULT_EXPONENT}")
    modulus = int.from_bytes(cursor.sized("modulus", _MOST_RSA_BITS // 8), "big")
    if modulus.bit_length() != bits:
        raise cursor.error(f"a modulus of {modulus.bit_length()} bits in a key of {bits}")
    try:
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError as error:
        raise cursor.error(f"no RSA key: {error}") from error


def _ecc(cursor: Cursor) -> ec.EllipticCurvePublicKey:
    number = cursor.u16("curve")
    curve = _CURVES.get(number)
    if curve is None:
        raise EvidenceError(f"the unknown curve {number:#06x}", offset=cursor.place - 2)
    if cursor.u16("key derivation") != Algorithm.NULL:
        cursor.u16("hash of the key derivation")
    x, y = (int.from_bytes(cursor.sized(what, 66), "big") for what in ("x", "y"))
    try:
        return ec.EllipticCurvePublicNumbers(x, y, curve()).public_key()
    except ValueError as error:
        raise cursor.error(f"no point of {curve.name}: {error}") from error


def check_attestation_key(key: TpmPublic) -> None:
    """Refuse a key whose quotes prove nothing. Raises EvidenceError with the attribute that is wrong."""
    _check(
        key,
        "the attestation key",
        needed=_OF_THIS_TPM | Attribute.SIGN,
        forbidden=Attribute.DECRYPT | Attribute.X509_SIGN,
        because={
            Attribute.RESTRICTED: "an unrestricted key also signs what its TPM did not make",
            Attribute.FIXED_TPM: "it may be a copy in a file",
            Attribute.SENSITIVE_DATA_ORIGIN: "it was made outside of the TPM",
        },
    )
    if key.scheme not in (Algorithm.RSASSA, Algorithm.RSAPSS, Algorithm.ECDSA):
        raise EvidenceError(f"the attestation key's scheme is {name_of(key.scheme)}, no signature that is known")
    if key.scheme_hash not in STRONG:
        raise EvidenceError(f"the attestation key signs with {name_of(key.scheme_hash)}, which is too weak")


def check_endorsement_key(key: TpmPublic) -> None:
    """Refuse what cannot be an EK (TCG EK Credential Profile, templates of B.3 and B.4). Raises EvidenceError."""
    _check(
        key,
        "the endorsement key",
        needed=_OF_THIS_TPM | Attribute.DECRYPT,
        forbidden=Attribute.SIGN | Attribute.ENCRYPTED_DUPLICATION,
        because={Attribute.RESTRICTED: "an unrestricted key decrypts credentials for any name"},
    )
    symmetric = key.symmetric
    if symmetric is None or symmetric.algorithm != Algorithm.AES or symmetric.mode != Algorithm.CFB:
        raise EvidenceError("the endorsement key protects credentials with something other than AES in CFB mode")
    if symmetric.bits not in (128, 192, 256):
        raise EvidenceError(f"the endorsement key has an AES key of {symmetric.bits} bits")


def _check(
    key: TpmPublic, what: str, *, needed: Attribute, forbidden: Attribute, because: dict[Attribute, str]
) -> None:
    for attribute, word in _WORDS.items():
        wrong = ""
        if attribute & needed and not attribute & key.attributes:
            wrong = f"{what} is not {word}"
        elif attribute & forbidden and attribute & key.attributes:
            wrong = f"{what} is {word}, and must not be"
        if wrong:
            reason = because.get(attribute)
            raise EvidenceError(f"{wrong}: {reason}" if reason else wrong)
    if key.hash.algorithm not in STRONG:
        raise EvidenceError(f"{what} is named by {key.hash.name}, which is too weak")
