//! All flows: found by their addresses, bounded in number, ended when nothing was heard of them.

use std::collections::HashMap;
use std::net::IpAddr;

use super::tcp::State;
use super::{Flow, Owner};
use crate::decode::Nanos;

const SECOND: Nanos = 1_000_000_000;

/// What packets of one flow have in common, whichever way they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    low: (IpAddr, u16),
    high: (IpAddr, u16),
    protocol: u8,
    vlan: [u16; 3],
    owner: (u32, u32),
}

impl Key {
    /// Of a packet's ends, its protocol, its VLANs and who owns it: tenants may use the same addresses, and a packet
    /// between two endpoints of one host is seen at both.
    #[must_use]
    pub fn new(from: (IpAddr, u16), to: (IpAddr, u16), protocol: u8, vlan: &[u16], owner: &Owner) -> Self {
        let (low, high) = if from <= to { (from, to) } else { (to, from) };
        let mut tags = [0; 3];
        for (tag, seen) in tags.iter_mut().zip(vlan) {
            *tag = *seen;
        }
        Self { low, high, protocol, vlan: tags, owner: (owner.tenant, owner.endpoint) }
    }
}

/// How long a flow of which nothing is heard is kept, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct TimeOuts {
    /// TCP before the handshake's end; others of which only one direction was seen.
    pub tcp_new_s: u64,
    /// See [`Self::tcp_new_s`].
    pub tcp_established_s: u64,
    /// After FIN or RST.
    pub tcp_closed_s: u64,
    /// UDP, ICMP and all others.
    pub other_new_s: u64,
    /// See [`Self::other_new_s`].
    pub other_established_s: u64,
}

impl Default for TimeOuts {
    fn default() -> Self {
        Self { tcp_new_s: 60, tcp_established_s: 600, tcp_closed_s: 10, other_new_s: 30, other_established_s: 300 }
    }
}

impl TimeOuts {
    fn of(&self, flow: &Flow) -> Nanos {
        let seconds = match flow.stream.as_ref().map(|stream| stream.tracker.state) {
            Some(State::Closed | State::TimeWait) => self.tcp_closed_s,
            Some(State::None | State::SynSent | State::SynReceived) => self.tcp_new_s,
            Some(_) => self.tcp_established_s,
            None if flow.established => self.other_established_s,
            None => self.other_new_s,
        };
        seconds * SECOND
    }
}

/// The flows. One that is worked on is taken out and put back, so that everything else can be used meanwhile.
pub struct Table {
    slots: Vec<Option<Box<Flow>>>,
    free: Vec<u32>,
    index: HashMap<Key, u32, ahash::RandomState>,
    limit: usize,
    cursor: usize,
    timeouts: TimeOuts,
}

impl Table {
    /// An empty one for at most `limit` flows.
    #[must_use]
    pub fn new(limit: usize, timeouts: TimeOuts) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: HashMap::default(),
            limit: limit.max(1),
            cursor: 0,
            timeouts,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Takes a flow out to work on it.
    pub fn take(&mut self, key: &Key) -> Option<(u32, Box<Flow>)> {
        let slot = *self.index.get(key)?;
        let flow = self.slots.get_mut(slot as usize)?.take()?;
        Some((slot, flow))
    }

    /// Makes room for a new flow, and says where it goes. Where the table is full, a flow that was not heard of for long
    /// has to end for it, and is returned.
    pub fn reserve(&mut self, key: Key) -> (u32, Option<Box<Flow>>) {
        let mut evicted = None;
        if self.index.len() >= self.limit {
            evicted = self.evict();
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.index.insert(key, slot);
        (slot, evicted)
    }

    /// Puts a flow back, or in for the first time.
    pub fn put(&mut self, slot: u32, flow: Box<Flow>) {
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = Some(flow);
        }
    }

    /// Forgets the flow that was taken out of `slot`.
    pub fn remove(&mut self, slot: u32, key: &Key) {
        if self.index.remove(key).is_some() {
            self.free.push(slot);
        }
    }

    /// The longest unheard of some flows: the very longest is not worth a search.
    fn evict(&mut self) -> Option<Box<Flow>> {
        const LOOKED_AT: usize = 32;
        let count = self.slots.len();
        let mut oldest: Option<(Nanos, usize)> = None;
        for step in 0..count {
            let slot = (self.cursor + step) % count;
            let flow = self.slots.get(slot).and_then(Option::as_ref);
            if let Some(flow) = flow.filter(|flow| oldest.is_none_or(|(last, _)| flow.last < last)) {
                oldest = Some((flow.last, slot));
            }
            if step >= LOOKED_AT && oldest.is_some() {
                break;
            }
        }
        self.cursor = (self.cursor + LOOKED_AT) % count.max(1);
        self.take_slot(oldest?.1)
    }

    fn take_slot(&mut self, slot: usize) -> Option<Box<Flow>> {
        let flow = self.slots.get_mut(slot)?.take()?;
        self.remove(slot as u32, &flow.key);
        Some(flow)
    }

    /// Looks at some flows, and takes away one that has been silent for too long. `left` counts down how many are looked at.
    pub fn expire(&mut self, now: Nanos, left: &mut usize) -> Option<Box<Flow>> {
        let count = self.slots.len();
        while *left > 0 && count > 0 {
            *left -= 1;
            self.cursor = (self.cursor + 1) % count;
            let silent = self
                .slots
                .get(self.cursor)
                .and_then(Option::as_ref)
                .is_some_and(|flow| now.saturating_sub(flow.last) > self.timeouts.of(flow));
            if silent {
                return self.take_slot(self.cursor);
            }
        }
        None
    }

    /// Takes any flow away, oldest slot first.
    pub fn pop(&mut self) -> Option<Box<Flow>> {
        while self.cursor < self.slots.len() {
            if let Some(flow) = self.take_slot(self.cursor) {
                return Some(flow);
            }
            self.cursor += 1;
        }
        None
    }

    /// Begins to take all flows away with [`Self::pop`].
    pub fn rewind(&mut self) {
        self.cursor = 0;
    }
}
