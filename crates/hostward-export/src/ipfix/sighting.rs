//! What is known of a flow at one moment, whoever told it: an event of the ring, or a walk over the table.

use hostward_abi as abi;
use hostward_abi::direction::EGRESS;

use crate::ipfix::record::Volume;

/// Of the state word: the direction of the packet that opened the flow (`HW_OPENER` of `bpf/tcp.h`).
const OPENER_SHIFT: u32 = 16;
const ICMP: u8 = 1;
const ESP: u8 = 50;
const ICMPV6: u8 = 58;

/// A flow among all that live now: its endpoint and its place in the endpoint's ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowId {
    /// The endpoint's.
    pub slot: u32,
    /// Of the endpoint's ring.
    pub place: u32,
}

/// Who speaks to whom; the source is who opened the flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuple {
    /// IPv4 as `::ffff:a.b.c.d`; zeros where a frame has none.
    pub source: [u8; 16],
    /// The same of the other end.
    pub destination: [u8; 16],
    /// 0 where the protocol has none.
    pub source_port: u16,
    /// Of ICMP: the type of the request.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

/// How it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighted {
    /// `HW_EVENT_NEW`.
    New,
    /// `HW_EVENT_UPDATE`.
    Update,
    /// `HW_EVENT_END`.
    End,
    /// It stood in the kernel's table.
    Walk,
}

/// One sighting of one flow. Times are of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    /// Which flow.
    pub id: FlowId,
    /// How it is known.
    pub sighted: Sighted,
    /// Its ends.
    pub tuple: Tuple,
    /// `enum hw_direction` of the packet that opened it.
    pub direction: u8,
    /// `enum hw_verdict`.
    pub verdict: u8,
    /// Number of the executable at this end.
    pub process: u8,
    /// Of the decision.
    pub number: u32,
    /// Under which it was decided.
    pub revision: u64,
    /// The state word of `bpf/tcp.h`.
    pub state: u32,
    /// All that the flow carried since it was opened.
    pub total: Volume,
    /// Of an event: what it tells for the first time, both directions together.
    pub unreported: (u64, u64),
    /// When it was seen so.
    pub time_ns: u64,
    /// Its last packet.
    pub packet_ns: u64,
}

fn volume(packets: [u64; 2], bytes: [u64; 2], opener: u32) -> Volume {
    let [out_packets, in_packets] = packets;
    let [out_bytes, in_bytes] = bytes;
    let (forward, reverse) = ((out_packets, out_bytes), (in_packets, in_bytes));
    let (forward, reverse) = if opener == EGRESS { (forward, reverse) } else { (reverse, forward) };
    Volume { packets: [forward.0, reverse.0], octets: [forward.1, reverse.1] }
}

impl Sighting {
    /// An event of a flow; None for denials and for what guards recognise.
    #[must_use]
    pub fn of_event(event: &abi::Event) -> Option<Self> {
        let sighted = match u32::from(event.kind) {
            abi::event_kind::EVENT_NEW => Sighted::New,
            abi::event_kind::EVENT_UPDATE => Sighted::Update,
            abi::event_kind::EVENT_END => Sighted::End,
            _ => return None,
        };
        Some(Self {
            id: FlowId { slot: event.slot, place: event.place },
            sighted,
            tuple: Tuple {
                source: event.source,
                destination: event.destination,
                source_port: u16::from_be(event.source_port),
                destination_port: u16::from_be(event.destination_port),
                protocol: event.protocol,
            },
            direction: event.direction,
            verdict: event.verdict,
            process: event.process,
            number: event.number,
            revision: event.revision,
            state: event.state,
            total: volume(event.total_packets, event.total_bytes, u32::from(event.direction)),
            unreported: (event.packets, event.bytes),
            time_ns: event.time_ns,
            packet_ns: event.time_ns.saturating_sub(event.ticks_ns.saturating_sub(event.seen_ns)),
        })
    }

    /// A flow of the table, as `send_flow_event` of `bpf/flow.h` would tell it. `offset_ns` is what the kernel's ticks are
    /// behind the clock, in wrapping arithmetic.
    #[must_use]
    pub fn of_flow(key: &abi::FlowKey, flow: &abi::Flow, now_ns: u64, offset_ns: u64) -> Self {
        let opener = flow.state >> OPENER_SHIFT & 1;
        let protocol = key.protocol.to_le_bytes()[0];
        let (local_port, remote_port) = (u16::from_be(key.local_port), u16::from_be(key.remote_port));
        let out = opener == EGRESS;
        let (source, destination) = if out { (key.local, key.remote) } else { (key.remote, key.local) };
        let (source_port, destination_port) = match protocol {
            ICMP | ICMPV6 | ESP => (0, u16::from(flow.port_class)),
            _ if out => (local_port, remote_port),
            _ => (remote_port, local_port),
        };
        Self {
            id: FlowId { slot: key.slot, place: flow.place },
            sighted: Sighted::Walk,
            tuple: Tuple { source, destination, source_port, destination_port, protocol },
            direction: opener.to_le_bytes()[0],
            verdict: flow.verdict,
            process: flow.process,
            number: flow.number,
            revision: flow.revision,
            state: flow.state,
            total: volume(flow.packets, flow.bytes, opener),
            unreported: (0, 0),
            time_ns: now_ns,
            packet_ns: flow.seen_ns.wrapping_add(offset_ns).min(now_ns),
        }
    }
}
