//! HTTP/2 (RFC 9113), from the start or taken over from HTTP/1.
//!
//! One transaction is one stream, with the buffers of HTTP/1 so that its rules match, or one frame that belongs to no
//! stream (settings, windows).

mod fields;
mod frames;
mod hpack;
mod huffman;
mod tables;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use serde_json::{Map, Value};
use smallvec::SmallVec;

use super::buffer::{Buffer, Integer};
use super::cursor::Cursor;
use super::dns;
use super::http::body::Body;
use super::http::log;
use super::queue::Queue;
use super::{Fatal, FileState, Limits, Parser, Protocol, Stage, Transaction, logged};
use crate::Direction::{self, ToClient, ToServer};
use crate::EventName;
use frames::{Frames, Header, Step};
use hpack::Broken;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A header block over several frames must not be longer.
const MAX_BLOCK_LEN: usize = 262_144;
/// With more streams than this open, less is kept of their bodies.
const MANY_STREAMS: usize = 32;
const INSPECT_LEN_OF_MANY: usize = 8192;
const MAX_FLOW_EVENTS: usize = 16;
/// How many numbers of one stream are kept for signatures.
const MAX_INTEGERS: usize = 64;
/// The longest message of DNS.
const MAX_DNS_LEN: u64 = 65_535;
const DNS_MESSAGE: &[u8] = b"application/dns-message";
const HEADER_TABLE_SIZE: u16 = 1;

/// A parser for one flow.
#[must_use]
pub fn new(limits: &Limits) -> Http2 {
    Http2 {
        limits: limits.clone(),
        limits_of_many: Limits { body_inspect_len: limits.body_inspect_len.min(INSPECT_LEN_OF_MANY), ..limits.clone() },
        queue: Queue::new(limits.transactions),
        sides: [Side { preface: Some(0), ..Side::default() }, Side::default()],
        streams: VecDeque::new(),
        events: SmallVec::new(),
        dns: false,
    }
}

/// What HTTP/1 hands over when a client asked for an upgrade (RFC 7540 §3.2): its request is answered in stream 1.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Upgrade {
    pub method: Vec<u8>,
    pub target: Vec<u8>,
    pub host: Option<Vec<u8>>,
}

/// A parser for a flow that began as HTTP/1.
#[must_use]
pub fn upgraded(limits: &Limits, upgrade: &Upgrade) -> Http2 {
    let mut parser = new(limits);
    let at = parser.stream(ToServer, 1);
    let Some(stream) = parser.streams.get_mut(at) else { return parser };
    let path = upgrade.target.split(|byte| *byte == b'?').next().unwrap_or_default();
    stream.path = path.to_vec();
    stream.begun[ToServer as usize] = true;
    if let Some(transaction) = parser.queue.get(stream.transaction) {
        transaction.put(ToServer, Buffer::HttpMethod, upgrade.method.as_slice());
        transaction.put(ToServer, Buffer::HttpUri, upgrade.target.as_slice());
        transaction.put(ToServer, Buffer::HttpRawUri, upgrade.target.as_slice());
        log::request_line(transaction, &upgrade.method, &upgrade.target, b"");
        transaction.log.insert("version".into(), "2".into());
        if let Some(host) = &upgrade.host {
            fields::put_host(transaction, host);
            transaction.log.insert("hostname".into(), String::from_utf8_lossy(host).into_owned().into());
        }
        transaction.progress[ToServer as usize] = Stage::Complete;
    }
    parser
}

/// See [`new`].
#[derive(Debug)]
pub struct Http2 {
    limits: Limits,
    limits_of_many: Limits,
    queue: Queue,
    sides: [Side; 2],
    streams: VecDeque<Stream>,
    /// Whether messages of DNS were asked for (RFC 8484).
    dns: bool,
    events: SmallVec<[(Direction, EventName); 2]>,
}

#[derive(Debug, Default)]
struct Side {
    frames: Frames,
    table: hpack::Decoder,
    /// A header block that is not whole, by the header of its first frame.
    block: Option<(Header, Vec<u8>)>,
    /// How much of the client's preface was read, until it was.
    preface: Option<usize>,
}

