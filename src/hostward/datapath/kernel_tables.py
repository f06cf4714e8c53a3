"""``Tables`` over the kernel's maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hostward import _core
from hostward.datapath.flow_export import FlowExportSettings
from hostward.datapath.rates import Cost
from hostward.datapath.tables import (
    ENDS,
    UNITS,
    Capacity,
    Choice,
    EndpointConfig,
    KernelDecision,
    KernelLimit,
    PolicyBlock,
    Ref,
    TcpPickup,
)
from hostward.errors import DatapathError
from hostward.model.slice import ClassSet

# enum hw_verdict of bpf/abi.h.
_VERDICT_NUMBERS = {"allow": 1, "deny": 2, "would-deny": 3}
_VERDICT_WORDS = {number: word for word, number in _VERDICT_NUMBERS.items()}
# enum hw_decision_flag.
_REJECT, _KEEP, _KEEPS = 1, 2, 4
# Where ICMP types, ICMPv6 types and IP protocol numbers stand in the block for others.
_OTHER_BASES = (0, 256, 512)


class KernelTables:
    """See ``Tables`` for the methods; every one raises DatapathError when the kernel refuses."""

    def __init__(
        self,
        core: _core.Datapath,
        capacity: Capacity,
        tcp_pickup: TcpPickup = TcpPickup.STRICT,
        flow_export: FlowExportSettings | None = None,
    ) -> None:
        self._core = core
        self._capacity = capacity
        self._tcp_pickup = tcp_pickup
        self._flow_export = flow_export

    @property
    def capacity(self) -> Capacity:
        """The sizes that the maps were created with."""
        return self._capacity

    def write_endpoint(self, slot: int, config: EndpointConfig) -> None:
        """See ``Tables``."""
        self._core.write_endpoint(slot, self._endpoint_fields(config))

    def holds_endpoint(self, slot: int, config: EndpointConfig) -> bool:
        """See ``Tables``."""
        return self._core.holds_endpoint(slot, self._endpoint_fields(config))

    def _endpoint_fields(
        self, config: EndpointConfig
    ) -> tuple[
        list[int],
        int,
        int,
        int,
        int,
        _Rate,
        list[_Rate],
        int,
        bool,
        int | None,
        list[str] | None,
        tuple[list[tuple[int, int]], int],
    ]:
        mac = list(bytes.fromhex(config.mac.replace(":", "")))
        events = config.events_per_s, config.events_burst
        if self._flow_export is not None:
            events = self._flow_export.events_of(*events)
        return (
            mac,
            config.network,
            config.flow_quota,
            *events,
            _rate(config.opening),
            [_rate(config.bytes_cap), _rate(config.packets_cap)],
            config.priority,
            self._tcp_pickup is TcpPickup.PICK_UP,
            config.workload_netns,
            None if config.dhcp is None else list(config.dhcp),
            (list(config.guard), config.sampling),
        )

    def create_ring(self, slot: int, quota: int) -> None:
        """See ``Tables``."""
        self._core.create_ring(slot, quota)

    def write_prefixes(self, peers: Mapping[tuple[int, str], int]) -> None:
        """See ``Tables``."""
        self._core.write_prefixes([(network, prefix, peer) for (network, prefix), peer in peers.items()])

    def remove_prefixes(self, prefixes: Sequence[tuple[int, str]]) -> None:
        """See ``Tables``."""
        self._core.remove_prefixes(list(prefixes))

    def read_prefixes(self) -> Mapping[tuple[int, str], int]:
        """See ``Tables``."""
        return {(network, prefix): peer for network, prefix, peer in self._core.read_prefixes()}

    def write_class_set(self, index: int, classes: ClassSet) -> None:
        """See ``Tables``."""
        self._core.write_class_set(index, _class_blocks(classes))

    def holds_class_set(self, index: int, classes: ClassSet) -> bool:
        """See ``Tables``."""
        return self._core.holds_class_set(index, _class_blocks(classes))

    def write_cells(self, first: int, decisions: Sequence[int]) -> None:
        """See ``Tables``."""
        self._core.write_cells(first, list(decisions))

    def read_cells(self, first: int, count: int) -> Sequence[int]:
        """See ``Tables``."""
        return self._core.read_cells(first, count)

    def write_refs(self, first: int, refs: Sequence[Ref]) -> None:
        """See ``Tables``."""
        self._core.write_refs(first, list(refs))

    def read_refs(self, first: int, count: int) -> Sequence[Ref]:
        """See ``Tables``."""
        return self._core.read_refs(first, count)

    def write_decision(self, slot: int, decision: KernelDecision) -> None:
        """See ``Tables``."""
        if decision.verdict not in _VERDICT_NUMBERS:
            raise DatapathError("a decision has no such verdict", subject=decision.verdict)
        self._core.write_decision(slot, _decision_fields(decision))

    def read_decisions(self) -> Mapping[int, KernelDecision]:
        """See ``Tables``."""
        found: dict[int, KernelDecision] = {}
        for slot, (number, verdict, log, flags, limits, choices, inspect) in self._core.read_decisions():
            found[slot] = KernelDecision(
                number,
                _VERDICT_WORDS[verdict],
                log,
                bool(flags & _REJECT),
                bool(flags & _KEEP),
                bool(flags & _KEEPS),
                tuple(KernelLimit(rule, ENDS[end], UNITS[unit], Cost(*cost)) for end, unit, rule, cost in limits),
                tuple(choices),
                (inspect[0], inspect[1]),
            )
        return found

    def holds_decision(self, slot: int, decision: KernelDecision) -> bool:
        """See ``Tables``."""
        return self._core.holds_decision(slot, _decision_fields(decision))

    def write_executables(self, slot: int, numbers: Mapping[int, int]) -> None:
        """See ``Tables``."""
        self._core.write_executables(slot, [(number, executable) for executable, number in numbers.items()])

    def read_executables(self, slot: int) -> Mapping[int, int]:
        """See ``Tables``."""
        return {executable: number for number, executable in self._core.read_executables(slot)}

    def read_count(self, slot: int) -> tuple[int, int]:
        """See ``Tables``."""
        return self._core.read_count(slot)

    def retire_count(self, slot: int) -> None:
        """See ``Tables``."""
        self._core.retire_count(slot)

    def write_policy(self, index: int, block: PolicyBlock) -> None:
        """See ``Tables``."""
        self._core.write_policy(index, block.revision, block.egress, block.ingress, block.identity, block.address)

    def read_policy(self, index: int) -> PolicyBlock:
        """See ``Tables``."""
        return PolicyBlock(*self._core.read_policy(index))

    def activate(self, slot: int, policy: int, generation: int) -> None:
        """See ``Tables``."""
        self._core.activate(slot, policy, generation)

    def read_active(self, slot: int) -> tuple[int, int]:
        """See ``Tables``."""
        return self._core.read_active(slot)

    def advance_epoch(self, network: int) -> None:
        """See ``Tables``."""
        self._core.advance_epoch(network)

    def synchronize(self) -> None:
        """See ``Tables``."""
        self._core.synchronize()

    def clear_slot(self, slot: int) -> None:
        """See ``Tables``."""
        self._core.clear_slot(slot)
        numbers = self._core.read_executables(slot)
        self._core.write_executables(slot, [(number, 0) for number, _ in numbers])


_Rate = tuple[int, int]
_Limit = tuple[int, int, int, _Rate]


def _decision_fields(decision: KernelDecision) -> tuple[int, int, bool, int, list[_Limit], list[Choice], list[int]]:
    flags = decision.reject * _REJECT | decision.keep * _KEEP | decision.keeps * _KEEPS
    limits = [
        (ENDS.index(limit.end), UNITS.index(limit.unit), limit.number, _rate(limit.cost)) for limit in decision.limits
    ]
    verdict, choices = _VERDICT_NUMBERS[decision.verdict], list(decision.choices)
    return (decision.number, verdict, decision.log, flags, limits, choices, list(decision.inspect))


def _rate(cost: Cost) -> _Rate:
    return (cost.per_unit, cost.burst_ns)


def _class_blocks(classes: ClassSet) -> list[list[tuple[int, int]]]:
    """The four blocks of a class set, as (first, class) cuts in the order of ``enum hw_class_block_index``."""
    others = [
        (base + first, cls)
        for base, cuts in zip(_OTHER_BASES, (classes.icmp, classes.icmpv6, classes.proto), strict=True)
        for first, cls in cuts
    ]
    return [list(classes.tcp), list(classes.udp), list(classes.sctp), others]
