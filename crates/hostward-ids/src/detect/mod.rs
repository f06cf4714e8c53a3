//! Matching: compiled signatures against packets, streams and transactions.
//!
//! [`Detector::build`] compiles rules once for all threads and tenants. For each packet [`Detector::inspect`] first finds
//! candidates: signatures whose strongest literal is in what is new, and the few that have none; only those are verified.

mod bits;
mod build;
mod cache;
mod datasets;
mod field;
mod index;
mod inspect;
mod matching;
mod packet;
mod scene;
mod signature;
mod state;
mod step;
mod threshold;
mod transaction;
mod transform;
mod vectorscan;

use serde_json::{Map, Value};
use smallvec::SmallVec;

pub use build::{BuildError, BuildOptions};
pub use state::{Counters, FlowState, TransactionState, Worker};

use crate::Direction;
use crate::app::buffer::Buffer;
use crate::decode::Packet;
use crate::flow::Flow;

/// One signature's facts that the outside needs.
#[derive(Debug, Default)]
pub struct Signature {
    /// Its number; EVE's `signature_id`.
    pub id: u32,
    /// The generator's number, 1 unless the rule says otherwise.
    pub gid: u32,
    /// Its revision.
    pub revision: u32,
    /// Its message; EVE's `signature`.
    pub message: String,
    /// Its class in words, empty if it has none; EVE's `category`.
    pub category: String,
    /// 1 is the gravest; EVE's `severity`.
    pub priority: u8,
    /// What the rule orders.
    pub action: Action,
    /// EVE's `metadata`: every key with its values; empty if there are none.
    pub metadata: Map<String, Value>,
    /// References as addresses.
    pub references: Vec<String>,
}

/// One file of rules, already read.
#[derive(Debug, Clone, Copy)]
pub struct RuleFile<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
}

/// A compiled set of signatures; shared by every thread and tenant.
#[derive(Debug, Default)]
pub struct Detector {
    /// Different for each one that was made, so that a [`Worker`] sees when it has to fit another.
    number: u64,
    /// What the outside needs of each, by index.
    signatures: Vec<Signature>,
    /// What the matcher needs, likewise. The order is that of [`signature::order`].
    compiled: Vec<signature::Compiled>,
    index: index::Index,
    sets: datasets::DataSets,
    flow_bits: signature::Names,
    /// Whether files' digests are asked for.
    digests: bool,
    /// Whether a signature drops or rejects, and so has to see everything before it passes.
    decides: bool,
}

/// What signatures found, by their index in the [`Detector`].
#[derive(Debug, Clone, Default)]
pub struct Alert {
    /// Which signature.
    pub signature: u32,
    /// Within which transaction, by its id, if it looked into one.
    pub transaction: Option<u64>,
    /// What the rule orders.
    pub action: Action,
    /// Whether what matched came out of the reassembled stream rather than out of the packet.
    pub from_stream: bool,
    /// Whether a drop or a pass holds for the whole flow: the signature looks at addresses and ports alone, at the stream,
    /// or at a transaction. Otherwise it holds for the packet.
    pub whole_flow: bool,
    /// Whether it is not to be told (`noalert`, a pass rule without `alert`, a threshold): only its action counts.
    pub silent: bool,
    /// Members beside `alert` in the event: `metadata` (flowbits, entropy), `traffic`.
    pub beside: Option<Box<Map<String, Value>>>,
    /// `context` within `alert`: what data sets know of the values that matched.
    pub context: Option<Box<Map<String, Value>>>,
}

/// What a signature does when it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum Action {
    #[default]
    Alert,
    Pass,
    Drop,
    Reject,
}

impl Detector {
    /// A signature by the index that an [`Alert`] has.
    #[must_use]
    pub fn signature(&self, index: u32) -> Option<&Signature> {
        self.signatures.get(index as usize)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.signatures.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.signatures.is_empty()
    }

    /// Whether a signature asks for digests of files, so that parsers have to compute them.
    #[must_use]
    pub fn wants_file_digests(&self) -> bool {
        self.digests
    }

    /// Whether a signature looks at frames, so that parsers have to keep them.
    #[must_use]
    pub fn wants_frames(&self) -> bool {
        let frames = [Buffer::HttpRequestFrame, Buffer::HttpResponseFrame];
        let mut targets = self.compiled.iter().flat_map(|signature| signature.buffers.iter().map(|one| one.target));
        targets.any(|target| frames.contains(&target))
    }

    /// A flow bit's name, by a number of [`FlowState::bits`].
    #[must_use]
    pub fn flow_bit_name(&self, bit: u32) -> Option<&str> {
        self.flow_bits.name(bit)
    }

    /// Restricts a signature to rule profiles, a bit of the mask each; bit 0 is the profile of all rules.
    pub fn set_profiles(&mut self, index: u32, mask: u64) {
        if let Some(compiled) = self.compiled.get_mut(index as usize) {
            compiled.profiles = mask | 1;
        }
    }

    /// Inspects a packet, and what its flow gained by it: stream bytes, transactions, events.
    ///
    /// Called once for a packet, after reassembly and parsing; `direction` is the packet's within its flow. With
    /// `packet` `None` only the flow's transactions and streams are looked at (its end). Transactions and streams are
    /// looked at in `direction` only.
    pub fn inspect(
        &self,
        worker: &mut Worker,
        packet: Option<&Packet<'_>>,
        flow: Option<&mut Flow>,
        direction: Direction,
        alerts: &mut SmallVec<[Alert; 4]>,
    ) {
        if !self.compiled.is_empty() {
            self.inspect_all(worker, packet, flow, direction, alerts);
        }
    }
}

#[cfg(test)]
mod tests;
