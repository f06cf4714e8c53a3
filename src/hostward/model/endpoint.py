"""Endpoints as an operator declares them, and the ports that carry them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from hostward.model.limit import Rate, Unit

DEFAULT_NETWORK = "default"
# The datapath has 16 places for an endpoint's addresses, and one of them is for its link-local address.
ADDRESSES_MAX = 15


class EndpointState(Enum):
    """Where an endpoint stands; before ``ENFORCED`` it has no network (invariant 6).

    ``THROTTLED`` and ``QUARANTINED`` are enforced, too: few flows may be opened, or nothing passes, see bpf/guard.h.
    """

    PENDING = "pending"
    ENFORCED = "enforced"
    THROTTLED = "throttled"
    QUARANTINED = "quarantined"
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
    """What one endpoint may cost the monitor, and the network (invariant 8).

    ``openings_per_s`` bounds the new flows in each direction, ``bits_per_s`` and ``packets_per_s`` what it sends and what
    it is sent; 0 is no bound.
    """

    flows: int = 16_384
    events_per_s: int = 64
    events_burst: int = 256
    openings_per_s: int = 100_000
    bits_per_s: int = 0
    packets_per_s: int = 0

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The bounds that are rates."""
        every = (
            Rate(Unit.BITS, self.bits_per_s),
            Rate(Unit.PACKETS, self.packets_per_s),
            Rate(Unit.CONNECTIONS, self.openings_per_s),
        )
        return tuple(rate for rate in every if rate.per_s)

    def with_rates(self, rates: Iterable[Rate]) -> Quota:
        """The same with these rates; a unit that none of them is of has its default."""
        chosen = {rate.unit: rate.per_s for rate in rates}
        default = Quota()
        return replace(
            self,
            bits_per_s=chosen.get(Unit.BITS, default.bits_per_s),
            packets_per_s=chosen.get(Unit.PACKETS, default.packets_per_s),
            openings_per_s=chosen.get(Unit.CONNECTIONS, default.openings_per_s),
        )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One attachment of a workload to a network.

    ``name`` is unique within ``tenant``; ``mac`` is lower-case ``aa:bb:cc:dd:ee:ff``; ``addresses`` are host addresses
    without a prefix length, IPv4 or IPv6, all inside the pools of ``network``.

    ``quarantine`` says why nothing of it may pass, by command or because of what its guard recognised; empty: no revision
    quarantines it. ``released`` is the revision in which it was released last, whatever had quarantined or throttled it.
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
    quarantine: str = ""
    released: int = 0

    @property
    def id(self) -> str:
        """``tenant/name``, the endpoint's name everywhere outside its tenant."""
        return f"{self.tenant}/{self.name}"
