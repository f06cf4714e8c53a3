//! SSH (RFC 4253) up to where it is encrypted: both banners and both key exchange offers.
//!
//! A flow has one transaction.

mod kex;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use super::buffer::Buffer;
use super::lines::{Lines, Piece};
use super::queue::Queue;
use super::{Fatal, Limits, Parser, Protocol, Stage, Transaction, logged};
use crate::Direction::{self, ToClient, ToServer};
use crate::EventName;

/// RFC 4253 allows 255 bytes.
const MAX_BANNER_LEN: usize = 256;
/// How many lines a server can send before its banner.
const MAX_LINES_BEFORE: u32 = 64;
/// The longest offer that is read, and the longest packet that is believed.
const MAX_OFFER_LEN: usize = 16 * 1024;
const MAX_PACKET_LEN: usize = 256 * 1024;
/// Length, length of the padding, message number.
const HEADER_LEN: usize = 6;
const KEXINIT: u8 = 20;
const NEWKEYS: u8 = 21;

/// A parser for one flow.
#[must_use]
pub fn new(_: &Limits) -> Ssh {
    let mut queue = Queue::new(1);
    queue.begin();
    Ssh { queue, sides: [Side::default(), Side::default()] }
}

/// See [`new`].
#[derive(Debug)]
pub struct Ssh {
    queue: Queue,
    sides: [Side; 2],
}

#[derive(Debug)]
struct Side {
    reading: Reading,
    lines: Lines,
    before: u32,
    packet: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Banner,
    Packet,
    /// A packet that does not matter.
    Skip(usize),
    /// Encrypted, or not SSH.
    Over,
}

impl Default for Side {
    fn default() -> Self {
        Self { reading: Reading::Banner, lines: Lines::new(MAX_BANNER_LEN), before: 0, packet: Vec::new() }
    }
}

impl Parser for Ssh {
    fn protocol(&self) -> Protocol {
        Protocol::Ssh
    }

    fn parse(&mut self, direction: Direction, mut data: &[u8]) -> Result<(), Fatal> {
        let mut side = std::mem::take(&mut self.sides[direction as usize]);
        while !data.is_empty() && side.reading != Reading::Over {
            match side.reading {
                Reading::Banner => {
                    let mut lines = std::mem::replace(&mut side.lines, Lines::new(MAX_BANNER_LEN));
                    if let Some(piece) = lines.next_piece(&mut data) {
                        self.banner(direction, piece, &mut side);
                    }
                    side.lines = lines;
                }
                Reading::Packet => self.packet(direction, &mut data, &mut side),
                Reading::Skip(left) => {
                    let taken = left.min(data.len());
                    data = data.get(taken..).unwrap_or_default();
                    side.reading = if taken == left { Reading::Packet } else { Reading::Skip(left - taken) };
                }
                Reading::Over => {}
            }
        }
        self.sides[direction as usize] = side;
        Ok(())
    }

    fn gap(&mut self, direction: Direction, len: usize) -> Result<(), Fatal> {
        let side = &mut self.sides[direction as usize];
        match side.reading {
            Reading::Over => {}
            Reading::Skip(left) if len < left => side.reading = Reading::Skip(left - len),
            _ => {
                side.reading = Reading::Over;
                side.packet = Vec::new();
            }
        }
        Ok(())
    }

    fn close(&mut self, direction: Direction) {
        self.queue.close(direction);
    }

    fn transactions(&mut self) -> &mut VecDeque<Transaction> {
        self.queue.all()
    }

    fn finished(&self) -> bool {
        self.sides.iter().all(|side| side.reading == Reading::Over)
    }
}

impl Ssh {
    fn raise(&mut self, direction: Direction, event: EventName) {
        if let Some(transaction) = self.queue.last() {
            transaction.raise(direction, event);
        }
    }

    fn over(&mut self, direction: Direction, side: &mut Side) {
        side.reading = Reading::Over;
        side.packet = Vec::new();
        if let Some(transaction) = self.queue.last() {
            transaction.progress[direction as usize] = Stage::Complete;
        }
    }

