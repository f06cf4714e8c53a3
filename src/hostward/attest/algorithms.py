"""Numbers of algorithms in the TCG Algorithm Registry, and the hashes that the verifier computes with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from cryptography.hazmat.primitives import hashes

from hostward.errors import EvidenceError


class Algorithm(IntEnum):
    """TPM_ALG_ID, as far as evidence has any."""

    RSA = 0x0001
    SHA1 = 0x0004
    AES = 0x0006
    SHA256 = 0x000B
    SHA384 = 0x000C
    SHA512 = 0x000D
    NULL = 0x0010
    SM3_256 = 0x0012
    RSASSA = 0x0014
    RSAES = 0x0015
    RSAPSS = 0x0016
    OAEP = 0x0017
    ECDSA = 0x0018
    ECC = 0x0023
    SHA3_256 = 0x0027
    SHA3_384 = 0x0028
    SHA3_512 = 0x0029
    CFB = 0x0043


@dataclass(frozen=True, slots=True, eq=False)
class Hash:
    """A hash of the registry: ``new`` computes it, ``scheme`` names it to `cryptography`."""

    algorithm: Algorithm
    name: str
    size: int
    new: Callable[[bytes], hashlib._Hash]
    scheme: hashes.HashAlgorithm

    def digest(self, data: bytes) -> bytes:
        """The hash of ``data``."""
        return self.new(data).digest()

    def extend(self, value: bytes, digest: bytes) -> bytes:
        """What a PCR of this bank holds after an extension."""
        return self.digest(value + digest)


def _sm3(data: bytes) -> hashlib._Hash:
    # OpenSSL may have been built without it; then its banks are read and not replayed.
    return hashlib.new("sm3", data)


SHA1 = Hash(Algorithm.SHA1, "sha1", 20, hashlib.sha1, hashes.SHA1())  # noqa: S303
SHA256 = Hash(Algorithm.SHA256, "sha256", 32, hashlib.sha256, hashes.SHA256())
SHA384 = Hash(Algorithm.SHA384, "sha384", 48, hashlib.sha384, hashes.SHA384())
SHA512 = Hash(Algorithm.SHA512, "sha512", 64, hashlib.sha512, hashes.SHA512())
_ALWAYS = (
    SHA1,
    SHA256,
    SHA384,
    SHA512,
    Hash(Algorithm.SHA3_256, "sha3-256", 32, hashlib.sha3_256, hashes.SHA3_256()),
    Hash(Algorithm.SHA3_384, "sha3-384", 48, hashlib.sha3_384, hashes.SHA3_384()),
    Hash(Algorithm.SHA3_512, "sha3-512", 64, hashlib.sha3_512, hashes.SHA3_512()),
)
HASHES: dict[int, Hash] = {each.algorithm: each for each in _ALWAYS}
if "sm3" in hashlib.algorithms_available:
    HASHES[Algorithm.SM3_256] = Hash(Algorithm.SM3_256, "sm3-256", 32, _sm3, hashes.SM3())
BY_NAME = {each.name: each for each in HASHES.values()}
# What a signature or a key's name may rest on today. SHA-1 banks are replayed for what old logs say; they prove nothing.
STRONG = frozenset({Algorithm.SHA256, Algorithm.SHA384, Algorithm.SHA512, Algorithm.SHA3_256, Algorithm.SHA3_384})


def hash_of(number: int, what: str, offset: int | None = None) -> Hash:
    """The hash of this number. Raises EvidenceError naming ``what`` asked for it."""
    found = HASHES.get(number)
    if found is None:
        raise EvidenceError(f"{what} has the unknown hash algorithm {number:#06x}", offset=offset)
    return found


def name_of(number: int) -> str:
    """A number as people know it."""
    try:
        return Algorithm(number).name.lower()
    except ValueError:
        return f"{number:#06x}"
