//! What is shown and matched of certificates (RFC 5280).

use std::fmt::Write as _;

use sha1::{Digest, Sha1};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::time::ASN1Time;

/// A certificate's contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) subject: String,
    pub(super) issuer: String,
    /// Upper-case hexadecimal with colons.
    pub(super) serial: String,
    /// As EVE writes times: without fraction and zone, which is UTC.
    pub(super) not_before: String,
    /// Likewise.
    pub(super) not_after: String,
    /// Both in seconds since 1970, 0 for times before.
    pub(super) validity: [u64; 2],
    /// Host names and addresses it is for.
    pub(super) names: Vec<String>,
}

/// Reads a certificate.
pub(super) fn read(der: &[u8]) -> Option<Certificate> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let mut names = Vec::new();
    if let Ok(Some(extension)) = certificate.subject_alternative_name() {
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
                    names.push((*name).to_owned());
                }
                GeneralName::IPAddress(bytes) => names.extend(address(bytes)),
                _ => {}
            }
        }
    }
    Some(Certificate {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        serial: colons(certificate.raw_serial(), true),
        not_before: time(certificate.validity().not_before),
        not_after: time(certificate.validity().not_after),
        validity: [certificate.validity().not_before, certificate.validity().not_after]
            .map(|time| u64::try_from(time.timestamp()).unwrap_or_default()),
        names,
    })
}

/// SHA-1 of the encoding, in lower-case hexadecimal with colons.
pub(super) fn fingerprint(der: &[u8]) -> String {
    colons(&Sha1::digest(der), false)
}

fn colons(bytes: &[u8], upper: bool) -> String {
    let mut text = String::with_capacity(bytes.len() * 3);
    for (at, byte) in bytes.iter().enumerate() {
        let colon = if at == 0 { "" } else { ":" };
        let _ = if upper { write!(text, "{colon}{byte:02X}") } else { write!(text, "{colon}{byte:02x}") };
    }
    text
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(address) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(address).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|address| std::net::Ipv6Addr::from(address).to_string())
}

fn time(time: ASN1Time) -> String {
    let time = time.to_datetime();
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}
