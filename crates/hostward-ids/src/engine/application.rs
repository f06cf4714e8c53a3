//! Application protocols of flows: recognised, fed, handed over, and tidied up.

use std::collections::HashMap;
use std::net::IpAddr;

use super::{Engine, Settings};
use crate::Direction;
use crate::app::recognise::{Recognition, recognise};
use crate::app::{Expected, HandOver, Limits, Protocol, Stage, parser_for};
use crate::app::{ftp, http2};
use crate::decode::Packet;
use crate::detect::Detector;
use crate::flow::tcp::Piece;
use crate::flow::{Flow, Owner, Probe, Stream};

use super::Sink;

/// So many first bytes are looked at before a direction is given up.
const PROBE_MAX: usize = 4096;
/// How many flows may be announced and not begun.
const ANNOUNCED_MAX: usize = 4096;
/// How often the bytes of one piece can change their protocol.
const HAND_OVERS_MAX: usize = 2;

/// What all flows share.
pub(super) struct Applications {
    limits: Limits,
    disabled: Vec<Protocol>,
    announced: HashMap<(IpAddr, u16, u32), Expected, ahash::RandomState>,
}

impl Applications {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { limits: settings.limits.clone(), disabled: settings.disabled.clone(), announced: HashMap::default() }
    }

    /// Has parsers do, from the next flow on, what costs something and only some signatures ask for.
    pub(super) fn suit(&mut self, detector: &Detector, settings: &Settings) {
        self.limits.file_digests = settings.limits.file_digests || detector.wants_file_digests();
        self.limits.frames = settings.limits.frames || detector.wants_frames();
    }

    /// What another flow announced for a flow between these ends.
    pub(super) fn announced(&mut self, from: (IpAddr, u16), to: (IpAddr, u16), owner: Owner) -> Option<Expected> {
        if self.announced.is_empty() {
            return None;
        }
        let mut find = |end: (IpAddr, u16)| self.announced.remove(&(end.0, end.1, owner.endpoint));
        find(to).or_else(|| find(from))
    }

    fn announce(&mut self, server: IpAddr, owner: Owner, expected: Expected) {
        if self.announced.len() >= ANNOUNCED_MAX {
            // Whoever announces so much does not mean it.
            self.announced.clear();
        }
        let address = expected.address.unwrap_or(server);
        self.announced.insert((address, expected.port, owner.endpoint), expected);
    }
}

impl Engine {
    /// Takes the next bytes of a stream.
    pub(super) fn deliver(
        &mut self,
        flow: &mut Flow,
        stream: &mut Stream,
        direction: Direction,
        piece: Piece<'_>,
        sink: &mut dyn Sink,
    ) {
        let Some(side) = stream.sides.get_mut(direction as usize) else { return };
        match piece {
            Piece::Data(data, number) => {
                self.parsed_number = number;
                side.window.extend_from_slice(data);
                side.in_order += data.len() as u64;
                self.bytes(flow, by_bytes(flow, direction), data, sink);
            }
            Piece::Gap(len) => {
                self.stats.gaps += 1;
                stream.events.push("stream.reassembly_seq_gap");
                side.gap(len);
                stream.tracker.pair(direction).0.gaps = true;
                gap(flow, by_bytes(flow, direction), usize::try_from(len).unwrap_or(usize::MAX));
            }
        }
    }

    /// Takes one datagram, and says which way it goes: it may show that who was seen first is the server.
    pub(super) fn datagram(
        &mut self,
        packet: &Packet<'_>,
        flow: &mut Flow,
        mut direction: Direction,
        sink: &mut dyn Sink,
    ) -> Direction {
        if packet.payload.is_empty() {
            return direction;
        }
        if flow.app.is_none() && !flow.recognition_over[direction as usize] {
            match recognise(17, direction, flow.server.1, packet.payload) {
                Recognition::Found(protocol) => self.begin(flow, direction, protocol),
                Recognition::Reversed(protocol) => {
                    if flow.packets.contains(&0) {
                        flow.exchange();
                        direction = direction.reversed();
                    }
                    self.begin(flow, direction, protocol);
                }
                Recognition::More => {}
                Recognition::Unknown => flow.recognition_over[direction as usize] = true,
            }
        }
        self.parsed_number = packet.number;
        self.parse(flow, direction, packet.payload, sink);
        direction
    }

