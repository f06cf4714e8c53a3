//! TCP flows: what a packet adds to its stream, and what of it is handed over.

use super::{Engine, Sink, application};
use crate::Direction;
use crate::decode::{self, Packet};
use crate::flow::tcp::reassembly::Insertion;
use crate::flow::tcp::{Piece, State, flag};
use crate::flow::{Flow, Stream};

/// How many stream bytes behind those already inspected are kept for matches across the border.
const WINDOW_KEPT: usize = 4 * 1024;
/// How many stream bytes are kept for a matcher that does not look at them.
const WINDOW_MAX: u64 = 256 * 1024;

impl Engine {
    pub(super) fn tcp(
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
    pub(super) fn hand_over(
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
        // The usual case: nothing waits, and nothing is missing.
        if side.bytes.waiting() == 0 && acknowledged <= side.bytes.handed() && side.fin.is_none() && !force {
            return;
        }
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
}

/// Counts stream bytes that no signature looks at as seen.
pub(super) fn skip_streams(flow: &mut Flow, direction: Direction) {
    if let Some(side) = flow.stream.as_mut().and_then(|stream| stream.sides.get_mut(direction as usize)) {
        side.inspected = side.in_order;
    }
}

/// Lets go of stream bytes that nobody will look at again.
pub(super) fn trim(stream: &mut Stream) {
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
