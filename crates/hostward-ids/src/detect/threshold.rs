//! Thresholds: which of many matches become alerts. Counted for each tenant, in bounded memory.

use std::net::IpAddr;

use ahash::AHashMap;

use crate::decode::Nanos;
use crate::rules::test::{Threshold, ThresholdKind, Track};

/// Most counts that are kept at a time; beyond, those that began first go.
const COUNTS: usize = 128 << 10;

/// What is counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    tenant: u32,
    signature: u32,
    ends: [Option<IpAddr>; 2],
}

/// One count, and when its interval began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    began: Nanos,
    matches: u32,
    next: u64,
}

/// All counts that belong to no flow.
#[derive(Debug, Default)]
pub struct Thresholds {
    counts: AHashMap<Key, Count>,
}

/// Whether a match becomes an alert: `Alert`, or only its action is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Told.
    Told,
    /// Not told, but what the rule orders is done (`limit`, `both`).
    Silent,
    /// As if it had not matched (`detection_filter`, `threshold`).
    Nothing,
}

impl Count {
    /// Counts one match.
    pub fn matched(&mut self, threshold: &Threshold, now: Nanos) -> Outcome {
        let interval = u64::from(threshold.seconds) * 1_000_000_000;
        if let ThresholdKind::Backoff { multiplier } = threshold.kind {
            self.matches = self.matches.saturating_add(1);
            if self.next == 0 {
                self.next = u64::from(threshold.count);
            }
            if u64::from(self.matches) == self.next {
                self.next = self.next.saturating_mul(u64::from(multiplier));
                return Outcome::Told;
            }
            return Outcome::Silent;
        }
        if self.matches == 0 || now.saturating_sub(self.began) > interval {
            self.began = now;
            self.matches = 0;
        }
        self.matches = self.matches.saturating_add(1);
        match threshold.kind {
            ThresholdKind::Limit if self.matches <= threshold.count => Outcome::Told,
            ThresholdKind::Both if self.matches == threshold.count => Outcome::Told,
            ThresholdKind::Both if self.matches < threshold.count => Outcome::Nothing,
            ThresholdKind::Threshold if self.matches >= threshold.count => {
                self.matches = 0;
                Outcome::Told
            }
            ThresholdKind::Filter if self.matches > threshold.count => Outcome::Told,
            ThresholdKind::Limit | ThresholdKind::Both => Outcome::Silent,
            _ => Outcome::Nothing,
        }
    }
}

impl Thresholds {
    /// Counts one match of a signature between two hosts.
    pub fn matched(
        &mut self,
        tenant: u32,
        signature: u32,
        threshold: &Threshold,
        (source, destination): (Option<IpAddr>, Option<IpAddr>),
        now: Nanos,
    ) -> Outcome {
        let ends = match threshold.track {
            Track::Source => [source, None],
            Track::Destination => [None, destination],
            Track::Both | Track::Flow => [source, destination],
            Track::Rule => [None, None],
        };
        if self.counts.len() >= COUNTS {
            let mut began: Vec<Nanos> = self.counts.values().map(|count| count.began).collect();
            let middle = began.len() / 2;
            let (_, &mut median, _) = began.select_nth_unstable(middle);
            self.counts.retain(|_, count| count.began > median);
        }
        self.counts.entry(Key { tenant, signature, ends }).or_default().matched(threshold, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: ThresholdKind, count: u32, seconds: u32, times_s: &[u64]) -> Vec<bool> {
        let threshold = Threshold { kind, track: Track::Source, count, seconds };
        let mut state = Count::default();
        times_s.iter().map(|time| state.matched(&threshold, time * 1_000_000_000) == Outcome::Told).collect()
    }

    #[test]
    fn each_kind_counts_its_way() {
        assert_eq!(told(ThresholdKind::Limit, 2, 60, &[0, 1, 2, 100]), [true, true, false, true]);
        assert_eq!(told(ThresholdKind::Threshold, 2, 60, &[0, 1, 2, 3]), [false, true, false, true]);
        assert_eq!(told(ThresholdKind::Both, 2, 60, &[0, 1, 2, 3]), [false, true, false, false]);
        assert_eq!(told(ThresholdKind::Filter, 2, 60, &[0, 1, 2, 3, 100]), [false, false, true, true, false]);
        let backoff = ThresholdKind::Backoff { multiplier: 10 };
        let told = told(backoff, 1, 0, &[0; 12]);
        assert_eq!(told.iter().filter(|told| **told).count(), 2);
        assert!(told[0] && told[9]);
    }

    #[test]
    fn the_table_is_bounded() {
        let threshold = Threshold { kind: ThresholdKind::Limit, track: Track::Source, count: 1, seconds: 60 };
        let mut table = Thresholds::default();
        for n in 0..(COUNTS as u32 + 1000) {
            let source = Some(IpAddr::from(n.to_be_bytes()));
            table.matched(0, 1, &threshold, (source, None), u64::from(n));
        }
        assert!(table.counts.len() <= COUNTS);
    }
}
