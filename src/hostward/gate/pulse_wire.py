"""What sentinel and gate say to each other over UDP: one datagram, one answer that is never longer.

Layout: magic (4), kind (1), length of the port's name (1), the name, and behind it
    ASK      16 zeros, so that the answer is no longer than the question
    PULSE    a COSE_Sign1, see ``messages.Pulse``
    NONCE    what the next pulse has to carry (16)
    REFUSED  an ``Objection`` (1), and in words as much as the question left room for
Everything that is not laid out so is no datagram of ours; there are no other fields to be lenient about.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hostward.errors import LeaseError
from hostward.gate.cbor import BYTES_MAX
from hostward.gate.messages import CHALLENGE_BYTES

MAGIC = b"HWP\x01"
NAME_MAX = 64
_HEAD = len(MAGIC) + 2
DATAGRAM_MAX = _HEAD + NAME_MAX + BYTES_MAX


class Kind(Enum):
    """The first two are questions, the others answers."""

    ASK = 1
    PULSE = 2
    NONCE = 3
    REFUSED = 4


class Objection(Enum):
    """Why a datagram was refused."""

    MALFORMED = 1  # never sent: who sent it may be anybody
    NO_PORT = 2
    LEASE = 3
    TOO_MANY = 4  # never sent either


@dataclass(frozen=True, slots=True)
class Datagram:
    """One question or answer."""

    kind: Kind
    port: str
    body: bytes


def ask(port: str) -> bytes:
    """The question for a nonce. Raises LeaseError for a name that no port has."""
    return pack(Kind.ASK, port, bytes(CHALLENGE_BYTES))


def pack(kind: Kind, port: str, body: bytes) -> bytes:
    """A datagram for the wire. Raises LeaseError if a name or a body is too long."""
    name = port.encode()
    if not 0 < len(name) <= NAME_MAX or len(body) > BYTES_MAX:
        raise LeaseError("it does not fit into a datagram", subject=port)
    return MAGIC + bytes((kind.value, len(name))) + name + body


def unpack(data: bytes) -> Datagram:
    """A datagram from the wire, by anybody. Raises LeaseError."""
    if not _HEAD < len(data) <= DATAGRAM_MAX or not data.startswith(MAGIC):
        raise LeaseError("this is no datagram of a gate or a sentinel")
    number, length = data[_HEAD - 2], data[_HEAD - 1]
    name, body = data[_HEAD : _HEAD + length], data[_HEAD + length :]
    if not 0 < length <= NAME_MAX or len(name) != length:
        raise LeaseError("the name of its port is cut off, or too long")
    try:
        datagram = Datagram(Kind(number), name.decode("ascii"), body)
    except ValueError:
        raise LeaseError("its kind, or the name of its port, is none") from None
    exact = {Kind.ASK: CHALLENGE_BYTES, Kind.NONCE: CHALLENGE_BYTES}.get(datagram.kind)
    if len(body) != exact if exact is not None else not body:
        raise LeaseError(f"{len(body)} bytes behind the name of its port")
    return datagram


def refusal(question: bytes, port: str, objection: Objection, words: str) -> bytes:
    """An answer that is no longer than its question."""
    head = pack(Kind.REFUSED, port, bytes((objection.value,)))
    text = words.encode("ascii", "replace")
    return head + text[: max(0, len(question) - len(head))]
