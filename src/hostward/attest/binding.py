"""What a quote is bound to: qualifying data over the nonce, the host's keys and what its datapath enforces (ADR 21).

A quote says nothing of who sends it. Bound to the keys of the channel, one that is relayed buys no channel; bound to the
verifier's nonce, one that is kept buys nothing later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from hostward.errors import EvidenceError

LEAST_NONCE = 16
MOST_NONCE = 64
_LABEL = b"hostward binding 1\0"
_MOST_NAME = 255
_MOST_DIGESTS = 4096
_DIGEST = 32


@dataclass(frozen=True, slots=True)
class Binding:
    """What the host says of itself, and what the quote makes true. Absent keys are empty."""

    tls_key: bytes = b""  # SubjectPublicKeyInfo of the channel
    pulse_key: bytes = b""  # of the sentinel
    encryption_key: bytes = b""  # of the host's overlay
    boot_id: bytes = b""  # of the running kernel: a TPM that starts without its machine gives itself away
    revision: int = 0
    programs: Mapping[str, bytes] = field(default_factory=dict)  # attachment -> SHA-256 of the program
    policies: Mapping[str, bytes] = field(default_factory=dict)  # endpoint -> SHA-256 of its policy maps

    def qualifying_data(self, nonce: bytes) -> bytes:
        """SHA-256 over every field, each with its length before it, in this order. Raises EvidenceError.

        Lengths make the encoding injective: no two bindings share one, so a signature over the hash is over the fields.
        """
        if not LEAST_NONCE <= len(nonce) <= MOST_NONCE:
            raise EvidenceError(f"a nonce of {len(nonce)} bytes, not {LEAST_NONCE} to {MOST_NONCE}")
        if not 0 <= self.revision < 1 << 64:
            raise EvidenceError(f"the revision {self.revision} is not one of 64 bits")
        encoded = _LABEL + b"".join(
            len(each).to_bytes(4, "big") + each
            for each in (
                nonce,
                self.tls_key,
                self.pulse_key,
                self.encryption_key,
                self.boot_id,
                self.revision.to_bytes(8, "big"),
                _digests(self.programs, "program"),
                _digests(self.policies, "policy"),
            )
        )
        return hashlib.sha256(encoded).digest()


def _digests(of: Mapping[str, bytes], what: str) -> bytes:
    """Names ascending by their bytes, each with its length in one byte, then 32 bytes of digest."""
    if len(of) > _MOST_DIGESTS:
        raise EvidenceError(f"{len(of)} digests of {what}, more than {_MOST_DIGESTS}")
    out: list[bytes] = []
    for name, digest in sorted((name.encode(), digest) for name, digest in of.items()):
        if not 0 < len(name) <= _MOST_NAME or len(digest) != _DIGEST:
            raise EvidenceError(f"{what} {name[:64].decode(errors='replace')!r} has no name, or no SHA-256 digest")
        out.append(len(name).to_bytes(1, "big") + name + digest)
    return b"".join(out)