    fn bytes(&mut self, flow: &mut Flow, mut direction: Direction, data: &[u8], sink: &mut dyn Sink) {
        let mut way = direction as usize;
        if flow.recognition_over[way] {
            self.parse(flow, direction, data, sink);
            return;
        }
        if flow.announced.is_some() {
            // What it carries can have been said after it was opened, as by RETR after PASV.
            if let Some(said_since) = self.applications.announced(flow.client, flow.server, flow.owner) {
                flow.announced = Some(said_since);
            }
            let protocol = flow.announced.as_ref().map(|announced| announced.protocol);
            flow.recognition_over = [true; 2];
            if let Some(protocol) = protocol {
                self.begin(flow, direction, protocol);
            }
            self.parse(flow, direction, data, sink);
            return;
        }
        let mut probe = flow.probe.take().unwrap_or_default();
        probe.first.get_or_insert(direction);
        let waiting = !probe.data[way].is_empty();
        let kept = if waiting {
            probe.data[way].extend_from_slice(data);
            std::mem::take(&mut probe.data[way])
        } else {
            Vec::new()
        };
        let known = if waiting { kept.as_slice() } else { data };
        let recognition = match recognise(6, direction, flow.server.1, known) {
            Recognition::Found(protocol) | Recognition::Reversed(protocol)
                if self.applications.disabled.contains(&protocol) =>
            {
                Recognition::Unknown
            }
            Recognition::More if known.len() >= PROBE_MAX => Recognition::Unknown,
            other => other,
        };
        match recognition {
            Recognition::More if flow.app.is_none() => {
                probe.data[way] = if waiting { kept } else { known.to_vec() };
                flow.probe = Some(probe);
                return;
            }
            Recognition::More => {}
            Recognition::Found(protocol) | Recognition::Reversed(protocol) => {
                let first = flow.app.is_none() && flow.recognised == [None; 2];
                if matches!(recognition, Recognition::Reversed(_)) && first && flow.midstream {
                    // Picked up midway, the flow may have been seen first from its server.
                    flow.reversed = !flow.reversed;
                    probe.data.swap(0, 1);
                    flow.recognition_over.swap(0, 1);
                    direction = direction.reversed();
                    way = direction as usize;
                }
                flow.recognition_over[way] = true;
                flow.recognised[way] = Some(protocol);
                let other = flow.recognised[1 - way];
                if other.is_some_and(|other| other != protocol) {
                    flow.app_events.push((direction, "applayer_mismatch_protocol_both_directions"));
                }
                if flow.app.is_none() {
                    self.begin(flow, direction, protocol);
                    self.replay(flow, direction, &mut probe, sink);
                }
            }
            Recognition::Unknown => {
                flow.recognition_over[way] = true;
                if flow.app.is_some() {
                    flow.app_events.push((direction, "applayer_detect_protocol_only_one_direction"));
                } else if !flow.recognition_over[1 - way] {
                    // The other direction may still tell; then these bytes are parsed as well.
                    probe.data[way] = if waiting { kept } else { known.to_vec() };
                    flow.probe = Some(probe);
                    return;
                }
            }
        }
        self.parse(flow, direction, known, sink);
        if flow.app.is_none() && !flow.recognition_over[1 - way] {
            flow.probe = Some(probe);
        }
    }

    /// Gives a new parser what the other direction sent before it was known.
    fn replay(&mut self, flow: &mut Flow, direction: Direction, probe: &mut Probe, sink: &mut dyn Sink) {
        let other = direction.reversed();
        let earlier = std::mem::take(&mut probe.data[other as usize]);
        if !earlier.is_empty() {
            self.parse(flow, other, &earlier, sink);
        }
    }

    fn begin(&mut self, flow: &mut Flow, direction: Direction, protocol: Protocol) {
        if self.applications.disabled.contains(&protocol) {
            return;
        }
        flow.recognised[direction as usize] = Some(protocol);
        let limits = &self.applications.limits;
        flow.app = Some(match &flow.announced {
            Some(announced) if protocol == Protocol::FtpData => Box::new(ftp::data::new(limits, Some(announced))),
            _ => parser_for(protocol, flow.protocol, limits),
        });
    }

