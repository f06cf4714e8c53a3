//! Packets that were denied, or would be: no flow, and a record of its own.

use hostward_abi as abi;

use crate::ipfix::sighting::Tuple;

/// One event of denied packets.
#[derive(Clone, Copy, Debug)]
pub struct Denial {
    /// The endpoint's.
    pub slot: u32,
    /// Of the last of them.
    pub tuple: Tuple,
    /// `enum hw_direction`.
    pub direction: u8,
    /// `enum hw_verdict`.
    pub verdict: u8,
    /// `enum hw_reason`.
    pub reason: u8,
    /// Of the decision; 0 where no rule was consulted.
    pub number: u32,
    /// In force.
    pub revision: u64,
    /// Since the last event of the same kind.
    pub packets: u64,
    /// The same in octets of frames.
    pub octets: u64,
    /// Of the last of them, `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Of the frame.
    pub ethertype: u16,
    /// Of the frame.
    pub source_mac: [u8; 6],
}

impl Denial {
    /// The denied packets of an event, if it is of any.
    #[must_use]
    pub fn of_event(event: &abi::Event) -> Option<Self> {
        (u32::from(event.kind) == abi::event_kind::EVENT_DENIED).then(|| Self {
            slot: event.slot,
            tuple: Tuple {
                source: event.source,
                destination: event.destination,
                source_port: u16::from_be(event.source_port),
                destination_port: u16::from_be(event.destination_port),
                protocol: event.protocol,
            },
            direction: event.direction,
            verdict: event.verdict,
            reason: event.reason,
            number: event.number,
            revision: event.revision,
            packets: event.packets,
            octets: event.bytes,
            time_ns: event.time_ns,
            ethertype: u16::from_be(event.ethertype),
            source_mac: event.source_mac,
        })
    }
}
