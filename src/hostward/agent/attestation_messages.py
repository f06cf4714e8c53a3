"""The words of attestation, on a connection of its own: the controller asks, the host proves (design §7).

The connection stands on the certificate that the host joined by. What a good answer earns is a certificate for the agent's
channel that lives for minutes. msgspec structs in msgpack, as on the agent channel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from hostward.agent.messages import Message, Renew, Renewed
from hostward.wire import Reader

# Grows when a message changes its meaning; both sides refuse another number.
ATTESTATION_VERSION = 1
# Beside the agent's channel, on the same port.
ATTESTATION_PATH = "/attest"
# A boot log and an IMA list are far from it; what is larger is sent in parts, by checkpoints.
EVIDENCE_LIMIT_BYTES = 48 << 20
# Until a host has sent more: its keys and certificates, a boot log and some 8,000 IMA entries.
PRESENT_LIMIT_BYTES = 1 << 20

Key = Annotated[bytes, msgspec.Meta(max_length=4096)]
Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Natural = Annotated[int, msgspec.Meta(ge=0)]


class Present(Message, frozen=True, tag="present"):
    """Who wants to attest: its TPM's keys, as ``hostward.attest.appraisal.Evidence`` takes them."""

    version: int
    ek: Key
    ak: Key
    ek_certificate: Annotated[bytes, msgspec.Meta(max_length=65_536)] | None
    intermediates: Annotated[Sequence[Annotated[bytes, msgspec.Meta(max_length=65_536)]], msgspec.Meta(max_length=8)]


class Activated(Message, frozen=True, tag="activated"):
    """The secret that only the TPM with both keys could open."""

    secret: Annotated[bytes, msgspec.Meta(max_length=64)]


class Changed(Message, frozen=True, tag="changed"):
    """Something measured is no longer what was proven: ask now, not when it is time."""


class Tell(Message, frozen=True, tag="tell"):
    """Evidence for the nonce that was asked last. ``request`` asks for a certificate over the key that is bound.

    ``ima`` begins at the byte that was asked for.
    """

    quote: Key
    signature: Key
    event_log: bytes
    ima: bytes
    request: Annotated[bytes, msgspec.Meta(max_length=16_384)]
    tls_key: Key
    pulse_key: Annotated[bytes, msgspec.Meta(max_length=32)]
    boot_id: Annotated[bytes, msgspec.Meta(max_length=64)]
    revision: Natural
    programs: Mapping[str, Digest]
    policies: Mapping[str, Digest]


class Activate(Message, frozen=True, tag="activate"):
    """A credential for the attestation key (TPM 2.0 Part 1, section 24)."""

    id_object: bytes
    encrypted_secret: bytes


class Ask(Message, frozen=True, tag="ask"):
    """Prove what you are, now."""

    nonce: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    ima_offset: Natural


class Verdict(Message, frozen=True, tag="verdict"):
    """What was made of it. ``certificate`` (PEM) is empty where none was asked for or earned.

    ``host`` is the SHA-256 of the endorsement key, ``epoch`` the number of this boot: what the host's pulses carry.
    ``again_s`` is when it will be asked next, by itself.
    """

    good: bool
    findings: Sequence[str]
    host: bytes
    epoch: Natural
    certificate: bytes
    again_s: float


# The certificate of the joining is renewed here too: it is what this connection stands on.
AttestFromHost = Present | Activated | Changed | Tell | Renew
AttestFromController = Activate | Ask | Verdict | Renewed

_from_host: Reader[AttestFromHost] = Reader(AttestFromHost)
_from_controller: Reader[AttestFromController] = Reader(AttestFromController)


def decode_from_host(frame: bytes) -> AttestFromHost:
    """Decode and check every type. Raises msgspec.MsgspecError."""
    return _from_host.decode(frame)


def decode_from_verifier(frame: bytes) -> AttestFromController:
    """Decode and check every type. Raises msgspec.MsgspecError."""
    return _from_controller.decode(frame)
