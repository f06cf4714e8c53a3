//! HTTP/1 (RFC 9112) and 0.9, read as browsers and servers read it rather than as the standard has it: what they make of
//! a message is what signatures must see.
//!
//! Where they differ among each other, libhtp's choices are followed, because rules are written against them.

pub(super) mod body;
mod coding;
pub(super) mod fields;
mod gzip;
pub(super) mod headers;
pub(super) mod log;
mod multipart;
mod request;
mod response;
mod text;
mod uri;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::buffer::Buffer;
use super::{Content, Fatal, FileState, HandOver, Limits, Parser, Protocol, Stage, Transaction};
use crate::Direction::{self, ToClient, ToServer};
use crate::EventName;
use body::Body;
use headers::{FIELD_LIMIT, Progress, Scanner};

/// A parser for one flow.
#[must_use]
pub fn new(limits: &Limits) -> Http {
    Http {
        limits: limits.clone(),
        transactions: VecDeque::new(),
        next_id: 0,
        sides: [Side::default(), Side::default()],
        waiting: VecDeque::new(),
        hand_over: None,
        rest: Vec::new(),
        events: SmallVec::new(),
    }
}

/// See [`new`].
#[derive(Debug)]
pub struct Http {
    limits: Limits,
    transactions: VecDeque<Transaction>,
    next_id: u64,
    sides: [Side; 2],
    /// Requests whose response has not ended, oldest first.
    waiting: VecDeque<Exchange>,
    hand_over: Option<HandOver>,
    /// What came behind the last bytes of HTTP/1, for whoever goes on.
    rest: Vec<u8>,
    events: SmallVec<[(Direction, EventName); 2]>,
}

/// What the response's side needs to know of a request.
#[derive(Debug)]
struct Exchange {
    id: u64,
    kind: Kind,
    /// The target's path, a name for the file that the response may be.
    path: Option<Vec<u8>>,
    /// Whether its response has begun.
    answered: bool,
}

/// Requests that change how a response is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Usual,
    /// Answered without a body.
    Head,
    /// Answered by a tunnel.
    Connect,
    /// HTTP/0.9: answered by a body alone.
    Old,
}

/// One direction.
#[derive(Debug, Default)]
struct Side {
    state: State,
    /// A line or a header block that is not all there.
    pending: Vec<u8>,
    scanner: Scanner,
    body: Body,
    /// The request's side: the transaction that is being read, if one is.
    current: Option<u64>,
    /// The start line, for `http.start`.
    start_line: Vec<u8>,
    /// Whether the start line says HTTP/1.1.
    modern: bool,
    /// The request's side: the target.
    target: uri::Uri,
    /// The response's side: the status, 0 if it is no number.
    status: u16,
    /// Bytes of the message as it was sent that its transaction has not got yet; only where frames are asked for.
    frame: Vec<u8>,
    /// Whether a message began.
    frame_begun: bool,
}

/// Where a direction stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before or in a request or status line.
    #[default]
    Line,
    Headers,
    /// So many bytes of body are left; all that come where it is `None`.
    Body(Option<u64>),
    /// Before or in a chunk's length.
    ChunkSize,
    Chunk(u64),
    /// Behind a chunk's bytes, before the line's end.
    ChunkEnd,
    Trailers,
    /// Behind a message: what follows directly and is no start line belongs to it.
    After,
    /// Behind CONNECT, before its answer: what comes is kept.
    WaitForAnswer,
    /// No more HTTP.
    Over,
}

/// How many bytes behind CONNECT are kept until it is answered.
const WAIT_LIMIT: usize = 65_536;

impl Http {
    fn side(&mut self, direction: Direction) -> &mut Side {
        &mut self.sides[direction as usize]
    }

    fn transaction(&mut self, id: u64) -> Option<&mut Transaction> {
        find(&mut self.transactions, id)
    }

    /// The transaction that a direction is reading.
    fn current(&self, direction: Direction) -> Option<u64> {
        match direction {
            ToServer => self.sides[0].current,
            ToClient => self.waiting.front().map(|exchange| exchange.id),
        }
    }

    fn event(&mut self, direction: Direction, name: EventName) {
        match self.current(direction).and_then(|id| find(&mut self.transactions, id)) {
            Some(transaction) => add_event(transaction, direction, name),
            None => self.events.push((direction, name)),
        }
    }

