"""A model of the kernel's tables, with the decision that ``bpf/policy.h`` takes from them.

It is the second implementation of ``Tables``: the property tests stop the programmer after each of its steps and ask this
model for verdicts, which must be the old revision's or the new one's. It tracks no flows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address, ip_network

from hostward.datapath.layout import class_key
from hostward.datapath.tables import (
    ADDRESSES_PER_ENDPOINT,
    EMPTY_BLOCK,
    NO_REF,
    PEER_UNKNOWN,
    UNKNOWN_PROCESS,
    Capacity,
    EndpointConfig,
    KernelDecision,
    PolicyBlock,
    Ref,
)
from hostward.model.slice import ClassSet

_network = cache(ip_network)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the tables say of a packet that opens a flow."""

    verdict: str
    reason: str
    number: int
    revision: int


@dataclass(slots=True)
class MemoryTables:
    """See ``Tables`` for the methods."""

    capacity: Capacity = field(default_factory=Capacity)
    endpoints: dict[int, EndpointConfig] = field(default_factory=dict)
    rings: dict[int, int] = field(default_factory=dict)
    prefixes: dict[tuple[int, str], int] = field(default_factory=dict)
    class_sets: dict[int, ClassSet] = field(default_factory=dict)
    cells: dict[int, int] = field(default_factory=dict)
    refs: dict[int, Ref] = field(default_factory=dict)
    decisions: dict[int, KernelDecision] = field(default_factory=dict)
    executables: dict[int, dict[int, int]] = field(default_factory=dict)  # by slot
    policies: dict[int, PolicyBlock] = field(default_factory=dict)
    active: dict[int, tuple[int, int]] = field(default_factory=dict)
    epochs: dict[int, int] = field(default_factory=dict)

    def write_endpoint(self, slot: int, config: EndpointConfig) -> None:
        """See ``Tables``."""
        self.endpoints[slot] = config

    def holds_endpoint(self, slot: int, config: EndpointConfig) -> bool:
        """See ``Tables``."""
        return self.endpoints.get(slot) == config

    def create_ring(self, slot: int, quota: int) -> None:
        """See ``Tables``."""
        self.rings[slot] = quota

    def write_prefixes(self, peers: Mapping[tuple[int, str], int]) -> None:
        """See ``Tables``."""
        self.prefixes.update(peers)

    def remove_prefixes(self, prefixes: Sequence[tuple[int, str]]) -> None:
        """See ``Tables``."""
        for key in prefixes:
            self.prefixes.pop(key, None)

    def read_prefixes(self) -> Mapping[tuple[int, str], int]:
        """See ``Tables``."""
        return dict(self.prefixes)

    def write_class_set(self, index: int, classes: ClassSet) -> None:
        """See ``Tables``."""
        self.class_sets[index] = classes

    def holds_class_set(self, index: int, classes: ClassSet) -> bool:
        """See ``Tables``."""
        held = self.class_sets.get(index)
        return held is not None and class_key(held) == class_key(classes)

    def write_cells(self, first: int, decisions: Sequence[int]) -> None:
        """See ``Tables``."""
        self.cells.update(enumerate(decisions, first))

    def read_cells(self, first: int, count: int) -> Sequence[int]:
        """See ``Tables``."""
        return [self.cells.get(index, 0) for index in range(first, first + count)]

    def write_refs(self, first: int, refs: Sequence[Ref]) -> None:
        """See ``Tables``."""
        self.refs.update(enumerate(refs, first))

    def read_refs(self, first: int, count: int) -> Sequence[Ref]:
        """See ``Tables``."""
        return [self.refs.get(index, NO_REF) for index in range(first, first + count)]

    def write_decision(self, slot: int, decision: KernelDecision) -> None:
        """See ``Tables``."""
        self.decisions[slot] = decision

    def read_decisions(self) -> Mapping[int, KernelDecision]:
        """See ``Tables``."""
        return dict(self.decisions)

    def holds_decision(self, slot: int, decision: KernelDecision) -> bool:
        """See ``Tables``."""
        return self.decisions.get(slot) == decision

    def write_executables(self, slot: int, numbers: Mapping[int, int]) -> None:
        """See ``Tables``."""
        self.executables.setdefault(slot, {}).update(numbers)

    def read_executables(self, slot: int) -> Mapping[int, int]:
        """See ``Tables``."""
        return dict(self.executables.get(slot, {}))

    def read_count(self, slot: int) -> tuple[int, int]:
        """No packets pass a model: always zero."""
        return (0, 0)

    def retire_count(self, slot: int) -> None:
        """There is no count in a model."""

    def write_policy(self, index: int, block: PolicyBlock) -> None:
        """See ``Tables``."""
        self.policies[index] = block

    def read_policy(self, index: int) -> PolicyBlock:
        """See ``Tables``."""
        return self.policies.get(index, EMPTY_BLOCK)

    def activate(self, slot: int, policy: int, generation: int) -> None:
        """See ``Tables``."""
        self.active[slot] = (policy, generation)

    def read_active(self, slot: int) -> tuple[int, int]:
        """See ``Tables``."""
        return self.active.get(slot, (0, 0))

    def advance_epoch(self, network: int) -> None:
        """See ``Tables``."""
        self.epochs[network] = self.epochs.get(network, 0) + 1

    def synchronize(self) -> None:
        """Nothing runs concurrently in a model."""

    def clear_slot(self, slot: int) -> None:
        """There are no flows and no counters in a model, only the executables' numbers."""
        self.executables.pop(slot, None)

    def decide(self, slot: int, direction: str, local: str, remote: str, protocol: int, port: int) -> Answer:
        """The answer that ``decide()`` of bpf/policy.h gives for a packet that opens a flow."""
        policy, generation = self.read_active(slot)
        if not generation:
            return Answer("deny", "no-revision", 0, 0)
        revision = self.read_policy(policy).revision
        block = self._own_policy(policy, str(ip_address(local)))
        if block is None:
            return Answer("deny", "ip-spoof" if direction == "egress" else "not-addressed", 0, revision)
        revision = block.revision
        first, count = block.egress if direction == "egress" else block.ingress
        peer = self._peer(self.endpoints[slot].network, remote)
        if peer == PEER_UNKNOWN or peer >= count:
            return Answer("deny", "unknown-peer", 0, revision)
        row, length, class_set = self.refs.get(first + peer, NO_REF)
        if not length:
            return Answer("deny", "unknown-peer", 0, revision)
        classes = self.class_sets.get(class_set)
        cell = classes.class_of(protocol, port) if classes else length
        decision = self.decisions.get(self.cells.get(row + cell, 0)) if cell < length else None
        if decision is not None and decision.choices:
            # No packet of a model has a socket: its process is not known.
            chosen = {(end, process, path): to for end, process, path, to in decision.choices}
            decision = self.decisions.get(chosen[0 if direction == "egress" else 1, UNKNOWN_PROCESS, 0])
        if decision is None:
            return Answer("deny", "internal", 0, revision)
        reason = "" if decision.verdict == "allow" else "policy"
        return Answer(decision.verdict, reason, decision.number, revision)

    def _own_policy(self, first: int, address: str) -> PolicyBlock | None:
        for index in range(first, first + ADDRESSES_PER_ENDPOINT):
            block = self.read_policy(index)
            if not block.address:
                return None
            if block.address == address:
                return block
        return None

    def _peer(self, network: int, remote: str) -> int:
        address = ip_address(remote)
        best, peer = -1, PEER_UNKNOWN
        for (owner, prefix), index in self.prefixes.items():
            candidate = _network(prefix)
            if owner == network and candidate.version == address.version and address in candidate:
                bits = candidate.prefixlen
                if bits > best:
                    best, peer = bits, index
        return peer
