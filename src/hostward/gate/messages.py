"""What a gate is told: grants by the controller, pulses by the host's sentinel. Read only behind a good signature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hostward.errors import LeaseError
from hostward.gate.cbor import Value
from hostward.gate.sign1 import sign, verify

CHALLENGE_BYTES = 16
KEY_BYTES = 32
DIGEST_BYTES = 32
LIFE_MS_MAX = 3_600_000
PULSE_LIFE_MS_MAX = 60_000
_NAME_MAX = 64
_NUMBER_MAX = (1 << 63) - 1
_GRANT = "application/hostward-grant"
_PULSE = "application/hostward-pulse"


class Mode(Enum):
    """What a grant makes of a port."""

    QUARANTINE = 0  # nothing but what the gate's own profile lets through
    OPEN = 1
    CUT = 2  # not even the profile, until a later boot, or an operator at the gate, undoes it


@dataclass(frozen=True, slots=True)
class Grant:
    """The controller's word on one port. Lives are relative: a gate has no clock that it could compare with anybody's.

    ``epoch`` grows with every boot of the host, ``sequence`` with every grant of an epoch. ``challenge`` is the gate's last
    one: a grant that somebody held back is dead on arrival. One that takes away needs none, so that it works at any time.
    """

    gate: str
    port: str
    host: bytes  # SHA-256 of the public part of its endorsement key
    epoch: int
    sequence: int
    mode: Mode
    life_ms: int = 0
    challenge: bytes = b""
    pulse_key: bytes = b""  # Ed25519, bound by the appraisal that this grant stands on
    pulse_life_ms: int = 0
    policy: bytes = b""  # what the host enforced, and
    evidence: bytes = b""  # what was appraised; for the record


@dataclass(frozen=True, slots=True)
class Pulse:
    """The sentinel's word: what was attested is still there. ``nonce`` is what the gate answered the last one with."""

    host: bytes
    epoch: int
    sequence: int
    nonce: bytes


def sign_grant(key: Ed25519PrivateKey, grant: Grant) -> bytes:
    """A grant for the wire, some 300 bytes. Raises LeaseError for one that no gate would take."""
    fields: dict[int, Value] = {
        1: grant.gate,
        2: grant.port,
        3: grant.host,
        4: grant.epoch,
        5: grant.sequence,
        6: grant.mode.value,
        7: grant.life_ms,
        8: grant.challenge,
        9: grant.pulse_key,
        10: grant.pulse_life_ms,
        11: grant.policy,
        12: grant.evidence,
    }
    _grant(fields)
    return sign(key, _GRANT, fields)


def read_grant(key: Ed25519PublicKey, message: bytes) -> Grant:
    """A grant that the controller signed. Raises LeaseError."""
    return _grant(verify(key, _GRANT, message))


def sign_pulse(key: Ed25519PrivateKey, pulse: Pulse) -> bytes:
    """A pulse for the wire. Raises LeaseError for one that no gate would take."""
    fields: dict[int, Value] = {1: pulse.host, 2: pulse.epoch, 3: pulse.sequence, 4: pulse.nonce}
    _pulse(fields)
    return sign(key, _PULSE, fields)


def read_pulse(key: Ed25519PublicKey, message: bytes) -> Pulse:
    """A pulse that the sentinel signed. Raises LeaseError."""
    return _pulse(verify(key, _PULSE, message))


def _grant(fields: Mapping[int, Value]) -> Grant:
    if fields.keys() != set(range(1, 13)):
        raise LeaseError("it has not the fields of a grant")
    mode_number = _number(fields, 6, "mode")
    try:
        mode = Mode(mode_number)
    except ValueError:
        raise LeaseError(f"there is no mode {mode_number}") from None
    opens = mode is Mode.OPEN
    return Grant(
        _name(fields, 1, "gate"),
        _name(fields, 2, "port"),
        _bytes(fields, 3, "host", DIGEST_BYTES),
        _number(fields, 4, "epoch"),
        _number(fields, 5, "sequence"),
        mode,
        _number(fields, 7, "life", 1 if opens else 0, LIFE_MS_MAX if opens else 0),
        _bytes(fields, 8, "challenge", CHALLENGE_BYTES if opens else 0),
        _bytes(fields, 9, "pulse key", KEY_BYTES if opens else 0),
        _number(fields, 10, "pulse's life", 1 if opens else 0, PULSE_LIFE_MS_MAX if opens else 0),
        _bytes(fields, 11, "policy", 0, DIGEST_BYTES),
        _bytes(fields, 12, "evidence", 0, DIGEST_BYTES),
    )


def _pulse(fields: Mapping[int, Value]) -> Pulse:
    if fields.keys() != set(range(1, 5)):
        raise LeaseError("it has not the fields of a pulse")
    return Pulse(
        _bytes(fields, 1, "host", DIGEST_BYTES),
        _number(fields, 2, "epoch"),
        _number(fields, 3, "sequence"),
        _bytes(fields, 4, "nonce", CHALLENGE_BYTES),
    )


_Kind = TypeVar("_Kind", int, bytes, str)


def _field(fields: Mapping[int, Value], key: int, what: str, kind: type[_Kind]) -> _Kind:
    value = fields[key]
    if not isinstance(value, kind):
        raise LeaseError(f"its {what} is of another type")
    return value


def _number(fields: Mapping[int, Value], key: int, what: str, least: int = 0, most: int = _NUMBER_MAX) -> int:
    number = _field(fields, key, what, int)
    if not least <= number <= most:
        raise LeaseError(f"its {what} is {number}, and has to be from {least} to {most}")
    return number


def _bytes(fields: Mapping[int, Value], key: int, what: str, *lengths: int) -> bytes:
    data = _field(fields, key, what, bytes)
    if len(data) not in lengths:
        raise LeaseError(f"its {what} has {len(data)} bytes, and has to have {' or '.join(map(str, lengths))}")
    return data


def _name(fields: Mapping[int, Value], key: int, what: str) -> str:
    name = _field(fields, key, what, str)
    if not 0 < len(name) <= _NAME_MAX or not name.isprintable():
        raise LeaseError(f"its {what} is no name")
    return name
