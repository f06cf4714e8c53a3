"""An enforcer without a kernel, for tests of what stands above it: the agent, the channel, the controller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hostward.datapath.enforcer import Counters, DeviceFacts, EndpointStatus, Repair
from hostward.datapath.inspection import FlowMark, InspectionNames
from hostward.datapath.readings import Fill, Readings, Talker
from hostward.datapath.sampling import Taken
from hostward.model.endpoint import EndpointState, Port
from hostward.model.flow import FlowEvent
from hostward.model.guard import GuardEvent
from hostward.model.sample import SampleCounts
from hostward.model.slice import HostSlice, empty_slice


class ModelEnforcer:
    """Holds the slice in force; refuses with ``refuse`` where that is set."""

    def __init__(self, revision: int = 0) -> None:
        self.slice: HostSlice = empty_slice(revision)
        self.refuse: Exception | None = None

    @property
    def uplink(self) -> None:
        return None

    @property
    def flow_exporter(self) -> None:
        return None

    @property
    def revision(self) -> int:
        return self.slice.revision

    def inspect_device(self, port: Port) -> DeviceFacts:
        return DeviceFacts("veth", f"02:00:00:00:00:{len(port.device):02x}", ("10.0.0.1",))

    def enforce(self, desired: HostSlice) -> Mapping[str, EndpointStatus]:
        if self.refuse is not None:
            raise self.refuse
        self.slice = desired
        return self.statuses()

    def settle(self) -> None:
        pass

    def repair(self) -> Sequence[Repair]:
        return ()

    def statuses(self) -> Mapping[str, EndpointStatus]:
        return {name: EndpointStatus(EndpointState.ENFORCED, "", self.revision) for name in self.slice.endpoints}

    def drain_events(self, limit: int) -> Sequence[FlowEvent]:
        return ()

    def inspector_maps(self) -> None:
        return None

    def inspection_names(self) -> InspectionNames:
        return InspectionNames({}, {}, {}, {})

    def judge_flow(self, slot: int, key: bytes, tag: int, marks: FlowMark) -> bool:
        return False

    def drain_alerts(self) -> Sequence[GuardEvent]:
        return ()

    def drain_samples(self, limit: int) -> Sequence[Taken]:
        return ()

    def sample_counts(self) -> Mapping[str, tuple[str, int, SampleCounts]]:
        return {
            name: (endpoint.tenant, endpoint.sampling, SampleCounts())
            for name, endpoint in self.slice.endpoints.items()
        }

    def counters(self) -> Counters:
        return Counters({}, {}, 0)

    def events_lost(self) -> int:
        return 0

    def answers_suppressed(self) -> int:
        return 0

    def readings(self) -> Readings:
        return Readings({}, {"policy": 0}, 0, 0, 0, 0, 0, {"flows": Fill(0, 1)}, {})

    def talkers(self, limit: int) -> Mapping[str, Sequence[Talker]]:
        return {}

    def close(self) -> None:
        pass
