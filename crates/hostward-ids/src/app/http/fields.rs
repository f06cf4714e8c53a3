//! Headers as signatures look at them.

use super::headers::Headers;
use crate::Direction::{self, ToClient, ToServer};
use crate::EventName;
use crate::app::Transaction;
use crate::app::buffer::Buffer;

/// Fields that have a buffer of their own, by name.
const SINGLE: &[(&[u8], Direction, Buffer)] = &[
    (b"cookie", ToServer, Buffer::HttpCookie),
    (b"set-cookie", ToClient, Buffer::HttpCookie),
    (b"user-agent", ToServer, Buffer::HttpUserAgent),
    (b"referer", ToServer, Buffer::HttpReferer),
    (b"accept", ToServer, Buffer::HttpAccept),
    (b"accept-language", ToServer, Buffer::HttpAcceptLang),
    (b"accept-encoding", ToServer, Buffer::HttpAcceptEnc),
    (b"connection", ToServer, Buffer::HttpConnection),
    (b"connection", ToClient, Buffer::HttpConnection),
    (b"content-type", ToServer, Buffer::HttpContentType),
    (b"content-type", ToClient, Buffer::HttpContentType),
    (b"content-length", ToServer, Buffer::HttpContentLen),
    (b"content-length", ToClient, Buffer::HttpContentLen),
    (b"server", ToClient, Buffer::HttpServer),
    (b"location", ToClient, Buffer::HttpLocation),
];

/// Adds all buffers that come out of a header block. `raw` is the block with its empty line.
pub(in crate::app) fn put(
    transaction: &mut Transaction,
    direction: Direction,
    headers: &Headers,
    start_line: &[u8],
    raw: &[u8],
) {
    let (cookie, each) = match direction {
        ToServer => (&b"cookie"[..], Buffer::HttpRequestHeader),
        ToClient => (&b"set-cookie"[..], Buffer::HttpResponseHeader),
    };
    transaction.buffers.reserve(headers.fields.len() + 12);
    let mut normalised = Vec::with_capacity(raw.len() + 2 * headers.fields.len());
    let mut names = Vec::with_capacity(16 * (headers.fields.len() + 1));
    names.extend_from_slice(b"\r\n");
    for field in &headers.fields {
        let start = normalised.len();
        normalised.extend_from_slice(&field.name);
        normalised.extend_from_slice(b": ");
        normalised.extend_from_slice(&field.value);
        transaction.put(direction, each, normalised.get(start..).unwrap_or_default());
        if field.name.eq_ignore_ascii_case(cookie) {
            normalised.truncate(start);
        } else {
            normalised.extend_from_slice(b"\r\n");
        }
        names.extend_from_slice(&field.name);
        names.extend_from_slice(b"\r\n");
    }
    if !headers.fields.is_empty() {
        names.extend_from_slice(b"\r\n");
        transaction.put(direction, Buffer::HttpHeader, normalised);
        transaction.put(direction, Buffer::HttpHeaderNames, names);
    }
    if !raw.is_empty() {
        transaction.put(direction, Buffer::HttpRawHeader, raw);
    }
    transaction.put(direction, Buffer::HttpStart, [start_line, b"\r\n", raw].concat());
    for &(name, way, buffer) in SINGLE {
        if way == direction
            && let Some(value) = headers.get(name)
        {
            transaction.put(direction, buffer, value);
        }
    }
}

/// What was odd about a block, as events.
pub(super) fn events(direction: Direction, headers: &Headers) -> Vec<EventName> {
    let odd = headers.oddities;
    let names: [(bool, EventName, EventName); 6] = [
        (odd.missing_colon, "http.request_field_missing_colon", "http.response_field_missing_colon"),
        (odd.invalid_name, "http.request_header_invalid", "http.response_header_invalid"),
        (odd.invalid_folding, "http.invalid_request_field_folding", "http.invalid_response_field_folding"),
        (odd.repeated, "http.request_header_repetition", "http.response_header_repetition"),
        (
            odd.different_lengths,
            "http.duplicate_content_length_field_in_request",
            "http.duplicate_content_length_field_in_response",
        ),
        (odd.too_many, "http.request_too_many_headers", "http.response_too_many_headers"),
    ];
    let seen = names.iter().filter(|(seen, ..)| *seen);
    seen.map(|&(_, request, response)| if direction == ToServer { request } else { response }).collect()
}
