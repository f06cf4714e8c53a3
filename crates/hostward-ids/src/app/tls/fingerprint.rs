//! Fingerprints of hellos: JA3 and JA3S (Salesforce's definition), JA4 (`FoxIO`'s technical details of the client's).

use md5::{Digest, Md5};
use sha2::Sha256;

use super::hello::{ClientHello, ServerHello};
use crate::app::file_writer::hex;

/// Reserved values that clients mix in (RFC 8701); no fingerprint counts them.
fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

fn joined(values: impl IntoIterator<Item = u16>, separator: &str, show: impl Fn(u16) -> String) -> String {
    let shown: Vec<String> = values.into_iter().filter(|value| !is_grease(*value)).map(show).collect();
    shown.join(separator)
}

fn decimal(values: &[u16]) -> String {
    joined(values.iter().copied(), "-", |value| value.to_string())
}

/// JA3's string.
pub(super) fn ja3(hello: &ClientHello) -> String {
    let formats: Vec<String> = hello.point_formats.iter().map(ToString::to_string).collect();
    format!(
        "{},{},{},{},{}",
        hello.version,
        decimal(&hello.ciphers),
        decimal(&hello.extensions),
        decimal(&hello.groups),
        formats.join("-")
    )
}

/// JA3S's string.
pub(super) fn ja3s(hello: &ServerHello) -> String {
    format!("{},{},{}", hello.version, hello.cipher, decimal(&hello.extensions))
}

/// The digest of either.
pub(super) fn md5(text: &str) -> String {
    hex(&Md5::digest(text))
}

/// JA4, for a hello over TCP.
pub(super) fn ja4(hello: &ClientHello) -> String {
    let offered = hello.versions.iter().copied().filter(|version| !is_grease(*version)).max();
    let version = match offered.unwrap_or(hello.version) {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        0x0002 => "s2",
        _ => "00",
    };
    let count = |values: &[u16]| values.iter().filter(|value| !is_grease(**value)).count().min(99);
    let name = if hello.extensions.contains(&0) { 'd' } else { 'i' };
    let hexadecimal = |value: u16| format!("{value:04x}");

    let mut ciphers: Vec<u16> = hello.ciphers.clone();
    ciphers.sort_unstable();
    let ciphers = joined(ciphers, ",", hexadecimal);
    let mut extensions: Vec<u16> = hello.extensions.iter().copied().filter(|kind| !matches!(kind, 0 | 16)).collect();
    extensions.sort_unstable();
    let mut extensions = joined(extensions, ",", hexadecimal);
    let algorithms = joined(hello.signature_algorithms.iter().copied(), ",", hexadecimal);
    if !algorithms.is_empty() {
        extensions = format!("{extensions}_{algorithms}");
    }
    format!(
        "t{version}{name}{:02}{:02}{}_{}_{}",
        count(&hello.ciphers),
        count(&hello.extensions),
        first_protocol(hello),
        short_digest(&ciphers),
        short_digest(&extensions)
    )
}

/// First and last character of the first protocol offered.
fn first_protocol(hello: &ClientHello) -> String {
    let Some((first, last)) = hello.protocols.first().and_then(|name| name.first().zip(name.last())) else {
        return "00".to_owned();
    };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        [char::from(*first), char::from(*last)].iter().collect()
    } else {
        format!("{:x}{:x}", first >> 4, last & 0xf)
    }
}

fn short_digest(text: &str) -> String {
    if text.is_empty() {
        return "000000000000".to_owned();
    }
    let mut digest = hex(&Sha256::digest(text));
    digest.truncate(12);
    digest
}
