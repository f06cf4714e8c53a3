"""Where everything of the slice in force stands in the tables. Bookkeeping only: nothing here writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_network

from hostward.datapath.extents import Extent, ExtentAllocator, IndexAllocator
from hostward.datapath.guards import kernel_guard
from hostward.datapath.rates import cost_of
from hostward.datapath.tables import (
    ADDRESSES_PER_ENDPOINT,
    HALVES,
    Capacity,
    EndpointConfig,
    KernelDecision,
    PolicyBlock,
    Ref,
    Tables,
)
from hostward.errors import CapacityError, DatapathError
from hostward.model.limit import Rate, Unit
from hostward.model.slice import ClassSet, HostSlice, LocalEndpoint, PrefixKey, TableKey, empty_slice

# A row by content: class set index, and decision slots by class.
RowKey = tuple[int, tuple[int, ...]]
# A class set by content, its id left out.
ClassKey = tuple[tuple[tuple[int, int], ...], ...]


def class_key(classes: ClassSet) -> ClassKey:
    """The content of a class set."""
    return (classes.tcp, classes.udp, classes.sctp, classes.icmp, classes.icmpv6, classes.proto)


@dataclass(slots=True)
class PeerTable:
    """One (local identity, direction)'s references by peer index; ``extent.count`` is more than are used."""

    extent: Extent
    refs: dict[int, Ref]


# A signature says in one word of 64 bits in which sets it is; bit 0 is of all.
PROFILES_MAX = 63


@dataclass(slots=True)
class Layout:
    """A consistent picture of the tables. ``copy`` before changing: a change that fails must leave no trace."""

    slice: HostSlice
    slots: dict[str, int]
    generations: dict[int, int]
    halves: dict[int, int]
    prefixes: dict[PrefixKey, int]
    peers: dict[int, int]
    decisions: dict[KernelDecision, int]
    class_sets: dict[ClassKey, int]
    rows: dict[RowKey, Extent]
    tables: dict[TableKey, PeerTable]
    cell_space: ExtentAllocator
    ref_space: ExtentAllocator
    peer_space: IndexAllocator
    decision_space: IndexAllocator
    class_space: IndexAllocator
    slot_space: IndexAllocator
    # By tenant: what the packets of its endpoints carry to the uplink's queues; absent where shares are not configured.
    priorities: Mapping[str, int] = field(default_factory=dict)
    # By endpoint: where its sockets are, as in ``EndpointConfig``; absent where that is not known, or nobody asks.
    namespaces: Mapping[str, int] = field(default_factory=dict)
    # By slot: the numbers by which flows remember executables.
    executables: dict[int, dict[int, int]] = field(default_factory=dict)
    # Numbers of sets of signatures, by the names of the profiles in them; never given to another set.
    profiles: dict[tuple[str, ...], int] = field(default_factory=dict)
    # False while endpoints enforce tables that this layout does not describe (the agent was restarted).
    parked: bool = True
    stale_class_sets: set[int] = field(default_factory=set)
    stale_rows: set[Extent] = field(default_factory=set)
    stale_tables: set[Extent] = field(default_factory=set)

    def copy(self) -> Layout:
        """An independent picture of the same state."""
        return Layout(
            self.slice,
            dict(self.slots),
            dict(self.generations),
            dict(self.halves),
            dict(self.prefixes),
            dict(self.peers),
            dict(self.decisions),
            dict(self.class_sets),
            dict(self.rows),
            {key: PeerTable(table.extent, dict(table.refs)) for key, table in self.tables.items()},
            self.cell_space.copy(),
            self.ref_space.copy(),
            self.peer_space.copy(),
            self.decision_space.copy(),
            self.class_space.copy(),
            self.slot_space.copy(),
            self.priorities,
            self.namespaces,
            {slot: dict(numbers) for slot, numbers in self.executables.items()},
            dict(self.profiles),
            self.parked,
            set(self.stale_class_sets),
            set(self.stale_rows),
            set(self.stale_tables),
        )


def number_profiles(profiles: dict[tuple[str, ...], int], desired: HostSlice) -> None:
    """Give every set of signatures that a slice names a number of its own, from 1.

    Raises DatapathError when the numbers are used up.
    """
    wanted = {
        inspection.profiles
        for decision in desired.decisions.values()
        for inspection in (decision.at_source, decision.at_destination)
        if inspection
    }
    for names in sorted(wanted - profiles.keys()):
        if len(profiles) == PROFILES_MAX:
            hint = "use fewer combinations of inspect= at one host, or restart its agent: it numbers them anew"
            raise DatapathError("too many sets of signatures", subject="+".join(names), hint=hint)
        profiles[names] = len(profiles) + 1


