//! DCE/RPC: binds and calls, over TCP, over datagrams, and (by [`association`]) within named pipes of SMB.
//!
//! One transaction is one call, or one bind, with its answer.

pub mod association;
mod datagram;
pub mod pdu;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use super::queue::Queue;
use super::{Fatal, Limits, Parser, Protocol, Transaction};
use crate::Direction;
use association::Association;

/// A parser for one flow of TCP.
#[must_use]
pub fn over_stream(limits: &Limits) -> Dcerpc {
    Dcerpc { queue: Queue::new(limits.transactions), association: Association::new(limits, None) }
}

/// A parser for one flow of UDP.
#[must_use]
pub fn over_datagrams(limits: &Limits) -> datagram::Datagrams {
    datagram::Datagrams::new(limits)
}

/// See [`over_stream`].
#[derive(Debug)]
pub struct Dcerpc {
    queue: Queue,
    association: Association,
}

impl Parser for Dcerpc {
    fn protocol(&self) -> Protocol {
        Protocol::Dcerpc
    }

    fn parse(&mut self, direction: Direction, data: &[u8]) -> Result<(), Fatal> {
        self.association.feed(direction, data, &mut self.queue, &|_| {})
    }

    fn close(&mut self, direction: Direction) {
        self.queue.close(direction);
    }

    fn transactions(&mut self) -> &mut VecDeque<Transaction> {
        self.queue.all()
    }
}
