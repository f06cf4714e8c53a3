"""The one seam between the agent's channel and whatever enforces: the kernel, or its in-memory model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from hostward.datapath.inspection import FlowMark, InspectionNames, InspectorMaps
from hostward.datapath.readings import Readings, Talker
from hostward.datapath.sampling import Taken
from hostward.model.endpoint import EndpointState, Port
from hostward.model.flow import FlowEvent
from hostward.model.guard import GuardEvent, GuardKind
from hostward.model.sample import SampleCounts
from hostward.model.slice import HostSlice

if TYPE_CHECKING:
    from hostward.datapath.flow_export import FlowExporter
    from hostward.datapath.uplink import Uplink  # whose devices know the facts below

# What a status gives as its reason before what was recognised.
QUARANTINED_FOR = "quarantined for "


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What a device says of itself. ``mac`` is the workload's side if it can be known (a veth's peer), else empty.

    ``addresses`` are those configured on the workload's side at this moment, where they can be read; else empty.
    """

    kind: str
    mac: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """Where one endpoint stands on this host, with the reason where it is not ``ENFORCED``."""

    state: EndpointState
    reason: str = ""
    revision: int = 0
    flows: int = 0

    @property
    def quarantined_for(self) -> GuardKind | None:
        """What the endpoint's guard has quarantined it for; None: it has not, or by command too."""
        if self.state is not EndpointState.QUARANTINED or not self.reason.startswith(QUARANTINED_FOR):
            return None
        word = self.reason.removeprefix(QUARANTINED_FOR)
        return next((kind for kind in GuardKind if kind.value == word), None)


@dataclass(frozen=True, slots=True)
class Counters:
    """Exact totals since the datapath was loaded.

    ``by_rule`` maps a decision's number to (packets, bytes); ``by_reason`` maps (endpoint id, reason) to packets denied;
    ``events_lost`` counts flow events that a quota or a full ring kept from being reported; ``answers_suppressed`` packets
    that a rule rejects and that nobody was told of, because the endpoint's quota of answers was used up or no answer fits;
    ``flows_lost`` flows of an older version's datapath that could not be taken over when this agent replaced it.
    """

    by_rule: Mapping[int, tuple[int, int]]
    by_reason: Mapping[tuple[str, str], int]
    events_lost: int
    answers_suppressed: int = 0
    flows_lost: int = 0


class RepairKind(Enum):
    """What was found changed in the kernel. The values are the words of the metrics."""

    MAP_PIN = "map-pin"
    CLASS_SET = "class-set"
    DECISION = "decision"
    ROW = "row"
    PEER_TABLE = "peer-table"
    PREFIX = "prefix"
    ENDPOINT = "endpoint"
    PORT = "port"
    MACHINE_ADDRESSES = "machine-addresses"
    UPLINK = "uplink"


class Repair(str):
    """One mending: the line that tells of it, and the kind that it is counted by."""

    __slots__ = ("kind",)
    kind: RepairKind

    def __new__(cls, kind: RepairKind, line: str) -> Repair:
        """A line of a kind."""
        made = super().__new__(cls, line)
        made.kind = kind
        return made


class Enforcer(Protocol):
    """Enforces slices on one host. Not thread-safe but for ``talkers`` and ``uplink``: one caller at a time."""

    @property
    def uplink(self) -> Uplink | None:
        """The tenants' shares of the host's uplink, where it has one that is divided. Callable from any thread."""
        ...

    @property
    def flow_exporter(self) -> FlowExporter | None:
        """Who sends flow records to collectors, if anybody does. Its counts may be asked for from any thread."""
        ...

    @property
    def revision(self) -> int:
        """The revision in force, 0 before the first."""
        ...

    def inspect_device(self, port: Port) -> DeviceFacts:
        """Look at a device without touching it. Raises DeviceError, with the reason, if it can never be a port."""
        ...

    def enforce(self, desired: HostSlice) -> Mapping[str, EndpointStatus]:
        """Bring the slice into force, each endpoint atomically, and return the state of every endpoint in it.

        Raises CapacityError if it does not fit and DatapathError if the kernel refuses; then the old slice stays whole.
        A device that is missing is no error: its endpoint is reported ``DETACHED``.
        """
        ...

    def settle(self) -> None:
        """Give back what only the slice before needed. ``enforce`` and ``repair`` begin with it; it may take a while."""
        ...

    def repair(self) -> Sequence[Repair]:
        """Compare the kernel's state with the slice in force, mend what differs, return one line for each mending."""
        ...

    def statuses(self) -> Mapping[str, EndpointStatus]:
        """The state of every endpoint in the slice in force, read from the kernel."""
        ...

    def drain_events(self, limit: int) -> Sequence[FlowEvent]:
        """Take at most ``limit`` waiting events; never blocks."""
        ...

    def inspector_maps(self) -> InspectorMaps | None:
        """What to hand to the inspector, which goes on where one before it ended; None where there is no kernel."""
        ...

    def inspection_names(self) -> InspectionNames:
        """Whose the numbers in its records are, by the slice in force."""
        ...

    def judge_flow(self, slot: int, key: bytes, tag: int, marks: FlowMark) -> bool:
        """Mark a flow as the inspector asks; False if it is not there any more."""
        ...

    def drain_alerts(self) -> Sequence[GuardEvent]:
        """Take what guards recognised, as far as ``drain_events`` has come."""
        ...

    def drain_samples(self, limit: int) -> Sequence[Taken]:
        """Take at most ``limit`` waiting samples; never blocks."""
        ...

    def sample_counts(self) -> Mapping[str, tuple[str, int, SampleCounts]]:
        """Of every endpoint in the slice in force: tenant, sampling rate, and what was counted."""
        ...

    def counters(self) -> Counters:
        """Read every counter."""
        ...

    def events_lost(self) -> int:
        """Flow events that a quota or a full ring kept from being reported, those of endpoints that are gone included."""
        ...

    def answers_suppressed(self) -> int:
        """Rejected packets that nobody was told of, those of endpoints that are gone included."""
        ...

    def readings(self) -> Readings:
        """Everything that is counted for an operator's dashboards."""
        ...

    def talkers(self, limit: int) -> Mapping[str, Sequence[Talker]]:
        """The ``limit`` heaviest peers of every endpoint that has flows, the heaviest first.

        It may take a while, and may be called while another thread is in another method.
        """
        ...

    def close(self) -> None:
        """Let go of file descriptors. What is attached keeps deciding (invariant 2)."""
        ...