#[derive(Debug)]
struct Stream {
    id: u32,
    transaction: u64,
    /// The request's, a name for the file that the response may be.
    path: Vec<u8>,
    /// Whether the header block came, not only an interim response.
    begun: [bool; 2],
    bodies: [Option<Body>; 2],
    lens: [u64; 2],
    /// Whether a body is a message of DNS.
    dns: [bool; 2],
}

impl Parser for Http2 {
    fn protocol(&self) -> Protocol {
        if self.dns { Protocol::Doh2 } else { Protocol::Http2 }
    }

    fn parse(&mut self, direction: Direction, mut data: &[u8]) -> Result<(), Fatal> {
        self.preface(direction, &mut data)?;
        let mut frames = std::mem::take(&mut self.sides[direction as usize].frames);
        let mut outcome = Ok(());
        while !data.is_empty() && outcome.is_ok() {
            match frames.next_step(&mut data) {
                Step::More => {}
                Step::Frame(header, payload) => outcome = self.frame(direction, header, payload),
                Step::Body(header, piece, last) => self.body(direction, header, piece, last),
            }
        }
        self.sides[direction as usize].frames = frames;
        outcome
    }

    fn gap(&mut self, direction: Direction, len: usize) -> Result<(), Fatal> {
        let id = self.sides[direction as usize].frames.gap(len).ok_or(Fatal("frames are missing".into()))?;
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id)
            && let Some(body) = &mut stream.bodies[direction as usize]
            && let Some(transaction) = self.queue.get(stream.transaction)
        {
            body.gap(transaction, len);
        }
        Ok(())
    }

    fn close(&mut self, direction: Direction) {
        for at in 0..self.streams.len() {
            self.end(direction, at, FileState::Truncated);
        }
        self.queue.close(direction);
    }

    fn transactions(&mut self) -> &mut VecDeque<Transaction> {
        self.queue.all()
    }

    fn take_events(&mut self) -> SmallVec<[(Direction, EventName); 2]> {
        std::mem::take(&mut self.events)
    }
}

impl Http2 {
    fn raise(&mut self, direction: Direction, event: EventName) {
        if self.events.len() < MAX_FLOW_EVENTS && !self.events.contains(&(direction, event)) {
            self.events.push((direction, event));
        }
    }

    /// The client's first bytes. Without them (the flow was picked up midway) frames are read from the start.
    fn preface(&mut self, direction: Direction, data: &mut &[u8]) -> Result<(), Fatal> {
        let Some(read) = self.sides[direction as usize].preface else { return Ok(()) };
        let wanted = PREFACE.get(read..).unwrap_or_default();
        let len = wanted.len().min(data.len());
        let (here, rest) = data.split_at(len);
        if wanted.get(..len) == Some(here) {
            *data = rest;
            self.sides[direction as usize].preface = (len < wanted.len()).then_some(read + len);
        } else if read == 0 && here.first() != PREFACE.first() {
            self.sides[direction as usize].preface = None;
        } else {
            self.raise(direction, "http2.invalid_client_magic");
            return Err(Fatal("not the preface of HTTP/2".into()));
        }
        Ok(())
    }

    /// Where a stream is; it is begun if it is new.
    fn stream(&mut self, direction: Direction, id: u32) -> usize {
        if let Some(at) = self.streams.iter().position(|stream| stream.id == id) {
            return at;
        }
        if self.streams.len() >= self.limits.transactions.max(1) {
            self.raise(direction, "http2.too_many_streams");
            self.end(ToServer, 0, FileState::Truncated);
            self.end(ToClient, 0, FileState::Truncated);
            self.streams.pop_front();
        }
        let transaction = self.queue.begin();
        // A response to what was not seen, or what the server sends unasked.
        transaction.directions[ToServer as usize] = direction == ToServer;
        let shown = http2(transaction);
        shown.insert("stream_id".into(), id.into());
        self.streams.push_back(Stream {
            id,
            transaction: transaction.id,
            path: Vec::new(),
            begun: [false; 2],
            bodies: [None, None],
            lens: [0; 2],
            dns: [false; 2],
        });
        self.streams.len() - 1
    }

