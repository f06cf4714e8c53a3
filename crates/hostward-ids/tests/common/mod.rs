//! Packets made by hand, and what the engine says of them.

#![allow(dead_code)]

use std::sync::Arc;

use hostward_ids::decode::link;
use hostward_ids::detect::{Detector, RuleFile};
use hostward_ids::engine::{Engine, Frame, PacketVerdict, Settings, Sink};
use hostward_ids::flow::{Flow, FlowVerdict, Owner};
use serde_json::Value;

pub const CLIENT: [u8; 4] = [10, 0, 0, 1];
pub const SERVER: [u8; 4] = [10, 0, 0, 2];

/// Flag bits of TCP.
pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

/// An IPv4 packet.
pub fn ipv4(from: [u8; 4], to: [u8; 4], protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[0, 7]);
    packet.extend_from_slice(&fragment.to_be_bytes());
    packet.extend_from_slice(&[64, protocol, 0, 0]);
    packet.extend_from_slice(&from);
    packet.extend_from_slice(&to);
    packet.extend_from_slice(payload);
    packet
}

/// A TCP segment without options.
pub fn tcp(ports: (u16, u16), sequence: u32, acknowledgement: u32, flags: u8, data: &[u8]) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend_from_slice(&ports.0.to_be_bytes());
    segment.extend_from_slice(&ports.1.to_be_bytes());
    segment.extend_from_slice(&sequence.to_be_bytes());
    segment.extend_from_slice(&acknowledgement.to_be_bytes());
    segment.extend_from_slice(&[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend_from_slice(data);
    segment
}

/// A UDP datagram.
pub fn udp(ports: (u16, u16), data: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend_from_slice(&ports.0.to_be_bytes());
    datagram.extend_from_slice(&ports.1.to_be_bytes());
    datagram.extend_from_slice(&(8 + data.len() as u16).to_be_bytes());
    datagram.extend_from_slice(&[0, 0]);
    datagram.extend_from_slice(data);
    datagram
}

/// Keeps what it is told.
#[derive(Default)]
pub struct Heard {
    pub events: Vec<Value>,
    pub verdicts: Vec<FlowVerdict>,
}

impl Sink for Heard {
    fn event(&mut self, _owner: Owner, event: &[u8]) {
        assert_eq!(event.last(), Some(&b'}'));
        self.events.push(serde_json::from_slice(event).expect("an event is JSON"));
    }

    fn verdict(&mut self, _flow: &Flow, verdict: FlowVerdict) {
        self.verdicts.push(verdict);
    }
}

/// An engine and a connection between two ends through it.
pub struct Conversation {
    pub engine: Engine,
    pub heard: Heard,
    time: u64,
    number: u64,
    /// What comes next of client and server.
    pub next: [u32; 2],
}

impl Conversation {
    pub fn new(rules: &str, settings: &[(&str, &str)]) -> Self {
        let file = RuleFile { name: "test.rules", text: rules };
        let none = |_: &str| Err(std::io::Error::from(std::io::ErrorKind::NotFound));
        let (detector, skipped) = Detector::load(&[file], &none);
        assert!(skipped.is_empty(), "{skipped:?}");
        let mut set = Settings::default();
        for (key, value) in settings {
            set.set(key, value).unwrap();
        }
        let engine = Engine::new(Arc::new(detector), set);
        Self { engine, heard: Heard::default(), time: 1_700_000_000_000_000_000, number: 0, next: [1000, 5000] }
    }

    pub fn frame(&mut self, link_type: u16, data: &[u8]) -> PacketVerdict {
        self.time += 1_000_000;
        self.number += 1;
        let frame = Frame { time: self.time, number: self.number, link_type, data, owner: Owner::default() };
        self.engine.frame(&frame, &mut self.heard)
    }

    pub fn ip(&mut self, data: &[u8]) -> PacketVerdict {
        self.frame(link::RAW, data)
    }

    /// A segment of the client (`way` 0) or the server, with an offset from what was sent last, acknowledging everything.
    pub fn segment(&mut self, way: usize, offset: i32, flags: u8, data: &[u8]) -> PacketVerdict {
        let sequence = self.next[way].wrapping_add_signed(offset);
        let (from, to, ports) = if way == 0 { (CLIENT, SERVER, (40_000, 80)) } else { (SERVER, CLIENT, (80, 40_000)) };
        let segment = tcp(ports, sequence, self.next[1 - way], flags, data);
        self.ip(&ipv4(from, to, 6, 0, &segment))
    }

    pub fn handshake(&mut self) {
        self.next[0] -= 1;
        let syn = tcp((40_000, 80), self.next[0], 0, SYN, b"");
        self.ip(&ipv4(CLIENT, SERVER, 6, 0, &syn));
        self.next[0] += 1;
        self.next[1] -= 1;
        self.segment(1, 0, SYN | ACK, b"");
        self.next[1] += 1;
        self.segment(0, 0, ACK, b"");
    }

    /// Sends bytes, which the other end acknowledges.
    pub fn say(&mut self, way: usize, data: &[u8]) -> PacketVerdict {
        let verdict = self.segment(way, 0, ACK, data);
        self.next[way] += data.len() as u32;
        self.segment(1 - way, 0, ACK, b"");
        verdict
    }

    pub fn finish(mut self) -> Heard {
        self.engine.finish(&mut self.heard);
        self.heard
    }
}

impl Heard {
    /// Signatures that alerted, in order.
    pub fn alerts(&self) -> Vec<u64> {
        self.of("alert").filter_map(|event| event["alert"]["signature_id"].as_u64()).collect()
    }

    /// Events of a type.
    pub fn of(&self, event_type: &str) -> impl Iterator<Item = &Value> {
        self.events.iter().filter(move |event| event["event_type"] == event_type)
    }

    /// Names of anomalies, in order.
    pub fn anomalies(&self) -> Vec<String> {
        self.of("anomaly").filter_map(|event| event["anomaly"]["event"].as_str().map(str::to_owned)).collect()
    }
}
