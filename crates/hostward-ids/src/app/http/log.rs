//! EVE's `http` object.

use serde_json::json;

use super::headers::Headers;
use super::text::{split_where, trim};
use crate::app::Transaction;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The request line's part.
pub(in crate::app) fn request_line(transaction: &mut Transaction, method: &[u8], target: &[u8], protocol: &[u8]) {
    let log = &mut transaction.log;
    if !target.is_empty() {
        log.insert("url".into(), json!(text(target)));
    }
    log.insert("http_method".into(), json!(text(method)));
    if !protocol.is_empty() {
        log.insert("protocol".into(), json!(text(protocol)));
    }
    log.insert("length".into(), json!(0));
}

/// A response's request was not seen.
pub(super) fn request_not_seen(transaction: &mut Transaction) {
    transaction.log.insert("url".into(), json!("/libhtp::request_uri_not_seen"));
    transaction.log.insert("length".into(), json!(0));
}

/// The request headers' part.
pub(in crate::app) fn request_headers(
    transaction: &mut Transaction,
    headers: &Headers,
    host: Option<&[u8]>,
    port: Option<u16>,
) {
    let log = &mut transaction.log;
    if let Some(host) = host {
        log.insert("hostname".into(), json!(text(host)));
    }
    if let Some(port) = port {
        log.insert("http_port".into(), json!(port));
    }
    for (name, key) in [(&b"user-agent"[..], "http_user_agent"), (b"referer", "http_refer")] {
        if let Some(value) = headers.get(name) {
            log.insert(key.into(), json!(text(value)));
        }
    }
}

/// The status line's part. A status that is no number is shown as it is.
pub(in crate::app) fn status_line(transaction: &mut Transaction, status: &[u8], number: Option<u16>) {
    let log = &mut transaction.log;
    log.remove("status");
    log.remove("status_string");
    match number {
        Some(number) => log.insert("status".into(), json!(number)),
        None if status.is_empty() => None,
        None => log.insert("status_string".into(), json!(text(status))),
    };
}

/// The response headers' part.
pub(in crate::app) fn response_headers(transaction: &mut Transaction, headers: &Headers, status: u16) {
    let log = &mut transaction.log;
    if let Some(value) = headers.get(b"content-type") {
        let kind = trim(split_where(value, |byte| *byte == b';').0);
        log.insert("http_content_type".into(), json!(text(kind)));
    }
    if (300..400).contains(&status)
        && let Some(value) = headers.get(b"location")
    {
        log.insert("redirect".into(), json!(text(value)));
    }
    if let Some(value) = headers.get(b"content-range") {
        log.insert("content_range".into(), json!({ "raw": text(value) }));
    }
}

/// How long the response's body was on the wire, chunks' frames left out.
pub(in crate::app) fn response_length(transaction: &mut Transaction, len: u64) {
    transaction.log.insert("length".into(), json!(len));
}
