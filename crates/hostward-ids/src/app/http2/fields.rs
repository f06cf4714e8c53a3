//! Header blocks as signatures look at them: under the names of HTTP/1, so that one rule matches both versions.

use serde_json::{Value, json};

use super::hpack::Field;
use crate::Direction::{self, ToClient, ToServer};
use crate::app::Transaction;
use crate::app::buffer::Buffer;
use crate::app::http::headers::{self, Headers};
use crate::app::http::{fields, log};
use crate::app::smtp::decode::Base64;

/// How many fields EVE shows.
const MAX_LOGGED: usize = 128;

/// What a request or response says, pseudo fields apart.
#[derive(Debug, Default)]
pub struct Read {
    /// All fields, repeated ones joined.
    pub headers: Headers,
    /// `:method`.
    pub method: Vec<u8>,
    /// `:path` up to its query.
    pub path: Vec<u8>,
    /// `:status`.
    pub status: u16,
}

/// The first value of a field.
#[must_use]
pub fn value<'a>(fields: &'a [Field], name: &[u8]) -> Option<&'a [u8]> {
    fields.iter().find(|field| field.name == name).map(|field| field.value.as_slice())
}

/// Fields with repeated ones joined: cookies by semicolons (RFC 9113 §8.2.3), others by commas.
fn joined(fields: &[Field]) -> Headers {
    let mut headers = Headers::default();
    for field in fields {
        if let Some(known) = headers.fields.iter_mut().find(|known| known.name == field.name) {
            known.value.extend_from_slice(if field.name == b"cookie" { b"; " } else { b", " });
            known.value.extend_from_slice(&field.value);
        } else {
            headers.fields.push(headers::Field { name: field.name.clone(), value: field.value.clone() });
        }
    }
    headers
}

/// A block that begins a request or a response: its buffers and what EVE shows.
pub fn put(transaction: &mut Transaction, direction: Direction, block: &[Field]) -> Read {
    let mut read = Read { headers: joined(block), ..Read::default() };
    let mut raw = Vec::new();
    for field in block {
        raw.extend_from_slice(&field.name);
        raw.extend_from_slice(b": ");
        let start = raw.len() - field.name.len() - 2;
        raw.extend_from_slice(&field.value);
        transaction.put(direction, Buffer::Http2HeaderName, field.name.as_slice());
        transaction.put(direction, Buffer::Http2Header, raw.get(start..).unwrap_or_default());
        raw.extend_from_slice(b"\r\n");
    }
    raw.extend_from_slice(b"\r\n");
    transaction.put(direction, Buffer::HttpProtocol, b"HTTP/2".as_slice());
    transaction.log.insert("version".into(), "2".into());
    let line = match direction {
        ToServer => request(transaction, block, &mut read),
        ToClient => response(transaction, block, &mut read),
    };
    fields::put(transaction, direction, &read.headers, line.strip_suffix(b"\r\n").unwrap_or(&line), &raw);
    let key = if direction == ToServer { "request_headers" } else { "response_headers" };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let logged = block.iter().take(MAX_LOGGED);
    let logged: Vec<Value> =
        logged.map(|field| json!({"name": text(&field.name), "value": text(&field.value)})).collect();
    transaction.log.insert(key.into(), logged.into());
    read
}

fn request(transaction: &mut Transaction, block: &[Field], read: &mut Read) -> Vec<u8> {
    let method = value(block, b":method").unwrap_or_default();
    let target = value(block, b":path").unwrap_or_default();
    read.method = method.to_vec();
    read.path = target.split(|byte| *byte == b'?').next().unwrap_or_default().to_vec();
    let line = [method, b" ", target, b" HTTP/2\r\n"].concat();
    transaction.put(ToServer, Buffer::HttpMethod, method);
    transaction.put(ToServer, Buffer::HttpUri, target);
    transaction.put(ToServer, Buffer::HttpRawUri, target);
    transaction.put(ToServer, Buffer::HttpRequestLine, line.as_slice());
    log::request_line(transaction, method, target, b"");
    let authority = value(block, b":authority");
    let named = value(block, b"host");
    if let (Some(authority), Some(named)) = (authority, named)
        && !authority.eq_ignore_ascii_case(named)
    {
        transaction.raise(ToServer, "http2.authority_host_mismatch");
    }
    let authority = authority.or(named);
    if let Some(authority) = authority {
        put_host(transaction, authority);
    }
    let host = authority.map(host);
    log::request_headers(transaction, &read.headers, host.as_deref(), None);
    line
}

/// The host and what it was sent as.
pub fn put_host(transaction: &mut Transaction, authority: &[u8]) {
    if authority.contains(&b'@') {
        transaction.raise(ToServer, "http2.userinfo_in_uri");
    }
    transaction.put(ToServer, Buffer::HttpHost, host(authority));
    transaction.put(ToServer, Buffer::HttpRawHost, authority);
}

/// The name out of `user@name:port`, in lower case.
fn host(authority: &[u8]) -> Vec<u8> {
    let start = authority.iter().rposition(|byte| *byte == b'@').map_or(0, |at| at + 1);
    let host = authority.get(start..).unwrap_or_default();
    let port = host.iter().rposition(|byte| *byte == b':');
    let is_port = |at: usize| host.get(at + 1..).is_some_and(|port| port.iter().all(u8::is_ascii_digit));
    let len = port.filter(|at| is_port(*at)).unwrap_or(host.len());
    host.get(..len).unwrap_or_default().to_ascii_lowercase()
}

fn response(transaction: &mut Transaction, block: &[Field], read: &mut Read) -> Vec<u8> {
    let status = value(block, b":status").unwrap_or_default();
    let number = std::str::from_utf8(status).ok().and_then(|status| status.parse().ok());
    read.status = number.unwrap_or_default();
    let line = [b"HTTP/2 ", status, b"\r\n"].concat();
    transaction.put(ToClient, Buffer::HttpStatCode, status);
    // There are no phrases any more.
    transaction.put(ToClient, Buffer::HttpStatMsg, Vec::new());
    transaction.put(ToClient, Buffer::HttpResponseLine, line.as_slice());
    log::status_line(transaction, status, number);
    log::response_headers(transaction, &read.headers, read.status);
    line
}

/// The message of DNS that a target has as its parameter `dns`, in the base64 of URLs (RFC 8484 §4.1).
#[must_use]
pub fn dns_message(target: &[u8]) -> Option<Vec<u8>> {
    let query = target.splitn(2, |byte| *byte == b'?').nth(1)?;
    let coded = query.split(|byte| *byte == b'&').find_map(|parameter| parameter.strip_prefix(b"dns="))?;
    let coded: Vec<u8> = coded
        .iter()
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => *other,
        })
        .collect();
    let mut message = Vec::new();
    let mut decoder = Base64::default();
    let clean = decoder.decode(&coded, &mut message);
    decoder.flush(&mut message);
    clean.then_some(message)
}