    /// Opens a transaction, and closes the oldest where too many wait for their response.
    fn open(&mut self, kind: Kind) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.transactions.push_back(Transaction::new(id));
        self.waiting.push_back(Exchange { id, kind, path: None, answered: false });
        let over = self.sides[1].state == State::Over;
        if over || self.waiting.len() > self.limits.transactions.max(1) {
            // The one whose answer is being read stays.
            let being_read = self.waiting.front().is_some_and(|exchange| exchange.answered);
            let at = if over { self.waiting.len() - 1 } else { usize::from(being_read) };
            if let Some(transaction) = self.waiting.remove(at).and_then(|exchange| self.transaction(exchange.id)) {
                transaction.progress[1] = Stage::Complete;
            }
        }
        id
    }

    /// Reads as far as the bytes go.
    fn run(&mut self, direction: Direction, mut data: &[u8], closed: bool) {
        loop {
            let state = self.side(direction).state;
            let Some(taken) = self.step(direction, data, closed) else { break };
            if self.limits.frames {
                self.keep_frame(direction, data.get(..taken).unwrap_or_default());
            }
            data = data.get(taken..).unwrap_or_default();
            if taken == 0 && self.side(direction).state == state {
                break;
            }
        }
        if self.hand_over.is_some() {
            self.rest = data.to_vec();
        }
        if let Some(id) = self.current(direction) {
            self.show_frame(direction, id, false);
        }
    }

    fn keep_frame(&mut self, direction: Direction, data: &[u8]) {
        let side = self.side(direction);
        // Empty lines before a message do not belong to it.
        let data = if side.frame_begun { data } else { text::skip_while(data, text::is_space) };
        side.frame_begun |= !data.is_empty();
        side.frame.extend_from_slice(data);
    }

    /// Gives the transaction what there is of the frame.
    fn show_frame(&mut self, direction: Direction, id: u64, complete: bool) {
        let side = &mut self.sides[direction as usize];
        if complete {
            side.frame_begun = false;
        }
        if side.frame.is_empty() && !complete {
            return;
        }
        let bytes = std::mem::take(&mut side.frame);
        let buffer = match direction {
            ToServer => Buffer::HttpRequestFrame,
            ToClient => Buffer::HttpResponseFrame,
        };
        let Some(transaction) = find(&mut self.transactions, id) else { return };
        let open = |content: &&mut Content| content.buffer == buffer && !content.complete;
        match transaction.buffers.iter_mut().find(open) {
            Some(content) => {
                let room = self.limits.body_inspect_len.saturating_sub(content.data.len());
                content.data.extend_from_slice(bytes.get(..room).unwrap_or(&bytes));
                content.complete = complete;
            }
            None if bytes.is_empty() => {}
            None => transaction.buffers.push(Content { buffer, direction, data: bytes, complete }),
        }
    }

    /// Takes one thing off the beginning of `data`: how many bytes, or `None` where nothing more can be done.
    fn step(&mut self, direction: Direction, data: &[u8], closed: bool) -> Option<usize> {
        let state = self.side(direction).state;
        if data.is_empty() && !closed && state != State::After {
            return None;
        }
        match (state, direction) {
            (State::Over, _) => None,
            (State::Line, ToServer) => self.request_line(data, closed),
            (State::Line, ToClient) => self.status_line(data, closed),
            (State::Headers | State::Trailers, _) => self.header_block(direction, data, closed),
            (State::Body(left), _) => self.body(direction, left, data),
            (State::ChunkSize, _) => self.chunk_size(direction, data),
            (State::Chunk(left), _) => {
                let taken = left.min(data.len() as u64);
                if taken == 0 {
                    return None;
                }
                self.write_body(direction, data.get(..taken as usize).unwrap_or_default());
                self.side(direction).state = if taken == left { State::ChunkEnd } else { State::Chunk(left - taken) };
                Some(taken as usize)
            }
            (State::ChunkEnd, _) => {
                if data.is_empty() {
                    return None;
                }
                match memchr::memchr(b'\n', data) {
                    Some(at) => {
                        self.side(direction).state = State::ChunkSize;
                        Some(at + 1)
                    }
                    None => Some(data.len()),
                }
            }
            (State::After, ToServer) => Some(self.after_request(data)),
            (State::After, ToClient) => Some(self.after_response(data)),
            (State::WaitForAnswer, _) => {
                if data.is_empty() {
                    return None;
                }
                let side = self.side(direction);
                side.pending.extend_from_slice(data);
                if side.pending.len() > WAIT_LIMIT {
                    self.give_up(direction);
                }
                Some(data.len())
            }
        }
    }

    /// Adds to a header block; at its end its fields are made use of.
    fn header_block(&mut self, direction: Direction, data: &[u8], closed: bool) -> Option<usize> {
        let side = self.side(direction);
        let before = side.pending.len();
        let progress = if before == 0 {
            side.scanner.scan(direction, data, closed)
        } else {
            side.pending.extend_from_slice(data);
            side.scanner.scan(direction, &side.pending, closed)
        };
        let (lines_len, len) = match progress {
            Progress::End { lines_len, len } => (lines_len, len),
            Progress::More if closed => {
                let all = side.pending.len().max(data.len());
                (all, all)
            }
            Progress::More => {
                if before == 0 {
                    side.pending.extend_from_slice(data);
                }
                return (!data.is_empty()).then_some(data.len());
            }
            Progress::TooLong => {
                let name = match direction {
                    ToServer => "http.request_field_too_long",
                    ToClient => "http.response_field_too_long",
                };
                self.event(direction, name);
                self.give_up(direction);
                return None;
            }
            Progress::TooMany => {
                let name = match direction {
                    ToServer => "http.request_too_many_headers",
                    ToClient => "http.response_too_many_headers",
                };
                self.event(direction, name);
                self.give_up(direction);
                return None;
            }
        };
        let kept = std::mem::take(&mut side.pending);
        let block = if before == 0 { data } else { kept.as_slice() };
        let scanner = std::mem::take(&mut side.scanner);
        let taken = len.saturating_sub(before);
        if side.state == State::Trailers {
            side.state = State::After;
            return Some(taken);
        }
        let read = scanner.fields(direction, block.get(..lines_len).unwrap_or(block));
        let raw = block.get(..len).unwrap_or(block);
        match direction {
            ToServer => self.request_headers(&read, raw),
            ToClient => self.response_headers(&read, raw),
        }
        Some(taken)
    }

    fn body(&mut self, direction: Direction, left: Option<u64>, data: &[u8]) -> Option<usize> {
        if data.is_empty() {
            return None;
        }
        let taken = left.unwrap_or(u64::MAX).min(data.len() as u64);
        self.write_body(direction, data.get(..taken as usize).unwrap_or_default());
        self.side(direction).state = match left.map(|left| left - taken) {
            Some(0) => State::After,
            left => State::Body(left),
        };
        Some(taken as usize)
    }

    fn write_body(&mut self, direction: Direction, data: &[u8]) {
        if let Some(id) = self.current(direction)
            && let Some(transaction) = find(&mut self.transactions, id)
        {
            transaction.progress[direction as usize] = transaction.progress[direction as usize].max(Stage::Body);
            self.sides[direction as usize].body.write(transaction, direction, &self.limits, data);
        }
    }

    /// A chunk's length (RFC 9112 section 7.1), with the blanks and empty lines that browsers allow before it.
    fn chunk_size(&mut self, direction: Direction, data: &[u8]) -> Option<usize> {
        if data.is_empty() {
            return None;
        }
        let is_control = |byte: &u8| matches!(byte, b'\r' | b'\n' | b' ' | b'\t' | 0x0b | 0x0c);
        let side = &mut self.sides[direction as usize];
        let Some(end) = memchr::memchr(b'\n', data) else {
            let junk = side.pending.is_empty()
                && data.iter().find(|byte| !is_control(byte)).is_some_and(|byte| !byte.is_ascii_hexdigit());
            if junk || side.pending.len() + data.len() > FIELD_LIMIT {
                let kept = std::mem::take(&mut side.pending);
                self.bad_chunk(direction, &kept);
                return Some(0);
            }
            side.pending.extend_from_slice(data);
            return Some(data.len());
        };
        let mut line = std::mem::take(&mut side.pending);
        let before = line.len();
        line.extend_from_slice(data.get(..=end).unwrap_or_default());
        let Some(start) = line.iter().position(|byte| !is_control(byte)) else { return Some(end + 1) };
        let text = line.get(start..).unwrap_or_default();
        let (digits, rest) = text::split_where(text, |byte| !byte.is_ascii_hexdigit());
        let len = std::str::from_utf8(digits).ok().and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let Some(len) = len.filter(|len| i32::try_from(*len).is_ok()) else {
            line.truncate(before);
            self.bad_chunk(direction, &line);
            return Some(0);
        };
        if rest.contains(&b';') {
            let name = match direction {
                ToServer => "http.request_chunk_extension",
                ToClient => "http.response_chunk_extension",
            };
            self.event(direction, name);
        }
        self.side(direction).state = if len == 0 { State::Trailers } else { State::Chunk(u64::from(len)) };
        Some(end + 1)
    }

    /// What cannot be a chunk's length: a response goes on as it is until the end, as browsers show it.
    fn bad_chunk(&mut self, direction: Direction, kept: &[u8]) {
        match direction {
            ToServer => {
                self.event(direction, "http.invalid_request_chunk_len");
                self.give_up(direction);
            }
            ToClient => {
                self.event(direction, "http.invalid_response_chunk_len");
                self.write_body(direction, kept);
                self.side(direction).state = State::Body(None);
            }
        }
    }

    /// Stops reading a direction; what is open in it is closed as it is.
    fn give_up(&mut self, direction: Direction) {
        self.finish_current(direction, FileState::Truncated);
        let side = self.side(direction);
        *side = Side { state: State::Over, ..Side::default() };
        if direction == ToClient {
            while let Some(exchange) = self.waiting.pop_front() {
                if let Some(transaction) = self.transaction(exchange.id) {
                    transaction.progress[1] = Stage::Complete;
                }
            }
        }
    }

    /// Closes the message that a direction is reading.
    fn finish_current(&mut self, direction: Direction, state: FileState) {
        let Some(id) = self.current(direction) else { return };
        let mut body = std::mem::take(&mut self.side(direction).body);
        self.show_frame(direction, id, true);
        if direction == ToServer {
            self.sides[0].current = None;
        }
        let Some(transaction) = find(&mut self.transactions, id) else { return };
        body.finish(transaction, direction, &self.limits, state);
        if direction == ToClient {
            log::response_length(transaction, body.wire_len);
        }
        transaction.progress[direction as usize] = Stage::Complete;
    }

    /// No more HTTP in this flow: another protocol goes on.
    fn tunnel(&mut self, to: HandOver) {
        self.give_up(ToServer);
        self.give_up(ToClient);
        self.hand_over = Some(to);
    }
}

