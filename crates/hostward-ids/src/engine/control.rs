//! What the caller may change and ask while the engine works.

use std::sync::Arc;

use super::{Engine, Stats};
use crate::detect::{Detector, Worker};

impl Engine {
    /// Matches other signatures from the next packet on. Flows keep what was reassembled and parsed of them; what the
    /// matcher remembered (bits, thresholds, which signatures spoke) begins anew, because its numbers are the set's own.
    pub fn set_detector(&mut self, detector: Arc<Detector>) {
        self.detector = detector;
        self.worker = Worker::default();
        self.generation += 1;
    }
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
