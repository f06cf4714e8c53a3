//! Samples and counters as sFlow datagrams, for Python to send.

use std::net::IpAddr;

use hostward_export::sflow;
use hostward_export::sflow::CounterRecord;
use hostward_export::sflow::DropReason;
use hostward_export::sflow::FlowRecord;
use hostward_export::sflow::FlowSample;
use hostward_export::sflow::HostDescription;
use hostward_export::sflow::IfCounters;
use hostward_export::sflow::Interface;
use hostward_export::sflow::NetIo;
use hostward_export::sflow::Source;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::sample::Sample;

/// See `_core.pyi`.
#[pyclass]
pub struct SflowExporter {
    inner: sflow::Exporter,
}

/// `sflow_drops.txt`'s nearest to our own reasons.
fn drop_reason(word: &str) -> DropReason {
    match word {
        "policy" | "unknown-peer" | "no-revision" | "quarantined" | "mac-spoof" | "ip-spoof" | "arp-spoof"
        | "nd-spoof" | "dhcp-spoof" | "ra-spoof" | "not-addressed" => DropReason::Acl,
        "rate-limit" | "rate-cap" | "throttled" => DropReason::Shaping,
        "flow-quota" | "table-full" => DropReason::NoBuffer,
        "vlan" => DropReason::VlanTag,
        "ethertype" => DropReason::NonIp,
        "ip-header" | "ip-option" | "extension-header" | "truncated" => DropReason::IpHeader,
        _ => DropReason::Unknown,
    }
}

/// Bytes, packets, errors, drops.
type WayTuple = (u64, u64, u64, u64);

fn way((bytes, packets, errors, drops): WayTuple) -> NetIo {
    NetIo { bytes, packets, errors, drops }
}

#[pymethods]
impl SflowExporter {
    #[new]
    fn new(agent: &str, sub_agent: u32) -> PyResult<Self> {
        let agent: IpAddr = agent.parse().map_err(|_| PyValueError::new_err(format!("{agent} is no IP address")))?;
        Ok(Self { inner: sflow::Exporter::new(agent, sub_agent) })
    }

    #[getter]
    fn oversized(&self) -> u64 {
        self.inner.oversized()
    }

    /// `number`: the source is the logical host of that number, and not the interface; 0: it is. `users` are the names of the
    /// endpoint and of its peer.
    fn push_sample(
        &mut self,
        sample: &Sample,
        ifindex: u32,
        number: u32,
        users: (&str, &str),
        uptime_ms: u32,
    ) -> Option<Vec<u8>> {
        let (source, users) = if sample.direction == "egress" {
            (Interface::Index(ifindex), users)
        } else {
            (Interface::Unknown, (users.1, users.0))
        };
        let dropped = sample.verdict == "deny" || sample.verdict == "invalid";
        let output = if dropped {
            Interface::Discarded(drop_reason(&sample.reason))
        } else if sample.direction == "egress" {
            Interface::Unknown
        } else {
            Interface::Index(ifindex)
        };
        let reason = format!("hostward/{}", sample.reason);
        let mut records = Vec::with_capacity(4);
        records.push(FlowRecord::RawHeader { frame_len: sample.frame_len, header: &sample.header });
        records.push(FlowRecord::User { source: users.0, destination: users.1 });
        if dropped {
            records.push(FlowRecord::Reason(&reason));
        }
        if let Some((from, to)) = sample.addresses() {
            let own = sample.direction == "egress";
            let (local, remote) = if own { (from, to) } else { (to, from) };
            let ports = (sample.source_port, sample.destination_port);
            let (local_port, remote_port) = if own { ports } else { (ports.1, ports.0) };
            let socket = sflow::Socket { protocol: sample.protocol, local, remote, local_port, remote_port };
            records.push(FlowRecord::Socket(socket));
        }
        let sample = FlowSample {
            rate: sample.rate,
            pool: sample.pool,
            drops: sample.lost,
            input: source,
            output,
            records: &records,
        };
        let from = if number == 0 { Source::Interface(ifindex) } else { Source::Logical(number) };
        self.inner.push_flow(from, &sample, uptime_ms)
    }

    /// A port's counters, as the host sees them.
    fn push_port(
        &mut self,
        ifindex: u32,
        speed: u64,
        up: bool,
        received: WayTuple,
        sent: WayTuple,
        uptime_ms: u32,
    ) -> Option<Vec<u8>> {
        let port = IfCounters { index: ifindex, speed, up, received: way(received), sent: way(sent) };
        self.inner.push_counters(Source::Interface(ifindex), &[CounterRecord::Interface(port)], uptime_ms)
    }

    /// The same port's, as its endpoint sees them: what the port receives its endpoint has sent.
    fn push_endpoint(
        &mut self,
        number: u32,
        name: &str,
        received: WayTuple,
        sent: WayTuple,
        uptime_ms: u32,
    ) -> Option<Vec<u8>> {
        let host = HostDescription { name, uuid: [0; 16], machine: "", release: "" };
        let records = [
            CounterRecord::Host(host),
            CounterRecord::Parent(1),
            CounterRecord::NetIo { received: way(sent), sent: way(received) },
        ];
        self.inner.push_counters(Source::Logical(number), &records, uptime_ms)
    }

    /// The host itself: its name, machine and release, its processors, memory and free memory, and its endpoints.
    fn push_host(
        &mut self,
        host: (&str, &str, &str),
        cpus: u32,
        memory: (u64, u64),
        domains: u32,
        uptime_ms: u32,
    ) -> Option<Vec<u8>> {
        let (name, machine, release) = host;
        let (memory, memory_free) = memory;
        let host = HostDescription { name, uuid: [0; 16], machine, release };
        let node = CounterRecord::Node { mhz: 0, cpus, memory, memory_free, domains };
        self.inner.push_counters(Source::Physical(1), &[CounterRecord::Host(host), node], uptime_ms)
    }

    fn flush(&mut self, uptime_ms: u32) -> Option<Vec<u8>> {
        self.inner.flush(uptime_ms)
    }

    fn forget(&mut self, ifindex: u32, number: u32) {
        self.inner.forget(Source::Interface(ifindex));
        self.inner.forget(Source::Logical(number));
    }
}
