//! The datapath object, as Python sees it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::IntoRawFd as _;
use std::path::PathBuf;

use hostward_datapath::Capacity;
use hostward_datapath::Decision;
use hostward_datapath::Direction;
use hostward_datapath::EndpointConfig;
use hostward_datapath::EndpointCounts;
use hostward_datapath::GuardState;
use hostward_datapath::Hook;
use hostward_datapath::Imported;
use hostward_datapath::Order;
use hostward_datapath::PolicyBlock;
use hostward_datapath::Rate;
use hostward_datapath::TrackedFlow;
use hostward_datapath::abi;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::event::Event;
use crate::refused;
use crate::sample::Sample;
use crate::talkers::Talkers;

/// See `_core.pyi`.
#[pyclass]
pub struct Datapath {
    pub(crate) inner: hostward_datapath::Datapath,
}

/// See `_core.pyi`.
#[pyclass(frozen)]
pub struct Port {
    inner: hostward_datapath::Port,
}

/// See `_core.pyi`.
#[pyclass]
pub struct Predecessor {
    inner: hostward_datapath::Predecessor,
}

/// Added, advanced, held, expired, lost.
type ImportTuple = (u64, u64, u64, u64, u64);

fn import_tuple(imported: Imported) -> ImportTuple {
    (imported.added, imported.advanced, imported.held, imported.expired, imported.lost)
}

fn inner_of(ports: &[Py<Port>]) -> Vec<&hostward_datapath::Port> {
    ports.iter().map(|port| &port.get().inner).collect()
}

pub fn address_bytes(text: &str) -> PyResult<[u8; 16]> {
    let address: IpAddr = text.parse().map_err(|_| PyValueError::new_err(format!("{text} is no IP address")))?;
    Ok(match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    })
}

pub fn address_text(bytes: [u8; 16]) -> String {
    let address = std::net::Ipv6Addr::from(bytes);
    address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4).to_string()
}

pub fn prefix_parts(text: &str) -> PyResult<([u8; 16], u32)> {
    let invalid = || PyValueError::new_err(format!("{text} is no prefix"));
    let (address, bits) = text.split_once('/').ok_or_else(invalid)?;
    Ok((address_bytes(address)?, bits.parse().map_err(|_| invalid())?))
}

fn class_blocks(blocks: Vec<Vec<(u32, u16)>>) -> Vec<Vec<u16>> {
    let block = |cuts: Vec<(u32, u16)>| {
        let mut classes = vec![0u16; 65_536];
        for (first, class) in cuts {
            let first = (first as usize).min(classes.len());
            classes[first..].fill(class);
        }
        classes
    };
    blocks.into_iter().map(block).collect()
}

pub fn direction(word: &str) -> PyResult<Direction> {
    match word {
        "egress" => Ok(Direction::Egress),
        "ingress" => Ok(Direction::Ingress),
        _ => Err(PyValueError::new_err(format!("{word} is no direction"))),
    }
}

fn hook(word: &str) -> PyResult<Hook> {
    match word {
        "tcx" => Ok(Hook::Tcx),
        "clsact" => Ok(Hook::Clsact),
        _ => Err(PyValueError::new_err(format!("{word} is no hook"))),
    }
}

/// Revision, egress and ingress table as (first, count), identity, address (empty: the block is not used).
type PolicyTuple = (u64, (u32, u32), (u32, u32), u32, String);

/// Protocol, local address and port, remote address and port, state, packets and bytes out and in.
type FlowTuple = (u8, (String, u16), (String, u16), String, (u64, u64), (u64, u64));

fn flow_tuple(flow: TrackedFlow) -> FlowTuple {
    (
        flow.protocol,
        (address_text(flow.local), flow.local_port),
        (address_text(flow.remote), flow.remote_port),
        abi::flow_state_word(flow.state.into()).unwrap_or_default(),
        flow.packets.into(),
        flow.bytes.into(),
    )
}

/// Flows now; events lost, answers sent, answers not sent; denied packets by reason's word.
type CountsTuple = (u64, (u64, u64, u64), HashMap<String, u64>);

