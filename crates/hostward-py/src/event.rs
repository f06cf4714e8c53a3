//! One event of the datapath, as Python sees it.

use std::net::IpAddr;
use std::net::Ipv6Addr;

use hostward_datapath::abi;
use pyo3::prelude::*;

/// See `_core.pyi`.
#[pyclass(frozen, get_all)]
pub struct Event {
    time_ns: u64,
    kind: String,
    verdict: String,
    reason: String,
    direction: String,
    slot: u32,
    revision: u64,
    number: u32,
    peer: u32,
    identity: u32,
    protocol: u8,
    ethertype: u16,
    source_mac: String,
    source: String,
    source_port: u16,
    destination: String,
    destination_port: u16,
    packets: u64,
    bytes: u64,
    others: bool,
    process: u8,
    response: u8,
}

/// An address that was never filled in is empty: an ARP or unparsed frame has none.
fn address(bytes: [u8; 16]) -> String {
    if bytes == [0; 16] {
        return String::new();
    }
    let address = Ipv6Addr::from(bytes);
    address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4).to_string()
}

impl From<abi::Event> for Event {
    fn from(event: abi::Event) -> Self {
        let kind = match u32::from(event.kind) {
            abi::event_kind::EVENT_NEW => "new",
            abi::event_kind::EVENT_UPDATE => "update",
            abi::event_kind::EVENT_END => "end",
            abi::event_kind::EVENT_GUARD => "guard",
            _ => "denied",
        };
        let direction = if u32::from(event.direction) == abi::direction::EGRESS { "egress" } else { "ingress" };
        let reason = if u32::from(event.reason) == abi::reason::REASON_NONE {
            String::new()
        } else {
            abi::reason_word(event.reason.into()).unwrap_or_default()
        };
        let mac = event.source_mac.map(|byte| format!("{byte:02x}"));
        Self {
            time_ns: event.time_ns,
            kind: kind.to_owned(),
            verdict: abi::verdict_word(event.verdict.into()).unwrap_or_default(),
            reason,
            direction: direction.to_owned(),
            slot: event.slot,
            revision: event.revision,
            number: event.number,
            peer: event.peer,
            identity: event.identity,
            protocol: event.protocol,
            ethertype: u16::from_be(event.ethertype),
            source_mac: if event.source_mac == [0; 6] { String::new() } else { mac.join(":") },
            source: address(event.source),
            source_port: u16::from_be(event.source_port),
            destination: address(event.destination),
            destination_port: u16::from_be(event.destination_port),
            packets: event.packets,
            bytes: event.bytes,
            others: event.others != 0,
            process: event.process,
            response: event.response,
        }
    }
}