def recover(tables: Tables, slots: Mapping[str, int]) -> Layout:
    """The layout of tables that an earlier process filled: which endpoints and decisions there are.

    ``slots`` are the endpoints that are pinned. What the rest means is not known any more; it is not guessed, but written
    anew after ``Programmer`` has parked the endpoints (see there).
    """
    capacity: Capacity = tables.capacity
    active = {slot: tables.read_active(slot) for slot in slots.values()}
    decisions = {decision: slot for slot, decision in tables.read_decisions().items()}
    return Layout(
        slice=empty_slice(),
        slots=dict(slots),
        generations={slot: generation for slot, (_, generation) in active.items()},
        halves={slot: policy // ADDRESSES_PER_ENDPOINT % HALVES for slot, (policy, _) in active.items()},
        prefixes=dict(tables.read_prefixes()),
        peers={},
        decisions=decisions,
        class_sets={},
        rows={},
        tables={},
        cell_space=ExtentAllocator(capacity.cells, "cells"),
        ref_space=ExtentAllocator(capacity.refs, "refs"),
        peer_space=IndexAllocator(capacity.refs, "refs"),
        decision_space=IndexAllocator(capacity.decisions, "decisions", decisions.values()),
        class_space=IndexAllocator(capacity.class_sets, "class_sets"),
        # The last slot's ring is what synchronize() writes to.
        slot_space=IndexAllocator(capacity.endpoints - 1, "endpoints", slots.values()),
        executables={slot: dict(tables.read_executables(slot)) for slot in slots.values()},
        parked=not any(generation for _, generation in active.values()),
    )


def own_addresses(endpoint: LocalEndpoint) -> tuple[str, ...]:
    """The addresses that an endpoint may use: its own, and the link-local one of its MAC (RFC 4291, appendix A).

    The latter is for Neighbour Discovery alone: no peer has a link-local address, so no policy speaks of it.
    """
    mac = bytearray.fromhex(endpoint.mac.replace(":", ""))
    mac[0] ^= 0x02
    interface = bytes((*mac[:3], 0xFF, 0xFE, *mac[3:]))
    link_local = str(IPv6Address(b"\xfe\x80" + bytes(6) + interface))
    return (*(address for address in endpoint.addresses if address != link_local), link_local)


def config_of(layout: Layout, endpoint: LocalEndpoint) -> EndpointConfig:
    """What the datapath has to know of an endpoint besides policy."""
    quota = endpoint.quota
    return EndpointConfig(
        endpoint.mac,
        endpoint.network,
        quota.flows,
        quota.events_per_s,
        quota.events_burst,
        cost_of(Rate(Unit.CONNECTIONS, quota.openings_per_s)),
        cost_of(Rate(Unit.BITS, quota.bits_per_s)),
        cost_of(Rate(Unit.PACKETS, quota.packets_per_s)),
        layout.priorities.get(endpoint.tenant, 0),
        layout.namespaces.get(endpoint.id),
        endpoint.dhcp,
        kernel_guard(endpoint.guard),
        endpoint.sampling,
    )


def blocks_of(layout: Layout, desired: HostSlice, name: str) -> list[PolicyBlock]:
    """The policy blocks of an endpoint, one for each address that it may use and unused ones behind them.

    Its own addresses are looked for in this order; the link-local one comes last and knows no peer. Raises CapacityError
    if the endpoint has too many.
    """
    endpoint = desired.endpoints[name]
    own = own_addresses(endpoint)
    if len(own) > ADDRESSES_PER_ENDPOINT:
        raise CapacityError(
            f"an endpoint holds at most {ADDRESSES_PER_ENDPOINT} addresses, its link-local one included",
            subject=name,
            hint="remove some addresses",
        )
    unused = PolicyBlock(desired.revision, (0, 0), (0, 0), 0, "")
    blocks = [unused] * ADDRESSES_PER_ENDPOINT
    for place, address in enumerate(own):
        identity = endpoint.addresses.get(address, 0)
        egress, ingress = (_place(layout.tables.get((identity, direction))) for direction in ("egress", "ingress"))
        blocks[place] = PolicyBlock(desired.revision, egress, ingress, identity, address)
    return blocks


def _place(table: PeerTable | None) -> tuple[int, int]:
    return (0, 0) if table is None else (table.extent.first, table.extent.count)


class PrefixIndex:
    """Longest-prefix match over a slice's addresses, by one dictionary per network, family and length."""

    def __init__(self, addresses: Mapping[PrefixKey, int]) -> None:
        self._by_length: dict[tuple[int, int], dict[int, dict[int, int]]] = {}
        for (network, prefix), identity in addresses.items():
            parsed = ip_network(prefix)
            lengths = self._by_length.setdefault((network, parsed.version), {})
            lengths.setdefault(parsed.prefixlen, {})[int(parsed.network_address)] = identity

    def shorter(self, key: PrefixKey) -> int | None:
        """The identity of the longest prefix that contains this one and is not it; None if none does."""
        network, prefix = key
        parsed = ip_network(prefix)
        value = int(parsed.network_address)
        lengths = self._by_length.get((network, parsed.version), {})
        for bits in sorted((bits for bits in lengths if bits < parsed.prefixlen), reverse=True):
            shift = parsed.max_prefixlen - bits
            identity = lengths[bits].get(value >> shift << shift)
            if identity is not None:
                return identity
        return None
