//! A walk over all tracked flows in steps, each so short that a reader of the ring can take turns with it.

use std::os::fd::AsFd as _;

use hostward_abi as abi;
use libbpf_rs::MapHandle;
use zerocopy::FromBytes as _;

use crate::error::Result;
use crate::error::kernel;
use crate::error::libbpf;
use crate::ffi;
use crate::flows::mapped;
use crate::tables::Datapath;

/// Flows of one step.
const BATCH: u32 = 2_048;
const TABLES: [&str; 2] = ["hw_flows4", "hw_flows6"];

/// Reads the flow tables again and again; callable from any thread while others use the datapath.
pub struct FlowWalk {
    maps: [MapHandle; 2],
    table: usize,
    after: Option<u32>,
    keys: Vec<u8>,
    values: Vec<u8>,
}

impl Datapath {
    /// A walk with handles of its own.
    ///
    /// # Errors
    /// The kernel has no descriptor left.
    pub fn flow_walk(&self) -> Result<FlowWalk> {
        let handle = |name| MapHandle::try_from(self.maps.get(name)).map_err(libbpf("open", name));
        Ok(FlowWalk {
            maps: [handle(TABLES[0])?, handle(TABLES[1])?],
            table: 0,
            after: None,
            keys: vec![0; BATCH as usize * size_of::<abi::FlowKey>()],
            values: vec![0; BATCH as usize * size_of::<abi::Flow>()],
        })
    }
}

impl FlowWalk {
    /// Takes the next flows, all with keys in IPv6's form; `out` is emptied first. True: that was the last of a walk, and
    /// the next step begins anew.
    ///
    /// # Errors
    /// The kernel refuses; the next step begins anew.
    pub fn step(&mut self, out: &mut Vec<(abi::FlowKey, abi::Flow)>) -> Result<bool> {
        out.clear();
        let (Some(map), Some(name)) = (self.maps.get(self.table), TABLES.get(self.table)) else {
            self.table = 0;
            return Ok(true);
        };
        let read = ffi::lookup_batch(map.as_fd(), self.after, &mut self.keys, &mut self.values, BATCH);
        let (found, next) = match read {
            Ok(read) => read,
            Err(error) => {
                (self.table, self.after) = (0, None);
                return Err(kernel("read", name)(error));
            }
        };
        let values = self.values.chunks_exact(size_of::<abi::Flow>()).map(abi::Flow::read_from_bytes);
        if self.table == 0 {
            let keys = self.keys.chunks_exact(size_of::<abi::Flow4Key>()).map(abi::Flow4Key::read_from_bytes);
            out.extend(keys.zip(values).take(found).filter_map(|pair| match pair {
                (Ok(key), Ok(flow)) => Some((widened(&key), flow)),
                _ => None,
            }));
        } else {
            let keys = self.keys.chunks_exact(size_of::<abi::FlowKey>()).map(abi::FlowKey::read_from_bytes);
            out.extend(keys.zip(values).take(found).filter_map(|pair| match pair {
                (Ok(key), Ok(flow)) => Some((key, flow)),
                _ => None,
            }));
        }
        self.after = next;
        if next.is_some() {
            return Ok(false);
        }
        self.table += 1;
        if self.table < TABLES.len() {
            return Ok(false);
        }
        self.table = 0;
        Ok(true)
    }
}

fn widened(key: &abi::Flow4Key) -> abi::FlowKey {
    let [a, b, c, d] = key.ports.to_ne_bytes();
    abi::FlowKey {
        slot: key.slot_protocol >> 8,
        protocol: key.slot_protocol & 0xff,
        local: mapped(key.local),
        remote: mapped(key.remote),
        local_port: u16::from_ne_bytes([a, b]),
        remote_port: u16::from_ne_bytes([c, d]),
        padding: 0,
    }
}
