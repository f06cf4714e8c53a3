"""The Enforcer over the kernel: slices into tables, endpoints onto devices, events and counters out.

It owns the order between devices and policy: a device is closed before anything else, its programs are attached while its
slot has no policy (everything is denied), the policy is put in force, and only then is the device brought up. Where an
older version's programs decide already, they do so until the policy is in force: see ``datapath.upgrade``.
"""

from __future__ import annotations

import platform
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from hostward import _core
from hostward.datapath import devices
from hostward.datapath.enforcer import Counters, DeviceFacts, EndpointStatus, Repair, RepairKind
from hostward.datapath.flow_export import FlowExporter, FlowExportSettings
from hostward.datapath.guards import KINDS, GuardState, guard_event, order_guard, revision_of
from hostward.datapath.inspection import FlowMark, InspectionCounts, InspectionNames, InspectorMaps
from hostward.datapath.kernel_tables import KernelTables
from hostward.datapath.processes import asks_for_acceptors, asks_for_processes, watch_processes
from hostward.datapath.programmer import Programmer
from hostward.datapath.readback import mend_tables
from hostward.datapath.readings import EndpointReading, Fill, Readings, Talker
from hostward.datapath.sampling import Naming, Taken, read_counts
from hostward.datapath.tables import Capacity, TcpPickup
from hostward.datapath.tracked import TrackedFlow
from hostward.datapath.upgrade import Upgrade
from hostward.datapath.uplink import Uplink, UplinkSettings
from hostward.errors import CapacityError, DatapathError, DeviceError
from hostward.model.endpoint import EndpointState, Port
from hostward.model.flow import FlowEvent
from hostward.model.guard import GuardEvent
from hostward.model.sample import SampleCounts
from hostward.model.slice import HostSlice, LocalEndpoint

DEFAULT_PINS = Path("/sys/fs/bpf/hostward")
OBJECT = Path(__file__).parent.parent / "bpf" / "endpoint.bpf.o"
# The slot and the decision that count for all that are gone (crates/hostward-datapath/src/counters.rs).
_GONE = 0
# Far more than there are between two readings of a second: four kinds of each endpoint in ten seconds.
_ALERTS_KEPT = 4_096
# tcx came with Linux 6.6; before it the verdict is a clsact filter.
_TCX_SINCE = (6, 6)


@dataclass(slots=True)
class _Attached:
    """One endpoint's port in the kernel. ``ifindex`` is None while its device is away."""

    endpoint: LocalEndpoint
    port: _core.Port
    ifindex: int | None
    reason: str = ""
    up: bool = False  # brought up since it was attached


def default_hook() -> str:
    """``tcx`` where the running kernel has it, else ``clsact``."""
    found = re.match(r"(\d+)\.(\d+)", platform.release())
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    return "tcx" if version >= _TCX_SINCE else "clsact"


def open_enforcer(
    pins: Path = DEFAULT_PINS,
    *,
    capacity: Capacity | None = None,
    hook: str = "",
    tcp_pickup: TcpPickup = TcpPickup.STRICT,
    object_file: Path = OBJECT,
    uplink: UplinkSettings | None = None,
    flow_export: FlowExportSettings | None = None,
) -> KernelEnforcer:
    """Open the datapath pinned under ``pins``, or create it there. With an ``uplink`` tenants have weighted shares of it;
    with a ``flow_export`` records of flows go to a collector.

    ``pins`` lies in a mounted bpffs. Raises DatapathError if the kernel refuses, with its reason.
    """
    sizes = capacity or Capacity()
    if not object_file.exists():
        raise DatapathError("the datapath object is missing", subject=str(object_file), hint="run `make build`")
    try:
        core = _core.Datapath(
            str(object_file),
            str(pins),
            endpoints=sizes.endpoints,
            flows=sizes.flows,
            cells=sizes.cells,
            refs=sizes.refs,
            prefixes=sizes.prefixes,
            decisions=sizes.decisions,
            class_sets=sizes.class_sets,
        )
    except _core.CoreError as error:
        raise DatapathError(
            str(error),
            subject=str(pins),
            hint="check that bpffs is mounted there and that you are root: `hostward preflight` tells what is missing",
        ) from error
    limiting = None if uplink is None else Uplink(uplink)
    return KernelEnforcer(core, sizes, hook or default_hook(), limiting, tcp_pickup, flow_export)


