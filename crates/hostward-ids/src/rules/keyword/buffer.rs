//! Keywords that name a buffer: sticky ones, and the modifiers of old that move the content before them.

use super::super::rule::{PacketBuffer, Step, Target};
use super::super::{Fault, Read};
use super::Builder;
use crate::app::buffer::Buffer;

/// Names of old that are modifiers of the content before them.
const MODIFIERS: &[(&str, Buffer)] = &[
    ("http_uri", Buffer::HttpUri),
    ("http_raw_uri", Buffer::HttpRawUri),
    ("http_method", Buffer::HttpMethod),
    ("http_client_body", Buffer::HttpRequestBody),
    ("http_server_body", Buffer::HttpResponseBody),
    ("http_header", Buffer::HttpHeader),
    ("http_raw_header", Buffer::HttpRawHeader),
    ("http_cookie", Buffer::HttpCookie),
    ("http_stat_code", Buffer::HttpStatCode),
    ("http_stat_msg", Buffer::HttpStatMsg),
    ("http_user_agent", Buffer::HttpUserAgent),
    ("http_host", Buffer::HttpHost),
    ("http_raw_host", Buffer::HttpRawHost),
];

/// Buffers of which a transaction can have several: naming one again begins a further instance.
pub fn several(buffer: Buffer) -> bool {
    matches!(
        buffer,
        Buffer::FileData
            | Buffer::FileName
            | Buffer::DnsQuery
            | Buffer::DnsQueriesRrname
            | Buffer::DnsAnswersRrname
            | Buffer::DnsAuthoritiesRrname
            | Buffer::DnsAdditionalsRrname
            | Buffer::DnsResponseRrname
            | Buffer::TlsCerts
            | Buffer::TlsSubjectAltName
            | Buffer::TlsAlpn
            | Buffer::SmtpRcptTo
            | Buffer::EmailReceived
            | Buffer::EmailUrl
            | Buffer::HttpRequestHeader
            | Buffer::HttpResponseHeader
            | Buffer::Http2HeaderName
            | Buffer::Http2Header
            | Buffer::FtpReply
            | Buffer::FtpCompletionCode
    )
}

fn named(keyword: &str) -> Option<Target> {
    let packet = match keyword {
        "pkt_data" => return Some(Target::Payload),
        "ipv4.hdr" => Some(PacketBuffer::Ipv4Header),
        "ipv6.hdr" => Some(PacketBuffer::Ipv6Header),
        "tcp.hdr" => Some(PacketBuffer::TcpHeader),
        "udp.hdr" => Some(PacketBuffer::UdpHeader),
        "icmpv4.hdr" | "icmpv6.hdr" => Some(PacketBuffer::IcmpHeader),
        "ip.src" => Some(PacketBuffer::SourceAddress),
        "ip.dst" => Some(PacketBuffer::DestinationAddress),
        "http.response_body" => return Some(Target::Buffer(Buffer::HttpResponseBody)),
        "http_request_header" => return Some(Target::Buffer(Buffer::HttpRequestHeader)),
        "http_response_header" => return Some(Target::Buffer(Buffer::HttpResponseHeader)),
        "ja3_hash" => return Some(Target::Buffer(Buffer::Ja3Hash)),
        "dns.query.name" => return Some(Target::Buffer(Buffer::DnsQueriesRrname)),
        "dns.answer.name" => return Some(Target::Buffer(Buffer::DnsAnswersRrname)),
        _ => None,
    };
    if let Some(buffer) = packet {
        return Some(Target::Packet(buffer));
    }
    Buffer::ALL
        .iter()
        .copied()
        .find(|buffer| {
            buffer.name() == keyword || (!buffer.legacy_name().is_empty() && buffer.legacy_name() == keyword)
        })
        .filter(|buffer| !matches!(buffer, Buffer::DcerpcInterface | Buffer::FtpPortAddress))
        .map(Target::Buffer)
}

impl Builder {
    /// Takes a keyword that names a buffer.
    pub(super) fn sticky(&mut self, keyword: &str, value: Option<&str>) -> Read<bool> {
        if let Some(&(_, buffer)) = MODIFIERS.iter().find(|(name, _)| *name == keyword) {
            if value.is_some_and(|value| !value.is_empty()) {
                return Err(Fault::new("it takes no value"));
            }
            self.move_last(Target::Buffer(buffer))?;
            return Ok(true);
        }
        let target = match keyword {
            "frame" => Target::Buffer(frame(value.unwrap_or_default())?),
            // Written as keyword and value, without content.
            "tls.subject" | "tls.issuerdn" | "tls.fingerprint" | "ssh.softwareversion" => {
                let buffer = match keyword {
                    "tls.subject" => Buffer::TlsCertSubject,
                    "tls.issuerdn" => Buffer::TlsCertIssuer,
                    "ssh.softwareversion" => Buffer::SshSoftware,
                    _ => Buffer::TlsCertFingerprint,
                };
                let at = self.inspection(Target::Buffer(buffer), &[], false)?;
                let content = super::content::read(value.unwrap_or_default())?;
                self.push_at(at, Step::Content(content))?;
                return Ok(true);
            }
            _ => match named(keyword) {
                Some(target) => target,
                None => return Ok(false),
            },
        };
        if keyword != "frame" && value.is_some_and(|value| !value.is_empty()) {
            return Err(Fault::new("it takes no value"));
        }
        self.target = target;
        self.transforms.clear();
        self.used = false;
        self.fresh = matches!(target, Target::Buffer(buffer) if several(buffer));
        Ok(true)
    }

    /// Moves the last content to another buffer.
    fn move_last(&mut self, target: Target) -> Read<()> {
        let none = || Fault::new("no content before it");
        let (from, step) = self.last.ok_or_else(none)?;
        let to = self.inspection(target, &[], false)?;
        let steps = &mut self.rule.inspections[from].steps;
        // A step that depends on no content may stand between (isdataat): the content is the last one of its list.
        let step = match steps.get(step) {
            Some(Step::Content(_)) => step,
            _ => steps.iter().rposition(|step| matches!(step, Step::Content(_))).ok_or_else(none)?,
        };
        let content = steps.remove(step);
        self.rule.inspections[to].steps.push(content);
        let at = self.rule.inspections[to].steps.len() - 1;
        self.last = Some((to, at));
        if self.rule.inspections[from].steps.is_empty() && self.rule.inspections[from].absent.is_none() {
            self.rule.inspections.remove(from);
            let to = if to > from { to - 1 } else { to };
            self.last = Some((to, at));
        }
        Ok(())
    }
}

fn frame(name: &str) -> Read<Buffer> {
    match name.trim() {
        "http1.request" | "http.request" | "request" => Ok(Buffer::HttpRequestFrame),
        "http1.response" | "http.response" | "response" => Ok(Buffer::HttpResponseFrame),
        other => Err(Fault::new(format!("'{other}' is no frame that is kept"))),
    }
}
