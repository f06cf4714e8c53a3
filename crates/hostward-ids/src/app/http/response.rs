//! The server's side: status lines, and how long a response's body is.

use super::body::Body;
use super::headers::{FIELD_LIMIT, Headers};
use super::text::{contains_word, content_length, is_space, skip_while, split_where, trim};
use super::{Http, Kind, State, add_event, fields, find, log};
use crate::Direction::ToClient;
use crate::app::buffer::Buffer;
use crate::app::{FileState, HandOver, Stage, Transaction, http2};

/// Whether browsers take a line for a status line: they want no more than its first word.
fn is_status_line(line: &[u8]) -> bool {
    let start = skip_while(line, |byte| is_space(byte) || byte == 0);
    start.get(..4).is_some_and(|head| head.eq_ignore_ascii_case(b"http"))
}

/// Whether more bytes could make a status line of it.
fn may_become_status_line(line: &[u8]) -> bool {
    let start = skip_while(line, |byte| is_space(byte) || byte == 0);
    start.len() < 4 && b"http".get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
}

/// Where a line ends, and behind its end: CR, LF or CR LF. `None` if it does not, or the next byte decides.
fn line_end(line: &[u8], closed: bool) -> Option<(usize, usize)> {
    let end = memchr::memchr2(b'\r', b'\n', line)?;
    match line.get(end..)? {
        [b'\r', b'\n', ..] => Some((end, end + 2)),
        [b'\r'] if !closed => None,
        _ => Some((end, end + 1)),
    }
}

impl Http {
    /// Reads a status line.
    pub(super) fn status_line(&mut self, data: &[u8], closed: bool) -> Option<usize> {
        let side = &mut self.sides[1];
        if data.is_empty() && side.pending.is_empty() {
            return None;
        }
        let before = side.pending.len();
        side.pending.extend_from_slice(data);
        let buffer = std::mem::take(&mut side.pending);
        let (end, len) = match line_end(&buffer, closed) {
            Some(found) => found,
            None if closed => (buffer.len(), buffer.len()),
            None if buffer.len() > FIELD_LIMIT && (is_status_line(&buffer) || may_become_status_line(&buffer)) => {
                self.begin_response();
                self.event(ToClient, "http.response_field_too_long");
                self.give_up(ToClient);
                return None;
            }
            None if buffer.len() > FIELD_LIMIT => (buffer.len(), buffer.len()),
            None => {
                self.sides[1].pending = buffer;
                return (!data.is_empty()).then_some(data.len());
            }
        };
        let taken = len.saturating_sub(before);
        let line = buffer.get(..end).unwrap_or_default();
        if end == 0 && len > 0 {
            return Some(taken);
        }
        self.begin_response();
        if is_status_line(line) {
            self.read_status_line(line);
            return Some(taken);
        }
        if self.waiting.front().is_some_and(|exchange| exchange.kind == Kind::Old) {
            self.write_body(ToClient, &buffer);
            self.sides[1].state = State::Body(None);
            return Some(data.len());
        }
        // Junk before the status line is skipped, anything else is shown as a body: that is what browsers do.
        let after = buffer.get(len..).unwrap_or_default();
        if !(after.len() > 1 && (after.first() == Some(&b'H') || line.len() <= 2)) {
            self.write_body(ToClient, buffer.get(..len).unwrap_or_default());
        }
        Some(taken)
    }

    /// Finds the request that is answered, or stands in for one that was not seen.
    fn begin_response(&mut self) {
        if self.waiting.is_empty() {
            let id = self.open(Kind::Usual);
            if let Some(transaction) = find(&mut self.transactions, id) {
                add_event(transaction, ToClient, "http.unable_to_match_response_to_request");
                transaction.progress[0] = Stage::Complete;
                log::request_not_seen(transaction);
            }
        }
        if let Some(exchange) = self.waiting.front_mut()
            && !exchange.answered
        {
            exchange.answered = true;
            // For what comes without any header.
            let (none, path) = (Headers::default(), exchange.path.as_deref());
            self.sides[1].body = Body::of_response(&none, path, &self.limits, &mut Vec::new());
        }
    }

    fn read_status_line(&mut self, line: &[u8]) {
        let start = skip_while(line, |byte| is_space(byte) || byte == 0);
        let (protocol, rest) = split_where(start, |&byte| is_space(byte));
        let (status, message) = split_where(skip_while(rest, is_space), |&byte| is_space(byte));
        let message = trim(message);
        let Some(transaction) = self.waiting.front().and_then(|exchange| find(&mut self.transactions, exchange.id))
        else {
            return;
        };
        // An interim response came before: this one counts.
        transaction.buffers.retain(|content| {
            !(content.direction == ToClient
                && matches!(
                    content.buffer,
                    Buffer::HttpResponseLine | Buffer::HttpStatCode | Buffer::HttpStatMsg | Buffer::HttpProtocol
                ))
        });
        transaction.put(ToClient, Buffer::HttpResponseLine, line);
        transaction.put(ToClient, Buffer::HttpProtocol, protocol);
        if !status.is_empty() {
            transaction.put(ToClient, Buffer::HttpStatCode, status);
        }
        if !message.is_empty() {
            transaction.put(ToClient, Buffer::HttpStatMsg, message);
        }
        if ![&b"HTTP/1.0"[..], b"HTTP/1.1", b"HTTP/0.9"].iter().any(|known| known.eq_ignore_ascii_case(protocol)) {
            add_event(transaction, ToClient, "http.response_invalid_protocol");
        }
        let number = std::str::from_utf8(status).ok().filter(|text| text.len() == 3).and_then(|text| text.parse().ok());
        let number: Option<u16> = number.filter(|number| (100..=999).contains(number));
        if number.is_none() {
            add_event(transaction, ToClient, "http.response_invalid_status");
        }
        let side = &mut self.sides[1];
        side.status = number.unwrap_or(0);
        side.modern = protocol.ends_with(b"/1.1");
        side.start_line = line.to_vec();
        side.state = State::Headers;
        log::status_line(transaction, status, number);
        if number != Some(100) {
            transaction.progress[1] = Stage::Line;
        }
    }

