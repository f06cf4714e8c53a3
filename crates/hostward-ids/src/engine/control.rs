//! What the caller may change and ask while the engine works.

use std::sync::Arc;

use super::{Engine, Stats};
use crate::detect::{Detector, FlowState, TransactionState, Worker};
use crate::flow::{Flow, FlowVerdict};

impl Engine {
    /// Matches other signatures from the next packet on. Flows keep what was reassembled and parsed of them; what the
    /// matcher remembered (bits, thresholds, which signatures spoke) begins anew, because its numbers are the set's own.
    pub fn set_detector(&mut self, detector: Arc<Detector>) {
        self.applications.suit(&detector, &self.settings);
        self.detector = detector;
        self.worker = Worker::default();
        self.generation = self.generation.wrapping_add(1);
    }

    /// Has the matcher forget what it knew of a flow by the numbers of an earlier set.
    pub(super) fn refresh(&self, flow: &mut Flow) {
        if flow.matched_by == self.generation {
            return;
        }
        flow.matched_by = self.generation;
        flow.detect = FlowState::default();
        for transaction in flow.app.iter_mut().flat_map(|parser| parser.transactions().iter_mut()) {
            transaction.detect = TransactionState::default();
        }
    }
}

/// Gives back what a connection held that both ends have closed: it stays in the table for some seconds, so that what comes
/// late is known, and a server of many short connections would hold gigabytes for them.
pub(super) fn release(flow: &mut Flow) {
    let Some(stream) = &mut flow.stream else { return };
    if !stream.tracker.sides.iter().all(|side| side.closed) {
        return;
    }
    for side in &mut stream.sides {
        if side.inspected >= side.in_order && side.window.capacity() > 0 {
            side.window = Vec::new();
            side.window_offset = side.in_order;
            side.gaps.clear();
        }
    }
    if flow.app.as_mut().is_some_and(|parser| parser.transactions().is_empty()) {
        flow.recognition_over = [true; 2];
        flow.app = None;
    }
}

/// How much of a stream whose protocol is not known is looked at, in each direction.
const UNKNOWN_LEN: u64 = 1 << 20;

/// Whether a flow can be given up: its protocol has said all that it will (TLS after its handshake, SSH after the exchange
/// of keys) and that was told, or nobody knows the protocol and much of the stream was looked at.
pub(super) fn nothing_more(flow: &mut Flow) -> bool {
    if flow.verdict != FlowVerdict::Inspect {
        return false;
    }
    if let Some(parser) = &mut flow.app {
        return parser.finished() && parser.transactions().is_empty();
    }
    let Some(stream) = &flow.stream else { return false };
    let over = |way: usize| flow.recognition_over[way] || stream.sides[way].in_order == 0;
    over(0)
        && over(1)
        && stream.sides.iter().any(|side| side.inspected >= UNKNOWN_LEN)
        && !stream.tracker.sides.iter().all(|side| side.closed)
}

impl Stats {
    /// The counters by name.
    #[must_use]
    pub fn by_name(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("frames", self.frames),
            ("bytes", self.bytes),
            ("invalid", self.invalid),
            ("flows", self.flows),
            ("alerts", self.alerts),
            ("alerts_suppressed", self.alerts_suppressed),
            ("transactions", self.transactions),
            ("dropped", self.dropped),
            ("flows_evicted", self.flows_evicted),
            ("reassembly_no_memory", self.reassembly_no_memory),
            ("gaps", self.gaps),
        ]
    }
}
