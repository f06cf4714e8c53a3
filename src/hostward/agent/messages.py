"""The words of the agent channel: msgspec structs in msgpack, one tagged union for each direction.

Both sides import them from here, so that neither can drift. A host never says its own name: the controller takes it from
the certificate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Annotated, Any

import msgspec

from hostward.agent.limits import Limits
from hostward.datapath.enforcer import DeviceFacts, EndpointStatus
from hostward.datapath.readings import Talker
from hostward.model.endpoint import Port
from hostward.model.flow import FlowEvent
from hostward.model.guard import GuardEvent
from hostward.model.sample import PacketSample, SampleTotal
from hostward.policy import SliceDelta
from hostward.wire import Reader

# Grows when a message changes its meaning; both sides refuse another number.
CHANNEL_VERSION = 5
# A slice of 100,000 peers is some 4 MB; anything far beyond is not a slice.
MESSAGE_LIMIT_BYTES = 64 * 1024 * 1024
# With this code a controller closes a connection of a host that may have none (RFC 6455, 7.4.2).
REFUSED = 4001
# Of an endpoint's peers so many are told of (invariant 3: no message per flow).
TALKERS_LIMIT = 3
# Of the addresses that fill a downlink so many are told of, at most every ``ARRIVALS_PERIOD_S``.
ARRIVALS_LIMIT = 256
ARRIVALS_PERIOD_S = 0.25

PositiveInt = Annotated[int, msgspec.Meta(gt=0)]


class NackReason(Enum):
    """Why an agent kept its old revision."""

    CAPACITY = "capacity"
    DATAPATH = "datapath"
    DIGEST = "digest"
    OLD = "old"
    STORAGE = "storage"


class Message(msgspec.Struct, frozen=True, tag_field="kind", forbid_unknown_fields=True):
    """What every message has in common: it is a frozen struct, tagged by its name."""


class Hello(Message, frozen=True, tag="hello"):
    """The first message of an agent: what it enforces now, and how much it can."""

    version: int
    agent_version: str
    revision: int
    digest: str
    limits: Limits
    statuses: Mapping[str, EndpointStatus]


class Ack(Message, frozen=True, tag="ack"):
    """The revision is in force on this host. ``enforce_s`` is the time the datapath took."""

    revision: int
    enforce_s: float
    statuses: Mapping[str, EndpointStatus]


class Nack(Message, frozen=True, tag="nack"):
    """The revision is not in force; the one before it still is, whole."""

    revision: int
    reason: NackReason
    detail: str


class Status(Message, frozen=True, tag="status"):
    """Periodic: the endpoints' states as read from the kernel, what was mended, and every event that was lost and
    every answer of ``reject`` that was not sent.
    """

    statuses: Mapping[str, EndpointStatus]
    repairs: Sequence[str]
    events_lost: int
    answers_suppressed: int = 0


class Events(Message, frozen=True, tag="events"):
    """A batch of flow events; ``lost`` counts those that the agent itself had to drop since the last batch.

    ``alerts`` are what guards recognised.
    """

    events: Sequence[FlowEvent]
    lost: int
    alerts: Sequence[GuardEvent] = ()
    detections: Sequence[Mapping[str, Any]] = ()


class Samples(Message, frozen=True, tag="samples"):
    """Sampled packets, as many as there is room for, and the sums of all of them where they changed, by endpoint."""

    samples: Sequence[PacketSample]
    totals: Mapping[str, SampleTotal]


class Talkers(Message, frozen=True, tag="talkers"):
    """The heaviest peers of the endpoints where they changed, at most ``TALKERS_LIMIT`` each; none: it has no flows."""

    endpoints: Mapping[str, Sequence[Talker]]


class Arrivals(Message, frozen=True, tag="arrivals"):
    """What arrives over a downlink that is nearly full, in bit/s: by source address, the ``ARRIVALS_LIMIT`` heaviest, and
    of all others together. No sources at all: it is no longer full.
    """

    bits_per_s: PositiveInt
    sources: Mapping[str, PositiveInt]
    others: Annotated[int, msgspec.Meta(ge=0)]


class Inspected(Message, frozen=True, tag="inspected"):
    """The answer to ``Inspect``: facts, or the reason why the device can never be a port."""

    id: int
    facts: DeviceFacts | None
    error: str = ""
    hint: str = ""


class Renew(Message, frozen=True, tag="renew"):
    """A signing request for the same host name, made with a fresh key."""

    request: bytes


class Snapshot(Message, frozen=True, tag="snapshot"):
    """A whole slice, as ``encode_slice`` made it. Sent when the two sides share no base."""

    revision: int
    slice: bytes
    digest: str


class Delta(Message, frozen=True, tag="delta"):
    """What turns the slice of revision ``base`` into the next; ``digest`` is that of the result."""

    base: int
    revision: int
    delta: SliceDelta
    digest: str


class Ceiling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How fast a tenant of this host may send to these addresses together, which it has as peers."""

    bits_per_s: PositiveInt
    addresses: Sequence[str]


class Ceilings(Message, frozen=True, tag="ceilings"):
    """By tenant, what one receiver takes from this host for the next ``life_s``; in place of what it took before.

    ``receiver`` is a number that says nothing about it.
    """

    receiver: int
    life_s: Annotated[float, msgspec.Meta(gt=0, le=60)]
    tenants: Mapping[str, Ceiling]


class Inspect(Message, frozen=True, tag="inspect"):
    """Look at a device before an endpoint on it is committed."""

    id: int
    port: Port


class Renewed(Message, frozen=True, tag="renewed"):
    """The new certificate, PEM."""

    certificate: bytes


FromAgent = Hello | Ack | Nack | Status | Events | Samples | Talkers | Arrivals | Inspected | Renew
FromController = Snapshot | Delta | Ceilings | Inspect | Renewed

_encoder = msgspec.msgpack.Encoder()
_from_agent: Reader[FromAgent] = Reader(FromAgent)
_from_controller: Reader[FromController] = Reader(FromController)


def encode(message: Message) -> bytes:
    """One message as one WebSocket frame."""
    return _encoder.encode(message)


def decode_from_agent(frame: bytes) -> FromAgent:
    """Decode and check every type. Raises msgspec.MsgspecError."""
    return _from_agent.decode(frame)


def decode_from_controller(frame: bytes) -> FromController:
    """Decode and check every type. Raises msgspec.MsgspecError."""
    return _from_controller.decode(frame)
