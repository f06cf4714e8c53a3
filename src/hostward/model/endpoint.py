"""Endpoints as an operator declares them, and the ports that carry them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

DEFAULT_NETWORK = "default"
# The datapath has 16 places for an endpoint's addresses, and one of them is for its link-local address.
ADDRESSES_MAX = 15


class EndpointState(Enum):
    """Where an endpoint stands; only ``ENFORCED`` has a network (invariant 6)."""

    PENDING = "pending"
    ENFORCED = "enforced"
    DETACHED = "detached"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Port:
    """The device on the host's side of an endpoint: a veth or a tap.

    ``device`` is an interface name inside ``netns`` (a name under /run/netns or an absolute path; empty: the agent's own
    namespace).
    """

    device: str
    netns: str = ""


@dataclass(frozen=True, slots=True)
class Quota:
    """What one endpoint may cost the monitor (invariant 8)."""

    flows: int = 16_384
    events_per_s: int = 64
    events_burst: int = 256


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One attachment of a workload to a network.

    ``name`` is unique within ``tenant``; ``mac`` is lower-case ``aa:bb:cc:dd:ee:ff``; ``addresses`` are host addresses
    without a prefix length, IPv4 or IPv6, all inside the pools of ``network``.
    """

    tenant: str
    name: str
    labels: Mapping[str, str]
    mac: str
    addresses: tuple[str, ...]
    host: str
    port: Port
    network: str = DEFAULT_NETWORK
    quota: Quota = field(default_factory=Quota)

    @property
    def id(self) -> str:
        """``tenant/name``, the endpoint's name everywhere outside its tenant."""
        return f"{self.tenant}/{self.name}"
