"""The endorsement key: found in the TPM or made by its template, and the certificates that its maker left in NV memory.

TCG EK Credential Profile for TPM Family 2.0: 2.2.1 (NV indices), B.3 and B.4 (templates of the low and the high range).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hostward.attest.algorithms import Algorithm
from hostward.attester.tpm import LoadedKey, Tpm
from hostward.errors import TpmError

_PERSISTENT = range(0x81010000, 0x81020000)  # the endorsement hierarchy's part (Registry of Reserved Handles)
_NV = 0x01C00000
_CHAIN = range(0x01C00100, 0x01C00200)
_MOST_INTERMEDIATES = 8  # what the controller takes
_POLICY_A = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
_POLICY_B = bytes.fromhex("ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0")
_POLICY_B_384 = bytes.fromhex(
    "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12"
)
_LOW, _HIGH = 0x000300B2, 0x000300F2  # fixed, restricted, decrypting, by policy; high: or by an empty password


@dataclass(frozen=True, slots=True)
class TpmIdentity:
    """The TPM's keys and who vouches for them, as ``hostward.attest.appraisal.Evidence`` takes them.

    ``ek`` and ``ak`` are TPM2B_PUBLIC, certificates DER.
    """

    ek: bytes
    ek_certificate: bytes | None
    intermediates: tuple[bytes, ...]
    ak: bytes


@dataclass(frozen=True, slots=True)
class Form:
    """A kind of endorsement key. Of the low range the maker may have changed ``unique``, or the whole template."""

    certificate: int
    parameters: bytes  # TPMT_PUBLIC up to its unique field
    unique: tuple[int, ...]  # bytes of each field of it
    nonce: int = 0
    template: int = 0

    def area(self, nonce: bytes = b"", template: bytes = b"") -> bytes:
        """The template: TPMT_PUBLIC. Raises TpmError if what the maker left cannot be it."""
        if template and not nonce:
            return template
        first, *others = self.unique
        if len(nonce) > first:
            raise TpmError(f"the endorsement key's nonce has {len(nonce)} bytes, more than {first}")
        unique = struct.pack(">H", first) + nonce.ljust(first, b"\0")
        unique += b"".join(struct.pack(">H", size) + bytes(size) for size in others)
        return (template[: len(template) - len(unique)] or self.parameters) + unique


def _rsa(attributes: int, policy: bytes) -> bytes:
    return _head(Algorithm.RSA, Algorithm.SHA256, attributes, policy, 128) + struct.pack(">HI", 2048, 0)


def _ecc(name: int, attributes: int, policy: bytes, bits: int, curve: int) -> bytes:
    return _head(Algorithm.ECC, name, attributes, policy, bits) + struct.pack(">HH", curve, Algorithm.NULL)


def _head(kind: int, name: int, attributes: int, policy: bytes, bits: int) -> bytes:
    head = struct.pack(">HHIH", kind, name, attributes, len(policy)) + policy
    return head + struct.pack(">HHHH", Algorithm.AES, bits, Algorithm.CFB, Algorithm.NULL)


# In the order in which they are looked for; without any certificate it is the first.
FORMS = (
    Form(_NV + 0x02, _rsa(_LOW, _POLICY_A), (256,), _NV + 0x03, _NV + 0x04),
    Form(_NV + 0x0A, _ecc(Algorithm.SHA256, _LOW, _POLICY_A, 128, 3), (32, 32), _NV + 0x0B, _NV + 0x0C),
    Form(_NV + 0x12, _rsa(_HIGH, _POLICY_B), (0,)),
    Form(_NV + 0x14, _ecc(Algorithm.SHA256, _HIGH, _POLICY_B, 128, 3), (0, 0)),
    Form(_NV + 0x16, _ecc(Algorithm.SHA384, _HIGH, _POLICY_B_384, 256, 4), (0, 0)),
)


def endorsement_key(tpm: Tpm, forms: Sequence[Form] = FORMS) -> tuple[LoadedKey, bytes | None, tuple[bytes, ...]]:
    """The key, its certificate if there is one, and those between it and its maker's root. Raises TpmError."""
    there = frozenset(tpm.handles(_NV))
    form = next((each for each in forms if each.certificate in there), forms[0])
    certificate = None
    if form.certificate in there:
        certificate = next(_certificates(tpm.read_nv(form.certificate)), None)
    chain = b"".join(tpm.read_nv(index) for index in _CHAIN if index in there)
    intermediates = tuple(_certificates(chain))[:_MOST_INTERMEDIATES]
    nonce, template = (tpm.read_nv(index) if index in there else b"" for index in (form.nonce, form.template))
    return _find_or_make(tpm, form.area(nonce, template)), certificate, intermediates


def _find_or_make(tpm: Tpm, area: bytes) -> LoadedKey:
    """A key that stays in the TPM is taken: making one anew takes some TPMs half a minute."""
    for handle in tpm.handles(_PERSISTENT.start):
        if handle not in _PERSISTENT:
            continue
        key = tpm.persistent_key(handle)
        if _is_of(key, area):
            return key
        tpm.flush(key)
    return tpm.create_endorsement_key(area)


def _is_of(key: LoadedKey, area: bytes) -> bool:
    """Whether a key has everything of a template but its unique field: type, attributes, policy, parameters."""
    return any(key.public[2:].startswith(form.parameters) and area.startswith(form.parameters) for form in FORMS)


def _certificates(data: bytes) -> Iterator[bytes]:
    """Certificates one after the other; makers fill the rest of an index with zeros or ones."""
    while data[:2] == b"\x30\x82" and len(data) >= 4:
        size = 4 + int.from_bytes(data[2:4], "big")
        if size > len(data):
            return
        yield data[:size]
        data = data[size:]