fn counts_tuple(counts: EndpointCounts) -> CountsTuple {
    let word = |number| abi::reason_word(number).unwrap_or_else(|| number.to_string());
    let denied = counts.denied.into_iter().map(|(reason, packets)| (word(reason), packets)).collect();
    (counts.flows, (counts.events_lost, counts.answers, counts.answers_suppressed), denied)
}

/// MAC, network, flow quota, events a second, events at once; rates, priority; whether connections are picked up; the
/// number of the workload's namespace; DHCP servers, if they are named; guard and what is sampled.
type EndpointTuple =
    ([u8; 6], u32, u32, u32, u32, Rate, [Rate; 2], u32, bool, Option<u32>, Option<Vec<String>>, ([(u8, u32); 4], u32));

fn endpoint_config(tuple: EndpointTuple) -> PyResult<EndpointConfig> {
    let (
        mac,
        network,
        flow_quota,
        events_per_s,
        events_burst,
        opening,
        cap,
        priority,
        picks_up,
        workload_netns,
        servers,
        (guard, sampling),
    ) = tuple;
    let (names_dhcp, servers) = (servers.is_some(), servers.unwrap_or_default());
    let mut dhcp = [[0; 16]; abi::stride::DHCP_SERVERS as usize];
    if servers.len() > dhcp.len() {
        return Err(PyValueError::new_err(format!("{} DHCP servers, and {} have a place", servers.len(), dhcp.len())));
    }
    for (place, server) in dhcp.iter_mut().zip(&servers) {
        *place = address_bytes(server)?;
    }
    Ok(EndpointConfig {
        mac,
        network,
        flow_quota,
        events_per_s,
        events_burst,
        opening,
        cap,
        priority,
        picks_up,
        workload_netns,
        names_dhcp,
        dhcp,
        guard,
        sampling,
    })
}

/// Throttled and quarantined for what (a number of `enum hw_guard_kind`), held, release, recognised, in force.
type GuardTuple = (Option<u32>, Option<u32>, bool, u32, [u64; 4], bool);

fn guard_tuple(guard: GuardState) -> GuardTuple {
    (guard.throttled_for, guard.quarantined_for, guard.held, guard.release, guard.recognised, guard.in_force)
}

#[pymethods]
impl Datapath {
    #[new]
    #[pyo3(signature = (object_file, pins, *, endpoints, flows, cells, refs, prefixes, decisions, class_sets))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of the Python constructor")]
    fn new(
        object_file: PathBuf,
        pins: PathBuf,
        endpoints: u32,
        flows: u32,
        cells: u32,
        refs: u32,
        prefixes: u32,
        decisions: u32,
        class_sets: u32,
    ) -> PyResult<Self> {
        let capacity = Capacity { endpoints, flows, cells, refs, prefixes, decisions, class_sets };
        let inner = hostward_datapath::Datapath::open(&object_file, &pins, capacity).map_err(refused)?;
        Ok(Self { inner })
    }

    #[getter]
    fn reused(&self) -> bool {
        self.inner.reused()
    }

    fn predecessor(&self) -> PyResult<Option<Predecessor>> {
        Ok(self.inner.predecessor().map_err(refused)?.map(|inner| Predecessor { inner }))
    }

    fn has_ring(&self, slot: u32) -> PyResult<bool> {
        self.inner.has_ring(slot).map_err(refused)
    }

