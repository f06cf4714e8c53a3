"""The keys by which the controller signs grants and attestation results; who relies on them is given the public halves."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from hostward.errors import StoreError
from hostward.private_files import make_private_directory, write_private_file

GRANT_KEY_FILE = "grants.pem"
RESULT_KEY_FILE = "results.pem"


def open_grant_key(directory: Path, file: str = GRANT_KEY_FILE) -> Ed25519PrivateKey:
    """Load a key from the controller's state directory, or make it there the first time. Raises StoreError."""
    make_private_directory(directory)
    path = directory / file
    if not path.exists():
        made = Ed25519PrivateKey.generate()
        write_private_file(path, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return made
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise StoreError(f"the key of grants cannot be read: {error}", subject=str(path)) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise StoreError("the key of grants is of another kind than Ed25519", subject=str(path))
    return key


def private_pem(key: Ed25519PrivateKey) -> bytes:
    """The key as JOSE libraries read it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_hex(key: Ed25519PrivateKey) -> str:
    """What gates are given, as their configuration takes it."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
