//! What an event shows of a transaction: the protocol's own object, others beside it, and files.

use super::Heading;
use super::json::Json;
use crate::app::{File, FileState, Protocol, Transaction};
use crate::flow::Flow;

/// Under which name EVE has a protocol's object, and the event that tells a transaction of it.
pub(crate) fn object_name(protocol: Protocol) -> &'static str {
    match protocol {
        // HTTP/2 is told as HTTP, with an object http2 within.
        Protocol::Http1 | Protocol::Http2 | Protocol::Doh2 => "http",
        Protocol::FtpData => "ftp_data",
        other => super::application_name(other),
    }
}

/// Writes the objects of a transaction.
pub(crate) fn members(json: &mut Json, flow: Option<&Flow>, transaction: &Transaction) {
    if let Some(protocol) = flow.and_then(Flow::application).filter(|_| !transaction.log.is_empty()) {
        json.map(object_name(protocol), &transaction.log);
    }
    for (key, value) in &transaction.log_beside {
        json.value(key, value);
    }
    if !transaction.files.is_empty() {
        json.open_array("files");
        for file in &transaction.files {
            json.open_element();
            file_members(json, file, transaction.id);
            json.close();
        }
        json.close_array();
    }
}

fn file_members(json: &mut Json, file: &File, transaction: u64) {
    json.lossy("filename", file.name.as_deref().unwrap_or_default());
    json.truth("gaps", file.gaps);
    json.text(
        "state",
        match file.state {
            FileState::Open => "UNKNOWN",
            FileState::Closed => "CLOSED",
            FileState::Truncated => "TRUNCATED",
            FileState::Error => "ERROR",
        },
    );
    for (key, digest) in [("md5", &file.digests.md5), ("sha1", &file.digests.sha1), ("sha256", &file.digests.sha256)] {
        if let Some(digest) = digest {
            json.text(key, digest);
        }
    }
    json.truth("stored", false);
    json.number("size", file.size);
    json.number("tx_id", transaction);
}

/// The event of a transaction.
pub(crate) fn write(json: &mut Json, heading: &Heading<'_>, transaction: &Transaction) {
    heading.write(json);
    json.number("tx_id", transaction.id);
    if let Some(protocol) = heading.flow.and_then(Flow::application) {
        json.map(object_name(protocol), &transaction.log);
    }
    for (key, value) in &transaction.log_beside {
        json.value(key, value);
    }
}

/// The event `fileinfo` of one file.
pub(crate) fn write_file(json: &mut Json, heading: &Heading<'_>, transaction: &Transaction, file: &File) {
    heading.write(json);
    if let Some(protocol) = heading.flow.and_then(Flow::application) {
        if !transaction.log.is_empty() {
            json.map(object_name(protocol), &transaction.log);
        }
        json.text("app_proto", super::application_name(protocol));
    }
    json.open("fileinfo");
    file_members(json, file, transaction.id);
    json.close();
}

/// The event that tells a transaction of a protocol.
pub(crate) fn event_type(protocol: Protocol) -> &'static str {
    object_name(protocol)
}
