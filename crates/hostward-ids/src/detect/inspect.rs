//! One call of the engine: candidates among packets' and streams' signatures, verified, then transactions, then what
//! of all that is told.

use serde_json::{Map, Value};
use smallvec::SmallVec;

use super::index::{Searched, Short, TransportClass};
use super::matching::Run;
use super::scene::{Around, Notes, Scene, apply};
use super::signature::{Compiled, Kind};
use super::state::{FlowState, Store, WAITING, Worker};
use super::threshold::{Count, Outcome};
use super::{Action, Alert, Detector, packet as headers, transform};
use crate::Direction;
use crate::decode::{Packet, Transport};
use crate::flow::{Flow, Reassembled};
use crate::rules::pattern::Capture;
use crate::rules::test::Track;

/// Most candidates that are verified for one packet or one transaction's new bytes.
pub(super) const CANDIDATES: usize = 1024;
/// How many bytes are searched for the candidates of one call, all together.
const SEARCHED: usize = 64 << 20;
/// How far back from new stream bytes a match may begin.
const BEHIND: usize = 8 * 1024;

/// The SYN bit of TCP's flags.
const SYN: u8 = 0x02;

/// A match that thresholds have not seen yet.
#[derive(Clone, Debug)]
pub(super) struct Match {
    pub signature: u32,
    pub transaction: Option<u64>,
    pub from_stream: bool,
}

/// New bytes of a stream, with what of it may be looked at.
#[derive(Clone, Copy)]
pub(super) struct StreamView<'s> {
    /// What may be looked at.
    pub data: &'s [u8],
    /// Where the new bytes begin in it.
    pub new: usize,
    /// Its offset in the stream.
    pub offset: u64,
}

impl<'s> StreamView<'s> {
    fn new(side: &'s Reassembled) -> Option<Self> {
        // Up to the next gap; what lies behind it is looked at by itself.
        let (offset, data) = side.fresh(BEHIND as u64).next()?;
        let new = usize::try_from(side.inspected.saturating_sub(offset)).unwrap_or(usize::MAX).min(data.len());
        Some(Self { data, new, offset })
    }
}

/// What one inspection works with.
pub(super) struct Look<'l> {
    pub detector: &'l Detector,
    pub scene: Scene<'l>,
    pub worker: &'l mut Worker,
    pub state: Option<&'l mut FlowState>,
    pub matches: SmallVec<[Match; 8]>,
    /// Entropies that were computed in this call, the last of each buffer: transaction, buffer, value.
    pub entropies: Vec<(Option<u64>, &'static str, f64)>,
    /// How many bytes may yet be searched for candidates in this call.
    pub budget: usize,
    /// The transaction that is being looked at.
    pub transaction: Option<u64>,
    pub stream: Option<StreamView<'l>>,
}

impl Detector {
    pub(super) fn inspect_all(
        &self,
        worker: &mut Worker,
        packet: Option<&Packet<'_>>,
        mut flow: Option<&mut Flow>,
        direction: Direction,
        alerts: &mut SmallVec<[Alert; 4]>,
    ) {
        if worker.fits != self.number {
            if self.index.fit(&mut worker.scratch).is_err() {
                return;
            }
            worker.fits = self.number;
        }
        let mut state = flow.as_deref_mut().map(|flow| std::mem::take(&mut flow.detect));
        let mut app = flow.as_deref_mut().and_then(|flow| flow.app.take());
        if !state.as_ref().is_some_and(FlowState::passed) {
            let seen = flow.as_deref();
            let protocol = app
                .as_ref()
                .map(|app| app.protocol())
                .or_else(|| seen.and_then(|flow| flow.recognised[0].or(flow.recognised[1])));
            let scene = Scene::new(packet, seen, protocol, direction);
            let stream = seen
                .and_then(|flow| flow.stream.as_ref())
                .and_then(|stream| StreamView::new(&stream.sides[direction as usize]));
            let mut look = Look {
                detector: self,
                scene,
                worker,
                state: state.as_mut(),
                matches: SmallVec::new(),
                entropies: Vec::new(),
                budget: SEARCHED,
                transaction: None,
                stream,
            };
            look.packets();
            if let Some(app) = &mut app {
                look.transactions(app.transactions());
            }
            look.tell(alerts);
        }
        if let Some(flow) = flow {
            if let Some(stream) = &mut flow.stream {
                let side = &mut stream.sides[direction as usize];
                let seen = side.fresh(0).next().map(|(offset, data)| offset + data.len() as u64);
                side.inspected = side.inspected.max(seen.unwrap_or_default());
            }
            flow.app = app;
            flow.detect = state.unwrap_or_default();
        }
    }
}

