//! The event `alert`.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::json::Json;
use super::{Heading, application_name, protocol};
use crate::Direction;
use crate::app::Transaction;
use crate::decode::Packet;
use crate::detect::Signature;
use crate::flow::Flow;

/// What became of the packet that a signature matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It passed.
    Allowed,
    /// It was dropped.
    Blocked,
}

/// An alert and everything it shows.
pub(crate) struct Alert<'a> {
    pub heading: Heading<'a>,
    pub signature: &'a Signature,
    pub outcome: Outcome,
    pub transaction: Option<&'a Transaction>,
    pub verdict: Option<&'a str>,
    pub payload: Option<Cow<'a, [u8]>>,
    pub from_stream: bool,
    pub beside: Option<&'a Map<String, Value>>,
    pub context: Option<&'a Map<String, Value>>,
    pub with_packet: bool,
    pub with_references: bool,
}

/// The most of a payload that is shown.
const PAYLOAD_MAX: usize = 16 * 1024;

impl Alert<'_> {
    pub(crate) fn write(&self, json: &mut Json) {
        let flow = self.heading.flow;
        let packet = self.heading.packet;
        self.heading.write(json);
        if let Some(packet) = packet {
            ether(json, packet);
            tunnel(json, packet);
        }
        if let Some(transaction) = self.transaction {
            json.number("tx_id", transaction.id);
        }
        for (key, value) in self.beside.into_iter().flatten() {
            json.value(key, value);
        }
        self.signature(json);
        if let Some(transaction) = self.transaction {
            super::transaction::members(json, flow, transaction);
        }
        if let Some(application) = flow.and_then(Flow::application) {
            json.text("app_proto", application_name(application));
        }
        if let Some(flow) = flow {
            json.text("direction", direction_name(self.heading.direction));
            summary(json, flow);
        }
        if let Some(payload) = &self.payload {
            // What is newest stands last.
            let shown = payload.get(payload.len().saturating_sub(PAYLOAD_MAX)..).unwrap_or_default();
            json.base64("payload", shown);
            json.text("payload_printable", &printable(shown));
        }
        json.number("stream", u64::from(self.from_stream));
        if let Some(packet) = packet.filter(|_| self.with_packet) {
            json.base64("packet", packet.data);
            json.open("packet_info");
            json.number("linktype", u64::from(packet.link_type));
            if let Some(name) = link_name(packet.link_type) {
                json.text("linktype_name", name);
            }
            json.close();
        }
        if let Some(verdict) = self.verdict {
            json.open("verdict");
            json.text("action", verdict);
            json.close();
        }
    }

    fn signature(&self, json: &mut Json) {
        let signature = self.signature;
        json.open("alert");
        json.text("action", if self.outcome == Outcome::Allowed { "allowed" } else { "blocked" });
        json.number("gid", u64::from(signature.gid));
        json.number("signature_id", u64::from(signature.id));
        json.number("rev", u64::from(signature.revision));
        json.text("signature", &signature.message);
        json.text("category", &signature.category);
        json.number("severity", u64::from(signature.priority));
        if self.with_references && !signature.references.is_empty() {
            json.open_array("references");
            for reference in &signature.references {
                json.text_element(reference);
            }
            json.close_array();
        }
        if !signature.metadata.is_empty() {
            json.map("metadata", &signature.metadata);
        }
        if let Some(context) = self.context {
            json.map("context", context);
        }
        json.close();
    }
}

pub(crate) fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::ToServer => "to_server",
        Direction::ToClient => "to_client",
    }
}

/// The flow as an alert shows it: from the client's side, whichever way the packet went.
fn summary(json: &mut Json, flow: &Flow) {
    json.open("flow");
    let [to_server, to_client] = flow.packets;
    json.number("pkts_toserver", to_server);
    json.number("pkts_toclient", to_client);
    let [to_server, to_client] = flow.bytes;
    json.number("bytes_toserver", to_server);
    json.number("bytes_toclient", to_client);
    json.time("start", flow.first);
    json.address("src_ip", flow.client.0);
    json.address("dest_ip", flow.server.0);
    if super::has_ports(flow.protocol) {
        json.number("src_port", u64::from(flow.client.1));
        json.number("dest_port", u64::from(flow.server.1));
    }
    json.close();
}

fn ether(json: &mut Json, packet: &Packet<'_>) {
    let Some((from, to)) = packet.ethernet else { return };
    json.open("ether");
    json.text("src_mac", &mac(from));
    json.text("dest_mac", &mac(to));
    json.close();
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

fn tunnel(json: &mut Json, packet: &Packet<'_>) {
    let Some(outer) = &packet.outer else { return };
    json.open("tunnel");
    json.address("src_ip", outer.source);
    json.number("src_port", u64::from(outer.ports.0));
    json.address("dest_ip", outer.destination);
    json.number("dest_port", u64::from(outer.ports.1));
    protocol(json, "proto", outer.protocol);
    json.number("depth", u64::from(outer.depth));
    json.close();
}

fn link_name(link_type: u16) -> Option<&'static str> {
    Some(match link_type {
        0 => "NULL",
        1 => "EN10MB",
        9 => "PPP",
        101 | 12 => "RAW",
        104 => "C_HDLC",
        108 => "LOOP",
        113 => "LINUX_SLL",
        228 => "IPv4",
        229 => "IPv6",
        276 => "LINUX_SLL2",
        _ => return None,
    })
}

/// Bytes as text: what cannot be printed is a full stop.
fn printable(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| match byte {
            b'\r' | b'\n' | b'\t' | 0x20..=0x7e => char::from(*byte),
            _ => '.',
        })
        .collect()
}