    fn repin_maps(&self) -> PyResult<Vec<&'static str>> {
        self.inner.repin_maps().map_err(refused)
    }

    fn load_port(&self, slot: u32, name: &str) -> PyResult<Port> {
        Ok(Port { inner: self.inner.load_port(slot, name).map_err(refused)? })
    }

    fn pinned_ports(&self) -> PyResult<Vec<(u32, String)>> {
        self.inner.pinned_ports().map_err(refused)
    }

    fn write_endpoint(&self, slot: u32, config: EndpointTuple) -> PyResult<()> {
        self.inner.write_endpoint(slot, &endpoint_config(config)?).map_err(refused)
    }

    fn holds_endpoint(&self, slot: u32, config: EndpointTuple) -> PyResult<bool> {
        self.inner.holds_endpoint(slot, &endpoint_config(config)?).map_err(refused)
    }

    fn map_memory(&self, slot: u32) -> PyResult<Vec<(&'static str, u64)>> {
        self.inner.map_memory(slot).map_err(refused)
    }

    fn create_ring(&self, slot: u32, quota: u32) -> PyResult<()> {
        self.inner.create_ring(slot, quota).map_err(refused)
    }

    fn write_prefixes(&self, prefixes: Vec<(u32, String, u32)>) -> PyResult<()> {
        for (network, prefix, peer) in prefixes {
            let (address, bits) = prefix_parts(&prefix)?;
            self.inner.write_prefix(network, address, bits, peer).map_err(refused)?;
        }
        Ok(())
    }

    fn remove_prefixes(&self, prefixes: Vec<(u32, String)>) -> PyResult<()> {
        for (network, prefix) in prefixes {
            let (address, bits) = prefix_parts(&prefix)?;
            self.inner.remove_prefix(network, address, bits).map_err(refused)?;
        }
        Ok(())
    }

    fn read_prefixes(&self) -> PyResult<Vec<(u32, String, u32)>> {
        let prefixes = self.inner.read_prefixes().map_err(refused)?;
        Ok(prefixes
            .into_iter()
            .map(|(network, address, bits, peer)| (network, format!("{}/{bits}", address_text(address)), peer))
            .collect())
    }

    /// Each block is (first, class) ascending from 0; each class runs to the next cut.
    fn write_class_set(&mut self, class_set: u32, blocks: Vec<Vec<(u32, u16)>>) -> PyResult<()> {
        self.inner.write_class_set(class_set, &class_blocks(blocks)).map_err(refused)
    }

    fn holds_class_set(&self, py: Python<'_>, class_set: u32, blocks: Vec<Vec<(u32, u16)>>) -> PyResult<bool> {
        py.detach(|| self.inner.holds_class_set(class_set, &class_blocks(blocks))).map_err(refused)
    }

    fn write_cells(&self, first: u32, decisions: Vec<u32>) -> PyResult<()> {
        self.inner.write_cells(first, &decisions).map_err(refused)
    }

    fn write_refs(&self, first: u32, refs: Vec<(u32, u16, u16)>) -> PyResult<()> {
        self.inner.write_refs(first, &refs).map_err(refused)
    }

    fn read_refs(&self, first: u32, count: u32) -> PyResult<Vec<(u32, u16, u16)>> {
        self.inner.read_refs(first, count).map_err(refused)
    }

    fn read_cells(&self, first: u32, count: u32) -> PyResult<Vec<u32>> {
        self.inner.read_cells(first, count).map_err(refused)
    }

    fn write_decision(&self, slot: u32, decision: Decision) -> PyResult<()> {
        self.inner.write_decision(slot, &decision).map_err(refused)
    }

    fn holds_decision(&self, slot: u32, decision: Decision) -> PyResult<bool> {
        self.inner.holds_decision(slot, &decision).map_err(refused)
    }

    fn read_decisions(&self) -> PyResult<Vec<(u32, Decision)>> {
        self.inner.read_decisions().map_err(refused)
    }

    fn read_inspection(&self, slot: u32) -> PyResult<(u64, u64, u64, u64)> {
        let counts = self.inner.read_inspection(slot).map_err(refused)?;
        Ok((counts.packets, counts.missed_packets, counts.missed_bytes, counts.refused_packets))
    }

    fn sum_inspection(&self) -> PyResult<(u64, u64, u64, u64)> {
        let counts = self.inner.sum_inspection().map_err(refused)?;
        Ok((counts.packets, counts.missed_packets, counts.missed_bytes, counts.refused_packets))
    }

    fn inspector_maps(&self) -> PyResult<(i32, u32, i32, u32)> {
        let (ring, len, done, slots) = self.inner.inspector_maps().map_err(refused)?;
        Ok((ring.into_raw_fd(), len, done.into_raw_fd(), slots))
    }

    fn watch_processes(&self, object_file: PathBuf, cgroup: PathBuf) -> PyResult<()> {
        self.inner.watch_processes(&object_file, &cgroup).map_err(refused)
    }

    fn write_executables(&self, slot: u32, executables: Vec<(u8, u64)>) -> PyResult<()> {
        self.inner.write_executables(slot, &executables).map_err(refused)
    }

    fn read_executables(&self, slot: u32) -> PyResult<Vec<(u8, u64)>> {
        self.inner.read_executables(slot).map_err(refused)
    }

    fn read_guard(&self, slot: u32) -> PyResult<GuardTuple> {
        self.inner.read_guard(slot).map(guard_tuple).map_err(refused)
    }

    fn read_samples(&self, slot: u32) -> PyResult<(u64, u64, u64)> {
        let counts = self.inner.read_samples(slot).map_err(refused)?;
        Ok((counts.pool, counts.taken, counts.lost))
    }

    fn read_count(&self, slot: u32) -> PyResult<(u64, u64)> {
        self.inner.read_count(slot).map_err(refused)
    }

    fn read_reasons(&self, slot: u32) -> PyResult<Vec<(u32, u64)>> {
        self.inner.read_reasons(slot).map_err(refused)
    }

    fn read_usage(&self, slot: u32) -> PyResult<(u64, u64, u64)> {
        self.inner.read_usage(slot).map_err(refused)
    }

    fn read_flows(&self, slot: u32) -> PyResult<Vec<FlowTuple>> {
        let flows = self.inner.read_flows(slot).map_err(refused)?;
        Ok(flows.into_iter().map(flow_tuple).collect())
    }

    /// The heaviest peers, read apart from everything else.
    fn talkers(&self) -> PyResult<Talkers> {
        Ok(Talkers { inner: self.inner.talkers().map_err(refused)? })
    }

    fn read_counts(&self, py: Python<'_>, slots: Vec<u32>) -> PyResult<Vec<CountsTuple>> {
        let counts = py.detach(|| self.inner.read_counts(&slots)).map_err(refused)?;
        Ok(counts.into_iter().map(counts_tuple).collect())
    }

    fn sum_counts(&self, py: Python<'_>, decisions: Vec<u32>) -> PyResult<(u64, u64)> {
        py.detach(|| self.inner.sum_counts(&decisions)).map_err(refused)
    }

    fn retire_count(&self, decision: u32) -> PyResult<()> {
        self.inner.retire_count(decision).map_err(refused)
    }

    fn write_policy(
        &self,
        index: u32,
        revision: u64,
        egress: (u32, u32),
        ingress: (u32, u32),
        identity: u32,
        address: &str,
    ) -> PyResult<()> {
        let address = if address.is_empty() { [0; 16] } else { address_bytes(address)? };
        let block = PolicyBlock { revision, egress, ingress, identity, address };
        self.inner.write_policy(index, &block).map_err(refused)
    }

    fn read_policy(&self, index: u32) -> PyResult<PolicyTuple> {
        let block = self.inner.read_policy(index).map_err(refused)?;
        let address = if block.address == [0; 16] { String::new() } else { address_text(block.address) };
        Ok((block.revision, block.egress, block.ingress, block.identity, address))
    }

    fn activate(&self, slot: u32, policy: u32, generation: u32) -> PyResult<()> {
        self.inner.activate(slot, policy, generation).map_err(refused)
    }

    fn read_active(&self, slot: u32) -> PyResult<(u32, u32)> {
        self.inner.read_active(slot).map_err(refused)
    }

    fn advance_epoch(&self, network: u32) -> PyResult<()> {
        self.inner.advance_epoch(network).map_err(refused)
    }

    fn synchronize(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.inner.synchronize()).map_err(refused)
    }

    fn clear_slot(&self, slot: u32) -> PyResult<()> {
        self.inner.clear_slot(slot).map_err(refused)
    }

    fn drain_samples(&self, limit: usize) -> PyResult<Vec<Sample>> {
        Ok(self.inner.drain_samples(limit).map_err(refused)?.into_iter().map(Sample::from).collect())
    }

    fn drain_events(&self, limit: usize) -> PyResult<Vec<Event>> {
        Ok(self.inner.drain_events(limit).map_err(refused)?.into_iter().map(Event::from).collect())
    }
}