    fn parse(&mut self, flow: &mut Flow, direction: Direction, data: &[u8], sink: &mut dyn Sink) {
        let mut rest = self.parse_once(flow, direction, data, sink);
        // What lay behind the old protocol's last bytes is the new one's. Not for ever: a stream can claim to change its
        // protocol as often as it likes.
        for _ in 0..HAND_OVERS_MAX {
            if rest.is_empty() {
                return;
            }
            let bytes = std::mem::take(&mut rest);
            rest = self.parse_once(flow, direction, &bytes, sink);
        }
    }

    fn parse_once(&mut self, flow: &mut Flow, direction: Direction, data: &[u8], sink: &mut dyn Sink) -> Vec<u8> {
        let Some(app) = flow.app.as_mut().filter(|_| !flow.app_failed) else { return Vec::new() };
        let simulated = self.settings.fail_parser_at[direction as usize].is_some();
        let before = app.protocol();
        let failed = app.parse(direction, data).is_err() || simulated;
        // HTTP/2 can turn out to carry DNS.
        if app.protocol() != before {
            flow.recognised = [Some(app.protocol()); 2];
            flow.recognition_over = [true; 2];
            flow.detect.protocol_changes();
        }
        let way = direction as usize;
        for transaction in app.transactions().iter_mut().rev() {
            let come_to = transaction.progress[way];
            let moved = &mut transaction.moved[way];
            if moved.1 == Stage::Complete {
                break;
            }
            if moved.0 == 0 || moved.1 != come_to {
                *moved = (self.parsed_number, come_to);
            }
        }
        self.after_parsing(flow, failed, sink)
    }

    /// A parser failed: what it has parsed stays, nothing more is fed to it.
    fn give_up(&mut self, flow: &mut Flow, sink: &mut dyn Sink) {
        flow.app_failed = true;
        let policy = self.settings.policy(self.settings.app_error_policy);
        self.except(policy, flow, sink);
    }

    /// Takes what parsing led to; gives the bytes that a new parser is to take.
    fn after_parsing(&mut self, flow: &mut Flow, failed: bool, sink: &mut dyn Sink) -> Vec<u8> {
        let Some(app) = &mut flow.app else { return Vec::new() };
        flow.app_events.extend(app.take_events());
        while let Some(expected) = app.expected() {
            let server = flow.server.0;
            self.applications.announce(server, flow.owner, expected);
        }
        let Some(app) = &mut flow.app else { return Vec::new() };
        let handed = app.hand_over();
        let rest = if handed.is_some() { app.take_rest() } else { Vec::new() };
        if failed {
            self.give_up(flow, sink);
        }
        let Some(handed) = handed else { return Vec::new() };
        // What the old parser has is inspected and told before it goes.
        for direction in [Direction::ToServer, Direction::ToClient] {
            self.inspect(None, flow, direction, sink);
        }
        self.clean_transactions(flow, None, sink);
        flow.original = flow.original.or(flow.recognised[0]).or(flow.recognised[1]);
        flow.detect.protocol_changes();
        match handed {
            HandOver::Recognise => {
                flow.app = None;
                flow.recognised = [None; 2];
                flow.recognition_over = [false; 2];
            }
            HandOver::To(protocol) => {
                flow.recognised = [Some(protocol); 2];
                flow.recognition_over = [true; 2];
                flow.app = Some(parser_for(protocol, flow.protocol, &self.applications.limits));
            }
            HandOver::Http2(upgrade) => {
                flow.recognised = [Some(Protocol::Http2); 2];
                flow.recognition_over = [true; 2];
                flow.app = Some(Box::new(http2::upgraded(&self.applications.limits, &upgrade)));
            }
        }
        flow.app_failed = false;
        rest
    }

    /// Nothing more comes from one side.
    pub(super) fn close_direction(&mut self, flow: &mut Flow, direction: Direction, sink: &mut dyn Sink) {
        if let Some(app) = &mut flow.app {
            app.close(direction);
            self.after_parsing(flow, false, sink);
        }
    }
}

/// Which way bytes go, as the flow will have it once the packet was followed.
pub(super) fn by_bytes(flow: &Flow, direction: Direction) -> Direction {
    if flow.reversed { direction.reversed() } else { direction }
}

/// Bytes are missing here.
fn gap(flow: &mut Flow, direction: Direction, len: usize) {
    match &mut flow.app {
        // No fault of the parser's or of the ends': only what comes later is lost.
        Some(app) => flow.app_failed |= app.gap(direction, len).is_err(),
        None => flow.recognition_over[direction as usize] = true,
    }
}