    fn frame(&mut self, direction: Direction, header: Header, payload: &[u8]) -> Result<(), Fatal> {
        let open = self.sides[direction as usize].block.is_some();
        if open != (header.kind == frames::CONTINUATION) {
            // Nothing may come between the frames of a block.
            self.raise(direction, "http2.invalid_frame_data");
            self.sides[direction as usize].block = None;
            if !open {
                return Ok(());
            }
        }
        match header.kind {
            frames::HEADERS | frames::PUSH_PROMISE | frames::CONTINUATION => {
                return self.fragment(direction, header, payload);
            }
            frames::SETTINGS if header.flags & frames::ACK == 0 => self.settings(direction, header, payload),
            _ => {
                let number = match header.kind {
                    frames::PRIORITY => payload.get(4).map(|weight| (Integer::Http2Priority, u64::from(*weight))),
                    frames::RST_STREAM => be32(payload, 0).map(|code| (Integer::Http2ErrorCode, code)),
                    frames::GOAWAY => be32(payload, 4).map(|code| (Integer::Http2ErrorCode, code)),
                    frames::WINDOW_UPDATE => be32(payload, 0).map(|size| (Integer::Http2Window, size & 0x7fff_ffff)),
                    _ => None,
                };
                self.number(direction, header, number);
            }
        }
        if header.kind == frames::RST_STREAM
            && let Some(at) = self.streams.iter().position(|stream| stream.id == header.stream)
        {
            self.end(ToServer, at, FileState::Truncated);
            self.end(ToClient, at, FileState::Truncated);
            self.forget_ended(at);
        }
        Ok(())
    }

    /// Notes a frame with its number: of its stream, or as a transaction of its own.
    fn number(&mut self, direction: Direction, header: Header, number: Option<(Integer, u64)>) {
        let known = self.streams.iter().find(|stream| stream.id == header.stream).map(|stream| stream.transaction);
        let id = known.filter(|id| self.queue.get(*id).is_some()).unwrap_or_else(|| {
            let transaction = self.queue.begin();
            transaction.directions[direction.reversed() as usize] = false;
            transaction.progress[direction as usize] = Stage::Complete;
            // There is nothing of HTTP to be told of it.
            transaction.logged = true;
            http2(transaction).insert("stream_id".into(), header.stream.into());
            transaction.id
        });
        let Some(transaction) = self.queue.get(id) else { return };
        note(transaction, direction, Integer::Http2FrameType, u64::from(header.kind));
        if let Some((integer, value)) = number {
            note(transaction, direction, integer, value);
            if let Some(key) = match integer {
                Integer::Http2Priority => Some("priority"),
                Integer::Http2ErrorCode => Some("error_code"),
                _ => None,
            } {
                side(transaction, direction).insert(key.into(), value.into());
            }
        }
    }

    fn settings(&mut self, direction: Direction, header: Header, payload: &[u8]) {
        self.number(direction, header, None);
        let mut shown = Vec::new();
        let mut cursor = Cursor::big(payload);
        while let (Some(id), Some(value)) = (cursor.u16(), cursor.u32())
            && shown.len() < MAX_INTEGERS
        {
            if id == HEADER_TABLE_SIZE {
                self.sides[direction.reversed() as usize].table.allow(value);
            }
            shown.push((id, value));
        }
        if !payload.len().is_multiple_of(6) {
            self.raise(direction, "http2.invalid_frame_length");
        }
        let Some(transaction) = self.queue.last().filter(|_| header.stream == 0) else { return };
        for (id, value) in &shown {
            note(transaction, direction, Integer::Http2Settings, u64::from(*id) << 32 | u64::from(*value));
        }
        let list = shown
            .into_iter()
            .map(|(id, value)| serde_json::json!({"settings_id": setting_name(id), "settings_value": value}));
        let list: Vec<Value> = list.collect();
        side(transaction, direction).insert("settings".into(), list.into());
    }

