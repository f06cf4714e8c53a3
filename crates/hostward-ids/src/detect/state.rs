//! What the matcher remembers: of transactions, of flows, and what a thread needs.

use smallvec::SmallVec;

use super::bits::HostBits;
use super::datasets::Changes;
use super::threshold::{Count, Thresholds};
use super::vectorscan::Scratch;
use crate::app::Stage;

/// Most bits, integers and captures of one flow.
pub const FLOW_VALUES: usize = 128;
/// Most signatures that wait for more of a stream.
pub const WAITING: usize = 64;

/// What the matcher remembers of a transaction: which signatures alerted, which cannot match any more.
#[derive(Debug, Default)]
pub struct TransactionState {
    /// How much of each buffer was looked at: length, and whether it was complete.
    pub(super) seen: SmallVec<[(u32, bool); 24]>,
    /// What became of candidates: for each direction, and for those that cover both.
    pub(super) lists: [Candidates; 3],
    /// Whether each direction was looked at.
    pub(super) begun: [bool; 2],
    /// How many of its events were looked at, by direction of the look.
    pub(super) events: [u16; 2],
    /// How far it was, when last looked at.
    pub(super) progress: [Option<Stage>; 2],
    /// How much of each file was looked at: length, whether it was closed, whether it had a name.
    pub(super) files: Vec<(u32, bool, bool)>,
    /// How many files were closed, by direction of the look.
    pub(super) digests: [u16; 2],
    /// How many numbers it had, by direction of the look.
    pub(super) integers: [u16; 2],
}

/// Signatures that may match in a transaction.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// Those that neither matched nor failed yet.
    pub pending: Vec<Pending>,
    /// Those that did.
    pub done: Vec<u32>,
}

/// A signature that may match yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub signature: u32,
    /// Which of its buffers matched: a bit each.
    pub matched: u64,
    /// Whether its payload part matched.
    pub payload: bool,
}

/// What the matcher remembers of a flow: flowbits, flow integers, per-flow thresholds.
#[derive(Debug, Default)]
pub struct FlowState {
    /// Flow bits that are set, by number.
    pub(super) bits: SmallVec<[u32; 4]>,
    /// Flow integers.
    pub(super) integers: Vec<(Box<str>, u32)>,
    /// What patterns captured: name and value.
    pub(super) captures: Vec<(Box<str>, Box<[u8]>)>,
    /// Thresholds that count for each flow.
    pub(super) thresholds: Vec<(u32, Count)>,
    /// Whether signatures that ask for addresses only were looked at, by direction.
    pub(super) ip_only: [bool; 2],
    /// Likewise those that ask for the protocol only.
    pub(super) protocol_only: [bool; 2],
    /// Those of them that matched: one that names no direction is told once.
    pub(super) protocol_matched: SmallVec<[u32; 4]>,
    /// Whether a pass rule covers all of it.
    pub(super) passed: bool,
    /// Signatures whose literal was seen in a stream, and where: the rest may follow.
    pub(super) waiting: [SmallVec<[(u32, u64); 2]>; 2],
}

impl FlowState {
    /// Says that the flow goes on with another protocol: signatures that ask for it are looked at anew.
    pub fn protocol_changes(&mut self) {
        self.protocol_only = [false; 2];
    }

    /// Whether a rule ordered to let the rest of the flow pass without inspection.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.passed
    }

    /// What patterns captured for the flow: name and value.
    pub fn captures(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.captures.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Its integers.
    pub fn integers(&self) -> impl Iterator<Item = (&str, u32)> {
        self.integers.iter().map(|(name, value)| (&**name, *value))
    }

    /// Its bits by number; see [`super::Detector::flow_bit_name`].
    #[must_use]
    pub fn bits(&self) -> &[u32] {
        &self.bits
    }

    pub(super) fn integer(&self, name: &str) -> Option<u32> {
        self.integers.iter().find(|(known, _)| &**known == name).map(|&(_, value)| value)
    }

    pub(super) fn set_integer(&mut self, name: &str, value: u32) {
        if let Some((_, place)) = self.integers.iter_mut().find(|(known, _)| &**known == name) {
            *place = value;
        } else if self.integers.len() < FLOW_VALUES {
            self.integers.push((name.into(), value));
        }
    }

    pub(super) fn capture(&mut self, name: &str, value: &[u8]) {
        let value = value.get(..256).unwrap_or(value);
        if let Some((_, place)) = self.captures.iter_mut().find(|(known, _)| &**known == name) {
            *place = value.into();
        } else if self.captures.len() < FLOW_VALUES {
            self.captures.push((name.into(), value.into()));
        }
    }
}

/// What one thread needs beside the set: scratch space of the multi-pattern matcher, thresholds by address.
#[derive(Debug, Default)]
pub struct Worker {
    pub(super) scratch: Scratch,
    /// Which detector the scratch space fits.
    pub(super) fits: u64,
    pub(super) hits: Vec<u32>,
    pub(super) found: Vec<u32>,
    /// Signatures of transactions whose literal the payload of this call has.
    pub(super) of_payload: Vec<u32>,
    pub(super) judged: Vec<Pending>,
    pub(super) store: Store,
    pub(super) counters: Counters,
}

/// What is remembered across flows.
#[derive(Debug, Default)]
pub struct Store {
    pub(super) thresholds: Thresholds,
    pub(super) host_bits: HostBits,
    pub(super) sets: Changes,
}

/// How often limits cut something short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Scans with more literals than are looked at.
    pub scans_cut: u64,
    /// Signatures whose verification took too many attempts.
    pub verifications_cut: u64,
    /// Candidates beyond those verified for one transaction or packet.
    pub candidates_cut: u64,
    /// Matches that thresholds kept back.
    pub suppressed: u64,
}

impl Worker {
    /// What was cut short so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }
}
