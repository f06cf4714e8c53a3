//! SMTP (RFC 5321) with pipelining, CHUNKING and STARTTLS, and the messages it carries.
//!
//! One transaction is one message with its envelope. It begins with the first command, and after a message with the
//! next one.

pub(super) mod decode;
mod fields;
mod message;
#[cfg(test)]
mod tests;
mod urls;

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::buffer::Buffer;
use super::lines::{Lines, Piece};
use super::queue::Queue;
use super::{Fatal, HandOver, Limits, Parser, Protocol, Stage, Transaction, logged};
use crate::Direction::{self, ToClient, ToServer};
use crate::EventName;
use message::Message;

/// Longest line in pieces; RFC 5321 allows commands of 512 and text of 1000 bytes.
const MAX_LINE_LEN: usize = 4096;
/// How many commands can wait for their reply.
const MAX_OUTSTANDING: usize = 512;
/// How many recipients are kept.
const MAX_RECIPIENTS: usize = 256;

/// How many events outside of transactions wait to be taken.
const MAX_FLOW_EVENTS: usize = 16;

/// A parser for one flow.
#[must_use]
pub fn new(limits: &Limits) -> Smtp {
    Smtp {
        limits: limits.clone(),
        queue: Queue::new(limits.transactions),
        current: None,
        lines: [Lines::new(MAX_LINE_LEN), Lines::new(MAX_LINE_LEN)],
        chunk_lines: Lines::new(MAX_LINE_LEN),
        reading: Reading::Commands,
        message: None,
        helo: None,
        outstanding: VecDeque::new(),
        lost_count: false,
        welcomed: false,
        events: SmallVec::new(),
        tls: Tls::No,
    }
}

/// See [`new`].
#[derive(Debug)]
pub struct Smtp {
    limits: Limits,
    queue: Queue,
    /// The transaction that commands belong to.
    current: Option<u64>,
    lines: [Lines; 2],
    /// Those of BDAT's bytes, which can be cut within a line.
    chunk_lines: Lines,
    reading: Reading,
    message: Option<Message>,
    helo: Option<Vec<u8>>,
    outstanding: VecDeque<Command>,
    /// Too many commands were outstanding to know which reply is whose.
    lost_count: bool,
    welcomed: bool,
    events: SmallVec<[(Direction, EventName); 2]>,
    tls: Tls,
}

