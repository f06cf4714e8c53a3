//! EVE's `tls` object.

use serde_json::{Value, json};

use super::certificate::Certificate;
use crate::app::Transaction;

/// A version's name.
pub(super) fn version(version: u16) -> String {
    match version {
        0x0002 | 0x0200 => "SSLv2".to_owned(),
        0x0300 => "SSLv3".to_owned(),
        0x0301 => "TLSv1".to_owned(),
        0x0302 => "TLS 1.1".to_owned(),
        0x0303 => "TLS 1.2".to_owned(),
        // Drafts of it too.
        0x0304 | 0x7f00..=0x7fff => "TLS 1.3".to_owned(),
        other => format!("0x{other:04x}"),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn list(names: &[Vec<u8>]) -> Value {
    names.iter().map(|name| text(name)).collect()
}

/// The client's part.
pub(super) fn client(
    transaction: &mut Transaction,
    hello: &super::hello::ClientHello,
    ja3: &str,
    ja3_hash: &str,
    ja4: &str,
) {
    let log = &mut transaction.log;
    if let Some(name) = &hello.server_name {
        log.insert("sni".into(), json!(text(name)));
    }
    log.insert("version".into(), json!(version(hello.version)));
    log.insert("ja3".into(), json!({"hash": ja3_hash, "string": ja3}));
    log.insert("ja4".into(), json!(ja4));
    if !hello.protocols.is_empty() {
        log.insert("client_alpns".into(), list(&hello.protocols));
    }
}

/// The server's part.
pub(super) fn server(transaction: &mut Transaction, hello: &super::hello::ServerHello, ja3s: &str, ja3s_hash: &str) {
    let log = &mut transaction.log;
    log.insert("version".into(), json!(version(hello.negotiated())));
    log.insert("ja3s".into(), json!({"hash": ja3s_hash, "string": ja3s}));
    if let Some(protocol) = &hello.protocol {
        log.insert("server_alpns".into(), json!([text(protocol)]));
    }
}

/// The server's certificate.
pub(super) fn certificate(transaction: &mut Transaction, certificate: &Certificate, fingerprint: &str) {
    let log = &mut transaction.log;
    log.insert("subject".into(), json!(certificate.subject));
    log.insert("issuerdn".into(), json!(certificate.issuer));
    log.insert("serial".into(), json!(certificate.serial));
    log.insert("fingerprint".into(), json!(fingerprint));
    log.insert("notbefore".into(), json!(certificate.not_before));
    log.insert("notafter".into(), json!(certificate.not_after));
    if !certificate.names.is_empty() {
        log.insert("subjectaltname".into(), json!(certificate.names));
    }
}
