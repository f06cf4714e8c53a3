//! Joins the parts: a frame goes in, events come out.

mod application;
mod control;
mod ends;
mod related;
mod report;
pub mod settings;
mod streams;
mod verdict;

use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

pub use settings::{ExceptionPolicy, SettingError, Settings};

use crate::Direction;
use crate::decode::{self, Inner, Nanos, Outer, Packet, Transport};
use crate::detect::{Alert, Detector, Worker};
use crate::flow::community_id::community_id;
use crate::flow::defrag::Defragmenter;
use crate::flow::table::{Key, Table};
use crate::flow::tcp::Budget;
use crate::flow::{Flow, FlowVerdict, Owner};
use crate::output::flow::Reason;
use crate::output::json::Json;
use application::Applications;
use ends::{Ends, begins_anew, ends};
use verdict::ThisPacket;

/// One frame as it was seen on a link.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// When it was seen.
    pub time: Nanos,
    /// Its number in the capture, from 1; 0 where there is no capture.
    pub number: u64,
    /// What it begins with (`LINKTYPE_` numbers).
    pub link_type: u16,
    /// Its bytes.
    pub data: &'a [u8],
    /// Whose it is.
    pub owner: Owner,
}

/// Who takes what the engine says.
pub trait Sink {
    /// An event: a JSON object without the end of line. Its last byte is `}`, so that members can be put before it.
    fn event(&mut self, owner: Owner, event: &[u8]);

    /// A flow's packets are to be treated otherwise from now on.
    fn verdict(&mut self, flow: &Flow, verdict: FlowVerdict) {
        let _ = (flow, verdict);
    }
}

/// What happens with one packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PacketVerdict {
    /// It goes on.
    #[default]
    Pass,
    /// It is dropped.
    Drop,
    /// It is dropped, and its sender is told: RST, or ICMP unreachable.
    Reject,
}

/// What the engine has counted.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Stats {
    pub frames: u64,
    pub bytes: u64,
    pub invalid: u64,
    pub flows: u64,
    pub alerts: u64,
    pub alerts_suppressed: u64,
    pub transactions: u64,
    pub dropped: u64,
    pub flows_evicted: u64,
    pub reassembly_no_memory: u64,
    pub gaps: u64,
}

/// What came of a packet and those inside it.
#[derive(Default)]
struct Nested {
    verdict: PacketVerdict,
    fragments: Option<Whole>,
}

/// A packet put together from fragments.
struct Whole {
    data: Vec<u8>,
    link_type: u16,
    depth: u8,
    vlan: SmallVec<[u16; 3]>,
}

/// As deep as tunnels in tunnels are followed.
const DEPTH_MAX: u8 = 8;
/// Keeps flow numbers below 2^53.
const FLOW_ID_MASK: u64 = (1 << 53) - 1;

/// The detector for one thread.
pub struct Engine {
    detector: Arc<Detector>,
    worker: Worker,
    settings: Settings,
    table: Table,
    defragmenter: Defragmenter,
    budget: Budget,
    applications: Applications,
    alerts: SmallVec<[Alert; 4]>,
    json: Json,
    interface: Option<String>,
    swept: Nanos,
    /// The time of the last frame.
    now: Nanos,
    /// What an exception policy said of the packet that is worked on.
    this_packet: ThisPacket,
    /// The number of the packet whose bytes are parsed.
    parsed_number: u64,
    next_flow_id: u64,
    stats: Stats,
    generation: u32,
}

impl Engine {
    /// One that has seen nothing yet.
    #[must_use]
    pub fn new(detector: Arc<Detector>, settings: Settings) -> Self {
        let table = Table::new(settings.flows_max, settings.timeouts);
        let budget = Budget::new(settings.reassembly_bytes_max);
        let mut applications = Applications::new(&settings);
        applications.suit(&detector, &settings);
        Self {
            detector,
            worker: Worker::default(),
            table,
            defragmenter: Defragmenter::new(settings.fragments_max),
            budget,
            applications,
            settings,
            alerts: SmallVec::new(),
            json: Json::default(),
            interface: None,
            swept: 0,
            now: 0,
            this_packet: ThisPacket::Inspect,
            parsed_number: 0,
            next_flow_id: 0,
            stats: Stats::default(),
            generation: 0,
        }
    }

