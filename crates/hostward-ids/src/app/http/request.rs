//! The client's side: request lines and what requests' headers say.

use super::body::Body;
use super::headers::{FIELD_LIMIT, Headers};
use super::text::{contains_word, content_length, is_space, is_word, skip_while, split_where, trim};
use super::{Http, Kind, State, add_event, fields, find, log, uri};
use crate::Direction::ToServer;
use crate::app::buffer::Buffer;
use crate::app::{FileState, Stage, Transaction};

/// A request line's parts (RFC 9112 section 3).
#[derive(Debug, PartialEq, Eq)]
struct RequestLine<'a> {
    method: &'a [u8],
    target: &'a [u8],
    /// Empty in HTTP/0.9.
    protocol: &'a [u8],
}

/// Splits a request line. A target may hold blanks if a protocol follows.
fn split_line(line: &[u8]) -> RequestLine<'_> {
    let (method, rest) = split_where(skip_while(line, is_space), |&byte| is_space(byte));
    let rest = trim(rest);
    let last = rest.iter().rposition(|&byte| is_space(byte));
    if let Some((target, protocol)) = last.map(|at| rest.split_at(at))
        && trim(protocol).get(..5).is_some_and(|head| head.eq_ignore_ascii_case(b"HTTP/"))
    {
        return RequestLine { method, target: trim(target), protocol: trim(protocol) };
    }
    let (target, protocol) = split_where(rest, |byte| *byte == b' ');
    RequestLine { method, target: trim(target), protocol: trim(protocol) }
}

impl Http {
    /// Reads a request line.
    pub(super) fn request_line(&mut self, data: &[u8], closed: bool) -> Option<usize> {
        let end = memchr::memchr(b'\n', data);
        let side = self.side(ToServer);
        let Some(end) = end.or_else(|| (closed && !side.pending.is_empty()).then_some(0)) else {
            side.pending.extend_from_slice(data);
            let too_long = side.pending.len() > FIELD_LIMIT;
            if !data.iter().all(|&byte| is_space(byte)) {
                self.begin_request();
            }
            if too_long {
                self.event(ToServer, "http.request_field_too_long");
                self.give_up(ToServer);
                return None;
            }
            return (!data.is_empty()).then_some(data.len());
        };
        let taken = (end + 1).min(data.len());
        let kept = std::mem::take(&mut side.pending);
        let joined;
        let line = if kept.is_empty() {
            data.get(..taken).unwrap_or_default()
        } else {
            joined = [kept.as_slice(), data.get(..taken).unwrap_or_default()].concat();
            joined.as_slice()
        };
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.iter().all(|&byte| is_space(byte)) {
            return Some(taken);
        }
        if line.len() > FIELD_LIMIT {
            self.begin_request();
            self.event(ToServer, "http.request_field_too_long");
            self.give_up(ToServer);
            return None;
        }
        self.read_request_line(line, data.get(taken..).unwrap_or_default());
        Some(taken)
    }

    fn begin_request(&mut self) -> u64 {
        if let Some(id) = self.sides[0].current {
            return id;
        }
        let id = self.open(Kind::Usual);
        self.sides[0].current = Some(id);
        id
    }

    fn read_request_line(&mut self, line: &[u8], following: &[u8]) {
        let id = self.begin_request();
        let parts = split_line(line);
        let connect = parts.method.eq_ignore_ascii_case(b"CONNECT");
        let target = uri::read(parts.target, connect);
        // Without a protocol it is HTTP/0.9, unless headers follow all the same.
        let old = parts.protocol.is_empty() && following.iter().all(|&byte| is_space(byte));
        if let Some(exchange) = self.waiting.iter_mut().rfind(|exchange| exchange.id == id) {
            exchange.kind = match parts.method {
                _ if connect => Kind::Connect,
                b"HEAD" => Kind::Head,
                _ if old => Kind::Old,
                _ => Kind::Usual,
            };
            exchange.path = (!target.path.is_empty()).then(|| target.path.clone());
        }
        let Some(transaction) = find(&mut self.transactions, id) else { return };
        transaction.put(ToServer, Buffer::HttpMethod, parts.method);
        transaction.put(ToServer, Buffer::HttpRawUri, parts.target);
        let normalised = if connect { parts.target.to_vec() } else { target.normalised.clone() };
        transaction.put(ToServer, Buffer::HttpUri, normalised);
        transaction.put(ToServer, Buffer::HttpRequestLine, line);
        if !parts.protocol.is_empty() {
            transaction.put(ToServer, Buffer::HttpProtocol, parts.protocol);
        }
        line_events(transaction, line, &parts, &target);
        transaction.progress[0] = Stage::Line;
        log::request_line(transaction, parts.method, parts.target, parts.protocol);
        let side = &mut self.sides[0];
        side.start_line = line.to_vec();
        side.state = State::Headers;
        side.target = target;
        side.modern = parts.protocol.ends_with(b"/1.1");
        if old {
            transaction.progress[0] = Stage::Headers;
            side.state = State::After;
        }
    }

