//! One direction's bytes, put in order.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::overlap::OverlapPolicy;
use crate::EventName;

/// How much of one direction is kept while it waits for what is missing or for its acknowledgement.
const WAITING_BYTES_MAX: usize = 8 << 20;
const WAITING_SEGMENTS_MAX: usize = 16_384;

/// In-order bytes, or a hole where bytes will never be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// The next bytes, and the number of the packet that brought them.
    Data(&'a [u8], u64),
    /// As many bytes are missing.
    Gap(u64),
}

/// Memory that all reassembly of an engine shares.
#[derive(Debug, Default)]
pub struct Budget {
    /// Bytes in use.
    pub used: usize,
    /// At most so many.
    pub limit: usize,
    /// Buffers of segments that were handed over, for the next ones: their size is one that allocators are slow with.
    spare: Vec<Vec<u8>>,
}

/// How many buffers are kept for later, and how long one may be.
const SPARE_MAX: usize = 4096;
const SPARE_LEN_MAX: usize = 4096;

impl Budget {
    /// One of which nothing is used.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    fn keep(&mut self, data: &[u8]) -> Vec<u8> {
        let mut buffer = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(data.len().max(1536)));
        buffer.clear();
        buffer.extend_from_slice(data);
        buffer
    }

    fn release(&mut self, buffer: Vec<u8>) {
        self.used = self.used.saturating_sub(buffer.len());
        if self.spare.len() < SPARE_MAX && buffer.capacity() <= SPARE_LEN_MAX {
            self.spare.push(buffer);
        }
    }
}

#[derive(Debug)]
struct Segment {
    start: u64,
    data: Vec<u8>,
    /// The number of the packet that brought it.
    number: u64,
}

impl Segment {
    fn end(&self) -> u64 {
        self.start + self.data.len() as u64
    }
}

/// What became of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insertion {
    /// It is kept, or was handed over, or held nothing new.
    Taken,
    /// There was no memory for it.
    NoMemory,
}

/// Bytes of one direction by their offset in the stream: 0 is the first byte after the SYN.
#[derive(Debug, Default)]
pub struct Reassembly {
    /// Everything before it was handed over.
    handed: u64,
    /// Sorted and free of overlaps.
    segments: VecDeque<Segment>,
    waiting: usize,
}

impl Reassembly {
    /// Everything before this offset was handed over or given up.
    #[must_use]
    pub fn handed(&self) -> u64 {
        self.handed
    }

    /// How many bytes wait here.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Starts at another offset: what came before is not waited for.
    pub fn skip_to(&mut self, offset: u64) {
        self.handed = self.handed.max(offset);
    }

    /// Whether bytes that begin at `offset` could be handed over as they are, without being kept.
    #[must_use]
    pub fn is_next(&self, offset: u64) -> bool {
        offset == self.handed && self.segments.is_empty()
    }

    /// Notes that so many bytes were handed over without being kept.
    pub fn passed(&mut self, len: usize) {
        self.handed += len as u64;
    }

    /// Keeps a segment. Where it overlaps what is kept already, `policy` says whose bytes count.
    pub fn insert(
        &mut self,
        offset: u64,
        data: &[u8],
        number: u64,
        policy: OverlapPolicy,
        budget: &mut Budget,
        events: &mut SmallVec<[EventName; 2]>,
    ) -> Insertion {
        let (mut at, mut rest) = (offset, data);
        if at < self.handed {
            let skip = usize::try_from(self.handed - at).unwrap_or(usize::MAX);
            rest = rest.get(skip..).unwrap_or_default();
            at = self.handed;
        }
        if rest.is_empty() {
            return Insertion::Taken;
        }
        if budget.used + rest.len() > budget.limit
            || self.waiting + rest.len() > WAITING_BYTES_MAX
            || self.segments.len() >= WAITING_SEGMENTS_MAX
        {
            return Insertion::NoMemory;
        }
        let before = self.waiting;
        // The usual case: it goes behind everything.
        if self.segments.back().is_none_or(|last| last.end() <= at) {
            self.waiting += rest.len();
            self.segments.push_back(Segment { start: at, data: budget.keep(rest), number });
        } else {
            self.insert_among(offset, (at, number), rest, policy, events);
        }
        budget.used += self.waiting - before;
        Insertion::Taken
    }

