"""TPM2_MakeCredential outside of a TPM (Part 1, 24): a secret that only the TPM with this EK gives out, for this AK alone.

The credential is encrypted to the EK, and bound to the AK's name; TPM2_ActivateCredential opens it if the AK with that name
is loaded in the same TPM. So whoever returns the secret has both.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from hostward.attest.algorithms import Hash
from hostward.attest.public import TpmPublic, check_endorsement_key
from hostward.errors import EvidenceError

_FILE_MAGIC = 0xBADCC0DE
_FILE_VERSION = 1
_MOST_SECRET = 32


@dataclass(frozen=True, slots=True)
class Credential:
    """What goes to the host: TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET, each with its length before it."""

    id_object: bytes
    encrypted_secret: bytes

    def file(self) -> bytes:
        """Both, as `tpm2_activatecredential -i` reads them."""
        head = _FILE_MAGIC.to_bytes(4, "big") + _FILE_VERSION.to_bytes(4, "big")
        return head + self.id_object + self.encrypted_secret


def make_credential(endorsement_key: TpmPublic, name: bytes, secret: bytes, seed: bytes) -> Credential:
    """Wrap ``secret`` for the key of this name. ``seed`` is random, as long as the EK's hash, and used once (RSA only)."""
    check_endorsement_key(endorsement_key)
    if not 0 < len(secret) <= _MOST_SECRET:
        raise EvidenceError(f"a secret of {len(secret)} bytes, not 1 to {_MOST_SECRET}")
    used = endorsement_key.hash
    key = endorsement_key.key
    if isinstance(key, rsa.RSAPublicKey):
        if len(seed) != used.size:
            raise EvidenceError(f"a seed of {len(seed)} bytes, not {used.size}")
        oaep = padding.OAEP(padding.MGF1(used.scheme), used.scheme, b"IDENTITY\0")
        encrypted = key.encrypt(seed, oaep)
    else:
        seed, encrypted = _shared_seed(key, used)
    assert endorsement_key.symmetric is not None  # checked above
    storage = kdfa(used, seed, b"STORAGE", name, endorsement_key.symmetric.bits)
    cipher = Cipher(algorithms.AES(storage), CFB(bytes(16))).encryptor()
    identity = cipher.update(_sized(secret)) + cipher.finalize()
    integrity = kdfa(used, seed, b"INTEGRITY", b"", 8 * used.size)
    mac = hmac.digest(integrity, identity + name, used.name.replace("-", "_"))
    return Credential(_sized(_sized(mac) + identity), _sized(encrypted))


def _shared_seed(key: ec.EllipticCurvePublicKey, used: Hash) -> tuple[bytes, bytes]:
    """A seed agreed with the EK by a key of one use, and that key's point (Part 1, C.6.4)."""
    ephemeral = ec.generate_private_key(key.curve)
    size = (key.curve.key_size + 7) // 8
    shared = ephemeral.exchange(ec.ECDH(), key)
    ours = ephemeral.public_key().public_numbers()
    x, y, theirs = (number.to_bytes(size, "big") for number in (ours.x, ours.y, key.public_numbers().x))
    # KDFe (Part 1, 11.4.10.3): one round is as long as the hash, and no more is wanted.
    seed = used.digest((1).to_bytes(4, "big") + shared + b"IDENTITY\0" + x + theirs)
    return seed, _sized(x) + _sized(y)


def kdfa(used: Hash, key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    """KDFa (Part 1, 11.4.10.2): SP 800-108 in counter mode."""
    tail = label + b"\0" + context + bits.to_bytes(4, "big")
    size = (bits + 7) // 8
    derived = b""
    counter = 1
    while len(derived) < size:
        derived += hmac.digest(key, counter.to_bytes(4, "big") + tail, used.name.replace("-", "_"))
        counter += 1
    return derived[:size]


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data
