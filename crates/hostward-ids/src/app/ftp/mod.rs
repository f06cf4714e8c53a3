//! FTP's control connection (RFC 959, 2428, 4217), and the data connections that it announces ([`data`]).
//!
//! One transaction is one command with its replies, preliminary ones included.

mod address;
pub mod data;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::IpAddr;

use serde_json::Value;
use smallvec::SmallVec;

use super::buffer::{Buffer, Integer};
use super::lines::{Lines, Piece};
use super::queue::Queue;
use super::{Expected, Fatal, HandOver, Limits, Parser, Protocol, Stage, Transaction, logged};
use crate::Direction::{self, ToClient, ToServer};
use crate::EventName;

const MAX_LINE_LEN: usize = 4096;
/// How many lines of one command's replies are kept.
const MAX_REPLY_LINES: usize = 64;
/// How many announcements wait to be taken.
const MAX_ANNOUNCED: usize = 16;
const MAX_FLOW_EVENTS: usize = 16;

/// A parser for one flow.
#[must_use]
pub fn new(limits: &Limits) -> Ftp {
    Ftp {
        queue: Queue::new(limits.transactions),
        lines: [Lines::new(MAX_LINE_LEN), Lines::new(MAX_LINE_LEN)],
        outstanding: VecDeque::new(),
        limit: limits.transactions,
        multiline: None,
        data_port: None,
        announced: VecDeque::new(),
        tls: Tls::No,
        events: SmallVec::new(),
    }
}

/// See [`new`].
#[derive(Debug)]
pub struct Ftp {
    queue: Queue,
    lines: [Lines; 2],
    /// Commands without their last reply.
    outstanding: VecDeque<Command>,
    limit: usize,
    /// The code of a reply that goes on over several lines.
    multiline: Option<[u8; 3]>,
    data_port: Option<DataPort>,
    announced: VecDeque<Expected>,
    tls: Tls,
    events: SmallVec<[(Direction, EventName); 2]>,
}

#[derive(Debug)]
struct Command {
    transaction: u64,
    verb: Vec<u8>,
}

/// Where the next data connection goes.
#[derive(Clone, Copy, Debug)]
struct DataPort {
    /// The server's own if it is not said.
    address: Option<IpAddr>,
    port: u16,
    /// Whether the server opens it.
    active: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tls {
    No,
    Accepted,
    HandedOver,
}

impl Parser for Ftp {
    fn protocol(&self) -> Protocol {
        Protocol::Ftp
    }

    fn parse(&mut self, direction: Direction, mut data: &[u8]) -> Result<(), Fatal> {
        let mut lines = std::mem::replace(&mut self.lines[direction as usize], Lines::new(MAX_LINE_LEN));
        while !data.is_empty() && self.tls == Tls::No {
            if let Some(piece) = lines.next_piece(&mut data).filter(|piece| piece.starts) {
                match direction {
                    ToServer => self.command_line(piece),
                    ToClient => self.reply_line(piece),
                }
            }
        }
        self.lines[direction as usize] = lines;
        Ok(())
    }

    fn close(&mut self, direction: Direction) {
        if direction == ToClient {
            for unanswered in self.outstanding.drain(..) {
                if let Some(transaction) = self.queue.get(unanswered.transaction)
                    && !transaction.integers.contains(&(Integer::FtpReplyReceived, 1))
                {
                    transaction.integers.push((Integer::FtpReplyReceived, 0));
                }
            }
        }
        self.queue.close(direction);
    }

    fn transactions(&mut self) -> &mut VecDeque<Transaction> {
        self.queue.all()
    }

    fn take_events(&mut self) -> SmallVec<[(Direction, EventName); 2]> {
        std::mem::take(&mut self.events)
    }

    fn hand_over(&mut self) -> Option<HandOver> {
        if self.tls != Tls::Accepted {
            return None;
        }
        self.tls = Tls::HandedOver;
        Some(HandOver::To(Protocol::Tls))
    }

    fn expected(&mut self) -> Option<Expected> {
        self.announced.pop_front()
    }
}

impl Ftp {
    fn command_line(&mut self, piece: Piece<'_>) {
        let line = piece.text.trim_ascii();
        if line.is_empty() {
            return;
        }
        let verb_len = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
        let (verb, argument) = line.split_at(verb_len);
        let verb = verb.to_ascii_uppercase();
        let argument = argument.trim_ascii();
        let transaction = self.queue.begin();
        let id = transaction.id;
        transaction.progress[ToServer as usize] = Stage::Complete;
        transaction.put(ToServer, Buffer::FtpCommand, verb.as_slice());
        transaction.log.insert("command".into(), text(&verb));
        if !argument.is_empty() {
            transaction.put(ToServer, Buffer::FtpCommandData, argument);
            transaction.log.insert("command_data".into(), text(argument));
        }
        transaction.log.insert("reply_received".into(), "no".into());
        if piece.ending.is_empty() {
            transaction.raise(ToServer, "ftp.request_command_too_long");
        }
        match verb.as_slice() {
            b"PORT" | b"EPRT" => {
                let place =
                    if verb == b"PORT" { address::comma_separated(argument) } else { address::extended(argument) };
                if let Some((address, port)) = place {
                    let octets = match address {
                        IpAddr::V4(address) => address.octets().to_vec(),
                        IpAddr::V6(address) => address.octets().to_vec(),
                    };
                    transaction.put(ToServer, Buffer::FtpPortAddress, octets);
                    opened(transaction, port, "active");
                    self.data_port = Some(DataPort { address: Some(address), port, active: true });
                    self.announce(b"", None);
                }
            }
            b"RETR" | b"STOR" | b"STOU" | b"APPE" => self.announce(&verb, Some(argument)),
            b"LIST" | b"NLST" | b"MLSD" => self.announce(&verb, None),
            _ => {}
        }
        if self.outstanding.len() >= self.limit {
            self.outstanding.pop_front();
        }
        self.outstanding.push_back(Command { transaction: id, verb });
    }

