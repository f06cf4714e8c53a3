"""The seam under the programmer: typed, single writes into the datapath's tables, and reads back from them.

One implementation is the kernel's maps (``kernel.KernelTables``), one is a model of them (``memory.MemoryTables``); the
contract test in tests/unit/datapath runs against both. Nothing here knows an order of writes: that is the programmer's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hostward.model.endpoint import ADDRESSES_MAX
from hostward.model.slice import ClassSet, Decision

# At most so many addresses has an endpoint, its link-local one included: each has a policy block in each of two halves.
ADDRESSES_PER_ENDPOINT = ADDRESSES_MAX + 1
HALVES = 2
PEER_UNKNOWN = 0

# (first cell, number of cells, class set); a length of 0 means that the peer is unknown to the table.
Ref = tuple[int, int, int]
NO_REF: Ref = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class Capacity:
    """Sizes of the tables, in elements; fixed when they are created."""

    endpoints: int = 256
    flows: int = 262_144
    cells: int = 1_048_576
    refs: int = 1_048_576
    prefixes: int = 262_144
    decisions: int = 131_072
    class_sets: int = 1_024


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """What the datapath has to know of an endpoint besides its policy."""

    mac: str
    network: int
    flow_quota: int
    events_per_s: int
    events_burst: int


@dataclass(frozen=True, slots=True)
class PolicyBlock:
    """Where one address of an endpoint finds its verdicts: tables as (first reference, number of references).

    ``address`` is empty in a block that is not used; such blocks stand behind the used ones.
    """

    revision: int
    egress: tuple[int, int]
    ingress: tuple[int, int]
    identity: int
    address: str


EMPTY_BLOCK = PolicyBlock(0, (0, 0), (0, 0), 0, "")


@dataclass(frozen=True, slots=True)
class KernelDecision:
    """A decision as the tables hold it. ``verdict`` is a word of model.verdict.Verdict; see ``Decision`` for the rest."""

    number: int
    verdict: str
    log: bool
    reject: bool = False
    keep: bool = False
    keeps: bool = False


def kernel_decision(decision: Decision) -> KernelDecision:
    """What the tables hold of a decision: whether revoked rules are spared, not which."""
    return KernelDecision(
        decision.number, decision.verdict, decision.log, decision.reject, decision.keep, bool(decision.keeps)
    )


class Tables(Protocol):
    """Every method is one step: after any prefix of a sequence of steps the tables are consistent."""

    @property
    def capacity(self) -> Capacity:
        """The sizes."""
        ...

    def write_endpoint(self, slot: int, config: EndpointConfig) -> None:
        """Configure a slot."""
        ...

    def holds_endpoint(self, slot: int, config: EndpointConfig) -> bool:
        """Whether a slot is configured so."""
        ...

    def create_ring(self, slot: int, quota: int) -> None:
        """Give a slot room for ``quota`` flows; only while it has none."""
        ...

    def write_prefixes(self, peers: Mapping[tuple[int, str], int]) -> None:
        """Say which peer index each (network, prefix) is."""
        ...

    def remove_prefixes(self, prefixes: Sequence[tuple[int, str]]) -> None:
        """Take prefixes away."""
        ...

    def read_prefixes(self) -> Mapping[tuple[int, str], int]:
        """Every (network, prefix) with its peer index."""
        ...

    def write_class_set(self, index: int, classes: ClassSet) -> None:
        """Write a class set that no reference names yet."""
        ...

    def holds_class_set(self, index: int, classes: ClassSet) -> bool:
        """Whether a class set is written so."""
        ...

    def write_cells(self, first: int, decisions: Sequence[int]) -> None:
        """Write consecutive cells: slots of decisions."""
        ...

    def read_cells(self, first: int, count: int) -> Sequence[int]:
        """Read consecutive cells."""
        ...

    def write_refs(self, first: int, refs: Sequence[Ref]) -> None:
        """Write consecutive references."""
        ...

    def read_refs(self, first: int, count: int) -> Sequence[Ref]:
        """Read consecutive references."""
        ...

    def write_decision(self, slot: int, decision: KernelDecision) -> None:
        """Write a decision and start its counter at zero."""
        ...

    def read_decisions(self) -> Mapping[int, KernelDecision]:
        """Every written decision by slot."""
        ...

    def holds_decision(self, slot: int, decision: KernelDecision) -> bool:
        """Whether a decision is written so."""
        ...

    def read_count(self, slot: int) -> tuple[int, int]:
        """Packets and bytes that a decision decided."""
        ...

    def write_policy(self, index: int, block: PolicyBlock) -> None:
        """Write a policy block that no active word names."""
        ...

    def read_policy(self, index: int) -> PolicyBlock:
        """Read a policy block."""
        ...

    def activate(self, slot: int, policy: int, generation: int) -> None:
        """Put a slot's policy in force, atomically; generation 0 closes the slot."""
        ...

    def read_active(self, slot: int) -> tuple[int, int]:
        """A slot's (policy, generation)."""
        ...

    def advance_epoch(self, network: int) -> None:
        """Have every flow of a network decided anew at its next packet."""
        ...

    def synchronize(self) -> None:
        """Return when no packet that started before still runs."""
        ...

    def clear_slot(self, slot: int) -> None:
        """Forget a slot's flows and counters."""
        ...


def policy_index(slot: int, half: int) -> int:
    """The first policy block of a slot's half."""
    return (slot * HALVES + half) * ADDRESSES_PER_ENDPOINT