class KernelEnforcer:
    """See ``hostward.datapath.enforcer.Enforcer``."""

    def __init__(
        self,
        core: _core.Datapath,
        capacity: Capacity,
        hook: str,
        uplink: Uplink | None = None,
        tcp_pickup: TcpPickup = TcpPickup.STRICT,
        flow_export: FlowExportSettings | None = None,
    ) -> None:
        self._core = core
        self._capacity = capacity
        self._hook = hook
        self._uplink = uplink
        self._tables = KernelTables(core, capacity, tcp_pickup, flow_export)
        self._flow_exporter = None if flow_export is None else FlowExporter(core, flow_export, capacity.flows)
        slots = {unquote(name.replace("@", "/", 1)): slot for slot, name in core.pinned_ports()}
        self._programmer = Programmer(self._tables, slots)
        self._upgrade = Upgrade.find(core)
        self._flows_lost = 0
        self._attached: dict[str, _Attached] = {}
        self._talkers = core.talkers()
        self._names: dict[int, LocalEndpoint] = {}
        self._rules: dict[int, tuple[str, ...]] = {}
        self._executables: dict[tuple[int, int], str] = {}
        self._alerts: deque[GuardEvent] = deque(maxlen=_ALERTS_KEPT)

    @property
    def revision(self) -> int:
        """See ``Enforcer``."""
        return self._programmer.slice.revision

    @property
    def programmer(self) -> Programmer:
        """The owner of the tables, for benchmarks and tests that look inside."""
        return self._programmer

    @property
    def flow_exporter(self) -> FlowExporter | None:
        """Who sends flow records to a collector, if anybody does."""
        return self._flow_exporter

    @property
    def uplink(self) -> Uplink | None:
        """The owner of the uplink's shares, if there are any."""
        return self._uplink

    def port_of(self, endpoint: str) -> _core.Port:
        """The loaded programs of an endpoint, for benchmarks and tests that run them on frames."""
        return self._attached[endpoint].port

    def inspect_device(self, port: Port) -> DeviceFacts:
        """See ``Enforcer``."""
        facts = devices.inspect(port)
        devices.refuse_uplink(port)
        return facts

    def enforce(self, desired: HostSlice) -> Mapping[str, EndpointStatus]:
        """See ``Enforcer``."""
        flows = sum(endpoint.quota.flows for endpoint in desired.endpoints.values())
        if flows > self._capacity.flows:
            raise CapacityError(
                f"the endpoints' flow quotas come to {flows:,} and the host tracks {self._capacity.flows:,}",
                hint="raise datapath.flows in the agent's configuration, or move endpoints to other hosts",
            )
        if asks_for_processes(desired):
            watch_processes(self._core)
        self._programmer.locate(_workload_namespaces(desired))
        if self._uplink is not None:
            shares = {endpoint.tenant: endpoint.share for endpoint in desired.endpoints.values()}
            self._programmer.prioritise(self._uplink.divide(shares))
        claimed = [name for name in desired.endpoints if name not in self._programmer.slots]
        try:
            for name in claimed:
                self._programmer.claim_slot(name)
            for endpoint in desired.endpoints.values():
                self._prepare(endpoint, new=endpoint.id in claimed)
            if self._upgrade is None:
                self._order_guards(desired)
                self._program(desired)
            else:
                # What the older version quarantined is carried over before anything is ordered.
                self._program(desired)
                self._finish_upgrade()
                self._order_guards(desired)
        except (CapacityError, DatapathError):
            for name in claimed:
                self._remove(name)
            raise
        for name in [name for name in self._programmer.slots if name not in desired.endpoints]:
            self._remove(name)
        self._rules.update({number: decision.rules for number, decision in desired.decisions.items()})
        for decision in desired.decisions.values():
            self._rules.update({limit.number: (limit.rule,) for limit in decision.limits})
        self._executables = self._programmer.executables()
        self._names = {self._programmer.slots[name]: endpoint for name, endpoint in desired.endpoints.items()}
        for attached in self._attached.values():
            if attached.ifindex is not None and not attached.up:
                self._bring_up(attached)
        self._tell_exporter(rules=True)
        return self.statuses()

    def _tell_exporter(self, *, rules: bool = False) -> None:
        if self._flow_exporter is None:
            return
        interfaces = {name: one.ifindex for name, one in self._attached.items() if one.ifindex is not None}
        if rules:
            self._flow_exporter.tell_rules(self._programmer.slice)
        self._flow_exporter.tell_executables(self._executables)
        self._flow_exporter.tell_endpoints(self._names, interfaces)

    def _program(self, desired: HostSlice) -> None:
        try:
            self._programmer.program(desired)
        except _core.CoreError as error:
            # Stopped half-way: every endpoint enforces the old revision or the new one. Start from what the tables hold.
            slots = dict(self._programmer.slots)
            before = self._programmer.slice
            namespaces = self._programmer.layout.namespaces
            self._programmer = Programmer(self._tables, slots)
            self._programmer.locate(namespaces)
            if before.revision:
                self._programmer.program(before)
            raise DatapathError(str(error), subject=f"revision {desired.revision}") from error

    def _prepare(self, endpoint: LocalEndpoint, *, new: bool) -> None:
        """Close and filter an endpoint's device before it has a policy, and keep it attached afterwards."""
        slot = self._programmer.slots[endpoint.id]
        try:
            self._programmer.configure(endpoint)
            if new or not self._core.has_ring(slot):
                self._tables.create_ring(slot, endpoint.quota.flows)
            attached = self._attached.get(endpoint.id)
            if attached is None:
                port = self._core.load_port(slot, _pin_name(endpoint.id))
                attached = self._attached[endpoint.id] = _Attached(endpoint, port, None)
        except _core.CoreError as error:
            raise DatapathError(str(error), subject=endpoint.id) from error
        if attached.ifindex is not None and attached.endpoint.port != endpoint.port:
            attached.port.detach(attached.endpoint.port.netns, attached.ifindex)
            attached.ifindex = None
        attached.endpoint = endpoint
        if self._upgrade is not None and not new:
            attached.reason = "an older version's programs decide"
        elif attached.ifindex is None:
            self._attach(attached)

    def _order_guards(self, desired: HostSlice) -> list[Repair]:
        """Hold and release endpoints as the slice says; a line for each quarantine that somebody had lifted."""
        mended: list[Repair] = []
        for name, endpoint in desired.endpoints.items():
            attached = self._attached.get(name)
            if attached is None:
                continue
            try:
                if order_guard(self._core, attached.port, endpoint):
                    mended.append(Repair(RepairKind.ENDPOINT, f"{name}: its quarantine had been changed"))
            except _core.CoreError as error:
                raise DatapathError(str(error), subject=name) from error
        return mended

    def _finish_upgrade(self) -> None:
        """Move the ports that an older version's programs decide to ours, which know the policy by now."""
        if self._upgrade is None:
            return
        waiting = {
            attached.port: attached
            for name, attached in self._attached.items()
            if name in self._programmer.slice.endpoints and attached.ifindex is None
        }
        try:
            self._upgrade.take_over(list(waiting), lambda port, ready: self._attach(waiting[port], ready))
        except _core.CoreError as error:
            raise DatapathError(str(error), subject="the older version's maps") from error
        self._flows_lost += self._upgrade.imported.lost
        self._upgrade = None

    def _attach(self, attached: _Attached, ready: Callable[[], None] | None = None) -> None:
        """Close the device, call ``ready``, and put the programs on it."""
        port = attached.endpoint.port
        attached.ifindex, attached.reason, attached.up = None, "", False
        ifindex = devices.find_ifindex(port)
        if ifindex is None:
            attached.reason = f"the device {port.device} is not there"
            return
        try:
            devices.inspect(port)
            attached.port.close_device(port.netns, ifindex)
            if ready is not None:
                ready()
            attached.port.attach(port.netns, ifindex, self._hook)
        except (DeviceError, _core.CoreError) as error:
            attached.reason = str(error)
            return
        attached.ifindex = ifindex

    def _bring_up(self, attached: _Attached) -> None:
        assert attached.ifindex is not None
        try:
            devices.set_up(attached.endpoint.port)
        except DeviceError as error:
            attached.ifindex, attached.reason = None, str(error)
        else:
            attached.up = True

    def _remove(self, name: str) -> None:
        attached = self._attached.pop(name, None)
        slot = self._programmer.slots[name]
        try:
            port = attached.port if attached else self._core.load_port(slot, _pin_name(name))
            if attached and attached.ifindex is not None:
                port.detach(attached.endpoint.port.netns, attached.ifindex)
            port.remove_pins()
            self._programmer.release_slot(name)
        except _core.CoreError as error:
            raise DatapathError(str(error), subject=name) from error

    def inspector_maps(self) -> InspectorMaps:
        """See ``Enforcer``."""
        return InspectorMaps(*self._core.inspector_maps())

    def inspection_names(self) -> InspectionNames:
        """See ``Enforcer``."""
        rules = {number: "+".join(rules) for number, rules in self._rules.items()}
        sets = {number: names for names, number in self._programmer.layout.profiles.items()}
        return InspectionNames(dict(self._names), rules, dict(self._executables), sets)

    def judge_flow(self, slot: int, key: bytes, tag: int, marks: FlowMark) -> bool:
        """See ``Enforcer``."""
        endpoint = self._names.get(slot)
        attached = self._attached.get(endpoint.id) if endpoint is not None else None
        return attached is not None and attached.port.judge(key, tag, marks)

    def settle(self) -> None:
        """See ``Enforcer``: waits for an RCU grace period."""
        self._programmer.settle()

    def repair(self) -> Sequence[Repair]:
        """See ``Enforcer``."""
        if self._upgrade is not None:
            return []  # nothing is in force here yet
        mended = [Repair(RepairKind.MAP_PIN, f"map {name}: its pin was gone") for name in self._core.repin_maps()]
        self._programmer.settle()
        mended += mend_tables(self._tables, self._programmer.layout)
        mended += self._order_guards(self._programmer.slice)
        if self._uplink is not None:
            mended += [Repair(RepairKind.UPLINK, line) for line in self._uplink.mend()]
        for name, attached in self._attached.items():
            mended += [Repair(RepairKind.PORT, f"{name}: {line}") for line in self._repair_port(attached)]
        self._tell_exporter()
        return [*mended, *self._follow_workloads()]

    def _follow_workloads(self) -> list[Repair]:
        """See where the endpoints' sockets are now, for an end of a veth that came to its namespace or went to another."""
        before = self._programmer.layout.namespaces
        found = _workload_namespaces(self._programmer.slice)
        self._programmer.locate(found)
        mended: list[Repair] = []
        for name, endpoint in self._programmer.slice.endpoints.items():
            if found.get(name) != before.get(name):
                self._programmer.configure(endpoint)
                mended.append(Repair(RepairKind.PORT, f"{name}: its workload's side is in another namespace"))
        return mended

    def _repair_port(self, attached: _Attached) -> list[str]:
        port = attached.endpoint.port
        ifindex = devices.find_ifindex(port)
        if ifindex is None:
            if attached.ifindex is None:
                return []
            attached.ifindex, attached.reason = None, f"the device {port.device} is not there"
            return ["its device is gone"]
        wrong = ["its device came"]
        if ifindex == attached.ifindex:
            try:
                wrong = attached.port.inspect(port.netns, ifindex, self._hook)
            except _core.CoreError as error:
                wrong = [str(error)]
        if not wrong:
            return []
        self._attach(attached)
        if attached.ifindex is None:
            return [] if wrong == ["its device came"] else [*wrong, attached.reason]
        self._bring_up(attached)
        return wrong

    def statuses(self) -> Mapping[str, EndpointStatus]:
        """See ``Enforcer``."""
        result: dict[str, EndpointStatus] = {}
        for name, attached in self._attached.items():
            port = attached.endpoint.port
            reason = attached.reason
            if attached.ifindex is not None and devices.find_ifindex(port) != attached.ifindex:
                reason = f"the device {port.device} is not there"
            state = EndpointState.DETACHED
            if not reason and attached.ifindex is not None:
                state, reason = GuardState.read(self._core, self._programmer.slots[name]).standing
            flows, *_ = self._core.read_usage(self._programmer.slots[name])
            result[name] = EndpointStatus(state, reason, self.revision, flows)
        return result

    def flows(self, endpoint: str) -> list[TrackedFlow]:
        """An endpoint's tracked flows, in no order. Raises DatapathError if the kernel refuses."""
        try:
            return [TrackedFlow(*flow) for flow in self._core.read_flows(self._programmer.slots[endpoint])]
        except _core.CoreError as error:
            raise DatapathError(str(error), subject=f"endpoint {endpoint}") from error

    def drain_events(self, limit: int) -> Sequence[FlowEvent]:
        """See ``Enforcer``."""
        for attached in self._attached.values():
            attached.port.flush_denials()
        offset = time.time_ns() - time.monotonic_ns()
        events = (self._event(event, offset) for event in self._core.drain_events(limit))
        return [event for event in events if event is not None]

    def drain_alerts(self) -> Sequence[GuardEvent]:
        """See ``Enforcer``."""
        alerts, self._alerts = list(self._alerts), deque(maxlen=_ALERTS_KEPT)
        return alerts

    def _event(self, event: _core.Event, offset: int) -> FlowEvent | None:
        endpoint = self._names.get(event.slot)
        if endpoint is None:
            return None
        network = self._programmer.slice.networks.get(endpoint.network, str(endpoint.network))
        if event.kind == "guard":
            revision = revision_of(self._core, event, endpoint, self.revision)
            self._alerts.append(guard_event(event, offset, endpoint, network, revision))
            return None
        local = event.source if event.direction == "egress" else event.destination
        return FlowEvent(
            time_ns=event.time_ns + offset,
            kind=event.kind,
            verdict=event.verdict,
            reason=event.reason,
            number=event.number,
            rules=self._rules.get(event.number) or ((f"hostward/{event.reason}",) if event.reason else ()),
            revision=event.revision,
            endpoint=endpoint.id,
            tenant=endpoint.tenant,
            network=network,
            direction=event.direction,
            protocol=event.protocol,
            source=event.source,
            source_port=event.source_port,
            destination=event.destination,
            destination_port=event.destination_port,
            local_identity=event.identity or endpoint.addresses.get(local, 0),
            peer=self._programmer.identity_of(event.peer) if event.peer else 0,
            packets=event.packets,
            bytes=event.bytes,
            ethertype=event.ethertype,
            mac=event.source_mac,
            others=event.others,
            process=self._executables.get((event.slot, event.process), ""),
        )

    def drain_samples(self, limit: int) -> Sequence[Taken]:
        """See ``Enforcer``."""
        drained = self._core.drain_samples(limit)
        if not drained:
            return ()
        naming = Naming(
            time.time_ns() - time.monotonic_ns(),
            self._names,
            self._programmer.slice.networks,
            self._rules,
            self._executables,
        )
        taken: list[Taken] = []
        for sample in drained:
            told = naming.tell(sample, self._programmer.identity_of(sample.peer) if sample.peer else 0)
            if told is not None:
                attached = self._attached.get(told.endpoint)
                ifindex = (attached and attached.ifindex) or 0
                elsewhere = bool(self._names[sample.slot].port.netns)
                taken.append(Taken(told, sample, ifindex, elsewhere))
        return taken

    def sample_counts(self) -> Mapping[str, tuple[str, int, SampleCounts]]:
        """See ``Enforcer``."""
        endpoints = self._programmer.slice.endpoints
        return {
            name: (endpoints[name].tenant, endpoints[name].sampling, read_counts(self._core, slot))
            for name, slot in self._programmer.slots.items()
            if name in endpoints
        }

    def counters(self) -> Counters:
        """See ``Enforcer``."""
        by_reason: dict[tuple[str, str], int] = {}
        lost = suppressed = 0
        for name, slot in self._programmer.slots.items():
            for number, packets in self._core.read_reasons(slot):
                by_reason[name, _core.reason_word(number) or str(number)] = packets
            _, events_lost, answers_suppressed = self._core.read_usage(slot)
            lost += events_lost
            suppressed += answers_suppressed
        return Counters(self._programmer.counts(), by_reason, lost, suppressed, self._flows_lost)

    def events_lost(self) -> int:
        """See ``Enforcer``."""
        return sum(self._core.read_usage(slot)[1] for slot in (_GONE, *self._programmer.slots.values()))

    def answers_suppressed(self) -> int:
        """See ``Enforcer``."""
        return sum(self._core.read_usage(slot)[2] for slot in (_GONE, *self._programmer.slots.values()))

    def readings(self) -> Readings:
        """See ``Enforcer``."""
        slots = dict(self._programmer.slots)
        try:
            gone, *counted = self._core.read_counts([_GONE, *slots.values()])
            packets, count_bytes = self._core.sum_counts([_GONE, *self._programmer.passing()])
            inspected = InspectionCounts(*self._core.sum_inspection())
        except _core.CoreError as error:
            raise DatapathError(str(error), subject="counters") from error
        endpoints: dict[str, EndpointReading] = {}
        # From zero on, so that the first packet of a reason is a step and not the beginning of a series.
        denied, lost, answers, suppressed = Counter(dict.fromkeys(_core.reason_words(), 0)), *gone[1]
        denied.update(gone[2])
        quotas = self._programmer.slice.endpoints
        for (name, slot), (flows, (its_lost, its_answers, its_suppressed), its_denied) in zip(
            slots.items(), counted, strict=True
        ):
            denied.update(its_denied)
            lost, answers, suppressed = lost + its_lost, answers + its_answers, suppressed + its_suppressed
            quota = quotas[name].quota.flows if name in quotas else 0
            tenant = name.partition("/")[0]
            endpoints[name] = EndpointReading(tenant, slot, flows, quota, its_denied, its_lost, its_suppressed)
        guards = [GuardState.read(self._core, slot) for slot in (_GONE, *slots.values())]
        recognised = {kind.value: sum(guard.recognised[kind] for guard in guards) for kind in KINDS}
        tracked = sum(endpoint.flows for endpoint in endpoints.values())
        tables = {"flows": Fill(tracked, self._capacity.flows), **self._programmer.fills()}
        sampled = [read_counts(self._core, slot) for slot in (_GONE, *slots.values())]
        samples = SampleCounts(
            sum(one.pool for one in sampled), sum(one.taken for one in sampled), sum(one.lost for one in sampled)
        )
        return Readings(
            endpoints, denied, packets, count_bytes, lost, answers, suppressed, tables, recognised, samples, inspected
        )

    def talkers(self, limit: int) -> Mapping[str, Sequence[Talker]]:
        """See ``Enforcer``."""
        before = self._names
        try:
            found = self._talkers.read(limit)
        except _core.CoreError as error:
            raise DatapathError(str(error), subject="flows") from error
        after = self._names
        # A slot given to another endpoint meanwhile is told of next time: no tenant sees another's flows as its own.
        same = [slot for slot in found if slot in before and slot in after and before[slot].id == after[slot].id]
        return {before[slot].id: [Talker(*talker) for talker in found[slot]] for slot in same}

    def close(self) -> None:
        """See ``Enforcer``: descriptors go with the objects, and what is pinned keeps deciding."""
        if self._flow_exporter is not None:
            self._flow_exporter.close()
        self._attached.clear()


def _workload_namespaces(desired: HostSlice) -> dict[str, int]:
    """Where endpoints' sockets are, by endpoint; nowhere if no rule asks who accepts."""
    if not asks_for_acceptors(desired):
        return {}
    places = {endpoint.port.netns for endpoint in desired.endpoints.values()}
    numbers = {netns: devices.workload_namespaces(netns) for netns in places}
    found = {name: numbers[e.port.netns].get(e.port.device) for name, e in desired.endpoints.items()}
    return {name: number for name, number in found.items() if number is not None}


def _pin_name(endpoint: str) -> str:
    """The folder of an endpoint's pins: ``tenant@name``; bpffs allows neither slashes nor dots."""
    tenant, _, name = endpoint.partition("/")
    return f"{quote(tenant, safe='')}@{quote(name, safe='')}".replace(".", "%2E")
