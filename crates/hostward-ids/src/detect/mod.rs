//! Matching: compiled signatures against packets, streams and transactions.

use serde_json::{Map, Value};
use smallvec::SmallVec;

use crate::Direction;
use crate::decode::Packet;
use crate::flow::Flow;

/// What the matcher remembers of a transaction: which signatures alerted, which cannot match any more.
#[derive(Debug, Default)]
pub struct TransactionState {}

/// What the matcher remembers of a flow: flowbits, flow integers, per-flow thresholds.
#[derive(Debug, Default)]
pub struct FlowState {}

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
    signatures: Vec<Signature>,
}

/// What one thread needs beside the set: scratch space of the multi-pattern matcher, thresholds by address.
#[derive(Debug, Default)]
pub struct Worker {}

/// What signatures found, by their index in the [`Detector`].
#[derive(Debug, Clone, Default)]
pub struct Alert {
    /// Which signature.
    pub signature: u32,
    /// Within which transaction, by its id, if it looked into one.
    pub transaction: Option<u64>,
    /// Whether the packet (and by its rule the flow) is to be dropped.
    pub action: Action,
    /// Whether what matched came out of the reassembled stream rather than out of the packet.
    pub from_stream: bool,
    /// Whether a drop or a pass holds for the whole flow: the signature looks at addresses and ports alone, at the stream,
    /// or at a transaction. Otherwise it holds for the packet.
    pub whole_flow: bool,
    /// Whether it is not to be told (`noalert`, a pass rule without `alert`): only its action counts.
    pub silent: bool,
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
    /// Compiles rules. `read` gives the contents of a file that a rule names (a dataset), by that name. What could not
    /// be understood is left out and told, one line a rule.
    #[must_use]
    pub fn load(files: &[RuleFile<'_>], read: &dyn Fn(&str) -> std::io::Result<Vec<u8>>) -> (Self, Vec<String>) {
        let _ = (files, read);
        (Self::default(), Vec::new())
    }

    /// A signature by the index that an [`Alert`] has.
    #[must_use]
    pub fn signature(&self, index: u32) -> Option<&Signature> {
        self.signatures.get(index as usize)
    }

    /// Inspects a packet, and what its flow gained by it: stream bytes, transactions, events.
    ///
    /// Called once for a packet, after reassembly and parsing; `direction` is the packet's within its flow. With
    /// `packet` `None` the flow's transactions and what is left of its streams are looked at (its end); addresses and ports
    /// are then the flow's. Streams and transactions are looked at in the packet's direction alone.
    pub fn inspect(
        &self,
        worker: &mut Worker,
        packet: Option<&Packet<'_>>,
        flow: Option<&mut Flow>,
        direction: Direction,
        alerts: &mut SmallVec<[Alert; 4]>,
    ) {
        let _ = (worker, packet, flow, direction, alerts);
    }
}
