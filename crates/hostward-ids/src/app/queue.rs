//! The transactions of one flow that are open, with their numbers, bounded.

use std::collections::VecDeque;

use super::{Stage, Transaction};
use crate::Direction;

/// Open transactions, oldest first; the oldest is given up when there are too many.
#[derive(Debug)]
pub struct Queue {
    open: VecDeque<Transaction>,
    next: u64,
    limit: usize,
}

impl Queue {
    /// For at most `limit` at a time.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { open: VecDeque::new(), next: 0, limit: limit.max(1) }
    }

    /// Begins one.
    pub fn begin(&mut self) -> &mut Transaction {
        if self.open.len() >= self.limit {
            self.open.pop_front();
        }
        let id = self.next;
        self.next += 1;
        let at = self.open.len();
        self.open.push_back(Transaction::new(id));
        &mut self.open[at]
    }

    /// The one of this number, unless it is gone.
    pub fn get(&mut self, id: u64) -> Option<&mut Transaction> {
        let at = self.open.binary_search_by_key(&id, |open| open.id).ok()?;
        self.open.get_mut(at)
    }

    /// The newest.
    pub fn last(&mut self) -> Option<&mut Transaction> {
        self.open.back_mut()
    }

    /// Whether as many are open as may be.
    #[must_use]
    pub fn full(&self) -> bool {
        self.open.len() >= self.limit
    }

    /// All of them, for the engine.
    pub fn all(&mut self) -> &mut VecDeque<Transaction> {
        &mut self.open
    }

    /// Completes one direction of all of them: nothing more comes in it.
    pub fn close(&mut self, direction: Direction) {
        for transaction in &mut self.open {
            transaction.progress[direction as usize] = Stage::Complete;
        }
    }
}

/// How many events one transaction can have; there are fewer names than this in any protocol.
const MAX_EVENTS: usize = 64;

impl Transaction {
    /// Notes what is odd, once for each direction.
    pub fn raise(&mut self, direction: Direction, event: crate::EventName) {
        if self.events.len() < MAX_EVENTS && !self.events.contains(&(direction, event)) {
            self.events.push((direction, event));
        }
    }

    /// Ends both directions.
    pub fn finish(&mut self) {
        self.progress = [Stage::Complete; 2];
    }
}
