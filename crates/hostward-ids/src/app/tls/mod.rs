//! TLS up to the end of its handshake (RFC 8446, RFC 5246, SSL 3.0 and the hello of SSL 2.0): one transaction a flow.

mod certificate;
mod fingerprint;
mod hello;
mod log;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use super::buffer::{Buffer, Integer};
use super::{Fatal, Limits, Parser, Protocol, Stage, Transaction};
use crate::Direction::{self, ToClient, ToServer};
use crate::EventName;
use hello::Reader;

/// Longest record: 2^14 bytes and what protection adds (RFC 5246 section 6.2.3).
const RECORD_LIMIT: usize = (1 << 14) + 2048;
/// Longest handshake message that is read; a longer one is passed over.
const MESSAGE_LIMIT: usize = 1 << 17;
/// How many certificates of a chain are given to signatures.
const CHAIN_LIMIT: usize = 32;
/// How many records that are no handshake a direction may send before its hello.
const STRAY_LIMIT: u32 = 64;

/// A parser for one flow.
#[must_use]
pub fn new(_limits: &Limits) -> Tls {
    Tls {
        sides: [Side::default(), Side::default()],
        transactions: VecDeque::from([Transaction::new(0)]),
        finished: false,
        session: Vec::new(),
    }
}

/// See [`new`].
#[derive(Debug)]
pub struct Tls {
    sides: [Side; 2],
    transactions: VecDeque<Transaction>,
    finished: bool,
    /// What session the client wants to resume.
    session: Vec<u8>,
}

/// One direction.
#[allow(clippy::struct_excessive_bools)] // What was seen so far, each by itself.
#[derive(Debug, Default)]
struct Side {
    /// The beginning of a record that is not all there.
    pending: Vec<u8>,
    /// Bytes of a record that nobody needs.
    skip: usize,
    /// A handshake message that goes over several records, or has not ended.
    handshake: Vec<u8>,
    /// Bytes of a handshake message that is too long.
    skip_handshake: usize,
    /// Records without a handshake so far.
    stray: u32,
    hello_seen: bool,
    certificate_seen: bool,
    /// From here on everything is encrypted.
    encrypted: bool,
    /// Nothing can be read.
    over: bool,
}

/// Content types (RFC 8446 section 5.1, RFC 6520).
mod content {
    pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
    pub(super) const ALERT: u8 = 21;
    pub(super) const HANDSHAKE: u8 = 22;
    pub(super) const APPLICATION_DATA: u8 = 23;
    pub(super) const HEARTBEAT: u8 = 24;
}

impl Tls {
    fn side(&mut self, direction: Direction) -> &mut Side {
        &mut self.sides[direction as usize]
    }

    fn transaction(&mut self) -> Option<&mut Transaction> {
        self.transactions.front_mut()
    }

    fn event(&mut self, direction: Direction, name: EventName) {
        if let Some(transaction) = self.transaction()
            && !transaction.events.contains(&(direction, name))
        {
            transaction.events.push((direction, name));
        }
    }

    fn progress(&mut self, direction: Direction, stage: Stage) {
        if let Some(transaction) = self.transaction() {
            let progress = &mut transaction.progress[direction as usize];
            *progress = (*progress).max(stage);
        }
    }

    fn put(&mut self, direction: Direction, buffer: Buffer, data: impl Into<Vec<u8>>) {
        if let Some(transaction) = self.transaction() {
            transaction.put(direction, buffer, data);
        }
    }

    /// Cuts records off the stream.
    fn records(&mut self, direction: Direction, mut data: &[u8]) {
        while !data.is_empty() && !self.side(direction).over {
            let side = self.side(direction);
            if side.skip > 0 {
                let skipped = side.skip.min(data.len());
                side.skip -= skipped;
                data = data.get(skipped..).unwrap_or_default();
                continue;
            }
            if side.pending.is_empty() {
                let (taken, more) = self.record(direction, data);
                data = data.get(taken..).unwrap_or_default();
                if more {
                    self.side(direction).pending.extend_from_slice(data);
                    return;
                }
                continue;
            }
            // As much as this record needs, so that what follows it is read in place again.
            let mut pending = std::mem::take(&mut side.pending);
            let wanted = match pending.as_slice() {
                [high, low, ..] if old_hello(direction, side, *high) => {
                    2 + usize::from(u16::from_be_bytes([*high & 0x7f, *low]))
                }
                [_, _, _, high, low, ..] => 5 + usize::from(u16::from_be_bytes([*high, *low])),
                _ => 5,
            };
            let added = wanted.saturating_sub(pending.len()).clamp(1, data.len());
            pending.extend_from_slice(data.get(..added).unwrap_or_default());
            data = data.get(added..).unwrap_or_default();
            let (taken, more) = self.record(direction, &pending);
            pending.drain(..taken);
            if more || !pending.is_empty() {
                self.side(direction).pending = pending;
            }
        }
    }