/// What the client's next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Commands,
    /// Lines up to the one that is a dot.
    Data,
    /// Bytes of BDAT, which are counted.
    Chunk {
        left: u64,
        last: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Data,
    StartTls,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tls {
    No,
    Accepted,
    HandedOver,
}

impl Parser for Smtp {
    fn protocol(&self) -> Protocol {
        Protocol::Smtp
    }

    fn parse(&mut self, direction: Direction, mut data: &[u8]) -> Result<(), Fatal> {
        let mut lines = std::mem::replace(&mut self.lines[direction as usize], Lines::new(MAX_LINE_LEN));
        while !data.is_empty() && self.tls == Tls::No {
            if let (ToServer, Reading::Chunk { left, last }) = (direction, self.reading) {
                self.chunk(&mut data, left, last);
            } else if let Some(piece) = lines.next_piece(&mut data) {
                match direction {
                    ToServer if self.reading == Reading::Data => self.data_line(piece),
                    ToServer => self.command_line(piece),
                    ToClient => self.reply_line(piece),
                }
            }
        }
        self.lines[direction as usize] = lines;
        Ok(())
    }

    fn gap(&mut self, direction: Direction, len: usize) -> Result<(), Fatal> {
        self.lines[direction as usize].reset();
        self.chunk_lines.reset();
        if direction == ToServer {
            match &mut self.reading {
                Reading::Commands => return Err(Fatal("commands are missing".into())),
                Reading::Data => {}
                Reading::Chunk { left, .. } => {
                    *left = left.checked_sub(len as u64).ok_or(Fatal("commands are missing".into()))?;
                }
            }
            if let (Some(message), Some(transaction)) =
                (&mut self.message, self.current.and_then(|id| self.queue.get(id)))
            {
                message.gap(transaction);
            }
        }
        Ok(())
    }

    fn close(&mut self, direction: Direction) {
        if direction == ToServer {
            let lines = match self.reading {
                Reading::Chunk { .. } => &mut self.chunk_lines,
                _ => &mut self.lines[ToServer as usize],
            };
            let rest = lines.take_rest();
            if !rest.is_empty() && self.reading != Reading::Commands {
                self.message_line(Piece { text: &rest, starts: true, ending: b"" }, false);
            }
            self.end_message(false);
            self.finish();
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
}

impl Smtp {
    fn transaction(&mut self) -> Option<&mut Transaction> {
        self.queue.get(self.current?)
    }

    fn raise(&mut self, direction: Direction, event: EventName) {
        if let Some(transaction) = self.transaction() {
            transaction.raise(direction, event);
        } else if self.events.len() < MAX_FLOW_EVENTS {
            self.events.push((direction, event));
        }
    }

    /// The transaction is over.
    fn finish(&mut self) {
        if let Some(transaction) = self.transaction() {
            transaction.finish();
        }
        self.current = None;
    }

    fn begin(&mut self) {
        let helo = self.helo.clone();
        let transaction = self.queue.begin();
        self.current = Some(transaction.id);
        if let Some(helo) = helo {
            put_helo(transaction, &helo);
        }
    }

    fn command_line(&mut self, piece: Piece<'_>) {
        if !piece.starts {
            return;
        }
        let line = piece.text.trim_ascii_end();
        let verb_len = line.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(line.len());
        let (verb, argument) = line.split_at(verb_len);
        let verb = verb.to_ascii_uppercase();
        if self.current.is_none() && !matches!(verb.as_slice(), b"RSET" | b"QUIT") {
            self.begin();
        }
        if piece.ending.is_empty() {
            self.raise(ToServer, "smtp.max_command_line_len_exceeded");
        }
        if self.outstanding.back() == Some(&Command::StartTls) {
            self.raise(ToServer, "smtp.invalid_pipelined_sequence");
        }
        let mut kind = Command::Other;
        match verb.as_slice() {
            b"HELO" | b"EHLO" => self.helo(argument.trim_ascii()),
            b"MAIL" => self.mail_from(argument),
            b"RCPT" => self.rcpt_to(argument),
            b"DATA" => {
                kind = Command::Data;
                self.reading = Reading::Data;
                self.begin_message();
            }
            b"BDAT" => self.bdat(argument),
            b"STARTTLS" => kind = Command::StartTls,
            b"RSET" | b"QUIT" => {
                self.end_message(false);
                self.finish();
            }
            _ => {}
        }
        self.expect_reply(kind);
    }

    fn expect_reply(&mut self, command: Command) {
        if self.outstanding.len() >= MAX_OUTSTANDING {
            self.lost_count = true;
            self.outstanding.clear();
        }
        if !self.lost_count {
            self.outstanding.push_back(command);
        }
    }

    fn helo(&mut self, argument: &[u8]) {
        let name = first_word(argument);
        self.helo = Some(name.to_vec());
        if let Some(transaction) = self.transaction() {
            if transaction.log.contains_key("helo") {
                transaction.raise(ToServer, "smtp.duplicate_fields");
            } else {
                put_helo(transaction, name);
            }
        }
    }

    fn mail_from(&mut self, argument: &[u8]) {
        let address = path(argument, b"FROM:");
        let Some(transaction) = self.transaction() else { return };
        let Some(address) = address else {
            transaction.raise(ToServer, "smtp.unparsable_content");
            return;
        };
        if transaction.log.contains_key("mail_from") {
            transaction.raise(ToServer, "smtp.duplicate_fields");
            return;
        }
        transaction.put(ToServer, Buffer::SmtpMailFrom, address);
        transaction.log.insert("mail_from".into(), String::from_utf8_lossy(address).into_owned().into());
    }

    fn rcpt_to(&mut self, argument: &[u8]) {
        let address = path(argument, b"TO:");
        let Some(transaction) = self.transaction() else { return };
        let Some(address) = address else {
            transaction.raise(ToServer, "smtp.unparsable_content");
            return;
        };
        let text = String::from_utf8_lossy(address).into_owned();
        if logged::push(&mut transaction.log, "rcpt_to", text.into(), MAX_RECIPIENTS) {
            transaction.put(ToServer, Buffer::SmtpRcptTo, address);
        }
    }

    fn bdat(&mut self, argument: &[u8]) {
        let mut words = argument.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let size = words.next().and_then(|word| std::str::from_utf8(word).ok()?.parse::<u64>().ok());
        let last = words.next().is_some_and(|word| word.eq_ignore_ascii_case(b"LAST"));
        let Some(size) = size else {
            self.raise(ToServer, "smtp.unparsable_content");
            return;
        };
        if self.message.is_none() {
            self.begin_message();
        }
        if size > 0 {
            self.reading = Reading::Chunk { left: size, last };
        } else if last {
            self.end_message(true);
            self.finish();
        }
    }

    fn begin_message(&mut self) {
        let limits = self.limits.clone();
        if let Some(transaction) = self.transaction() {
            transaction.progress[ToServer as usize] = Stage::Body;
            transaction.progress[ToClient as usize] = Stage::Body;
            let message = Message::new(&limits, transaction);
            self.message = Some(message);
        }
    }

    fn message_line(&mut self, piece: Piece<'_>, stuffed: bool) {
        let transaction = self.current.and_then(|id| self.queue.get(id));
        if let (Some(message), Some(transaction)) = (&mut self.message, transaction) {
            message.line(piece, stuffed, transaction);
        }
    }

    fn end_message(&mut self, whole: bool) {
        self.reading = Reading::Commands;
        if let Some(message) = self.message.take()
            && let Some(transaction) = self.transaction()
        {
            message.finish(whole, transaction);
        }
    }

    fn data_line(&mut self, piece: Piece<'_>) {
        if piece.whole() && piece.text == b"." {
            self.end_message(true);
            self.finish();
            self.expect_reply(Command::Other);
            return;
        }
        if !piece.whole() && piece.starts {
            self.raise(ToServer, "smtp.truncated_line");
        }
        let undotted = if piece.starts { piece.text.strip_prefix(b".") } else { None };
        self.message_line(Piece { text: undotted.unwrap_or(piece.text), ..piece }, undotted.is_some());
    }

    /// Bytes of a BDAT, counted instead of looked at for a dot.
    fn chunk(&mut self, data: &mut &[u8], left: u64, last: bool) {
        let mut lines = std::mem::replace(&mut self.chunk_lines, Lines::new(MAX_LINE_LEN));
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
        let (mut here, after) = data.split_at(len);
        *data = after;
        while !here.is_empty() {
            if let Some(piece) = lines.next_piece(&mut here) {
                self.message_line(piece, false);
            }
        }
        let left = left - len as u64;
        self.reading = Reading::Chunk { left, last };
        if left == 0 {
            if last {
                let rest = lines.take_rest();
                if !rest.is_empty() {
                    self.message_line(Piece { text: &rest, starts: true, ending: b"" }, false);
                }
                self.end_message(true);
                self.finish();
            }
            self.reading = Reading::Commands;
        }
        self.chunk_lines = lines;
    }

    fn reply_line(&mut self, piece: Piece<'_>) {
        if !piece.starts {
            return;
        }
        if piece.ending.is_empty() {
            self.raise(ToClient, "smtp.max_reply_line_len_exceeded");
        }
        let [a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', ..] = piece.text else {
            self.raise(ToClient, "smtp.invalid_reply");
            return;
        };
        let code = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
        if piece.text.get(3) == Some(&b'-') {
            return;
        }
        if !self.welcomed {
            self.welcomed = true;
            if self.outstanding.is_empty() {
                if code != 220 {
                    self.raise(ToClient, "smtp.no_server_welcome_message");
                }
                return;
            }
            if code == 220 && self.outstanding.front() != Some(&Command::StartTls) {
                return;
            }
        }
        match self.outstanding.pop_front() {
            Some(Command::Data) if code >= 400 => {
                self.raise(ToClient, "smtp.data_command_rejected");
                if self.reading == Reading::Data {
                    self.end_message(false);
                }
            }
            Some(Command::StartTls) if code == 220 => {
                self.tls = Tls::Accepted;
                self.finish();
            }
            Some(Command::StartTls) => self.raise(ToClient, "smtp.tls_rejected"),
            Some(Command::Data | Command::Other) => {}
            None if self.lost_count => {}
            None => self.raise(ToClient, "smtp.unable_to_match_reply_with_request"),
        }
    }
}

fn put_helo(transaction: &mut Transaction, name: &[u8]) {
    transaction.put(ToServer, Buffer::SmtpHelo, name);
    transaction.log.insert("helo".into(), String::from_utf8_lossy(name).into_owned().into());
}

fn first_word(text: &[u8]) -> &[u8] {
    text.split(u8::is_ascii_whitespace).next().unwrap_or_default()
}

/// The path of `MAIL FROM:<path>` or `RCPT TO:<path>`, in the angle brackets that it came with.
fn path<'a>(argument: &'a [u8], keyword: &[u8]) -> Option<&'a [u8]> {
    let argument = argument.trim_ascii();
    let (head, rest) = argument.split_at_checked(keyword.len())?;
    if !head.eq_ignore_ascii_case(keyword) {
        return None;
    }
    Some(first_word(rest.trim_ascii_start()))
}
