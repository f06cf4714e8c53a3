//! Flows that are made up from a seed, the kernel's events about them, and what may be lost on the way.

use std::collections::BTreeMap;

use hostward_abi as abi;
use hostward_abi::direction::EGRESS;
use hostward_abi::direction::INGRESS;
use zerocopy::FromZeros as _;

/// splitmix64 (Steele, Lea, Flood 2014).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

pub const MILLISECOND: u64 = 1_000_000;
pub const SECOND: u64 = 1_000_000_000;

/// One tracked flow of the made-up kernel.
#[derive(Clone, Copy)]
pub struct Flow {
    pub port: u16,
    pub opener: u32,
    pub packets: [u64; 2],
    pub bytes: [u64; 2],
    pub seen_ns: u64,
    pub reported: (u64, u64),
    pub state: u32,
}

/// A kernel with one endpoint in slot 1.
pub struct World {
    pub random: Random,
    pub now_ns: u64,
    pub flows: BTreeMap<u32, Flow>,
    /// Packets and octets by direction as `enum hw_direction`, of all flows there ever were.
    pub carried: ([u64; 2], [u64; 2]),
    next_port: u16,
}

pub fn mapped(last: u8) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last]
}

impl World {
    pub fn new(seed: u64) -> Self {
        let carried = ([0; 2], [0; 2]);
        Self { random: Random(seed), now_ns: 1_000 * SECOND, flows: BTreeMap::new(), carried, next_port: 1_024 }
    }

    /// One event of the datapath's.
    pub fn event(&self, place: u32, flow: &Flow, kind: u32) -> abi::Event {
        let mut event = abi::Event::new_zeroed();
        let out = flow.opener == EGRESS;
        let (packets, bytes) = (flow.packets.iter().sum::<u64>(), flow.bytes.iter().sum::<u64>());
        event.time_ns = self.now_ns;
        event.ticks_ns = self.now_ns - 7 * SECOND;
        event.seen_ns = flow.seen_ns - 7 * SECOND;
        event.revision = 9;
        event.packets = packets - flow.reported.0;
        event.bytes = bytes - flow.reported.1;
        event.slot = 1;
        event.number = 5;
        event.kind = kind as u8;
        event.verdict = abi::verdict::VERDICT_ALLOW as u8;
        event.direction = flow.opener as u8;
        event.protocol = 17;
        event.source_port = flow.port.to_be();
        event.destination_port = 53u16.to_be();
        event.source = mapped(if out { 1 } else { 2 });
        event.destination = mapped(if out { 2 } else { 1 });
        event.total_packets = flow.packets;
        event.total_bytes = flow.bytes;
        event.place = place;
        event.state = flow.state | flow.opener << 16;
        event
    }

    /// The key and value as a walk reads them.
    pub fn stored(place: u32, flow: &Flow) -> (abi::FlowKey, abi::Flow) {
        let (mut key, mut value) = (abi::FlowKey::new_zeroed(), abi::Flow::new_zeroed());
        let out = flow.opener == EGRESS;
        (key.slot, key.protocol, key.local, key.remote) = (1, 17, mapped(1), mapped(2));
        (key.local_port, key.remote_port) =
            if out { (flow.port.to_be(), 53u16.to_be()) } else { (53u16.to_be(), flow.port.to_be()) };
        (value.packets, value.bytes, value.seen_ns) = (flow.packets, flow.bytes, flow.seen_ns - 7 * SECOND);
        (value.place, value.state) = (place, flow.state | flow.opener << 16);
        (value.number, value.revision, value.verdict) = (5, 9, abi::verdict::VERDICT_ALLOW as u8);
        (key, value)
    }

    fn carry(&mut self, flow: &mut Flow, direction: u32) {
        let bytes = 60 + self.random.below(1_400);
        let at = direction as usize;
        flow.packets[at] += 1;
        flow.bytes[at] += bytes;
        flow.seen_ns = self.now_ns;
        self.carried.0[at] += 1;
        self.carried.1[at] += bytes;
    }

    /// Something happens: a flow opens, perhaps in the place of another, or carries packets, or is reported. The events
    /// are in the order of the ring.
    pub fn step(&mut self, places: u32) -> Vec<abi::Event> {
        self.now_ns += 1 + self.random.below(3 * MILLISECOND);
        let place = self.random.below(u64::from(places)) as u32;
        let Some(mut flow) = self.flows.get(&place).copied() else { return vec![self.open(place)] };
        match self.random.below(8) {
            0 => {
                let end = self.event(place, &flow, abi::event_kind::EVENT_END);
                vec![end, self.open(place)]
            }
            1 => {
                self.flows.remove(&place);
                vec![self.event(place, &flow, abi::event_kind::EVENT_END)]
            }
            2 => {
                let update = self.event(place, &flow, abi::event_kind::EVENT_UPDATE);
                flow.reported = (flow.packets.iter().sum(), flow.bytes.iter().sum());
                self.flows.insert(place, flow);
                vec![update]
            }
            _ => {
                for _ in 0..=self.random.below(4) {
                    let direction = self.random.below(2) as u32;
                    self.carry(&mut flow, direction);
                }
                flow.state = abi::flow_state::FLOW_ESTABLISHED;
                self.flows.insert(place, flow);
                Vec::new()
            }
        }
    }

    fn open(&mut self, place: u32) -> abi::Event {
        let opener = if self.random.below(2) == 0 { EGRESS } else { INGRESS };
        self.next_port = self.next_port.wrapping_add(1);
        let mut flow = Flow {
            port: self.next_port,
            opener,
            packets: [0; 2],
            bytes: [0; 2],
            seen_ns: self.now_ns,
            reported: (0, 0),
            state: 0,
        };
        self.carry(&mut flow, opener);
        let event = self.event(place, &flow, abi::event_kind::EVENT_NEW);
        flow.reported = (1, flow.bytes.iter().sum());
        self.flows.insert(place, flow);
        event
    }

    /// All flows at this moment, as a walk over the table finds them.
    pub fn table(&self) -> Vec<(abi::FlowKey, abi::Flow)> {
        self.flows.iter().map(|(&place, flow)| Self::stored(place, flow)).collect()
    }
}