    /// What it has counted.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Sees a frame, and everything inside it.
    pub fn frame(&mut self, frame: &Frame<'_>, sink: &mut dyn Sink) -> PacketVerdict {
        self.stats.frames += 1;
        self.stats.bytes += frame.data.len() as u64;
        let first = Inner::frame(frame.link_type, frame.data);
        let mut whole = self.nested(frame, first, 0, SmallVec::new(), sink);
        let mut verdict = whole.verdict;
        // A fragment that was the last one missing leads to a packet of its own, which may again be a fragment in a tunnel.
        for _ in 0..DEPTH_MAX {
            let Some(fragments) = whole.fragments.take() else { break };
            let mut inner = Inner::frame(fragments.link_type, &fragments.data);
            inner.source = decode::Source::Defragmented;
            whole = self.nested(frame, inner, fragments.depth, fragments.vlan, sink);
            if verdict == PacketVerdict::Pass {
                verdict = whole.verdict;
            }
        }
        self.tick(frame.time, sink);
        verdict
    }

    /// Sees a packet and those inside it, outermost first.
    fn nested(
        &mut self,
        frame: &Frame<'_>,
        first: Inner<'_>,
        depth: u8,
        mut vlan: SmallVec<[u16; 3]>,
        sink: &mut dyn Sink,
    ) -> Nested {
        let mut done = Nested::default();
        let mut next = Some(first);
        let mut outer: Option<Box<Outer>> = None;
        for depth in depth..DEPTH_MAX {
            let Some(inner) = next.take() else { break };
            let (mut packet, deeper) =
                decode::decode(frame.time, frame.number, inner.start, inner.data, self.settings.tunnel_ports);
            packet.source = inner.source;
            packet.defragmented = inner.source == decode::Source::Defragmented;
            packet.depth = depth;
            packet.bad_checksum =
                self.settings.checksums && (packet.transport_checksum_is_wrong() || packet.header_checksum_is_wrong());
            packet.outer = outer.take();
            if packet.vlan.is_empty() {
                packet.vlan.clone_from(&vlan);
            }
            if let Some(tag) = inner.vlan {
                packet.vlan.push(tag);
            }
            if packet.fragment.is_some() {
                let outcome = self.defragmenter.insert(&packet, frame.owner);
                packet.events.extend(outcome.events);
                let policy = self.settings.policy(self.settings.defrag_memory_policy);
                let kept_back =
                    matches!(policy, ExceptionPolicy::DropPacket | ExceptionPolicy::DropFlow | ExceptionPolicy::Reject);
                if outcome.no_memory && kept_back {
                    done.verdict = PacketVerdict::Drop;
                }
                done.fragments = outcome.whole.map(|data| Whole {
                    data,
                    link_type: packet.link_type,
                    depth,
                    vlan: packet.vlan.clone(),
                });
            }
            if !packet.events.is_empty() {
                self.stats.invalid += 1;
            }
            outer = deeper.as_ref().and_then(|_| outer_of(&packet));
            vlan.clone_from(&packet.vlan);
            let verdict = self.packet(&packet, frame.owner, sink);
            if done.verdict == PacketVerdict::Pass {
                done.verdict = verdict;
            }
            next = deeper;
        }
        done
    }

    fn packet(&mut self, packet: &Packet<'_>, owner: Owner, sink: &mut dyn Sink) -> PacketVerdict {
        let Some((from, to, protocol)) = ends(packet) else {
            return self.inspect_alone(packet, owner, sink);
        };
        self.this_packet = ThisPacket::Inspect;
        if let Some((from, to, protocol)) = related::ends(packet) {
            let key = Key::new(from, to, protocol, &packet.vlan, &owner);
            if let Some((slot, mut flow)) = self.table.take(&key) {
                let verdict = self.in_flow(packet, &mut flow, from, sink);
                self.table.put(slot, flow);
                return verdict;
            }
        }
        let key = Key::new(from, to, protocol, &packet.vlan, &owner);
        let mut found = self.table.take(&key);
        if let Some((slot, flow)) = found.take_if(|(_, flow)| begins_anew(packet, flow)) {
            self.table.remove(slot, &key);
            self.end_flow(flow, Reason::TcpReuse, sink);
        }
        let (slot, mut flow) = match found {
            Some(found) => found,
            None => self.new_flow(key, from, to, protocol, packet, owner, sink),
        };
        let verdict = self.in_flow(packet, &mut flow, from, sink);
        self.table.put(slot, flow);
        verdict
    }

    #[allow(clippy::too_many_arguments)]
    fn new_flow(
        &mut self,
        key: Key,
        from: (IpAddr, u16),
        to: (IpAddr, u16),
        protocol: u8,
        packet: &Packet<'_>,
        owner: Owner,
        sink: &mut dyn Sink,
    ) -> (u32, Box<Flow>) {
        let (slot, evicted) = self.table.reserve(key);
        if let Some(evicted) = evicted {
            self.stats.flows_evicted += 1;
            self.end_flow(evicted, Reason::Forced, sink);
        }
        // Spread over the range, so that numbers of engines that run beside each other seldom meet.
        self.next_flow_id += 1;
        let id = packet.time.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(self.next_flow_id) & FLOW_ID_MASK;
        let mut flow = Box::new(Flow::new(id.max(1), key, from, to, protocol, packet.time));
        flow.owner = owner;
        flow.vlan.clone_from(&packet.vlan);
        if protocol == 6 {
            flow.stream = Some(Box::default());
        }
        if self.settings.community_id {
            let id = community_id(self.settings.community_id_seed, from, to, protocol);
            flow.community_id = Some(id.into_boxed_str());
        }
        flow.announced = self.applications.announced(from, to, owner);
        self.stats.flows += 1;
        (slot, flow)
    }

