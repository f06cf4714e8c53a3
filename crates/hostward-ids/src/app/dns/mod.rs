//! DNS over UDP and TCP (RFC 1035): each message is a transaction.

mod log;
mod message;
mod names;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::buffer::{Buffer, Integer};
use super::{Fatal, Limits, Parser, Protocol, Stage, Transaction};
use crate::{Direction, EventName};
use message::{Data, Message, Record};

/// Opcodes from here on are not assigned.
const FIRST_UNASSIGNED_OPCODE: u8 = 7;

/// A parser for messages behind a length, as TCP carries them (RFC 1035 section 4.2.2).
#[must_use]
pub fn over_stream(limits: &Limits) -> Dns {
    Dns::new(Carrier::Stream, limits)
}

/// A parser for messages that are a datagram each.
#[must_use]
pub fn over_datagrams(limits: &Limits) -> Dns {
    Dns::new(Carrier::Datagram, limits)
}

/// How messages are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    Stream,
    Datagram,
}

/// See [`over_stream`] and [`over_datagrams`].
#[derive(Debug)]
pub struct Dns {
    carrier: Carrier,
    sides: [Side; 2],
    transactions: VecDeque<Transaction>,
    next_id: u64,
    events: SmallVec<[(Direction, EventName); 2]>,
}

/// One direction of a stream.
#[derive(Debug, Default)]
struct Side {
    /// The beginning of a message that is not all there: at most a length and 65,535 bytes.
    pending: Vec<u8>,
    /// Bytes were lost: where the next message begins is only supposed.
    after_gap: bool,
}

impl Dns {
    fn new(carrier: Carrier, _limits: &Limits) -> Self {
        Self {
            carrier,
            sides: <[Side; 2]>::default(),
            transactions: VecDeque::new(),
            next_id: 0,
            events: SmallVec::new(),
        }
    }

    /// Cuts whole messages off a stream.
    fn stream(&mut self, direction: Direction, data: &[u8]) {
        let mut pending = std::mem::take(&mut self.sides[direction as usize].pending);
        let mut data = data;
        while !data.is_empty() {
            if pending.is_empty() {
                // The usual case: nothing is copied.
                let Some((message, rest)) = whole_message(data) else {
                    pending.extend_from_slice(data);
                    break;
                };
                self.framed(direction, message);
                data = rest;
            } else {
                let missing = match pending.as_slice() {
                    [high, low, message @ ..] => {
                        usize::from(u16::from_be_bytes([*high, *low])).saturating_sub(message.len())
                    }
                    _ => 1,
                };
                let (more, rest) = data.split_at(missing.min(data.len()));
                pending.extend_from_slice(more);
                data = rest;
                if let Some((message, _)) = whole_message(&pending) {
                    self.framed(direction, message);
                    pending.clear();
                }
            }
        }
        self.sides[direction as usize].pending = pending;
    }

    fn framed(&mut self, direction: Direction, message: &[u8]) {
        if std::mem::take(&mut self.sides[direction as usize].after_gap) && message::header(message).is_none() {
            return;
        }
        self.message(direction, message);
    }

    fn message(&mut self, direction: Direction, bytes: &[u8]) {
        let mut transaction = Transaction::new(self.next_id);
        self.next_id += 1;
        transaction.directions = [direction == Direction::ToServer, direction == Direction::ToClient];
        transaction.progress[direction as usize] = Stage::Complete;
        match message::read(bytes) {
            Some(message) => {
                fill(&mut transaction, direction, &message);
                log::write(&mut transaction, &message);
            }
            None => transaction.events.push((direction, "dns.malformed_data")),
        }
        self.transactions.push_back(transaction);
    }
}

/// A message that lies within a transaction of another protocol (RFC 8484): adds what signatures look at, and `dns`
/// beside what that protocol logs.
pub(super) fn carried(transaction: &mut Transaction, direction: Direction, bytes: &[u8]) {
    let Some(message) = message::read(bytes) else {
        transaction.raise(direction, "dns.malformed_data");
        return;
    };
    fill(transaction, direction, &message);
    let own = std::mem::take(&mut transaction.log);
    log::write(transaction, &message);
    let logged = std::mem::replace(&mut transaction.log, own);
    transaction.log_beside.insert("dns".into(), logged.into());
}

