//! The heaviest peers of every endpoint, by one walk over all tracked flows.
//!
//! It has handles of its own, so that the walk, some tens of milliseconds for a full table, holds up nobody who writes
//! policy meanwhile. Memory is bounded by the flow tables: one sum for each (endpoint, peer, protocol, port).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::HashMap;
use std::os::fd::AsFd as _;

use hostward_abi as abi;
use libbpf_rs::MapHandle;
use zerocopy::FromBytes;

use crate::error::Result;
use crate::error::kernel;
use crate::error::libbpf;
use crate::ffi;
use crate::flows::mapped;
use crate::tables::Datapath;

/// Elements of one system call.
const BATCH: u32 = 4_096;
/// Of the state word: the direction of the packet that opened the flow (`HW_OPENER` of `bpf/tcp.h`).
const OPENER_SHIFT: u32 = 16;

/// Whom an endpoint speaks to, and at which service: the port that the flow's opener asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Conversation {
    /// The endpoint's slot.
    pub slot: u32,
    /// The peer's address; IPv4 as `::ffff:a.b.c.d`.
    pub remote: [u8; 16],
    /// IP protocol number.
    pub protocol: u8,
    /// 0 where the protocol has none.
    pub port: u16,
}

/// The flows of one conversation together, both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Packets.
    pub packets: u64,
    /// Bytes of frames.
    pub bytes: u64,
    /// Flows tracked now.
    pub flows: u64,
}

/// Reads the flow tables; callable from any thread while others use the datapath.
pub struct Talkers {
    flows4: MapHandle,
    flows6: MapHandle,
}

impl Datapath {
    /// A reader of the heaviest peers.
    ///
    /// # Errors
    /// The kernel has no descriptor left.
    pub fn talkers(&self) -> Result<Talkers> {
        let handle = |name| MapHandle::try_from(self.maps.get(name)).map_err(libbpf("open", name));
        Ok(Talkers { flows4: handle("hw_flows4")?, flows6: handle("hw_flows6")? })
    }
}

impl Talkers {
    /// Of every endpoint the `limit` heaviest conversations among the flows that are tracked now, the heaviest first.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn read(&self, limit: usize) -> Result<Vec<(Conversation, Volume)>> {
        let mut volumes = HashMap::new();
        each_flow(&self.flows4, "hw_flows4", |key: &abi::Flow4Key, flow| {
            let ports = key.ports.to_ne_bytes();
            let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
            #[expect(clippy::cast_possible_truncation, reason = "the lower byte is the protocol")]
            let protocol = key.slot_protocol as u8;
            let slot = key.slot_protocol >> 8;
            add(&mut volumes, slot, mapped(key.remote), protocol, (port(0), port(2)), flow);
        })?;
        each_flow(&self.flows6, "hw_flows6", |key: &abi::FlowKey, flow| {
            let ports = (u16::from_be(key.local_port), u16::from_be(key.remote_port));
            #[expect(clippy::cast_possible_truncation, reason = "the word holds a protocol")]
            add(&mut volumes, key.slot, key.remote, key.protocol as u8, ports, flow);
        })?;
        Ok(heaviest(volumes, limit))
    }
}

fn add(
    volumes: &mut HashMap<Conversation, Volume>,
    slot: u32,
    remote: [u8; 16],
    protocol: u8,
    (local_port, remote_port): (u16, u16),
    flow: &abi::Flow,
) {
    let opened_by_endpoint = flow.state >> OPENER_SHIFT & 1 == abi::direction::EGRESS;
    let port = match protocol {
        // Of an echo the ports are its identifier and who asked: no service.
        1 | 58 => 0,
        _ if opened_by_endpoint => remote_port,
        _ => local_port,
    };
    let volume = volumes.entry(Conversation { slot, remote, protocol, port }).or_default();
    volume.packets += flow.packets.iter().sum::<u64>();
    volume.bytes += flow.bytes.iter().sum::<u64>();
    volume.flows += 1;
}

/// A heap of at most `limit` for each endpoint: the lightest of them is on top, and leaves for a heavier one.
fn heaviest(volumes: HashMap<Conversation, Volume>, limit: usize) -> Vec<(Conversation, Volume)> {
    let mut tops: HashMap<u32, BinaryHeap<Reverse<(u64, Conversation)>>> = HashMap::new();
    for (conversation, volume) in &volumes {
        let top = tops.entry(conversation.slot).or_default();
        top.push(Reverse((volume.bytes, *conversation)));
        if top.len() > limit {
            top.pop();
        }
    }
    // Ascending by `Reverse` is the heaviest first.
    tops.into_values()
        .flat_map(BinaryHeap::into_sorted_vec)
        .map(|Reverse((_, conversation))| (conversation, volumes[&conversation]))
        .collect()
}

fn each_flow<K: FromBytes>(map: &MapHandle, name: &'static str, mut visit: impl FnMut(&K, &abi::Flow)) -> Result<()> {
    let (key_len, value_len) = (size_of::<K>(), size_of::<abi::Flow>());
    let mut keys = vec![0; BATCH as usize * key_len];
    let mut values = vec![0; BATCH as usize * value_len];
    let mut after = None;
    loop {
        let (found, next) =
            ffi::lookup_batch(map.as_fd(), after, &mut keys, &mut values, BATCH).map_err(kernel("read", name))?;
        for (key, value) in keys.chunks_exact(key_len).zip(values.chunks_exact(value_len)).take(found) {
            // An entry's layout is the map's, which was checked when it was opened.
            if let (Ok(key), Ok(flow)) = (K::read_from_bytes(key), abi::Flow::read_from_bytes(value)) {
                visit(&key, &flow);
            }
        }
        let Some(next) = next else { return Ok(()) };
        after = Some(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(slot: u32, port: u16, bytes: u64) -> (Conversation, Volume) {
        (Conversation { slot, remote: [0; 16], protocol: 6, port }, Volume { packets: 1, bytes, flows: 1 })
    }

    #[test]
    fn each_endpoint_has_its_own_heaviest_first() {
        let volumes = HashMap::from([
            spoken(1, 10, 5),
            spoken(1, 11, 50),
            spoken(1, 12, 500),
            spoken(2, 10, 1),
            spoken(1, 13, 7),
        ]);
        let mut found = heaviest(volumes, 2);
        found.sort_by_key(|(conversation, _)| conversation.slot);
        assert_eq!(found, [spoken(1, 12, 500), spoken(1, 11, 50), spoken(2, 10, 1)]);
    }
}