    /// Makes use of a request's headers.
    pub(super) fn request_headers(&mut self, headers: &Headers, raw: &[u8]) {
        let Some(id) = self.sides[0].current else {
            self.sides[0].state = State::Over;
            return;
        };
        let side = &mut self.sides[0];
        let start_line = std::mem::take(&mut side.start_line);
        let target = std::mem::take(&mut side.target);
        let Some(transaction) = find(&mut self.transactions, id) else { return };
        fields::put(transaction, ToServer, headers, &start_line, raw);
        let mut events = fields::events(ToServer, headers);
        let kind =
            self.waiting.iter().rfind(|exchange| exchange.id == id).map_or(Kind::Usual, |exchange| exchange.kind);

        let named = headers.get(b"host");
        let (host, port) = match (&target.host, named) {
            (Some(host), named) => {
                let other = named.map(uri::host_and_port);
                if other.is_some_and(|(name, port, _)| {
                    !name.eq_ignore_ascii_case(host) || (port.is_some() && target.port.is_some() && port != target.port)
                }) {
                    events.push("http.host_header_ambiguous");
                }
                (Some(host.clone()), target.port.or(other.and_then(|(_, port, _)| port)))
            }
            (None, Some(value)) => {
                let (host, port, _) = uri::host_and_port(value);
                (Some(host.to_ascii_lowercase()), port)
            }
            (None, None) => (None, None),
        };
        if named.is_some_and(|value| !uri::host_and_port(value).2) {
            events.push("http.request_header_host_invalid");
        }
        if named.is_none() && side.modern {
            events.push("http.missing_host_header");
        }
        if let Some(host) = &host {
            transaction.put(ToServer, Buffer::HttpHost, host.as_slice());
            transaction.put(ToServer, Buffer::HttpRawHost, named.unwrap_or(host));
        }
        if headers.get(b"authorization").is_some_and(|value| !authorization_is_known(value)) {
            events.push("http.request_auth_unrecognized");
        }
        log::request_headers(transaction, headers, host.as_deref(), port);
        transaction.progress[0] = Stage::Headers;

        let coding = headers.get(b"transfer-encoding");
        let length = headers.get(b"content-length");
        side.state = match (coding, length) {
            _ if kind == Kind::Connect => State::WaitForAnswer,
            (Some(coding), _) if contains_word(coding, b"chunked") => {
                if !side.modern {
                    events.push("http.invalid_transfer_encoding_value_in_request");
                }
                State::ChunkSize
            }
            (Some(_), _) => {
                events.push("http.invalid_transfer_encoding_value_in_request");
                State::Over
            }
            (None, Some(value)) => match content_length(value) {
                Some(0) => State::After,
                Some(len) => State::Body(Some(len)),
                None => {
                    events.push("http.invalid_content_length_field_in_request");
                    State::Over
                }
            },
            (None, None) => State::After,
        };
        let method: &[u8] = split_where(skip_while(&start_line, is_space), |&byte| is_space(byte)).0;
        let path = (!target.path.is_empty()).then_some(target.path.as_slice());
        side.body = Body::of_request(method, headers, path, &self.limits, &mut events);
        for name in events {
            add_event(transaction, ToServer, name);
        }
        if side.state == State::Over {
            self.give_up(ToServer);
        } else if side.state == State::WaitForAnswer {
            transaction.progress[0] = Stage::Complete;
        }
    }

    /// Behind a request: bytes that are no request line are more of its body.
    pub(super) fn after_request(&mut self, data: &[u8]) -> usize {
        let start = skip_while(data, is_space);
        let (method, rest) = split_where(start, |&byte| is_space(byte));
        if start.is_empty() || rest.is_empty() || looks_like_method(method) {
            self.finish_current(ToServer, FileState::Closed);
            self.sides[0].state = State::Line;
            return 0;
        }
        self.event(ToServer, "http.request_body_unexpected");
        let len = memchr::memchr(b'\n', data).map_or(data.len(), |at| at + 1);
        self.write_body(ToServer, data.get(..len).unwrap_or_default());
        len
    }
}

fn looks_like_method(word: &[u8]) -> bool {
    (3..=20).contains(&word.len()) && word.iter().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_'))
}

fn line_events(transaction: &mut Transaction, line: &[u8], parts: &RequestLine<'_>, target: &uri::Uri) {
    let mut event = |condition: bool, name| {
        if condition {
            add_event(transaction, ToServer, name);
        }
    };
    event(line.first().is_some_and(|&byte| is_space(byte)), "http.request_line_leading_whitespace");
    let behind = skip_while(line, is_space).get(parts.method.len()..).unwrap_or_default();
    let blanks = split_where(behind, |&byte| !is_space(byte)).0;
    event(blanks.iter().any(|byte| *byte != b' '), "http.method_delim_non_compliant");
    event(parts.target.iter().any(|&byte| is_space(byte) && byte != b' '), "http.uri_delim_non_compliant");
    event(target.invalid_host, "http.request_uri_host_invalid");
    event(target.twice_encoded, "http.double_encoded_uri");
    let protocol_is_known = parts.protocol.is_empty()
        || [&b"HTTP/1.0"[..], b"HTTP/1.1", b"HTTP/0.9"].iter().any(|name| name.eq_ignore_ascii_case(parts.protocol));
    event(!protocol_is_known && !looks_like_method(parts.method), "http.request_line_invalid");
}

/// A scheme that is known (RFC 7617, 7616, 6750), with credentials that can be read.
fn authorization_is_known(value: &[u8]) -> bool {
    let (scheme, rest) = split_where(value, |&byte| is_space(byte));
    let rest = trim(rest);
    if is_word(scheme, b"basic") {
        rest.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='))
    } else if is_word(scheme, b"digest") {
        memchr::memmem::find(rest, b"username=").is_some()
    } else {
        is_word(scheme, b"bearer")
    }
}
