"""The words of the agent channel: msgspec structs in msgpack, one tagged union for each direction.

Both sides import them from here, so that neither can drift. A host never says its own name: the controller takes it from
the certificate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

import msgspec

from hostward.agent.limits import Limits
from hostward.datapath.enforcer import DeviceFacts, EndpointStatus
from hostward.model.endpoint import Port
from hostward.model.flow import FlowEvent
from hostward.model.slice import HostSlice
from hostward.policy import SliceDelta

# Grows when a message changes its meaning; both sides refuse another number.
CHANNEL_VERSION = 2
# A slice of 100,000 peers is some 4 MB; anything far beyond is not a slice.
MESSAGE_LIMIT_BYTES = 64 * 1024 * 1024


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
    """Periodic: the endpoints' states as read from the kernel, what was mended, and every event that was lost."""

    statuses: Mapping[str, EndpointStatus]
    repairs: Sequence[str]
    events_lost: int


class Events(Message, frozen=True, tag="events"):
    """A batch of flow events; ``lost`` counts those that the agent itself had to drop since the last batch."""

    events: Sequence[FlowEvent]
    lost: int


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
    """A whole slice. Sent when the two sides share no base."""

    slice: HostSlice
    digest: str


class Delta(Message, frozen=True, tag="delta"):
    """What turns the slice of revision ``base`` into the next; ``digest`` is that of the result."""

    base: int
    revision: int
    delta: SliceDelta
    digest: str


class Inspect(Message, frozen=True, tag="inspect"):
    """Look at a device before an endpoint on it is committed."""

    id: int
    port: Port


class Renewed(Message, frozen=True, tag="renewed"):
    """The new certificate, PEM."""

    certificate: bytes


FromAgent = Hello | Ack | Nack | Status | Events | Inspected | Renew
FromController = Snapshot | Delta | Inspect | Renewed

_encoder = msgspec.msgpack.Encoder()
_from_agent = msgspec.msgpack.Decoder(FromAgent)
_from_controller = msgspec.msgpack.Decoder(FromController)


def encode(message: Message) -> bytes:
    """One message as one WebSocket frame."""
    return _encoder.encode(message)


def decode_from_agent(frame: bytes) -> FromAgent:
    """Decode and check every type. Raises msgspec.MsgspecError."""
    message: FromAgent = _from_agent.decode(frame)
    return message


def decode_from_controller(frame: bytes) -> FromController:
    """Decode and check every type. Raises msgspec.MsgspecError."""
    message: FromController = _from_controller.decode(frame)
    return message