    fn insert_among(
        &mut self,
        offset: u64,
        (mut at, number): (u64, u64),
        mut rest: &[u8],
        policy: OverlapPolicy,
        events: &mut SmallVec<[EventName; 2]>,
    ) {
        let new_end = at + rest.len() as u64;
        let mut different = false;
        // The first segment that ends behind where the new one begins.
        let mut index = self.segments.partition_point(|old| old.end() <= at);
        while !rest.is_empty() {
            let Some(old) = self.segments.get_mut(index) else {
                self.waiting += rest.len();
                self.segments.push_back(Segment { start: at, data: rest.to_vec(), number });
                break;
            };
            if at < old.start {
                // A hole before the old segment is filled.
                let hole = usize::try_from(old.start - at).unwrap_or(usize::MAX).min(rest.len());
                let (fill, after) = rest.split_at(hole);
                self.waiting += fill.len();
                self.segments.insert(index, Segment { start: at, data: fill.to_vec(), number });
                at += hole as u64;
                rest = after;
                index += 1;
                continue;
            }
            let within = usize::try_from(at - old.start).unwrap_or(usize::MAX);
            let replace = policy.replaces((offset, new_end), (old.start, old.end()));
            let Some(kept) = old.data.get_mut(within..) else { break };
            let common = kept.len().min(rest.len());
            let (overlapping, after) = rest.split_at(common);
            if let Some(kept) = kept.get_mut(..common).filter(|kept| *kept != overlapping) {
                different = true;
                if replace {
                    kept.copy_from_slice(overlapping);
                }
            }
            at += common as u64;
            rest = after;
            index += 1;
        }
        if different {
            events.push("stream.reassembly_overlap_different_data");
        }
    }

    /// Hands over what is in order up to `limit`. Bytes that are missing before `acknowledged` were received by the other
    /// side but never seen here, so that they are told as a gap; with `force` every hole before kept bytes is.
    pub fn drain(
        &mut self,
        limit: u64,
        acknowledged: u64,
        force: bool,
        budget: &mut Budget,
        sink: &mut dyn FnMut(Piece<'_>),
    ) {
        loop {
            let start = self.segments.front().map(|segment| segment.start);
            match start {
                Some(start) if start <= self.handed => {
                    if !self.drain_front(limit, budget, sink) {
                        return;
                    }
                }
                _ => {
                    let known = if force { start.unwrap_or(0) } else { acknowledged.min(start.unwrap_or(u64::MAX)) };
                    if known <= self.handed {
                        return;
                    }
                    sink(Piece::Gap(known - self.handed));
                    self.handed = known;
                }
            }
        }
    }

    /// Hands over what the first segment has before `limit`; whether there may be more.
    fn drain_front(&mut self, limit: u64, budget: &mut Budget, sink: &mut dyn FnMut(Piece<'_>)) -> bool {
        let Some(front) = self.segments.front() else { return false };
        let end = front.end();
        let until = end.min(limit);
        if until > self.handed {
            let from = usize::try_from(self.handed - front.start).unwrap_or(usize::MAX);
            let to = usize::try_from(until - front.start).unwrap_or(usize::MAX);
            if let Some(piece) = front.data.get(from..to) {
                sink(Piece::Data(piece, front.number));
            }
            self.handed = until;
        }
        if self.handed < end {
            return false;
        }
        if let Some(front) = self.segments.pop_front() {
            self.waiting -= front.data.len();
            budget.release(front.data);
        }
        true
    }

    /// Lets go of everything that waits.
    pub fn clear(&mut self, budget: &mut Budget) {
        budget.used = budget.used.saturating_sub(self.waiting);
        self.waiting = 0;
        self.segments.clear();
    }
}
