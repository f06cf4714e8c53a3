"""The words of the gate's channel, and the proof that comes before them."""

from __future__ import annotations

import os

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hostward.errors import LeaseError
from hostward.gate.channel_messages import (
    Apply,
    AskChallenge,
    AskStates,
    Change,
    Event,
    Proof,
    Release,
    State,
    check_proof,
    decode_from_gate,
    decode_proof,
    decode_request,
    encode,
    prove,
)
from hostward.gate.messages import Grant, Mode, sign_grant
from hostward.gate.port import PortState
from hostward.gate.sign1 import sign

KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
NONCE = b"n" * 32


def test_what_was_said_is_what_is_read() -> None:
    for request in (AskChallenge(1, "p"), Apply(2, "p", b"m"), AskStates(3), Release(4, "p")):
        assert decode_request.decode(encode(request)) == request
    state = PortState("p", True, Mode.OPEN, "", b"h" * 32, 1, 2, 3, 4)
    for told in (State(1, state), Event("p", Change.CLOSED, True, "why", "00", 1, 2)):
        assert decode_from_gate.decode(encode(told)) == told


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": "ask-states", "id": -1},
        {"kind": "ask-states", "id": 1, "more": 1},
        {"kind": "apply", "id": 1, "port": "p", "message": b"x" * 1_025},
        {"kind": "apply", "id": 1, "port": "p" * 65, "message": b""},
        {"kind": "grant", "id": 1},
        [],
    ],
)
def test_what_is_no_request_is_not_read(bad: object) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_request.decode(msgspec.msgpack.encode(bad))


def test_garbage_is_not_read() -> None:
    for length in range(64):
        with pytest.raises(msgspec.MsgspecError):
            decode_proof(os.urandom(length))


def test_a_proof_holds_for_one_gate_one_connection_and_known_keys() -> None:
    proof = prove(KEY, "g", NONCE)
    check_proof([OTHER.public_key(), KEY.public_key()], "g", NONCE, proof)
    grant = Grant("g", "p", b"h" * 32, 1, 1, Mode.QUARANTINE)
    for keys, gate, nonce, shown in (
        ([KEY], "g2", NONCE, proof),
        ([KEY], "g", b"m" * 32, proof),
        ([OTHER], "g", NONCE, proof),
        ([], "g", NONCE, proof),
        ([KEY], "g", NONCE, Proof(b"")),
        ([KEY], "g", NONCE, Proof(sign_grant(KEY, grant))),
        ([KEY], "g", NONCE, Proof(sign(KEY, "application/hostward-gate-channel", {1: "g", 2: NONCE, 3: 0}))),
    ):
        with pytest.raises(LeaseError):
            check_proof([key.public_key() for key in keys], gate, nonce, shown)