#[pymethods]
impl Port {
    #[getter]
    fn slot(&self) -> u32 {
        self.inner.slot()
    }

    fn close_device(&self, netns: &str, ifindex: i32) -> PyResult<()> {
        self.inner.close_device(netns, ifindex).map_err(refused)
    }

    fn attach(&self, netns: &str, ifindex: i32, hook: &str) -> PyResult<()> {
        self.inner.attach(netns, ifindex, self::hook(hook)?).map_err(refused)
    }

    fn inspect(&self, netns: &str, ifindex: i32, hook: &str) -> PyResult<Vec<String>> {
        self.inner.inspect(netns, ifindex, self::hook(hook)?).map_err(refused)
    }

    fn detach(&self, netns: &str, ifindex: i32) -> PyResult<()> {
        self.inner.detach(netns, ifindex).map_err(refused)
    }

    fn remove_pins(&self) -> PyResult<()> {
        self.inner.remove_pins().map_err(refused)
    }

    fn flush_denials(&self) -> PyResult<()> {
        self.inner.flush_denials().map_err(refused)
    }

    fn judge(&self, key: [u8; 48], tag: u32, marks: u32) -> PyResult<bool> {
        self.inner.judge(&key, tag, marks).map_err(refused)
    }

    fn order(&self, word: &str, release: u32) -> PyResult<()> {
        let order = match word {
            "mend" => Order::Mend,
            "hold" => Order::Hold,
            "unhold" => Order::Unhold,
            "release" => Order::Release(release),
            _ => return Err(PyValueError::new_err(format!("{word} is no order"))),
        };
        self.inner.order(order).map_err(refused)
    }

