//! Matching: compiled signatures against packets, streams and transactions.

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
#[derive(Debug)]
pub struct Signature {}

/// A compiled set of signatures; shared by every thread and tenant.
#[derive(Debug)]
pub struct Detector {}

/// What one thread needs beside the set: scratch space of the multi-pattern matcher, thresholds by address.
#[derive(Debug, Default)]
pub struct Worker {}

/// What signatures found, by their index in the [`Detector`].
#[derive(Debug, Clone)]
pub struct Alert {
    /// Which signature.
    pub signature: u32,
    /// Within which transaction, by its id, if it looked into one.
    pub transaction: Option<u64>,
    /// Whether the packet (and by its rule the flow) is to be dropped.
    pub action: Action,
    /// Whether what matched came out of the reassembled stream rather than out of the packet.
    pub from_stream: bool,
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
    /// Inspects a packet, and what its flow gained by it: stream bytes, transactions, events.
    ///
    /// Called once for a packet, after reassembly and parsing; `direction` is the packet's within its flow. With
    /// `packet` `None` only the flow's transactions are looked at (its end).
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
