//! Joins the parts: a frame goes in, events come out.

mod application;
mod control;
mod related;
mod report;
pub mod settings;

use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

pub use settings::{ExceptionPolicy, SettingError, Settings};

use crate::Direction;
use crate::decode::{self, Inner, Nanos, Outer, Packet, Transport};
use crate::detect::{Action, Alert, Detector, Worker};
use crate::flow::community_id::community_id;
use crate::flow::defrag::Defragmenter;
use crate::flow::table::{Key, Table};
use crate::flow::tcp::reassembly::Insertion;
use crate::flow::tcp::{Budget, Piece, State, flag};
use crate::flow::{Flow, FlowVerdict, Owner, Stream};
use crate::output::flow::Reason;
use crate::output::json::Json;
use application::Applications;

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

/// What an exception policy said of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ThisPacket {
    Inspect,
    Pass,
    Drop,
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
/// How many stream bytes behind those already inspected are kept for matches across the border.
const WINDOW_KEPT: usize = 4 * 1024;
/// How many stream bytes are kept for a matcher that does not look at them.
const WINDOW_MAX: u64 = 256 * 1024;
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

    fn tcp(
        &mut self,
        packet: &Packet<'_>,
        tcp: &decode::Tcp<'_>,
        flow: &mut Flow,
        mut direction: Direction,
        sink: &mut dyn Sink,
    ) -> Direction {
        let Some(mut stream) = flow.stream.take() else { return direction };
        stream.events.clear();
        let settings = self.settings.tcp;
        let accepted =
            stream.tracker.packet(tcp, packet.payload.len(), direction, packet.time, &settings, &mut stream.events);
        if accepted.exchanged {
            flow.exchange();
            direction = direction.reversed();
        }
        flow.midstream |= accepted.midstream;
        flow.established = stream.tracker.state >= State::Established && !stream.tracker.unanswered;
        let at_once = settings.inline || stream.tracker.one_sided;
        stream.taken = accepted.bytes;
        if accepted.bytes {
            self.take_bytes(packet, tcp, flow, &mut stream, direction, at_once, sink);
        }
        // A packet hands over what it acknowledges, and its own bytes where those are in order; a SYN does neither, before
        // the connection exists.
        if tcp.flags & flag::SYN == 0 {
            self.hand_over(flow, &mut stream, direction.reversed(), at_once, false, sink);
        }
        if accepted.bytes || tcp.flags & (flag::FIN | flag::RST) != 0 {
            self.hand_over(flow, &mut stream, direction, at_once, false, sink);
        }
        flow.stream = Some(stream);
        if std::mem::take(&mut flow.reversed) {
            flow.exchange();
            direction = direction.reversed();
        }
        let first_of_all = flow.packets.iter().sum::<u64>() == 1;
        if first_of_all && (accepted.no_session || accepted.midstream) {
            let policy = self.settings.midstream_policy();
            self.except(policy, flow, sink);
        }
        direction
    }

    #[allow(clippy::too_many_arguments)]
    fn take_bytes(
        &mut self,
        packet: &Packet<'_>,
        tcp: &decode::Tcp<'_>,
        flow: &mut Flow,
        stream: &mut Stream,
        direction: Direction,
        at_once: bool,
        sink: &mut dyn Sink,
    ) {
        let (side, _) = stream.tracker.pair(direction);
        // A SYN takes a sequence number of its own, before the bytes that may travel with it.
        let first = if tcp.flags & flag::SYN != 0 { tcp.sequence.wrapping_add(1) } else { tcp.sequence };
        let offset = side.offset(first);
        let mut data = packet.payload;
        if offset < 0 {
            let before = usize::try_from(-offset).unwrap_or(usize::MAX);
            data = data.get(before..).unwrap_or_default();
            if data.is_empty() {
                stream.events.push("stream.reassembly_segment_before_base_seq");
                return;
            }
        }
        let offset = offset.max(0).cast_unsigned();
        let depth = self.settings.tcp.depth;
        if depth > 0 {
            let left = usize::try_from(depth.saturating_sub(offset)).unwrap_or(usize::MAX);
            data = data.get(..left).unwrap_or(data);
        }
        if data.is_empty() {
            return;
        }
        let end = offset + data.len() as u64;
        if side.bytes.is_next(offset) && (at_once || end <= side.acknowledged) {
            side.bytes.passed(data.len());
            self.deliver(flow, stream, direction, Piece::Data(data, packet.number), sink);
            return;
        }
        let full = self.settings.fail_reassembly_at.is_some_and(|number| packet.number >= number);
        let policy = self.settings.tcp.policy;
        let inserted = if full {
            Insertion::NoMemory
        } else {
            side.bytes.insert(offset, data, packet.number, policy, &mut self.budget, &mut stream.events)
        };
        if inserted == Insertion::NoMemory {
            self.stats.reassembly_no_memory += 1;
            stream.events.push("stream.reassembly_insert_memcap");
            let policy = self.settings.policy(self.settings.reassembly_memory_policy);
            self.except(policy, flow, sink);
        }
    }

    /// Hands over what one direction has in order by now.
    fn hand_over(
        &mut self,
        flow: &mut Flow,
        stream: &mut Stream,
        direction: Direction,
        at_once: bool,
        force: bool,
        sink: &mut dyn Sink,
    ) {
        let (side, _) = stream.tracker.pair(direction);
        let acknowledged = side.acknowledged_bytes();
        let limit = if at_once || force { u64::MAX } else { acknowledged };
        let mut bytes = std::mem::take(&mut side.bytes);
        let mut budget = std::mem::take(&mut self.budget);
        bytes.drain(limit, acknowledged, force, &mut budget, &mut |piece| {
            self.deliver(flow, stream, direction, piece, sink);
        });
        self.budget = budget;
        let (side, _) = stream.tracker.pair(direction);
        let done = side.fin.is_some_and(|fin| bytes.handed() >= fin) || force;
        side.bytes = bytes;
        if done && !side.closed {
            side.closed = true;
            self.close_direction(flow, application::by_bytes(flow, direction), sink);
        }
    }

    /// Does what a policy wants where the engine could not do its work.
    fn except(&mut self, policy: ExceptionPolicy, flow: &mut Flow, sink: &mut dyn Sink) {
        let verdict = match policy {
            ExceptionPolicy::Ignore => return,
            ExceptionPolicy::PassPacket => {
                self.this_packet = ThisPacket::Pass;
                return;
            }
            ExceptionPolicy::DropPacket => {
                self.this_packet = ThisPacket::Drop;
                return;
            }
            ExceptionPolicy::PassFlow => {
                flow.passed = true;
                return;
            }
            ExceptionPolicy::Bypass => FlowVerdict::Bypass,
            ExceptionPolicy::DropFlow => FlowVerdict::Drop,
            ExceptionPolicy::Reject => FlowVerdict::Reject,
        };
        Self::decide(flow, verdict, sink);
    }

    /// Gives a flow its verdict, once.
    fn decide(flow: &mut Flow, verdict: FlowVerdict, sink: &mut dyn Sink) {
        if flow.verdict == FlowVerdict::Inspect {
            flow.verdict = verdict;
            sink.verdict(flow, verdict);
        }
    }

    /// Lets the signatures look at a packet and its flow, says what they found, and tidies up.
    fn inspect(
        &mut self,
        packet: Option<&Packet<'_>>,
        flow: &mut Flow,
        direction: Direction,
        sink: &mut dyn Sink,
    ) -> PacketVerdict {
        let mut verdict = PacketVerdict::Pass;
        if flow.verdict == FlowVerdict::Inspect && !flow.passed && self.this_packet == ThisPacket::Inspect {
            self.alerts.clear();
            self.refresh(flow);
            self.detector.inspect(&mut self.worker, packet, Some(flow), direction, &mut self.alerts);
            verdict = self.act(packet, flow, direction, sink);
            self.inspect_behind_gaps(flow, direction, sink);
        } else {
            skip_streams(flow, direction);
        }
        let dropped = matches!(flow.verdict, FlowVerdict::Drop | FlowVerdict::Reject);
        if verdict == PacketVerdict::Pass && (dropped || self.this_packet == ThisPacket::Drop) {
            verdict = PacketVerdict::Drop;
        }
        if let Some(packet) = packet {
            self.report_anomalies(packet, Some(flow), direction, sink, flow.owner);
        }
        self.report_application_anomalies(flow, direction, sink);
        flow.app_events.retain(|(way, _)| *way != direction);
        if let Some(stream) = &mut flow.stream {
            trim(stream);
        }
        self.clean_transactions(flow, Some(direction), sink);
        control::release(flow);
        verdict
    }

    /// The matcher looks at a stream up to the next gap; the pieces behind follow one by one.
    fn inspect_behind_gaps(&mut self, flow: &mut Flow, direction: Direction, sink: &mut dyn Sink) {
        let waiting = |flow: &Flow| {
            let side = flow.stream.as_ref().and_then(|stream| stream.sides.get(direction as usize));
            side.filter(|side| !side.gaps.is_empty() && side.inspected < side.in_order).map(|side| side.inspected)
        };
        let mut before = None;
        while let Some(inspected) = waiting(flow) {
            // It always gets on; should it not, nothing is gained by asking again.
            if before.replace(inspected).is_some_and(|earlier| earlier >= inspected) {
                break;
            }
            self.alerts.clear();
            self.detector.inspect(&mut self.worker, None, Some(flow), direction, &mut self.alerts);
            self.act(None, flow, direction, sink);
        }
    }

    fn inspect_alone(&mut self, packet: &Packet<'_>, owner: Owner, sink: &mut dyn Sink) -> PacketVerdict {
        self.alerts.clear();
        self.detector.inspect(&mut self.worker, Some(packet), None, Direction::ToServer, &mut self.alerts);
        let verdict = self.report_alone(packet, owner, sink);
        self.report_anomalies(packet, None, Direction::ToServer, sink, owner);
        verdict
    }

    /// Does what the alerts of one inspection ask for.
    fn act(
        &mut self,
        packet: Option<&Packet<'_>>,
        flow: &mut Flow,
        direction: Direction,
        sink: &mut dyn Sink,
    ) -> PacketVerdict {
        if self.alerts.is_empty() {
            return PacketVerdict::Pass;
        }
        let mut verdict = PacketVerdict::Pass;
        let mut for_flow = None;
        for alert in &self.alerts {
            match alert.action {
                Action::Alert => {}
                Action::Pass => flow.passed |= alert.whole_flow,
                Action::Drop if !self.settings.inline => {}
                Action::Drop | Action::Reject => {
                    let (of_packet, of_flow) = if alert.action == Action::Drop {
                        (PacketVerdict::Drop, FlowVerdict::Drop)
                    } else {
                        (PacketVerdict::Reject, FlowVerdict::Reject)
                    };
                    if verdict == PacketVerdict::Pass {
                        verdict = of_packet;
                    }
                    if alert.whole_flow {
                        for_flow.get_or_insert(of_flow);
                    }
                }
            }
        }
        self.report_alerts(packet, flow, direction, verdict, sink);
        if let Some(verdict) = for_flow {
            Self::decide(flow, verdict, sink);
        }
        verdict
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

/// Two ends, each with its port, and the protocol between them.
type Ends = ((IpAddr, u16), (IpAddr, u16), u8);

/// A packet's ends and the protocol of its flow, if it belongs to one.
fn ends(packet: &Packet<'_>) -> Option<Ends> {
    let ip = packet.ip.as_ref()?;
    if packet.fragment.is_some() {
        return None;
    }
    let (from, to) = match &packet.transport {
        Transport::Icmp { kind, code, .. } => {
            let (request, reply) = icmp_pair(*kind, ip.source);
            // Request and reply belong together; the client's "port" is the request's type.
            if *kind == reply {
                ((ip.source, u16::from(*code)), (ip.destination, u16::from(request)))
            } else {
                ((ip.source, u16::from(request)), (ip.destination, u16::from(*code)))
            }
        }
        Transport::Other => ((ip.source, 0), (ip.destination, 0)),
        _ => {
            let ports = packet.ports();
            ((ip.source, ports.0), (ip.destination, ports.1))
        }
    };
    // Packets of TCP and UDP that could not be read have no flow.
    if matches!(packet.transport, Transport::Other) && matches!(ip.protocol, 1 | 6 | 17 | 58 | 132) {
        return None;
    }
    Some((from, to, ip.protocol))
}

/// The types of a request and its reply, for any of the two; a type that is neither stands for itself.
fn icmp_pair(kind: u8, address: IpAddr) -> (u8, u8) {
    match (kind, address) {
        (8 | 0, IpAddr::V4(_)) => (8, 0),
        (13 | 14, IpAddr::V4(_)) => (13, 14),
        (15 | 16, IpAddr::V4(_)) => (15, 16),
        (17 | 18, IpAddr::V4(_)) => (17, 18),
        (128 | 129, IpAddr::V6(_)) => (128, 129),
        (133 | 134, IpAddr::V6(_)) => (133, 134),
        (135 | 136, IpAddr::V6(_)) => (135, 136),
        _ => (kind, u8::MAX),
    }
}

/// Whether a packet opens a new connection between ends whose last one is over.
fn begins_anew(packet: &Packet<'_>, flow: &Flow) -> bool {
    let Transport::Tcp(tcp) = &packet.transport else { return false };
    let Some(stream) = &flow.stream else { return false };
    tcp.flags & (flag::SYN | flag::ACK | flag::RST) == flag::SYN && stream.tracker.state >= State::TimeWait
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

/// Counts stream bytes that no signature looks at as seen.
fn skip_streams(flow: &mut Flow, direction: Direction) {
    if let Some(side) = flow.stream.as_mut().and_then(|stream| stream.sides.get_mut(direction as usize)) {
        side.inspected = side.in_order;
    }
}

/// Lets go of stream bytes that nobody will look at again.
fn trim(stream: &mut Stream) {
    for side in &mut stream.sides {
        let oldest = side.inspected.max(side.in_order.saturating_sub(WINDOW_MAX));
        let useless = usize::try_from(oldest.saturating_sub(side.window_offset)).unwrap_or(usize::MAX);
        // In steps, so that bytes are seldom moved.
        if useless >= 2 * WINDOW_KEPT {
            let cut = (useless - WINDOW_KEPT).min(side.window.len());
            side.window.drain(..cut);
            side.window_offset += cut as u64;
            let border = side.window_offset;
            side.gaps.retain(|(at, _)| *at >= border);
        }
    }
}
