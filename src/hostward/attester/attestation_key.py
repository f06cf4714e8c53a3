"""The attestation key: made once in the TPM, kept wrapped by it, and loaded again at each start.

A file of it opens nothing without its TPM; it is private all the same, so that nobody replaces it.
"""

from __future__ import annotations

import logging
import struct
from pathlib import Path

from hostward.attest.algorithms import Algorithm
from hostward.attest.cursor import Cursor
from hostward.attest.public import Attribute
from hostward.attester.tpm import LoadedKey, Tpm
from hostward.errors import EvidenceError, TpmError
from hostward.private_files import write_private_file

log = logging.getLogger(__name__)

_FILE = "attestation-key"
_MOST_PART = 2048
# TSS2_RC: which layer speaks; of the TPM's own answers, whether it is about a parameter (Part 2, 6.6.3).
_LAYER_SHIFT, _TPM, _MARSHALLING = 16, 0, 9
_ABOUT_PARAMETER = 0x80 | 0x40
# Nobody can guess a password that there is none of; and without NO_DA some losses of power, each of which counts as a
# guess, would lock the key for hours (Part 1, 19.8).
_ATTRIBUTES = (
    Attribute.FIXED_TPM
    | Attribute.FIXED_PARENT
    | Attribute.SENSITIVE_DATA_ORIGIN
    | Attribute.USER_WITH_AUTH
    | Attribute.NO_DA
    | Attribute.RESTRICTED
    | Attribute.SIGN
)
# ECDSA with SHA-256 over P-256, no policy, no symmetric algorithm, no key derivation, the point left to the TPM.
_TEMPLATE = struct.pack(
    ">HHIHHHHHHHH",
    Algorithm.ECC,
    Algorithm.SHA256,
    _ATTRIBUTES,
    0,
    Algorithm.NULL,
    Algorithm.ECDSA,
    Algorithm.SHA256,
    3,
    Algorithm.NULL,
    0,
    0,
)


def attestation_key(tpm: Tpm, ek: LoadedKey, state: Path) -> LoadedKey:
    """The key that is kept in ``state`` if it is this TPM's, else a new one, which has to be activated. Raises TpmError."""
    path = state / _FILE
    kept = _read(path)
    if kept is not None and kept[0] == ek.name:
        try:
            return tpm.load_key(ek, *kept[1:])
        except TpmError as error:
            if not _is_of_the_file(error.code):
                raise
            log.warning("the attestation key in %s is not this TPM's (%s): it is made anew", path, error.what)
    elif kept is not None:
        log.warning("the attestation key in %s lies under another endorsement key: it is made anew", path)
    public, private = tpm.create_key(ek, _TEMPLATE)
    key = tpm.load_key(ek, public, private)
    try:
        write_private_file(path, b"".join(len(each).to_bytes(2, "big") + each for each in (ek.name, public, private)))
    except BaseException:
        tpm.flush(key)
        raise
    return key


def _is_of_the_file(code: int) -> bool:
    """Whether an error is about what was kept: wrapped by another TPM, by this one before its seed was changed, damaged."""
    layer = code >> _LAYER_SHIFT
    return layer == _MARSHALLING or (layer == _TPM and code & _ABOUT_PARAMETER == _ABOUT_PARAMETER)


def _read(path: Path) -> tuple[bytes, bytes, bytes] | None:
    """Name of the EK, TPM2B_PUBLIC and TPM2B_PRIVATE; None if there is no file, or none of ours."""
    try:
        cursor = Cursor(path.read_bytes(), "big")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TpmError(f"the attestation key cannot be read: {error.strerror}", subject=str(path)) from error
    try:
        name, public, private = (cursor.sized(what, _MOST_PART) for what in ("name", "public area", "private area"))
        cursor.finish("the attestation key")
    except EvidenceError as error:
        log.warning("%s is damaged (%s): the attestation key is made anew", path, error.what)
        return None
    return name, public, private