    fn in_flow(
        &mut self,
        packet: &Packet<'_>,
        flow: &mut Flow,
        from: (IpAddr, u16),
        sink: &mut dyn Sink,
    ) -> PacketVerdict {
        let mut direction = if from == flow.client { Direction::ToServer } else { Direction::ToClient };
        flow.last = flow.last.max(packet.time);
        count(flow, packet, direction);
        match flow.verdict {
            FlowVerdict::Inspect => {}
            FlowVerdict::Bypass => return PacketVerdict::Pass,
            FlowVerdict::Drop | FlowVerdict::Reject => {
                self.stats.dropped += 1;
                return PacketVerdict::Drop;
            }
        }
        let over = flow.recognition_over;
        match &packet.transport {
            // Nobody who receives it believes it.
            _ if packet.bad_checksum => {}
            Transport::Tcp(tcp) => direction = self.tcp(packet, tcp, flow, direction, sink),
            Transport::Icmp { .. } if !matches!(flow.protocol, 1 | 58) => {}
            _ => {
                flow.established |= flow.packets.iter().all(|count| *count > 0);
                if let Transport::Udp { .. } = packet.transport {
                    direction = self.datagram(packet, flow, direction, sink);
                }
            }
        }
        for ((now, before), after) in flow.recognised_now.iter_mut().zip(over).zip(flow.recognition_over) {
            *now = after && !before;
        }
        self.inspect(Some(packet), flow, direction, sink)
    }

    /// Ends flows of which nothing was heard. Called with every frame; with none for long, the caller does it.
    pub fn tick(&mut self, now: Nanos, sink: &mut dyn Sink) {
        const INTERVAL: Nanos = 250_000_000;
        self.now = now;
        if now.saturating_sub(self.swept) < INTERVAL {
            return;
        }
        self.swept = now;
        let mut left = self.table.len() / 16 + 64;
        while let Some(flow) = self.table.expire(now, &mut left) {
            self.end_flow(flow, Reason::Timeout, sink);
        }
    }

    /// Ends all flows; nothing may be asked of it afterwards but its counters.
    pub fn finish(&mut self, sink: &mut dyn Sink) {
        self.table.rewind();
        while let Some(flow) = self.table.pop() {
            self.end_flow(flow, Reason::Shutdown, sink);
        }
        self.report_stats(sink);
    }

    fn end_flow(&mut self, mut flow: Box<Flow>, reason: Reason, sink: &mut dyn Sink) {
        let flow = flow.as_mut();
        self.this_packet = ThisPacket::Inspect;
        if flow.verdict == FlowVerdict::Inspect {
            if let Some(mut stream) = flow.stream.take() {
                stream.events.clear();
                for direction in [Direction::ToServer, Direction::ToClient] {
                    self.hand_over(flow, &mut stream, direction, true, true, sink);
                }
                // What was never acknowledged may have been lost on the way: a hole there is no gap.
                stream.events.clear();
                flow.stream = Some(stream);
            } else {
                for direction in [Direction::ToServer, Direction::ToClient] {
                    self.close_direction(flow, direction, sink);
                }
            }
            if flow.app.is_some() || flow.stream.is_some() {
                for direction in [Direction::ToServer, Direction::ToClient] {
                    self.inspect(None, flow, direction, sink);
                }
            }
        }
        if let Some(stream) = &mut flow.stream {
            for side in &mut stream.tracker.sides {
                side.bytes.clear(&mut self.budget);
            }
        }
        self.clean_transactions(flow, None, sink);
        self.report_flow(flow, reason, sink);
    }
}

fn count(flow: &mut Flow, packet: &Packet<'_>, direction: Direction) {
    let way = direction as usize;
    if let (Some(packets), Some(bytes), Some(number)) =
        (flow.packets.get_mut(way), flow.bytes.get_mut(way), flow.numbers.get_mut(way))
    {
        *packets += 1;
        *bytes += packet.data.len() as u64;
        *number = packet.number;
    }
}

fn outer_of(packet: &Packet<'_>) -> Option<Box<Outer>> {
    let ip = packet.ip.as_ref()?;
    Some(Box::new(Outer {
        source: ip.source,
        destination: ip.destination,
        ports: packet.ports(),
        protocol: ip.protocol,
        depth: packet.depth,
    }))
}
