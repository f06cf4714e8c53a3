//! The bounded table of flows: what of each was told already, and when the rest is due.
//!
//! What the kernel tells are totals, so a record is the difference to the record before, and an event that was lost delays
//! a record and takes nothing from it. A flow for which there is no room is told of when it ends. A flow leaves the table
//! when its end is told, or when a walk over the kernel's table does not find it any more.

use std::collections::HashMap;
use std::collections::HashSet;

use hostward_abi::flow_state;

use crate::ipfix::record::EndReason;
use crate::ipfix::record::Record;
use crate::ipfix::record::Volume;
use crate::ipfix::sighting::FlowId;
use crate::ipfix::sighting::Sighted;
use crate::ipfix::sighting::Sighting;

/// An ended connection's last segments come within this time.
const LINGER_NS: u64 = 1_000_000_000;
/// Some ticks of the kernel's coarse clock.
const TICKS_NS: u64 = 20_000_000;
/// An end whose last packet is older has another cause than what that packet did.
const STALE_NS: u64 = 10_000_000_000;
const TCP: u8 = 6;
const SCTP: u8 = 132;

/// When a flow that goes on, or may go on, is told of.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// So long after the record before.
    pub active_ns: u64,
    /// So long after its last packet.
    pub inactive_ns: u64,
}

/// A flow as it was seen last.
#[derive(Clone, Copy)]
struct Entry {
    seen: Sighting,
    /// What records have told.
    told: Volume,
    /// First packet of the next record, or earlier.
    start_ns: u64,
    /// When there was nothing to tell last.
    clean_ns: u64,
}

/// The table.
pub struct Cache {
    limit: usize,
    timeouts: Timeouts,
    places: HashMap<FlowId, usize, ahash::RandomState>,
    entries: Vec<Entry>,
    /// Whether every flow that is older than the exporter is known.
    primed: bool,
    /// Whether no walk follows: who finds no room now is told of at once.
    last: bool,
    /// While a batch of a walk waits to be applied: what ended after it was read.
    ended: HashSet<FlowId, ahash::RandomState>,
    batch_ns: Option<u64>,
    /// See [`crate::ipfix::Counts`], as are the next.
    pub untabled: u64,
    /// Flows whose end was not told.
    pub unseen_ends: u64,
    /// Flows older than the exporter.
    pub resumed: u64,
    /// Records with an estimated direction.
    pub estimated: u64,
}

impl Cache {
    /// A table of at most `limit` flows.
    #[must_use]
    pub fn new(limit: usize, timeouts: Timeouts) -> Self {
        Self {
            limit,
            timeouts,
            places: HashMap::default(),
            entries: Vec::new(),
            primed: false,
            last: false,
            ended: HashSet::default(),
            batch_ns: None,
            untabled: 0,
            unseen_ends: 0,
            resumed: 0,
            estimated: 0,
        }
    }

    /// The walk that follows is the last.
    pub fn begin_last_walk(&mut self) {
        self.last = true;
    }

    /// Flows in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A batch of a walk is read now. Events that follow are newer; what was read is given to [`Cache::see`] behind them.
    pub fn begin_batch(&mut self, now_ns: u64) {
        self.ended.clear();
        self.batch_ns = Some(now_ns);
    }

    /// The batch was applied.
    pub fn end_batch(&mut self) {
        self.batch_ns = None;
    }

    /// A whole walk, which began at `started_ns`, was applied: what it has not seen is there no more.
    pub fn end_walk(&mut self, started_ns: u64, out: &mut Vec<Record>) {
        self.primed = true;
        let mut at = 0;
        while let Some(entry) = self.entries.get(at) {
            if entry.seen.time_ns < started_ns {
                self.unseen_ends += 1;
                self.finish(at, EndReason::Forced, out);
            } else {
                at += 1;
            }
        }
    }

    /// Takes a sighting in; what is due goes to `out`.
    pub fn see(&mut self, sighting: &Sighting, out: &mut Vec<Record>) {
        let walk = sighting.sighted == Sighted::Walk;
        if walk && self.ended.contains(&sighting.id) {
            return;
        }
        if sighting.sighted == Sighted::End && self.batch_ns.is_some() {
            self.ended.insert(sighting.id);
        }
        let Some(&at) = self.places.get(&sighting.id) else {
            self.see_first(sighting, out);
            return;
        };
        let Some(entry) = self.entries.get_mut(at) else { return };
        if walk && sighting.time_ns < entry.seen.time_ns {
            return; // an event told more meanwhile
        }
        if is_opening_of(sighting, entry) {
            entry.start_ns = entry.start_ns.min(sighting.time_ns);
            return;
        }
        let mut sighting = *sighting;
        if is_late(&sighting, entry) {
            sighting.total = sighting.total.max(&entry.seen.total);
        }
        if is_another(&sighting, entry) {
            self.unseen_ends += 1;
            self.finish(at, EndReason::Forced, out);
            self.see_first(&sighting, out);
            return;
        }
        if entry.told == entry.seen.total {
            entry.start_ns = entry.clean_ns.min(sighting.packet_ns);
        }
        entry.seen = sighting;
        if entry.told == sighting.total {
            entry.clean_ns = sighting.time_ns;
        }
        if sighting.sighted == Sighted::End {
            self.finish(at, end_reason(&sighting), out);
        } else {
            self.tell_if_due(at, out);
        }
    }