    fn banner(&mut self, direction: Direction, piece: Piece<'_>, side: &mut Side) {
        if !piece.starts {
            // The rest of a banner that was too long.
            if !piece.ending.is_empty() {
                side.reading = Reading::Packet;
            }
            return;
        }
        let Some(versions) = piece.text.strip_prefix(b"SSH-") else {
            side.before += 1;
            if direction == ToServer || side.before > MAX_LINES_BEFORE {
                self.raise(direction, "ssh.invalid_banner");
                self.over(direction, side);
            }
            return;
        };
        let Some(dash) = memchr::memchr(b'-', versions) else {
            self.raise(direction, "ssh.invalid_banner");
            self.over(direction, side);
            return;
        };
        let (protocol, software) = versions.split_at(dash);
        let software = software.get(1..).unwrap_or_default();
        let software_len = software.iter().position(|&byte| byte == b' ' || byte == b'\r').unwrap_or(software.len());
        let software = software.get(..software_len).unwrap_or_default();
        if let Some(transaction) = self.queue.last() {
            transaction.put(direction, Buffer::SshProto, protocol);
            if !software.is_empty() {
                transaction.put(direction, Buffer::SshSoftware, software);
            }
            let log = log(transaction, direction);
            log.insert("proto_version".into(), String::from_utf8_lossy(protocol).into_owned().into());
            log.insert("software_version".into(), String::from_utf8_lossy(software).into_owned().into());
            transaction.progress[direction as usize] = Stage::Headers;
        }
        if piece.ending.is_empty() {
            self.raise(direction, "ssh.long_banner");
        }
        if !(protocol.starts_with(b"2.") || protocol == b"1.99") {
            // Protocol 1 has other packets.
            self.over(direction, side);
        } else if !piece.ending.is_empty() {
            side.reading = Reading::Packet;
        }
    }

    fn packet(&mut self, direction: Direction, data: &mut &[u8], side: &mut Side) {
        fill(&mut side.packet, HEADER_LEN, data);
        let &[a, b, c, d, _, message, ..] = side.packet.as_slice() else { return };
        let len = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if !(2..=MAX_PACKET_LEN).contains(&len) {
            self.raise(direction, "ssh.invalid_record");
            return self.over(direction, side);
        }
        let total = len + 4;
        match message {
            NEWKEYS => self.over(direction, side),
            KEXINIT if total <= MAX_OFFER_LEN => {
                fill(&mut side.packet, total, data);
                if side.packet.len() < total {
                    return;
                }
                let packet = std::mem::take(&mut side.packet);
                self.offer(direction, packet.get(HEADER_LEN..).unwrap_or_default());
            }
            _ => {
                if message == KEXINIT {
                    self.raise(direction, "ssh.long_kex_record");
                }
                side.packet.clear();
                let left = total - HEADER_LEN;
                side.reading = if left == 0 { Reading::Packet } else { Reading::Skip(left) };
            }
        }
    }

    fn offer(&mut self, direction: Direction, offer: &[u8]) {
        let Some(fingerprint) = kex::hassh(direction, offer) else {
            self.raise(direction, "ssh.invalid_record");
            return;
        };
        let Some(transaction) = self.queue.last() else { return };
        let (string, hash) = match direction {
            ToServer => (Buffer::SshHasshString, Buffer::SshHassh),
            ToClient => (Buffer::SshHasshServerString, Buffer::SshHasshServer),
        };
        if transaction.buffers.iter().any(|content| content.buffer == hash) {
            return;
        }
        let logged = json!({"hash": fingerprint.hash, "string": String::from_utf8_lossy(&fingerprint.string)});
        log(transaction, direction).insert("hassh".into(), logged);
        transaction.put(direction, hash, fingerprint.hash);
        transaction.put(direction, string, fingerprint.string);
    }
}

fn fill(packet: &mut Vec<u8>, len: usize, data: &mut &[u8]) {
    let (piece, rest) = data.split_at(len.saturating_sub(packet.len()).min(data.len()));
    packet.extend_from_slice(piece);
    *data = rest;
}

fn log(transaction: &mut Transaction, direction: Direction) -> &mut Map<String, Value> {
    logged::object(&mut transaction.log, if direction == ToServer { "client" } else { "server" })
}