    /// A part of a header block.
    fn fragment(&mut self, direction: Direction, header: Header, payload: &[u8]) -> Result<(), Fatal> {
        let side = &mut self.sides[direction as usize];
        let fragment =
            if header.kind == frames::CONTINUATION { Some(payload) } else { frames::unpadded(header, payload) };
        let skipped = match header.kind {
            frames::HEADERS if header.flags & frames::WITH_PRIORITY != 0 => 5,
            frames::PUSH_PROMISE => 4,
            _ => 0,
        };
        let Some((before, fragment)) = fragment.and_then(|fragment| fragment.split_at_checked(skipped)) else {
            self.raise(direction, "http2.invalid_frame_data");
            return Err(Fatal("a header block is cut short".into()));
        };
        let (first, mut block) = side.block.take().unwrap_or((header, Vec::new()));
        block.extend_from_slice(fragment);
        if block.len() > MAX_BLOCK_LEN {
            self.raise(direction, "http2.reassembly_limit_reached");
            return Err(Fatal("a header block is too long".into()));
        }
        let priority = before.get(4).copied();
        if header.stream == 0 || first.stream != header.stream {
            self.raise(direction, "http2.invalid_frame_data");
        } else if let Some(weight) = priority {
            let at = self.stream(direction, header.stream);
            let number = Some((Integer::Http2Priority, u64::from(weight)));
            if self.streams.get(at).is_some() {
                self.number(direction, header, number);
            }
        }
        if header.flags & frames::END_HEADERS == 0 {
            self.sides[direction as usize].block = Some((first, block));
            return Ok(());
        }
        match self.sides[direction as usize].table.decode(&block) {
            Ok(block) if first.kind == frames::HEADERS && first.stream != 0 => self.headers(direction, first, block),
            Ok(_) => {}
            Err(broken) => {
                self.raise(
                    direction,
                    match broken {
                        Broken::Overflow => "http2.header_integer_overflow",
                        Broken::Invalid => "http2.invalid_header",
                    },
                );
                return Err(Fatal("a header block cannot be read".into()));
            }
        }
        Ok(())
    }

    /// A header block: a request, a response, or what comes behind a body.
    fn headers(&mut self, direction: Direction, header: Header, block: hpack::Block) {
        let at = self.stream(direction, header.stream);
        let Some(stream) = self.streams.get_mut(at) else { return };
        let Some(transaction) = self.queue.get(stream.transaction) else { return };
        note(transaction, direction, Integer::Http2FrameType, u64::from(header.kind));
        for size in &block.size_updates {
            note(transaction, direction, Integer::Http2SizeUpdate, *size);
        }
        if block.too_long {
            transaction.raise(direction, "http2.reassembly_limit_reached");
        }
        let interim = direction == ToClient
            && fields::value(&block.fields, b":status").is_some_and(|status| status.starts_with(b"1"));
        let way = direction as usize;
        if !stream.begun[way] && !interim {
            stream.begun[way] = true;
            let read = fields::put(transaction, direction, &block.fields);
            stream.dns[way] = fields::value(&block.fields, b"content-type") == Some(DNS_MESSAGE);
            let mut events = Vec::new();
            let body = match direction {
                ToServer => {
                    stream.path.clone_from(&read.path);
                    let asked = fields::value(&block.fields, b"accept") == Some(DNS_MESSAGE);
                    self.dns |= stream.dns[way] || asked;
                    if let Some(message) = fields::value(&block.fields, b":path").and_then(fields::dns_message)
                        && asked
                    {
                        dns::carried(transaction, direction, &message);
                    }
                    let path = (!read.path.is_empty()).then_some(read.path.as_slice());
                    Body::of_request(&read.method, &read.headers, path, &self.limits, &mut events)
                }
                ToClient => {
                    let path = (!stream.path.is_empty()).then_some(stream.path.as_slice());
                    Body::of_response(&read.headers, path, &self.limits, &mut events)
                }
            };
            stream.bodies[way] = Some(body);
            for event in events {
                transaction.raise(direction, event);
            }
            transaction.progress[way] = transaction.progress[way].max(Stage::Headers);
        }
        if header.flags & frames::END_STREAM != 0 {
            self.end(direction, at, FileState::Closed);
            self.forget_ended(at);
        }
    }