    fn see_first(&mut self, sighting: &Sighting, out: &mut Vec<Record>) {
        let whole = sighting.total.sum() == sighting.unreported;
        let mut told = Volume::default();
        let start_ns = if sighting.sighted == Sighted::New { sighting.time_ns } else { sighting.packet_ns };
        if !self.primed && !whole && sighting.sighted != Sighted::New {
            if sighting.sighted == Sighted::Walk {
                self.resumed += 1;
                told = sighting.total;
            } else {
                self.estimated += 1;
                told = told_before(sighting);
            }
        }
        let entry = Entry { seen: *sighting, told, start_ns, clean_ns: sighting.time_ns };
        if sighting.sighted == Sighted::End {
            tell(&entry, end_reason(sighting), out);
        } else if self.entries.len() >= self.limit && self.last {
            tell(&entry, EndReason::Forced, out);
        } else if self.entries.len() >= self.limit {
            self.untabled += 1;
        } else {
            self.places.insert(sighting.id, self.entries.len());
            self.entries.push(entry);
        }
    }

    fn tell_if_due(&mut self, at: usize, out: &mut Vec<Record>) {
        let Some(entry) = self.entries.get_mut(at) else { return };
        let (seen, Timeouts { active_ns, inactive_ns }) = (&entry.seen, self.timeouts);
        let quiet_ns = seen.time_ns.saturating_sub(seen.packet_ns);
        let reason = if is_closed(seen) && quiet_ns >= LINGER_NS {
            EndReason::End
        } else if quiet_ns >= inactive_ns {
            EndReason::Idle
        } else if seen.time_ns.saturating_sub(entry.start_ns) >= active_ns {
            EndReason::Active
        } else {
            return;
        };
        if tell(entry, reason, out) {
            entry.told = entry.seen.total;
            entry.clean_ns = entry.seen.time_ns;
        }
    }

    /// Tells the rest of a flow, and forgets it.
    fn finish(&mut self, at: usize, reason: EndReason, out: &mut Vec<Record>) {
        if at >= self.entries.len() {
            return;
        }
        let entry = self.entries.swap_remove(at);
        tell(&entry, reason, out);
        self.places.remove(&entry.seen.id);
        if let Some(moved) = self.entries.get(at) {
            self.places.insert(moved.seen.id, at);
        }
    }

    /// Tells the rest of every flow of a slot, or of all, and forgets them.
    pub fn finish_all(&mut self, slot: Option<u32>, out: &mut Vec<Record>) {
        let mut at = 0;
        while let Some(entry) = self.entries.get(at) {
            if slot.is_none_or(|slot| slot == entry.seen.id.slot) {
                self.finish(at, EndReason::Forced, out);
            } else {
                at += 1;
            }
        }
    }
}

/// Whether it is the opening of a flow that a walk saw first: between its insertion and its event.
fn is_opening_of(sighting: &Sighting, entry: &Entry) -> bool {
    sighting.sighted == Sighted::New
        && entry.seen.sighted == Sighted::Walk
        && entry.seen.tuple == sighting.tuple
        && entry.told.is_empty()
        && sighting.time_ns <= entry.seen.packet_ns + TICKS_NS
}

/// Whether it may be an event that another processor's overtook: what it tells is the less.
fn is_late(sighting: &Sighting, entry: &Entry) -> bool {
    matches!(sighting.sighted, Sighted::Update | Sighted::End) && sighting.time_ns < entry.seen.time_ns + TICKS_NS
}

/// Whether a place has another flow than the one that is known: of that one nobody told the end.
fn is_another(sighting: &Sighting, entry: &Entry) -> bool {
    entry.seen.tuple != sighting.tuple
        || sighting.sighted == Sighted::New
        || sighting.total.since(&entry.seen.total).is_none()
}

/// Makes the record of what was not told yet; false if there is nothing.
fn tell(entry: &Entry, end_reason: EndReason, out: &mut Vec<Record>) -> bool {
    let seen = &entry.seen;
    let volume = seen.total.since(&entry.told).unwrap_or_default();
    if volume.is_empty() {
        return false;
    }
    let start_ns = entry.start_ns;
    out.push(Record {
        slot: seen.id.slot,
        tuple: seen.tuple,
        direction: seen.direction,
        verdict: seen.verdict,
        reason: 0,
        process: seen.process,
        number: seen.number,
        revision: seen.revision,
        state: seen.state,
        volume,
        start_ns,
        // The last packet's time is of a coarser clock.
        end_ns: seen.packet_ns.max(start_ns),
        end_reason,
        ethertype: 0,
        source_mac: [0; 6],
    });
    true
}

fn is_closed(seen: &Sighting) -> bool {
    matches!(seen.tuple.protocol, TCP | SCTP) && seen.state & 0xff == flow_state::FLOW_CLOSED
}

/// Why the kernel ended a flow, as far as what it left tells.
fn end_reason(seen: &Sighting) -> EndReason {
    if is_closed(seen) {
        EndReason::End
    } else if seen.time_ns.saturating_sub(seen.packet_ns) >= STALE_NS {
        EndReason::Idle
    } else if seen.state & 0xff < flow_state::FLOW_ESTABLISHED {
        EndReason::Resources
    } else {
        EndReason::Forced
    }
}

/// What a flow that is older than the exporter had reported before: the event tells the sum of what it reports, and the
/// directions are taken to have their parts of it as of the whole.
fn told_before(seen: &Sighting) -> Volume {
    let part = |total: [u64; 2], new: u64| {
        let sum = u128::from(total[0]) + u128::from(total[1]);
        let new = u128::from(new).min(sum);
        let reverse = (u128::from(total[1]) * new).checked_div(sum).unwrap_or_default();
        let forward = (new - reverse).min(u128::from(total[0]));
        let reverse = new - forward;
        [total[0] - forward as u64, total[1] - reverse as u64]
    };
    Volume { packets: part(seen.total.packets, seen.unreported.0), octets: part(seen.total.octets, seen.unreported.1) }
}