    /// Reads the record at the front: how many bytes it has, and whether more are needed.
    fn record(&mut self, direction: Direction, data: &[u8]) -> (usize, bool) {
        if direction == ToServer
            && !self.side(direction).hello_seen
            && data.first().is_some_and(|byte| byte & 0x80 != 0)
        {
            return self.old_hello(data);
        }
        let mut header = Reader(data);
        let (Some(kind), Some(version), Some(len)) = (header.u8(), header.u16(), header.u16()) else {
            return (0, true);
        };
        let len = usize::from(len);
        let problem = if !(content::CHANGE_CIPHER_SPEC..=content::HEARTBEAT).contains(&kind) {
            Some("tls.invalid_record_type")
        } else if version >> 8 != 3 && version >> 8 != 0x7f {
            Some("tls.invalid_record_version")
        } else if len > RECORD_LIMIT {
            Some("tls.invalid_record_length")
        } else {
            None
        };
        if let Some(problem) = problem {
            self.event(direction, problem);
            self.give_up(direction);
            return (data.len(), false);
        }
        let encrypted = self.side(direction).encrypted;
        if kind == content::APPLICATION_DATA || encrypted {
            // Nothing inside can be read: it is passed over without being kept.
            self.side(direction).skip = len;
            self.opaque(direction, kind);
            return (5, false);
        }
        let Some(body) = header.take(len) else { return (0, true) };
        match kind {
            content::HANDSHAKE => self.handshake(direction, body),
            content::CHANGE_CIPHER_SPEC => self.change_cipher_spec(direction),
            content::ALERT => {
                self.event(direction, "tls.error_message_encountered");
                self.stray(direction);
            }
            _ => {
                self.heartbeat(direction, body);
                self.stray(direction);
            }
        }
        (5 + len, false)
    }

    /// A hello in SSL 2.0's format (RFC 6101 appendix E), from clients of old.
    fn old_hello(&mut self, data: &[u8]) -> (usize, bool) {
        let mut reader = Reader(data);
        let Some(len) = reader.u16().map(|len| usize::from(len & 0x7fff)) else { return (0, true) };
        if !(9..=RECORD_LIMIT).contains(&len) {
            self.event(ToServer, "tls.invalid_sslv2_header");
            self.give_up(ToServer);
            return (data.len(), false);
        }
        let Some(body) = reader.take(len) else { return (0, true) };
        let mut body = Reader(body);
        let (kind, version) = (body.u8(), body.u16());
        if kind == Some(1)
            && let (Some(version), Some(transaction)) = (version, self.transaction())
        {
            transaction.integers.push((Integer::TlsVersion, u64::from(version)));
            transaction.log.insert("version".into(), log::version(version).into());
        }
        self.side(ToServer).hello_seen = true;
        self.progress(ToServer, Stage::Headers);
        (2 + len, false)
    }

    /// Collects handshake messages out of records.
    fn handshake(&mut self, direction: Direction, mut body: &[u8]) {
        let side = self.side(direction);
        let skipped = side.skip_handshake.min(body.len());
        side.skip_handshake -= skipped;
        body = body.get(skipped..).unwrap_or_default();
        let mut buffer = std::mem::take(&mut side.handshake);
        let mut rest = if buffer.is_empty() {
            body
        } else {
            buffer.extend_from_slice(body);
            buffer.as_slice()
        };
        loop {
            let mut reader = Reader(rest);
            let (Some(kind), Some(len)) = (reader.u8(), reader.u24()) else { break };
            if len > MESSAGE_LIMIT {
                self.event(direction, "tls.handshake_invalid_length");
                let there = reader.0.len().min(len);
                self.side(direction).skip_handshake = len - there;
                rest = reader.0.get(there..).unwrap_or_default();
                continue;
            }
            let Some(message) = reader.take(len) else { break };
            rest = reader.0;
            if self.side(direction).encrypted {
                rest = &[];
                break;
            }
            self.message(direction, kind, message);
        }
        let rest = rest.to_vec();
        self.side(direction).handshake = rest;
    }