/// Splits a whole message off, without its length; nothing of length zero is one.
fn whole_message(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = data.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))
}

/// What signatures look at.
fn fill(transaction: &mut Transaction, direction: Direction, message: &Message) {
    events(transaction, direction, message);
    let header = message.header;
    transaction.integers.push((Integer::DnsOpcode, u64::from(header.opcode())));
    transaction.integers.push((Integer::DnsRcode, u64::from(header.rcode())));
    for question in &message.questions {
        if !header.is_response() {
            transaction.integers.push((Integer::DnsRrtype, u64::from(question.kind)));
        }
        if direction == Direction::ToServer {
            transaction.put(direction, Buffer::DnsQuery, question.name.as_slice());
        } else {
            transaction.put(direction, Buffer::DnsResponseRrname, question.name.as_slice());
        }
        transaction.put(direction, Buffer::DnsQueriesRrname, question.name.as_slice());
    }
    let sections = [
        (&message.answers, Buffer::DnsAnswersRrname),
        (&message.authorities, Buffer::DnsAuthoritiesRrname),
        (&message.additionals, Buffer::DnsAdditionalsRrname),
    ];
    for (records, buffer) in sections {
        for record in records {
            transaction.put(direction, buffer, record.name.as_slice());
            if direction == Direction::ToClient {
                response_names(transaction, record);
            }
        }
    }
    if header.is_response() {
        let kinds = message.answers.iter().map(|record| (Integer::DnsRrtype, u64::from(record.kind)));
        transaction.integers.extend(kinds);
    }
}

/// All names of a response: owners, and those inside of records that carry one.
fn response_names(transaction: &mut Transaction, record: &Record) {
    transaction.put(Direction::ToClient, Buffer::DnsResponseRrname, record.name.as_slice());
    match &record.data {
        Data::Name(name) => transaction.put(Direction::ToClient, Buffer::DnsResponseRrname, name.as_slice()),
        Data::Authority { mname, .. } => {
            transaction.put(Direction::ToClient, Buffer::DnsResponseRrname, mname.as_slice());
        }
        _ => {}
    }
}

fn events(transaction: &mut Transaction, direction: Direction, message: &Message) {
    let (header, odd) = (message.header, message.oddities);
    let (expected, wrong_way) = match direction {
        Direction::ToServer => (false, "dns.not_a_request"),
        Direction::ToClient => (true, "dns.not_a_response"),
    };
    let found: [(bool, EventName); 9] = [
        (header.is_response() != expected, wrong_way),
        (odd.malformed, "dns.malformed_data"),
        (odd.malformed_authorities, "dns.invalid_authorities"),
        (odd.malformed_additionals, "dns.invalid_additionals"),
        (odd.name_too_long, "dns.name_too_long"),
        (odd.loop_of_pointers, "dns.infinite_loop"),
        (odd.too_many_labels, "dns.too_many_labels"),
        (header.flags & 0x0040 != 0, "dns.z_flag_set"),
        (header.opcode() >= FIRST_UNASSIGNED_OPCODE, "dns.invalid_opcode"),
    ];
    transaction.events.extend(found.iter().filter(|(seen, _)| *seen).map(|&(_, name)| (direction, name)));
}

impl Parser for Dns {
    fn protocol(&self) -> Protocol {
        Protocol::Dns
    }

    fn parse(&mut self, direction: Direction, data: &[u8]) -> Result<(), Fatal> {
        match self.carrier {
            Carrier::Datagram => self.message(direction, data),
            Carrier::Stream => self.stream(direction, data),
        }
        Ok(())
    }

    fn gap(&mut self, direction: Direction, _len: usize) -> Result<(), Fatal> {
        let side = &mut self.sides[direction as usize];
        side.pending.clear();
        side.after_gap = true;
        Ok(())
    }

    fn close(&mut self, direction: Direction) {
        let pending = std::mem::take(&mut self.sides[direction as usize].pending);
        if pending.len() > message::HEADER_LEN + 2 {
            self.message(direction, pending.get(2..).unwrap_or_default());
        }
    }

    fn transactions(&mut self) -> &mut VecDeque<Transaction> {
        &mut self.transactions
    }

    fn take_events(&mut self) -> SmallVec<[(Direction, EventName); 2]> {
        std::mem::take(&mut self.events)
    }
}