impl Look<'_> {
    /// Signatures that look at packets, streams, flows.
    fn packets(&mut self) {
        let detector = self.detector;
        let index = &detector.index;
        let mut found = std::mem::take(&mut self.worker.found);
        found.clear();
        let way = self.scene.direction as usize;
        let class = match (self.scene.packet, self.scene.flow) {
            (Some(packet), _) => headers::class(packet),
            (None, Some(flow)) if flow.protocol == 6 => TransportClass::Tcp,
            _ => TransportClass::Other,
        };
        if let Some(packet) = self.scene.packet {
            self.packet_candidates(packet, class, &mut found);
        }
        if let Some(stream) = self.stream {
            let group = &index.streams[way];
            let from = stream.new.saturating_sub(group.longest.saturating_sub(1));
            let begin = found.len();
            self.scan(group, stream.data.get(from..).unwrap_or_default(), &mut found);
            if stream.offset == 0 {
                self.search(&index.stream_starts[way], stream.data, stream.new, &mut found);
            }
            self.shorts(stream.data, stream.new, &mut found);
            found.extend_from_slice(index.stream_always.get(class));
            if let Some(state) = self.state.as_deref_mut() {
                let now = stream.offset;
                state.waiting[way].retain(|(_, until)| *until >= now);
                let fresh = found.get(begin..).unwrap_or_default();
                let old: SmallVec<[u32; 4]> = state.waiting[way].iter().map(|(signature, _)| *signature).collect();
                for &signature in fresh {
                    let end = stream.offset + stream.data.len() as u64 + BEHIND as u64;
                    let waits = self.detector.compiled.get(signature as usize).is_some_and(Compiled::several_steps);
                    if waits && state.waiting[way].len() < WAITING && !old.contains(&signature) {
                        state.waiting[way].push((signature, end));
                    }
                }
                found.extend(old);
            }
        }
        found.sort_unstable();
        found.dedup();
        if found.len() > CANDIDATES * 8 {
            self.worker.counters.candidates_cut += (found.len() - CANDIDATES * 8) as u64;
            found.truncate(CANDIDATES * 8);
        }
        self.worker.of_payload.clear();
        for &signature in &found {
            self.packet_signature(signature);
        }
        self.worker.found = found;
    }

    fn packet_candidates(&mut self, packet: &Packet<'_>, class: TransportClass, found: &mut Vec<u32>) {
        let index = &self.detector.index;
        let way = self.scene.direction as usize;
        found.extend_from_slice(index.packet.get(class));
        if let Some((_, Some(port))) = self.scene.destination {
            found.extend(index.to_port.get(&port).into_iter().flatten());
        }
        if matches!(&packet.transport, Transport::Tcp(tcp) if tcp.flags & SYN != 0) {
            found.extend_from_slice(&index.syn);
        }
        for event in &packet.events {
            found.extend(index.decode_events.get(*event).into_iter().flatten());
        }
        let mut once = true;
        let mut protocol_once = false;
        if let (Some(flow), Some(state)) = (self.scene.flow, self.state.as_deref_mut()) {
            once = !std::mem::replace(&mut state.ip_only[way], true);
            if !state.protocol_only[way] && (flow.recognised[way].is_some() || flow.recognition_over[way]) {
                state.protocol_only[way] = true;
                protocol_once = true;
            }
            if let Some(stream) = &flow.stream {
                for event in &stream.events {
                    let name = event.strip_prefix("stream.").unwrap_or(event);
                    found.extend(index.stream_events.get(name).into_iter().flatten());
                }
            }
            if let Some(protocol) = self.scene.protocol {
                found.extend(index.application.get(&protocol).into_iter().flatten());
            }
            for (event_direction, event) in &flow.app_events {
                if *event_direction == self.scene.direction {
                    found.extend(index.events.get(*event).into_iter().flatten());
                }
            }
        }
        if once {
            found.extend_from_slice(index.ip_only.get(class));
        }
        if protocol_once {
            found.extend_from_slice(index.protocol_only.get(class));
        }
        if !packet.payload.is_empty() {
            self.search(&index.packets[class as usize][way], packet.payload, 0, found);
            // Packets that belong to no stream are looked at as if they were a piece of one.
            if !self.in_stream(packet) {
                if class == TransportClass::Tcp {
                    self.scan(&index.streams[way], packet.payload, found);
                    self.search(&index.stream_starts[way], packet.payload, 0, found);
                    self.shorts(packet.payload, 0, found);
                }
                found.extend_from_slice(index.stream_always.get(class));
            }
        }
    }

    /// Whether a packet's bytes are taken into a stream.
    fn in_stream(&self, packet: &Packet<'_>) -> bool {
        matches!(packet.transport, Transport::Tcp(_))
            && self.scene.flow.and_then(|flow| flow.stream.as_ref()).is_some_and(|stream| stream.taken)
    }

    /// Finds signatures of streams with short literals: first those whose header fits.
    fn shorts(&mut self, data: &[u8], before: usize, found: &mut Vec<u32>) {
        let detector = self.detector;
        self.short(&detector.index.stream_shorts[self.scene.direction as usize], data, before, found);
    }

    fn short(&self, shorts: &[Short], data: &[u8], before: usize, found: &mut Vec<u32>) {
        for short in shorts {
            let Some(signature) = self.detector.compiled.get(short.signature as usize) else { continue };
            if self.scene.header_fits(signature) && short.is_in(data, before) {
                found.push(short.signature);
            }
        }
    }

    /// Looks for literals in `data`, of which `before` bytes were looked at already.
    pub(super) fn search(&mut self, searched: &Searched, data: &[u8], before: usize, found: &mut Vec<u32>) {
        for (group, part) in searched.parts(data, before) {
            self.scan(group, part, found);
        }
        self.short(&searched.shorts, data, before, found);
    }

    fn scan(&mut self, group: &super::index::Group, data: &[u8], found: &mut Vec<u32>) {
        if group.is_empty() || data.is_empty() {
            return;
        }
        let Worker { scratch, hits, counters, .. } = &mut *self.worker;
        if !group.scan(data, scratch, hits, found) {
            counters.scans_cut += 1;
        }
    }

    /// Verifies one candidate that is about no transaction.
    fn packet_signature(&mut self, number: u32) {
        let Some(signature) = self.detector.compiled.get(number as usize) else { return };
        if signature.kind == Kind::Transaction {
            if signature.payload.is_empty() {
                self.flow_event_signature(number, signature);
            } else {
                self.worker.of_payload.push(number);
            }
            return;
        }
        if !self.scene.header_fits(signature)
            || !self.scene.packet_tests_hold(signature)
            || !self.scene.flow_tests_hold(signature, self.state.as_deref(), &self.worker.store)
        {
            return;
        }
        let mut notes = Notes::default();
        let mut numbers = [0; 32];
        if !self.packet_buffers_match(signature, &mut numbers, &mut notes) {
            return;
        }
        let Some(from_stream) = self.payload_matches(signature, &mut numbers, &mut notes) else { return };
        self.matched(number, signature, None, from_stream, notes);
    }

    /// A rule that asks for an event which belongs to the flow.
    fn flow_event_signature(&mut self, number: u32, signature: &Compiled) {
        if signature.buffers.is_empty()
            && self.scene.header_fits(signature)
            && self.scene.packet_tests_hold(signature)
            && self.scene.flow_tests_hold(signature, self.state.as_deref(), &self.worker.store)
        {
            self.matched(number, signature, None, false, Notes::default());
        }
    }

    pub(super) fn packet_buffers_match(
        &mut self,
        signature: &Compiled,
        numbers: &mut [u64; 32],
        notes: &mut Notes,
    ) -> bool {
        signature.packet_buffers.iter().all(|inspection| {
            let mut room = [0; 16];
            let Some(packet) = self.scene.packet else { return false };
            let Some(data) = headers::buffer(inspection.target, packet, &mut room) else { return false };
            let Some(data) = transform::run(&inspection.transforms, data) else { return false };
            self.steps_match(&inspection.steps, &data, numbers, false, notes).is_some()
        })
    }

    /// Whether the payload part holds, and whether in the stream: `Some(true)`, or in the packet: `Some(false)`.
    pub(super) fn payload_matches(
        &mut self,
        signature: &Compiled,
        numbers: &mut [u64; 32],
        notes: &mut Notes,
    ) -> Option<bool> {
        let Some(inspection) = signature.payload.first() else { return Some(false) };
        if signature.places.streams
            && let Some(stream) = self.stream
            && (stream.offset == 0 || !signature.positioned)
            && let Some(reached) = self.steps_match(&inspection.steps, stream.data, numbers, false, notes)
            && (reached > stream.new || reached == 0)
        {
            return Some(true);
        }
        let packet = self.scene.packet.filter(|packet| !packet.payload.is_empty())?;
        if signature.places.packets
            || (signature.places.streams && !self.in_stream(packet) && !tcp_stream_only(signature))
        {
            self.steps_match(&inspection.steps, packet.payload, numbers, false, notes)?;
            return Some(false);
        }
        None
    }

    /// Whether steps hold on some bytes, and how far into them they looked.
    pub(super) fn steps_match(
        &mut self,
        steps: &[super::step::Ready],
        data: &[u8],
        numbers: &mut [u64; 32],
        little_endian: bool,
        notes: &mut Notes,
    ) -> Option<usize> {
        let kept = notes.captures.len();
        let mut around = Around {
            sets: &self.detector.sets,
            store: &mut self.worker.store,
            tenant: self.scene.tenant,
            little_endian,
            notes,
        };
        let mut run = Run::new(data, *numbers, &mut around);
        let (matched, budget) = run.matches_within(steps, self.budget);
        let (reached, cut, result) = (run.reached, run.cut, run.numbers);
        self.budget = budget;
        self.worker.counters.verifications_cut += u64::from(cut);
        for (name, value) in notes.entropies.drain(..) {
            let key = (self.transaction, name);
            let mut known = self.entropies.iter_mut();
            if let Some(known) = known.find(|(transaction, known, _)| (*transaction, *known) == key) {
                known.2 = value;
            } else if self.entropies.len() < 64 {
                self.entropies.push((key.0, name, value));
            }
        }
        if matched {
            *numbers = result;
            Some(reached)
        } else {
            notes.captures.truncate(kept);
            None
        }
    }

    /// A signature matched in full: what it orders is done, and it is kept for telling.
    pub(super) fn matched(
        &mut self,
        number: u32,
        signature: &Compiled,
        transaction: Option<u64>,
        from_stream: bool,
        notes: Notes,
    ) {
        if let Some(state) = self.state.as_deref_mut() {
            if signature.kind == Kind::ProtocolOnly {
                if state.protocol_matched.contains(&number) {
                    return;
                }
                state.protocol_matched.push(number);
            }
            for (capture, value) in notes.captures {
                if let Capture::Flow(name) = capture {
                    state.capture(&name, &value);
                }
            }
        }
        apply(&signature.effects, &self.scene, self.state.as_deref_mut(), &mut self.worker.store);
        if signature.rule.no_alert && signature.action == Action::Alert {
            return;
        }
        self.matches.push(Match { signature: number, transaction, from_stream });
    }

    /// Orders the matches, asks thresholds, and hands over what is told.
    fn tell(mut self, alerts: &mut SmallVec<[Alert; 4]>) {
        self.matches.sort_by_key(|found| (found.signature, found.transaction));
        for found in std::mem::take(&mut self.matches) {
            let Some(signature) = self.detector.compiled.get(found.signature as usize) else { continue };
            let outcome = self.threshold(found.signature, signature);
            if outcome == Outcome::Nothing {
                self.worker.counters.suppressed += 1;
                continue;
            }
            let whole_flow = whole_flow(signature, found.from_stream);
            let pass = signature.action == Action::Pass;
            let told = outcome == Outcome::Told && !signature.rule.no_alert && (!pass || signature.rule.alert_anyway);
            if told || signature.action != Action::Alert {
                alerts.push(Alert {
                    signature: found.signature,
                    transaction: found.transaction,
                    action: signature.action,
                    from_stream: found.from_stream,
                    whole_flow,
                    silent: !told,
                    beside: self.beside(&found),
                    context: None,
                });
            }
            if pass {
                if whole_flow && let Some(state) = self.state.as_deref_mut() {
                    state.passed = true;
                }
                break;
            }
        }
    }

    /// What the event says of the flow's bits, integers and captures and of entropies.
    fn beside(&self, found: &Match) -> Option<Box<Map<String, Value>>> {
        let mut metadata = Map::new();
        let mut traffic: Map<String, Value> = Map::new();
        if let Some(state) = self.state.as_deref() {
            let mut bits = Vec::new();
            for name in state.bits().iter().filter_map(|&bit| self.detector.flow_bit_name(bit)) {
                let of_traffic = name.strip_prefix("traffic/").and_then(|rest| rest.split_once('/'));
                match of_traffic {
                    Some((kind @ ("id" | "label"), value)) => {
                        let list = traffic.entry(kind).or_insert_with(|| Value::Array(Vec::new()));
                        if let Value::Array(list) = list {
                            list.push(value.into());
                        }
                    }
                    _ => bits.push(Value::from(name)),
                }
            }
            if !bits.is_empty() {
                metadata.insert("flowbits".into(), Value::Array(bits));
            }
            let integers: Map<String, Value> =
                state.integers().map(|(name, value)| (name.into(), value.into())).collect();
            if !integers.is_empty() {
                metadata.insert("flowints".into(), Value::Object(integers));
            }
            let captures: Vec<Value> = state
                .captures()
                .map(|(name, value)| {
                    let value = String::from_utf8_lossy(value).into_owned();
                    Value::Object(Map::from_iter([(name.to_owned(), Value::String(value))]))
                })
                .collect();
            if !captures.is_empty() {
                metadata.insert("flowvars".into(), Value::Array(captures));
            }
        }
        let own = self.entropies.iter().filter(|(transaction, ..)| *transaction == found.transaction);
        let values: Map<String, Value> =
            own.map(|&(_, name, value)| (name.replace('.', "_"), Value::from(value))).collect();
        if !values.is_empty() {
            metadata.insert("entropy".into(), Value::Object(values));
        }
        let mut beside = Map::new();
        if !metadata.is_empty() {
            beside.insert("metadata".into(), Value::Object(metadata));
        }
        if !traffic.is_empty() {
            beside.insert("traffic".into(), Value::Object(traffic));
        }
        (!beside.is_empty()).then(|| Box::new(beside))
    }

    fn threshold(&mut self, number: u32, signature: &Compiled) -> Outcome {
        let Some(threshold) = signature.threshold() else { return Outcome::Told };
        let now = self.scene.now;
        if threshold.track == Track::Flow
            && let Some(state) = self.state.as_deref_mut()
        {
            return if let Some((_, count)) = state.thresholds.iter_mut().find(|(known, _)| *known == number) {
                count.matched(threshold, now)
            } else {
                let mut count = Count::default();
                let outcome = count.matched(threshold, now);
                if state.thresholds.len() < super::state::FLOW_VALUES {
                    state.thresholds.push((number, count));
                }
                outcome
            };
        }
        let ends = (self.scene.source.map(|end| end.0), self.scene.destination.map(|end| end.0));
        let Store { thresholds, .. } = &mut self.worker.store;
        let outcome = thresholds.matched(self.scene.tenant, number, threshold, ends, now);
        self.worker.counters.suppressed += u64::from(outcome == Outcome::Silent);
        outcome
    }
}

fn tcp_stream_only(signature: &Compiled) -> bool {
    signature.rule.header.layer == crate::rules::header::Layer::TcpStream || signature.rule.stream_only == Some(true)
}

/// Whether what a signature orders is for the rest of the flow: so for all but those that look at single packets.
fn whole_flow(signature: &Compiled, from_stream: bool) -> bool {
    match signature.kind {
        Kind::Packet => false,
        Kind::Stream => from_stream,
        Kind::IpOnly | Kind::ProtocolOnly | Kind::Application | Kind::Transaction => true,
    }
}
