"""The words of the gate's own channel: msgspec structs in msgpack. The gate speaks first, the controller proves itself.

Requests carry a number that their answer repeats; events come between answers. Both sides import them from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Annotated

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hostward.errors import LeaseError
from hostward.gate.cbor import BYTES_MAX
from hostward.gate.port import PortState
from hostward.gate.sign1 import sign, verify
from hostward.wire import Reader

# Grows when a message changes its meaning; the controller refuses another number.
CHANNEL_VERSION = 1
MESSAGE_LIMIT_BYTES = 16 * 1024  # to the gate
ANSWER_LIMIT_BYTES = 256 * 1024  # from it: the states of every port
NONCE_BYTES = 32
_PROOF = "application/hostward-gate-channel"

_Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_PortName = Annotated[str, msgspec.Meta(max_length=64)]
_Signed = Annotated[bytes, msgspec.Meta(max_length=BYTES_MAX)]


class Message(msgspec.Struct, frozen=True, tag_field="kind", forbid_unknown_fields=True):
    """What every message has in common: it is a frozen struct, tagged by its name."""


class Greeting(Message, frozen=True, tag="greeting"):
    """The gate's first message: who it is, and what the controller has to sign."""

    version: int
    gate: str
    nonce: bytes


class Proof(Message, frozen=True, tag="proof"):
    """The controller's answer: a COSE_Sign1 over the gate's name and the nonce, by a key that may grant."""

    message: _Signed


class AskChallenge(Message, frozen=True, tag="ask-challenge"):
    """What does the next grant for this port have to carry?"""

    id: _Number
    port: _PortName


class Apply(Message, frozen=True, tag="apply"):
    """A grant, a renewal or a revocation."""

    id: _Number
    port: _PortName
    message: _Signed


class AskStates(Message, frozen=True, tag="ask-states"):
    """What is every port now?"""

    id: _Number


class Release(Message, frozen=True, tag="release"):
    """Undo a cut."""

    id: _Number
    port: _PortName


class Challenge(Message, frozen=True, tag="challenge"):
    """The answer to ``AskChallenge``."""

    id: _Number
    challenge: bytes


class State(Message, frozen=True, tag="state"):
    """The answer to ``Apply`` and ``Release``: what the port is now."""

    id: _Number
    state: PortState


class States(Message, frozen=True, tag="states"):
    """The answer to ``AskStates``."""

    id: _Number
    states: Sequence[PortState]


class Refused(Message, frozen=True, tag="refused"):
    """The answer to any request that changed nothing, in an error's own words."""

    id: _Number
    what: str
    subject: str = ""
    hint: str = ""


class Change(Enum):
    """What became of a port."""

    OPENED = "opened"
    CLOSED = "closed"


class Event(Message, frozen=True, tag="event"):
    """A port changed, or in audit mode (``would``) would have. ``host`` is in hexadecimal, empty if there is none."""

    port: str
    change: Change
    would: bool
    why: str
    host: str
    epoch: int
    sequence: int


Request = AskChallenge | Apply | AskStates | Release
Answer = Challenge | State | States | Refused

encode = msgspec.msgpack.Encoder().encode
_greetings: Reader[Greeting] = Reader(Greeting)
_proofs: Reader[Proof] = Reader(Proof)
decode_greeting = _greetings.decode
decode_proof = _proofs.decode
decode_request: Reader[Request] = Reader(Request)
decode_from_gate: Reader[Answer | Event] = Reader(Answer | Event)


def prove(key: Ed25519PrivateKey, gate: str, nonce: bytes) -> Proof:
    """The controller's answer to a gate of this name: another gate cannot pass it on as its own."""
    return Proof(sign(key, _PROOF, {1: gate, 2: nonce}))


def check_proof(keys: Sequence[Ed25519PublicKey], gate: str, nonce: bytes, proof: Proof) -> None:
    """Raises LeaseError if none of the keys signed this gate's name and nonce."""
    refusal = LeaseError("no controller's key is known to the gate")
    for key in keys:
        try:
            signed = verify(key, _PROOF, proof.message)
        except LeaseError as error:
            refusal = error
            continue
        if signed == {1: gate, 2: nonce}:
            return
        refusal = LeaseError("it is signed for another gate or another connection")
    raise refusal