/// Transactions lie in the order of their numbers, with holes.
fn find(transactions: &mut VecDeque<Transaction>, id: u64) -> Option<&mut Transaction> {
    let at = transactions.binary_search_by_key(&id, |transaction| transaction.id).ok()?;
    transactions.get_mut(at)
}

/// Each event once for each transaction.
fn add_event(transaction: &mut Transaction, direction: Direction, name: EventName) {
    if !transaction.events.contains(&(direction, name)) {
        transaction.events.push((direction, name));
    }
}

impl Parser for Http {
    fn protocol(&self) -> Protocol {
        Protocol::Http1
    }

    fn parse(&mut self, direction: Direction, data: &[u8]) -> Result<(), Fatal> {
        self.run(direction, data, false);
        Ok(())
    }

    fn gap(&mut self, direction: Direction, len: usize) -> Result<(), Fatal> {
        let State::Body(left) = self.side(direction).state else {
            self.give_up(direction);
            return Ok(());
        };
        if let Some(id) = self.current(direction)
            && let Some(transaction) = find(&mut self.transactions, id)
        {
            let within = left.unwrap_or(u64::MAX).min(len as u64);
            self.sides[direction as usize].body.gap(transaction, within as usize);
        }
        match left.map(|left| left.checked_sub(len as u64)) {
            None => {}
            Some(Some(0)) => {
                self.side(direction).state = State::After;
                self.run(direction, &[], false);
            }
            Some(Some(left)) => self.side(direction).state = State::Body(Some(left)),
            Some(None) => self.give_up(direction),
        }
        Ok(())
    }

    fn close(&mut self, direction: Direction) {
        if self.side(direction).state == State::Over {
            return;
        }
        match self.side(direction).state {
            State::Line | State::Headers => self.run(direction, &[], true),
            _ => {}
        }
        let whole = matches!(self.side(direction).state, State::Body(None) | State::After | State::Line);
        self.finish_current(direction, if whole { FileState::Closed } else { FileState::Truncated });
        self.give_up(direction);
    }

    fn transactions(&mut self) -> &mut VecDeque<Transaction> {
        &mut self.transactions
    }

    fn take_events(&mut self) -> SmallVec<[(Direction, EventName); 2]> {
        std::mem::take(&mut self.events)
    }

    fn hand_over(&mut self) -> Option<HandOver> {
        self.hand_over.take()
    }

    fn take_rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.rest)
    }
}
