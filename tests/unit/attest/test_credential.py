"""MakeCredential against a TPM's side written from the specification; make-vectors checks it with a TPM."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from bench.attester import AK_ATTRIBUTES, EK_ATTRIBUTES, public_area
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from hostward.attest.credential import Credential, make_credential
from hostward.attest.public import parse_public
from hostward.errors import EvidenceError

NAME = b"\0\x0b" + bytes(range(32))
SECRET = b"s" * 32


def activate(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, credential: Credential, name: bytes) -> bytes:
    """TPM2_ActivateCredential (Part 3, 12.5), for the object with this name."""
    encrypted = credential.encrypted_secret[2:]
    if isinstance(key, rsa.RSAPrivateKey):
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), b"IDENTITY\0")
        seed = key.decrypt(encrypted, oaep)
    else:
        x, y = encrypted[2:34], encrypted[36:68]
        point = ec.EllipticCurvePublicNumbers(
            int.from_bytes(x, "big"), int.from_bytes(y, "big"), key.curve
        ).public_key()
        shared = key.exchange(ec.ECDH(), point)
        ours = key.public_key().public_numbers().x.to_bytes(32, "big")
        seed = hashlib.sha256(b"\0\0\0\1" + shared + b"IDENTITY\0" + x + ours).digest()

    def derive(label: bytes, context: bytes, bits: int) -> bytes:
        message = b"\0\0\0\1" + label + b"\0" + context + bits.to_bytes(4, "big")
        return hmac.new(seed, message, hashlib.sha256).digest()[: bits // 8]

    body = credential.id_object[2:]
    mac, identity = body[2:34], body[34:]
    if hmac.new(derive(b"INTEGRITY", b"", 256), identity + name, hashlib.sha256).digest() != mac:
        raise ValueError("integrity")
    cipher = Cipher(algorithms.AES(derive(b"STORAGE", name, 128)), CFB(bytes(16))).decryptor()
    opened = cipher.update(identity) + cipher.finalize()
    return opened[2 : 2 + int.from_bytes(opened[:2], "big")]


@pytest.mark.parametrize("key", [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())])
def test_only_the_named_key_under_this_ek_gets_the_secret(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> None:
    ek = parse_public(public_area(key, attributes=EK_ATTRIBUTES, endorsement=True))
    credential = make_credential(ek, NAME, SECRET, bytes(32))
    assert activate(key, credential, NAME) == SECRET
    with pytest.raises(ValueError, match="integrity"):
        activate(key, credential, NAME[:-1] + b"\0")


def test_no_credential_is_made_for_what_is_no_endorsement_key() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(EvidenceError, match="not decrypt"):
        make_credential(parse_public(public_area(key, attributes=AK_ATTRIBUTES)), NAME, SECRET, bytes(32))


def test_the_file_is_as_tpm2_tools_read_it() -> None:
    assert Credential(b"\0\1a", b"\0\1b").file() == bytes.fromhex("badcc0de00000001") + b"\0\1a\0\1b"