    fn run(&self, py: Python<'_>, direction: &str, frame: &[u8], repeat: u32) -> PyResult<(bool, u32)> {
        let direction = self::direction(direction)?;
        py.detach(|| self.inner.run(direction, frame, repeat)).map_err(refused)
    }

    fn run_empty(&self, py: Python<'_>, frame: &[u8], repeat: u32) -> PyResult<u32> {
        py.detach(|| self.inner.run_empty(frame, repeat)).map_err(refused)
    }
}

#[pymethods]
impl Predecessor {
    #[getter]
    fn version(&self) -> u32 {
        self.inner.version()
    }

    #[getter]
    fn refusal(&self) -> &str {
        self.inner.refusal()
    }

    fn count_flows(&self) -> PyResult<u64> {
        self.inner.count_flows().map_err(refused)
    }

    fn carry_totals(&self, datapath: PyRef<'_, Datapath>, ports: Vec<Py<Port>>) -> PyResult<()> {
        self.inner.carry_totals(&datapath.inner, &inner_of(&ports)).map_err(refused)
    }

    fn import_flows(&mut self, py: Python<'_>, ports: Vec<Py<Port>>) -> PyResult<ImportTuple> {
        py.detach(|| self.inner.import_flows(&inner_of(&ports))).map(import_tuple).map_err(refused)
    }

    fn import_opened_flows(&mut self, py: Python<'_>, ports: Vec<Py<Port>>) -> PyResult<ImportTuple> {
        py.detach(|| self.inner.import_opened_flows(&inner_of(&ports))).map(import_tuple).map_err(refused)
    }

    fn import_busy_flows(&mut self, py: Python<'_>, ports: Vec<Py<Port>>) -> PyResult<ImportTuple> {
        py.detach(|| self.inner.import_busy_flows(&inner_of(&ports))).map(import_tuple).map_err(refused)
    }

    fn remove(&self) -> PyResult<()> {
        self.inner.remove().map_err(refused)
    }
}