    fn message(&mut self, direction: Direction, kind: u8, body: &[u8]) {
        match (kind, direction) {
            (1, ToServer) => self.client_hello(body),
            (2, ToClient) => self.server_hello(body),
            (11, ToClient) => self.certificates(body),
            // The server's flight ends.
            (14, ToClient) => self.progress(ToClient, Stage::Headers),
            (1, ToClient) | (2, ToServer) => self.event(direction, "tls.invalid_handshake_message"),
            _ => {}
        }
    }

    fn client_hello(&mut self, body: &[u8]) {
        if std::mem::replace(&mut self.side(ToServer).hello_seen, true) {
            // Another one after a retry, or a duplicate: the first one counts.
            return;
        }
        let Some(hello) = hello::client(body) else {
            self.event(ToServer, "tls.invalid_handshake_message");
            self.progress(ToServer, Stage::Headers);
            return;
        };
        let odd = hello.oddities;
        for (seen, name) in [
            (odd.repeated_name, "tls.multiple_sni_extensions"),
            (odd.bad_name_type, "tls.invalid_sni_type"),
            (odd.bad_name_length, "tls.invalid_sni_length"),
        ] {
            if seen {
                self.event(ToServer, name);
            }
        }
        let (ja3, ja4) = (fingerprint::ja3(&hello), fingerprint::ja4(&hello));
        let ja3_hash = fingerprint::md5(&ja3);
        if let Some(name) = &hello.server_name {
            self.put(ToServer, Buffer::TlsSni, name.as_slice());
        }
        for protocol in &hello.protocols {
            self.put(ToServer, Buffer::TlsAlpn, protocol.as_slice());
        }
        self.put_random(ToServer, &hello.random);
        self.put(ToServer, Buffer::Ja3String, ja3.as_str());
        self.put(ToServer, Buffer::Ja3Hash, ja3_hash.as_str());
        self.put(ToServer, Buffer::Ja4Hash, ja4.as_str());
        if let Some(transaction) = self.transaction() {
            transaction.integers.push((Integer::TlsVersion, u64::from(hello.version)));
            log::client(transaction, &hello, &ja3, &ja3_hash, &ja4);
        }
        self.session = hello.session;
        self.progress(ToServer, Stage::Headers);
    }

    fn server_hello(&mut self, body: &[u8]) {
        let Some(hello) = hello::server(body) else {
            self.event(ToClient, "tls.invalid_handshake_message");
            self.progress(ToClient, Stage::Headers);
            return;
        };
        if hello.is_retry() || std::mem::replace(&mut self.side(ToClient).hello_seen, true) {
            return;
        }
        let ja3s = fingerprint::ja3s(&hello);
        let ja3s_hash = fingerprint::md5(&ja3s);
        if let Some(protocol) = &hello.protocol {
            self.put(ToClient, Buffer::TlsAlpn, protocol.as_slice());
        }
        self.put_random(ToClient, &hello.random);
        self.put(ToClient, Buffer::Ja3sString, ja3s.as_str());
        self.put(ToClient, Buffer::Ja3sHash, ja3s_hash.as_str());
        let resumed = !self.session.is_empty() && hello.session == self.session && hello.chosen.is_none();
        if let Some(transaction) = self.transaction() {
            transaction.integers.retain(|(integer, _)| *integer != Integer::TlsVersion);
            transaction.integers.push((Integer::TlsVersion, u64::from(hello.negotiated())));
            log::server(transaction, &hello, &ja3s, &ja3s_hash);
            if resumed {
                transaction.log.insert("session_resumed".into(), true.into());
            }
        }
        if hello.negotiated() >= 0x0304 {
            // The certificate is encrypted.
            self.progress(ToClient, Stage::Headers);
        }
    }

    fn put_random(&mut self, direction: Direction, random: &[u8]) {
        self.put(direction, Buffer::TlsRandom, random);
        if let Some((time, bytes)) = random.split_first_chunk::<4>() {
            self.put(direction, Buffer::TlsRandomTime, time.as_slice());
            self.put(direction, Buffer::TlsRandomBytes, bytes);
        }
    }

