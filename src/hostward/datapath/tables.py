"""The seam under the programmer: typed, single writes into the datapath's tables, and reads back from them.

One implementation is the kernel's maps (``kernel.KernelTables``), one is a model of them (``memory.MemoryTables``); the
contract test in tests/unit/datapath runs against both. Nothing here knows an order of writes: that is the programmer's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from hostward.datapath.executables import path_hash
from hostward.datapath.rates import FREE, Cost, cost_of
from hostward.model.endpoint import ADDRESSES_MAX
from hostward.model.guard import GuardKind
from hostward.model.inspection import Inspection
from hostward.model.limit import End, Unit
from hostward.model.slice import ByProcess, ClassSet, Decision

# At most so many addresses has an endpoint, its link-local one included: each has a policy block in each of two halves.
ADDRESSES_PER_ENDPOINT = ADDRESSES_MAX + 1
HALVES = 2
PEER_UNKNOWN = 0
# Behind it comes 1; the sign of the word is a quarantine's (HW_QUARANTINED).
GENERATION_MAX = 0x7FFF_FFFF
# In the order in which the tables number them.
ENDS = tuple(End)
UNITS = tuple(Unit)

# (first cell, number of cells, class set); a length of 0 means that the peer is unknown to the table.
Ref = tuple[int, int, int]
NO_REF: Ref = (0, 0, 0)
# enum hw_inspect.
FAIL_CLOSED = 0x80
# enum hw_process.
UNKNOWN_PROCESS, OTHER_PROCESS = 0, 1
# (enum hw_choice_end, unknown or another process, hash of an executable or 0, slot of the decision that it leads to).
Choice = tuple[int, int, int, int]


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


class TcpPickup(Enum):
    """What a host does with TCP connections whose beginning its datapath did not see; see bpf/pickup.h."""

    STRICT = "strict"
    PICK_UP = "pick-up"


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """What the datapath has to know of an endpoint besides its policy."""

    mac: str
    network: int
    flow_quota: int
    events_per_s: int
    events_burst: int
    opening: Cost = FREE
    bytes_cap: Cost = FREE
    packets_cap: Cost = FREE
    priority: int = 0  # what its packets carry to the uplink's queues; 0: what the workload wrote
    workload_netns: int | None = None  # the number of its sockets' namespace, as the port's own one has it
    dhcp: tuple[str, ...] | None = None  # the servers that there are; None: any
    guard: tuple[tuple[int, int], ...] = ((0, 0),) * len(GuardKind)  # by kind: what is done, beyond what
    sampling: int = 0  # one packet in so many is sampled; 0: none


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
class KernelLimit:
    """A limit as the tables hold it; see ``hostward.model.limit.Limit``."""

    number: int
    end: End
    unit: Unit
    cost: Cost


@dataclass(frozen=True, slots=True)
class KernelDecision:
    """A decision as the tables hold it. ``verdict`` is a word of model.verdict.Verdict; see ``Decision`` for the rest.

    ``limits`` are ordered by end and unit, as the tables give them back. ``inspect`` is of what it allows, by
    end: the number of the set of signatures that it is inspected with, 0 for none, and ``FAIL_CLOSED`` where it does not
    pass uninspected.
    """

    number: int
    verdict: str
    log: bool
    reject: bool = False
    keep: bool = False
    keeps: bool = False
    limits: tuple[KernelLimit, ...] = ()
    choices: tuple[Choice, ...] = ()
    inspect: tuple[int, int] = (0, 0)


def kernel_decision(
    decision: Decision, slots: Mapping[int, int], profiles: Mapping[tuple[str, ...], int]
) -> KernelDecision:
    """What the tables hold of a decision: whether revoked rules are spared, not which.

    ``slots`` are those of the decisions that it leads to, ``profiles`` the numbers of the sets of signatures.
    """
    limits = [KernelLimit(limit.number, limit.end, limit.rate.unit, cost_of(limit.rate)) for limit in decision.limits]
    limits.sort(key=lambda limit: (ENDS.index(limit.end), UNITS.index(limit.unit)))
    return KernelDecision(
        decision.number,
        decision.verdict,
        decision.log,
        decision.reject,
        decision.keep,
        bool(decision.keeps),
        tuple(limits),
        tuple(sorted((*_choices(0, decision.opener, slots), *_choices(1, decision.acceptor, slots)))),
        (_inspect(decision.at_source, profiles), _inspect(decision.at_destination, profiles)),
    )


def _inspect(inspection: Inspection, profiles: Mapping[tuple[str, ...], int]) -> int:
    return profiles[inspection.profiles] | inspection.fail_closed * FAIL_CLOSED if inspection else 0


def _choices(end: int, judged: ByProcess | None, slots: Mapping[int, int]) -> Iterator[Choice]:
    if judged is None:
        return
    yield (end, UNKNOWN_PROCESS, 0, slots[judged.unknown])
    yield (end, OTHER_PROCESS, 0, slots[judged.other])
    for paths, number in judged.named:
        yield from ((end, OTHER_PROCESS, path_hash(path), slots[number]) for path in paths)


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

    def write_executables(self, slot: int, numbers: Mapping[int, int]) -> None:
        """Give an endpoint's executables, by hash, their numbers."""
        ...

    def read_executables(self, slot: int) -> Mapping[int, int]:
        """The numbers of an endpoint's executables."""
        ...

    def read_count(self, slot: int) -> tuple[int, int]:
        """Packets and bytes that a decision decided."""
        ...

    def retire_count(self, slot: int) -> None:
        """Move what a decision let pass to the count of all that are gone; its own starts at zero."""
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
        """Forget a slot's flows, and move its counts to those of all that are gone."""
        ...


def policy_index(slot: int, half: int) -> int:
    """The first policy block of a slot's half."""
    return (slot * HALVES + half) * ADDRESSES_PER_ENDPOINT
