//! The tracked flows of one endpoint, as the packets left them.

use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use zerocopy::FromBytes;

use crate::abi;
use crate::error::Result;
use crate::error::libbpf;
use crate::tables::Datapath;

/// One tracked flow.
#[derive(Clone, Copy, Debug)]
pub struct TrackedFlow {
    /// IP protocol number.
    pub protocol: u8,
    /// The endpoint's address; IPv4 as `::ffff:a.b.c.d`.
    pub local: [u8; 16],
    /// Of an echo: its identifier.
    pub local_port: u16,
    /// The peer's address.
    pub remote: [u8; 16],
    /// Of an echo: 1 + the direction of the request.
    pub remote_port: u16,
    /// `enum hw_flow_state`.
    pub state: u8,
    /// Out of the endpoint, and towards it.
    pub packets: [u64; 2],
    /// The same in bytes of frames.
    pub bytes: [u64; 2],
}

impl Datapath {
    /// An endpoint's flows, in no order. Packets go on meanwhile: what comes or goes may be in it or not.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn read_flows(&self, slot: u32) -> Result<Vec<TrackedFlow>> {
        let mut flows = Vec::new();
        self.each_flow("hw_flows4", |key: abi::Flow4Key, flow| {
            if key.slot_protocol >> 8 == slot {
                let ports = key.ports.to_ne_bytes();
                let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
                #[expect(clippy::cast_possible_truncation, reason = "the lower byte is the protocol")]
                flows.push(tracked(
                    key.slot_protocol as u8,
                    mapped(key.local),
                    mapped(key.remote),
                    port(0),
                    port(2),
                    flow,
                ));
            }
        })?;
        self.each_flow("hw_flows6", |key: abi::FlowKey, flow| {
            if key.slot == slot {
                let (local_port, remote_port) = (u16::from_be(key.local_port), u16::from_be(key.remote_port));
                #[expect(clippy::cast_possible_truncation, reason = "the word holds a protocol")]
                flows.push(tracked(key.protocol as u8, key.local, key.remote, local_port, remote_port, flow));
            }
        })?;
        Ok(flows)
    }

    fn each_flow<K: FromBytes>(&self, name: &'static str, mut visit: impl FnMut(K, &abi::Flow)) -> Result<()> {
        let map = self.maps.get(name);
        for key in map.keys() {
            let value = map.lookup(&key, MapFlags::ANY).map_err(libbpf("read", name))?;
            let flow = value.and_then(|bytes| abi::Flow::read_from_bytes(&bytes).ok());
            if let (Ok(key), Some(flow)) = (K::read_from_bytes(&key), flow) {
                visit(key, &flow);
            }
        }
        Ok(())
    }
}

pub(crate) fn mapped(address: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[10..12].fill(0xff);
    bytes[12..].copy_from_slice(&address.to_ne_bytes());
    bytes
}

fn tracked(
    protocol: u8,
    local: [u8; 16],
    remote: [u8; 16],
    local_port: u16,
    remote_port: u16,
    flow: &abi::Flow,
) -> TrackedFlow {
    let state = flow.state.to_le_bytes()[0];
    TrackedFlow { protocol, local, local_port, remote, remote_port, state, packets: flow.packets, bytes: flow.bytes }
}
