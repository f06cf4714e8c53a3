//! EVE JSON: one event a line, as Suricata's schema has it.
//!
//! An event is an object whose last byte is `}`: whoever takes it can put members of their own before it.

pub mod alert;
pub(crate) mod anomaly;
pub mod flow;
pub mod json;
pub(crate) mod stats;
pub mod transaction;

use std::net::IpAddr;

use json::Json;

use crate::Direction;
use crate::app::Protocol;
use crate::decode::{Nanos, Packet, Source, Transport};
use crate::flow::Flow;

/// What every event says first: when, what, and between whom.
pub(crate) struct Heading<'a> {
    pub time: Nanos,
    pub number: u64,
    pub event_type: &'a str,
    pub flow: Option<&'a Flow>,
    pub packet: Option<&'a Packet<'a>>,
    pub direction: Direction,
    pub interface: Option<&'a str>,
}

/// EVE's name of a protocol.
#[must_use]
pub fn application_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http1 => "http",
        Protocol::Http2 => "http2",
        Protocol::Doh2 => "doh2",
        Protocol::Dns => "dns",
        Protocol::Tls => "tls",
        Protocol::Smtp => "smtp",
        Protocol::Ftp => "ftp",
        Protocol::FtpData => "ftp-data",
        Protocol::Ssh => "ssh",
        Protocol::Dcerpc => "dcerpc",
        Protocol::Smb => "smb",
    }
}

fn source_name(source: Source) -> &'static str {
    match source {
        Source::Wire => "wire/pcap",
        Source::Ipv4Tunnel => "ipv4 tunnel",
        Source::Ipv6Tunnel => "ipv6 tunnel",
        Source::Gre => "gre tunnel",
        Source::Vxlan => "vxlan encapsulation",
        Source::Geneve => "geneve encapsulation",
        Source::Teredo => "teredo tunnel",
        Source::Erspan => "erspan",
        Source::Nsh => "nsh",
        Source::Defragmented => "defrag",
        Source::FlowEnd => "stream (flow timeout)",
    }
}

fn protocol_name(number: u8) -> Option<&'static str> {
    Some(match number {
        0 => "IPv6-HopOpt",
        1 => "ICMP",
        2 => "IGMP",
        4 => "IP-in-IP",
        6 => "TCP",
        17 => "UDP",
        41 => "IPv6",
        43 => "IPv6-Route",
        44 => "IPv6-Frag",
        47 => "GRE",
        50 => "ESP",
        51 => "AH",
        58 => "IPv6-ICMP",
        59 => "IPv6-NoNxt",
        60 => "IPv6-Opts",
        89 => "OSPF",
        103 => "PIM",
        112 => "VRRP",
        115 => "L2TP",
        132 => "SCTP",
        _ => return None,
    })
}

/// A protocol by name, or in digits where it has none that EVE knows.
pub(crate) fn protocol(json: &mut Json, key: &str, number: u8) {
    match protocol_name(number) {
        Some(name) => json.text(key, name),
        None => json.text(key, &format!("{number:03}")),
    }
}

/// Whether a protocol's flows have ports.
fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17 | 132)
}

impl Heading<'_> {
    pub(crate) fn write(&self, json: &mut Json) {
        json.time("timestamp", self.time);
        if let Some(flow) = self.flow {
            json.number("flow_id", flow.id);
        }
        if let Some(interface) = self.interface {
            json.text("in_iface", interface);
        }
        if self.number > 0 {
            json.number("pcap_cnt", self.number);
        }
        json.text("event_type", self.event_type);
        let vlan = self.packet.map(|packet| &packet.vlan).or(self.flow.map(|flow| &flow.vlan));
        if let Some(vlan) = vlan.filter(|vlan| !vlan.is_empty()) {
            json.open_array("vlan");
            for tag in vlan {
                json.number_element(u64::from(*tag));
            }
            json.close_array();
        }
        self.ends(json);
        if let Some(id) = self.flow.and_then(|flow| flow.community_id.as_deref()) {
            json.text("community_id", id);
        }
        if let Some(packet) = self.packet {
            json.text("pkt_src", source_name(packet.source));
        } else if self.event_type == "alert" {
            json.text("pkt_src", source_name(Source::FlowEnd));
        }
    }

    fn ends(&self, json: &mut Json) {
        let ip = self.packet.and_then(|packet| packet.ip.as_ref());
        let (from, to, number) = match (ip, self.flow) {
            (Some(ip), _) => {
                let ports = self.packet.map(Packet::ports).unwrap_or_default();
                ((ip.source, ports.0), (ip.destination, ports.1), ip.protocol)
            }
            (None, Some(flow)) if self.direction == Direction::ToServer => (flow.client, flow.server, flow.protocol),
            (None, Some(flow)) => (flow.server, flow.client, flow.protocol),
            (None, None) => return,
        };
        let ports = has_ports(number) && self.packet.is_none_or(|packet| !matches!(packet.transport, Transport::Other));
        json.address("src_ip", from.0);
        if ports {
            json.number("src_port", u64::from(from.1));
        }
        json.address("dest_ip", to.0);
        if ports {
            json.number("dest_port", u64::from(to.1));
        }
        protocol(json, "proto", number);
        json.number("ip_v", if matches!(from.0, IpAddr::V4(_)) { 4 } else { 6 });
        match self.packet.map(|packet| &packet.transport) {
            Some(Transport::Icmp { kind, code, .. }) => {
                json.number("icmp_type", u64::from(*kind));
                json.number("icmp_code", u64::from(*code));
            }
            _ if matches!(number, 1 | 58) && self.flow.is_some() => {
                json.number("icmp_type", u64::from(from.1));
                json.number("icmp_code", u64::from(to.1));
            }
            _ => {}
        }
    }
}