    /// Makes use of a response's headers: whether it has a body, and where that ends (RFC 9112 section 6.3, and what
    /// browsers do instead).
    pub(super) fn response_headers(&mut self, headers: &Headers, raw: &[u8]) {
        let Some(exchange) = self.waiting.front() else {
            self.sides[1].state = State::Over;
            return;
        };
        let (id, kind) = (exchange.id, exchange.kind);
        let status = self.sides[1].status;
        let coding = headers.get(b"transfer-encoding");
        let length = headers.get(b"content-length");
        let interim = status == 100 && coding.is_none() && length.and_then(content_length).unwrap_or(0) == 0
            || (102..200).contains(&status) && coding.is_none() && length.is_none();
        if interim {
            self.sides[1].state = State::Line;
            return;
        }
        let Some(transaction) = find(&mut self.transactions, id) else { return };
        let side = &mut self.sides[1];
        let start_line = std::mem::take(&mut side.start_line);
        fields::put(transaction, ToClient, headers, &start_line, raw);
        let mut events = fields::events(ToClient, headers);
        log::response_headers(transaction, headers, status);
        transaction.progress[1] = Stage::Headers;

        let tunnel = match (kind, status) {
            (Kind::Connect, 200..=299) => Some(HandOver::Recognise),
            (_, 101) if coding.is_none() && length.is_none() => {
                let to_http2 = headers.get(b"upgrade").is_some_and(|value| contains_word(value, b"h2c"));
                Some(if to_http2 { HandOver::Http2(Box::new(upgrade(transaction))) } else { HandOver::Recognise })
            }
            _ => None,
        };
        let bodiless = kind == Kind::Head
            || ((100..200).contains(&status) || status == 204 || status == 304) && coding.is_none() && length.is_none();
        side.state = if bodiless || tunnel.is_some() {
            State::After
        } else if coding.is_some_and(|value| contains_word(value, b"chunked")) {
            if !coding.is_some_and(|value| trim(value).eq_ignore_ascii_case(b"chunked")) {
                events.push("http.response_abnormal_transfer_encoding");
            }
            if !side.modern {
                events.push("http.response_chunked_old_proto");
            }
            State::ChunkSize
        } else if let Some(value) = length {
            match content_length(value) {
                Some(0) => State::After,
                Some(len) => State::Body(Some(len)),
                None => {
                    events.push("http.invalid_content_length_field_in_response");
                    State::Body(None)
                }
            }
        } else {
            if headers.get(b"content-type").is_some_and(|value| contains_word(value, b"multipart/byteranges")) {
                events.push("http.response_multipart_byteranges");
            }
            State::Body(None)
        };
        let path = exchange.path.as_deref();
        side.body = Body::of_response(headers, path, &self.limits, &mut events);
        for name in events {
            add_event(transaction, ToClient, name);
        }
        if let Some(to) = tunnel {
            self.tunnel(to);
        } else if kind == Kind::Connect {
            self.refuse_tunnel();
        }
    }

    /// CONNECT was refused: what came behind it is read as further requests.
    fn refuse_tunnel(&mut self) {
        let side = &mut self.sides[0];
        if side.state == State::WaitForAnswer {
            let kept = std::mem::take(&mut side.pending);
            side.state = State::Line;
            side.current = None;
            self.run(crate::Direction::ToServer, &kept, false);
        }
    }

    /// Behind a response: bytes that are no status line are more of its body.
    pub(super) fn after_response(&mut self, data: &[u8]) -> usize {
        if !data.is_empty() && !is_status_line(data) && !may_become_status_line(data) {
            let len = memchr::memchr(b'\n', data).map_or(data.len(), |at| at + 1);
            self.write_body(ToClient, data.get(..len).unwrap_or_default());
            return len;
        }
        self.finish_current(ToClient, FileState::Closed);
        self.waiting.pop_front();
        self.sides[1].state = State::Line;
        0
    }
}

/// The request that HTTP/2 goes on to answer.
fn upgrade(transaction: &Transaction) -> http2::Upgrade {
    let find = |buffer| transaction.buffers.iter().find(|content| content.buffer == buffer);
    let get = |buffer| find(buffer).map(|content| content.data.clone());
    http2::Upgrade {
        method: get(Buffer::HttpMethod).unwrap_or_default(),
        target: get(Buffer::HttpRawUri).unwrap_or_default(),
        host: get(Buffer::HttpRawHost),
    }
}