    /// Says where the data of a command will go.
    fn announce(&mut self, command: &[u8], name: Option<&[u8]>) {
        let Some(DataPort { address, port, active }) = self.data_port else { return };
        if self.announced.len() >= MAX_ANNOUNCED {
            self.announced.pop_front();
        }
        let upload = matches!(command, b"STOR" | b"STOU" | b"APPE");
        self.announced.push_back(Expected {
            address,
            port,
            protocol: Protocol::FtpData,
            direction: if active == upload { ToClient } else { ToServer },
            file_name: name.map(<[u8]>::to_vec),
            command: command.to_vec(),
        });
    }

    fn reply_line(&mut self, piece: Piece<'_>) {
        let (code, separator, reply) = match piece.text {
            [a @ b'1'..=b'6', b @ b'0'..=b'9', c @ b'0'..=b'9', separator @ (b' ' | b'-'), reply @ ..] => {
                (Some([*a, *b, *c]), *separator, reply)
            }
            [a @ b'1'..=b'6', b @ b'0'..=b'9', c @ b'0'..=b'9'] => (Some([*a, *b, *c]), b' ', &b""[..]),
            other => (None, b'-', other),
        };
        let (id, verb) = if let Some(command) = self.outstanding.front() {
            (command.transaction, command.verb.clone())
        } else if let Some(open) = self.queue.last().filter(|open| !open.complete()) {
            (open.id, Vec::new())
        } else {
            // The greeting, or a reply to nothing.
            let transaction = self.queue.begin();
            transaction.directions[ToServer as usize] = false;
            (transaction.id, Vec::new())
        };
        let last = match (self.multiline, code) {
            (None, Some(_)) => separator == b' ',
            (Some(first), Some(code)) => separator == b' ' && code == first,
            (Some(_), None) => false,
            (None, None) => true,
        };
        self.multiline = if last { None } else { self.multiline.or(code) };
        let tls = code == Some(*b"234") && verb == b"AUTH";
        let mut passive = None;
        if let Some(transaction) = self.queue.get(id) {
            put_reply(transaction, code, reply);
            if piece.ending.is_empty() {
                transaction.raise(ToClient, "ftp.response_command_too_long");
            }
            if code == Some(*b"227") {
                passive = address::comma_separated(reply).map(|(_, port)| port);
            } else if code == Some(*b"229") {
                passive = address::extended_port(reply);
            }
            if let Some(port) = passive {
                opened(transaction, port, "passive");
            }
            // A preliminary reply (1yz) is followed by another.
            if last && code.is_none_or(|code| code[0] != b'1') {
                transaction.finish();
            }
        } else if piece.ending.is_empty() && self.events.len() < MAX_FLOW_EVENTS {
            self.events.push((ToClient, "ftp.response_command_too_long"));
        }
        if let Some(port) = passive {
            self.data_port = Some(DataPort { address: None, port, active: false });
            self.announce(b"", None);
        }
        if last && code.is_none_or(|code| code[0] != b'1') {
            self.outstanding.pop_front();
        }
        if tls && last {
            self.tls = Tls::Accepted;
        }
    }
}

fn text(bytes: &[u8]) -> Value {
    String::from_utf8_lossy(bytes).into_owned().into()
}

fn opened(transaction: &mut Transaction, port: u16, mode: &str) {
    transaction.integers.push((Integer::FtpDynamicPort, u64::from(port)));
    transaction.integers.push((Integer::FtpMode, u64::from(mode == "passive")));
    transaction.log.insert("mode".into(), mode.into());
    transaction.log.insert("dynamic_port".into(), port.into());
}

fn put_reply(transaction: &mut Transaction, code: Option<[u8; 3]>, reply: &[u8]) {
    if !transaction.integers.contains(&(Integer::FtpReplyReceived, 1)) {
        transaction.integers.push((Integer::FtpReplyReceived, 1));
    }
    transaction.log.insert("reply_received".into(), "yes".into());
    if let Some(code) = code {
        logged::push(&mut transaction.log, "completion_code", text(&code), MAX_REPLY_LINES);
        let known = transaction.buffers.iter();
        let mut known = known.filter(|content| content.buffer == Buffer::FtpCompletionCode);
        if !known.any(|content| content.data == code) {
            transaction.put(ToClient, Buffer::FtpCompletionCode, code.as_slice());
        }
    }
    if logged::push(&mut transaction.log, "reply", text(reply), MAX_REPLY_LINES) {
        transaction.put(ToClient, Buffer::FtpReply, reply);
    }
}