    fn body(&mut self, direction: Direction, header: Header, piece: &[u8], last: bool) {
        let Some(at) = self.streams.iter().position(|stream| stream.id == header.stream) else { return };
        let limits = if self.streams.len() > MANY_STREAMS { &self.limits_of_many } else { &self.limits };
        let Some(stream) = self.streams.get_mut(at) else { return };
        let way = direction as usize;
        stream.lens[way] += piece.len() as u64;
        if let Some(transaction) = self.queue.get(stream.transaction) {
            note(transaction, direction, Integer::Http2FrameType, u64::from(frames::DATA));
            if transaction.progress[way] < Stage::Body {
                transaction.progress[way] = Stage::Body;
            }
            if let Some(body) = &mut stream.bodies[way] {
                body.write(transaction, direction, limits, piece);
            }
            if stream.dns[way] && stream.lens[way] > MAX_DNS_LEN {
                let event = match direction {
                    ToServer => "http2.dns_request_too_long",
                    ToClient => "http2.dns_response_too_long",
                };
                transaction.raise(direction, event);
            }
        }
        if last && header.flags & frames::END_STREAM != 0 {
            self.end(direction, at, FileState::Closed);
            self.forget_ended(at);
        }
    }

    /// One direction of a stream is over.
    fn end(&mut self, direction: Direction, at: usize, state: FileState) {
        let Some(stream) = self.streams.get_mut(at) else { return };
        let Some(transaction) = self.queue.get(stream.transaction) else { return };
        let way = direction as usize;
        if let Some(mut body) = stream.bodies[way].take() {
            body.finish(transaction, direction, &self.limits, state);
            if stream.dns[way] && state == FileState::Closed && stream.lens[way] <= MAX_DNS_LEN {
                let bodies = [Buffer::HttpRequestBody, Buffer::HttpResponseBody];
                let message = transaction.buffers.iter().find(|content| content.buffer == bodies[way]);
                if let Some(message) = message.map(|content| content.data.clone()) {
                    dns::carried(transaction, direction, &message);
                }
            }
            if direction == ToClient {
                log::response_length(transaction, stream.lens[way]);
            }
        }
        transaction.progress[way] = Stage::Complete;
    }

    fn forget_ended(&mut self, at: usize) {
        let id = self.streams.get(at).map(|stream| stream.transaction);
        if id.is_some_and(|id| self.queue.get(id).is_none_or(|transaction| transaction.complete())) {
            self.streams.remove(at);
        }
    }
}

fn note(transaction: &mut Transaction, direction: Direction, integer: Integer, value: u64) {
    let known = &mut transaction.directed_integers;
    if known.len() < MAX_INTEGERS && !known.contains(&(direction, integer, value)) {
        known.push((direction, integer, value));
    }
}

fn be32(payload: &[u8], at: usize) -> Option<u64> {
    let bytes = payload.get(at..)?.first_chunk::<4>()?;
    Some(u64::from(u32::from_be_bytes(*bytes)))
}

/// EVE's object of what is HTTP/2's own.
fn http2(transaction: &mut Transaction) -> &mut Map<String, Value> {
    logged::object(&mut transaction.log, "http2")
}

/// What it says of one direction.
fn side(transaction: &mut Transaction, direction: Direction) -> &mut Map<String, Value> {
    logged::object(http2(transaction), if direction == ToServer { "request" } else { "response" })
}

fn setting_name(id: u16) -> String {
    match id {
        1 => "SETTINGS_HEADER_TABLE_SIZE".into(),
        2 => "SETTINGS_ENABLE_PUSH".into(),
        3 => "SETTINGS_MAX_CONCURRENT_STREAMS".into(),
        4 => "SETTINGS_INITIAL_WINDOW_SIZE".into(),
        5 => "SETTINGS_MAX_FRAME_SIZE".into(),
        6 => "SETTINGS_MAX_HEADER_LIST_SIZE".into(),
        other => format!("SETTINGS_UNKNOWN_{other}"),
    }
}