    fn certificates(&mut self, body: &[u8]) {
        if std::mem::replace(&mut self.side(ToClient).certificate_seen, true) {
            return;
        }
        match hello::certificates(body) {
            Some(chain) => {
                if let Some(transaction) = self.transaction() {
                    transaction.directed_integers.push((ToClient, Integer::TlsCertChainLen, chain.len() as u64));
                }
                for der in chain.iter().take(CHAIN_LIMIT) {
                    self.put(ToClient, Buffer::TlsCerts, *der);
                }
                if let Some(der) = chain.first() {
                    self.leaf(der);
                }
            }
            None => self.event(ToClient, "tls.certificate_invalid_length"),
        }
        self.progress(ToClient, Stage::Headers);
    }

    fn leaf(&mut self, der: &[u8]) {
        let Some(certificate) = certificate::read(der) else {
            self.event(ToClient, "tls.invalid_certificate");
            return;
        };
        let fingerprint = certificate::fingerprint(der);
        self.put(ToClient, Buffer::TlsCertSubject, certificate.subject.as_str());
        self.put(ToClient, Buffer::TlsCertIssuer, certificate.issuer.as_str());
        self.put(ToClient, Buffer::TlsCertSerial, certificate.serial.as_str());
        self.put(ToClient, Buffer::TlsCertFingerprint, fingerprint.as_str());
        for name in &certificate.names {
            self.put(ToClient, Buffer::TlsSubjectAltName, name.as_str());
        }
        if let Some(transaction) = self.transaction() {
            let [not_before, not_after] = certificate.validity;
            transaction.directed_integers.push((ToClient, Integer::TlsCertNotBefore, not_before));
            transaction.directed_integers.push((ToClient, Integer::TlsCertNotAfter, not_after));
            log::certificate(transaction, &certificate, &fingerprint);
        }
    }

    fn change_cipher_spec(&mut self, direction: Direction) {
        // TLS 1.3 sends it for show, before a hello even; what counts then is the first record of application data.
        if self.side(direction).hello_seen {
            self.side(direction).encrypted = true;
            self.progress(direction, Stage::Headers);
        }
    }

    /// An encrypted record: the handshake of this direction is over, or what is left of it cannot be seen.
    fn opaque(&mut self, direction: Direction, kind: u8) {
        if kind == content::APPLICATION_DATA || self.side(direction).encrypted {
            self.side(direction).encrypted = true;
            self.progress(direction, Stage::Complete);
            self.finished = self.sides.iter().all(|side| side.encrypted || side.over);
        }
    }

    /// RFC 6520: type, a length, and that much payload with 16 bytes of padding.
    fn heartbeat(&mut self, direction: Direction, body: &[u8]) {
        self.event(direction, "tls.heartbeat_message");
        let mut reader = Reader(body);
        match (reader.u8(), reader.u16()) {
            (Some(1), Some(len)) if usize::from(len) + 16 > reader.0.len() => {
                self.event(direction, "tls.overflow_heartbeat_message");
            }
            (Some(1 | 2), Some(_)) => {}
            _ => self.event(direction, "tls.invalid_heartbeat_message"),
        }
    }

    fn stray(&mut self, direction: Direction) {
        let side = self.side(direction);
        side.stray += 1;
        if side.stray > STRAY_LIMIT && !side.hello_seen {
            self.event(direction, "tls.too_many_records_in_packet");
            self.give_up(direction);
        }
    }

    fn give_up(&mut self, direction: Direction) {
        *self.side(direction) = Side { over: true, hello_seen: true, ..Side::default() };
        self.progress(direction, Stage::Complete);
        self.finished = self.sides.iter().all(|side| side.encrypted || side.over);
    }
}

/// Whether a record is a hello of SSL 2.0: what comes first, with the highest bit of its length set.
fn old_hello(direction: Direction, side: &Side, first: u8) -> bool {
    direction == ToServer && !side.hello_seen && first & 0x80 != 0
}

impl Parser for Tls {
    fn protocol(&self) -> Protocol {
        Protocol::Tls
    }

    fn parse(&mut self, direction: Direction, data: &[u8]) -> Result<(), Fatal> {
        self.records(direction, data);
        Ok(())
    }

    fn gap(&mut self, direction: Direction, len: usize) -> Result<(), Fatal> {
        let side = self.side(direction);
        if len <= side.skip {
            side.skip -= len;
        } else {
            self.give_up(direction);
        }
        Ok(())
    }

    fn close(&mut self, direction: Direction) {
        self.give_up(direction);
    }

    fn transactions(&mut self) -> &mut VecDeque<Transaction> {
        &mut self.transactions
    }

    fn finished(&self) -> bool {
        self.finished
    }
}
