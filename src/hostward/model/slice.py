"""The slice: everything that one host has to know of one revision, and nothing more (invariant 10).

The policy compiler makes it, the channel carries it, the agent writes it into the kernel. It is flat on purpose: every
mapping has keys that stay the same from revision to revision, so that a delta is a comparison of mappings and never
renumbers anything (design §5).

How a verdict follows from it, for a packet that opens a flow at local endpoint E, direction D:

1. ``local = E.addresses[local address]``: the local identity (absent: the address is borrowed, deny);
2. ``peer = addresses[(E.network, longest prefix that contains the remote address)]``: the peer's identity;
3. ``row = tables[(local, D)][peer]`` (absent: deny as unknown peer);
4. ``cls = class_sets[row.class_set].class_of(protocol, port or type)``;
5. ``decisions[row.cells[cls]]``; where it has a ``ByProcess`` for this end, the decision that names the process.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field

from hostward.model.endpoint import Port, Quota
from hostward.model.guard import DEFAULT_GUARD, Guard
from hostward.model.inspection import UNINSPECTED, Inspection
from hostward.model.limit import Limit

# Identities below FIRST_IDENTITY mean the same on every host and are never given to endpoints or prefixes.
IDENTITY_INTERNET = 1  # outside all pools and `internal`, in no named prefix
IDENTITY_UNKNOWN = 2  # in a pool, but no endpoint has it: always denied
IDENTITY_HOST = 3  # the machine under the endpoint
IDENTITY_INTERNAL = 4  # in `internal`, in no named prefix
FIRST_IDENTITY = 256

PROTO_ICMP, PROTO_TCP, PROTO_UDP, PROTO_ICMPV6, PROTO_SCTP = 1, 6, 17, 58, 132


@dataclass(frozen=True, slots=True)
class ByProcess:
    """The decisions of one end's host by the process at that end, as numbers of plain decisions.

    ``named`` are paths of executables in the endpoint's own file system; ``other`` is for every other process that is
    known, ``unknown`` for one that is not.
    """

    unknown: int
    other: int
    named: tuple[tuple[tuple[str, ...], int], ...] = ()

    @property
    def numbers(self) -> tuple[int, ...]:
        """The decisions that it leads to."""
        return (self.unknown, self.other, *(number for _, number in self.named))


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and who said so. ``number`` is the kernel's 32-bit number: never reused for another meaning.

    ``rules`` are ids, e.g. ``acme/shop-db``, ``platform/~1f2e…``, ``acme/default-deny``; two where both tenants had to
    consent. ``verdict`` is one of ``allow``, ``deny``, ``would-deny``.

    ``reject`` is of denials: the sender is answered. ``keep`` is of allowances, where every rule says so: what they open
    goes on after they were revoked, if the denial that follows names them in ``keeps`` (ids of revoked rules). ``limits``
    too are of allowances, at most one of each unit at each end, and so are ``at_source``
    and ``at_destination``: what the opener's host inspects, and the other.

    ``opener`` and ``acceptor`` are of a decision that depends on a process: what the host of the endpoint that opens, or
    accepts, decides instead; without one of them that end has no host. The rest is what they are at the least.
    """

    number: int
    verdict: str
    rules: tuple[str, ...]
    log: bool = False
    reject: bool = False
    keep: bool = False
    keeps: tuple[str, ...] = ()
    limits: tuple[Limit, ...] = ()
    opener: ByProcess | None = None
    acceptor: ByProcess | None = None
    at_source: Inspection = UNINSPECTED
    at_destination: Inspection = UNINSPECTED

    @property
    def names(self) -> frozenset[int]:
        """The numbers of the decisions that it leads to."""
        return frozenset(number for end in (self.opener, self.acceptor) if end is not None for number in end.numbers)


@dataclass(frozen=True, slots=True)
class ClassSet:
    """The port space of each protocol cut into classes.

    ``tcp``, ``udp`` and ``sctp`` are ``(first port, class)`` ascending, the first entry at port 0: each class runs to the
    next entry. ``icmp`` and ``icmpv6`` likewise over types 0-255; ``proto`` likewise over IP protocol numbers 0-255 (its
    entries for the five protocols above are never consulted).
    """

    id: int
    tcp: tuple[tuple[int, int], ...]
    udp: tuple[tuple[int, int], ...]
    sctp: tuple[tuple[int, int], ...]
    icmp: tuple[tuple[int, int], ...]
    icmpv6: tuple[tuple[int, int], ...]
    proto: tuple[tuple[int, int], ...]

    def class_of(self, protocol: int, port: int) -> int:
        """The class of an IP protocol number and a destination port (for ICMP the type; ignored for other protocols)."""
        if protocol == PROTO_TCP:
            cuts = self.tcp
        elif protocol == PROTO_UDP:
            cuts = self.udp
        elif protocol == PROTO_SCTP:
            cuts = self.sctp
        elif protocol == PROTO_ICMP:
            cuts = self.icmp
        elif protocol == PROTO_ICMPV6:
            cuts = self.icmpv6
        else:
            cuts, port = self.proto, protocol
        return cuts[bisect_right(cuts, (port, 1 << 32)) - 1][1]


@dataclass(frozen=True, slots=True)
class Row:
    """The verdicts of one (source identity, destination identity) by class: decision numbers. Equal rows share an id."""

    id: int
    class_set: int
    cells: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LocalEndpoint:
    """An endpoint of this host. ``addresses`` maps each of its own addresses to the identity it has there; ``share`` is its
    tenant's weight at the host's uplink, the same for all of the tenant's endpoints. ``dhcp`` are the servers that may
    answer it, as its network names them; None: it names none, and any may. ``held``: nothing of it may pass, by command;
    ``released`` grows with each release. Of its packets one in ``sampling`` is sampled; 0: none. ``groups`` are the names,
    sorted, of the groups of its tenant and the platform that a rule names and that hold it.
    """

    id: str
    tenant: str
    network: int
    mac: str
    addresses: Mapping[str, int]
    port: Port
    quota: Quota = field(default_factory=Quota)
    share: int = 1
    dhcp: tuple[str, ...] | None = None
    guard: Guard = DEFAULT_GUARD
    held: bool = False
    released: int = 0
    sampling: int = 0
    groups: tuple[str, ...] = ()


# A key of HostSlice.addresses: (network number, canonical prefix such as "10.0.0.1/32" or "::/0").
PrefixKey = tuple[int, str]
# A key of HostSlice.tables: (local identity, "egress" | "ingress").
TableKey = tuple[int, str]


@dataclass(frozen=True, slots=True)
class HostSlice:
    """One host's part of one revision. See the module docstring for its meaning.

    ``addresses`` always holds ``0.0.0.0/0`` and ``::/0`` for every network used, every pool (as IDENTITY_UNKNOWN), and
    the prefixes and peer endpoints that local endpoints can have a rule about.
    """

    revision: int
    networks: Mapping[int, str]
    endpoints: Mapping[str, LocalEndpoint]
    addresses: Mapping[PrefixKey, int]
    class_sets: Mapping[int, ClassSet]
    rows: Mapping[int, Row]
    tables: Mapping[TableKey, Mapping[int, int]]
    decisions: Mapping[int, Decision]


def empty_slice(revision: int = 0) -> HostSlice:
    """The slice of a host that has no endpoints."""
    return HostSlice(revision, {}, {}, {}, {}, {}, {}, {})
