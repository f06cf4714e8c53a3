//! The header of a rule: action, protocol, addresses, ports, direction.

use super::address::{self, Addresses, Ports};
use super::variables::Variables;
use super::{Fault, Read};
use crate::app::Protocol;

/// What a rule orders, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum RuleAction {
    #[default]
    Alert,
    Pass,
    Drop,
    /// Also `rejectsrc`.
    Reject,
    RejectDst,
    RejectBoth,
}

/// Which traffic a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum Layer {
    #[default]
    Ip,
    Ipv4,
    Ipv6,
    Tcp,
    TcpPacket,
    TcpStream,
    Udp,
    Sctp,
    Icmp,
    Icmpv4,
    Icmpv6,
    /// Any packet, whether it could be decoded or not.
    PacketHeader,
    /// Flows of these application protocols.
    Application(&'static [Protocol]),
}

/// Which way the header's arrow points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Arrow {
    /// `->`
    #[default]
    Right,
    /// `<>`
    Both,
    /// `=>`: the whole transaction, both of its directions.
    Transaction,
}

/// A point in a protocol's life at which a rule is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// As written behind the colon.
    pub name: String,
}

/// A rule's header.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Header {
    pub action: RuleAction,
    pub layer: Layer,
    pub hook: Option<Hook>,
    pub source: Addresses,
    pub source_ports: Ports,
    pub arrow: Arrow,
    pub destination: Addresses,
    pub destination_ports: Ports,
}

/// The application protocols that a name in a rule covers.
///
/// `http` covers both versions, and `dcerpc` is carried by SMB too.
#[must_use]
pub fn application(name: &str) -> Option<&'static [Protocol]> {
    Some(match name {
        "http" => &[Protocol::Http1, Protocol::Http2, Protocol::Doh2],
        "http1" => &[Protocol::Http1],
        "http2" => &[Protocol::Http2, Protocol::Doh2],
        "doh2" => &[Protocol::Doh2],
        "dns" => &[Protocol::Dns, Protocol::Doh2],
        "tls" | "ssl" => &[Protocol::Tls],
        "smtp" => &[Protocol::Smtp],
        "ftp" => &[Protocol::Ftp],
        "ftp-data" => &[Protocol::FtpData],
        "ssh" => &[Protocol::Ssh],
        "dcerpc" => &[Protocol::Dcerpc, Protocol::Smb],
        "smb" => &[Protocol::Smb],
        _ => return None,
    })
}

/// The only application protocol that is called so: `dns` without DNS over HTTP/2.
#[must_use]
pub fn exactly(name: &str) -> Option<&'static [Protocol]> {
    Some(match name {
        "http" | "http1" => &[Protocol::Http1],
        "http2" => &[Protocol::Http2],
        "dns" => &[Protocol::Dns],
        "dcerpc" => &[Protocol::Dcerpc],
        other => return application(other),
    })
}

fn layer(name: &str) -> Read<Layer> {
    Ok(match name {
        "ip" | "any" => Layer::Ip,
        "ipv4" | "ip4" => Layer::Ipv4,
        "ipv6" | "ip6" => Layer::Ipv6,
        "tcp" => Layer::Tcp,
        "tcp-pkt" => Layer::TcpPacket,
        "tcp-stream" => Layer::TcpStream,
        "udp" => Layer::Udp,
        "sctp" => Layer::Sctp,
        "icmp" => Layer::Icmp,
        "icmpv4" => Layer::Icmpv4,
        "icmpv6" => Layer::Icmpv6,
        "pkthdr" => Layer::PacketHeader,
        _ => match application(name) {
            Some(protocols) => Layer::Application(protocols),
            None => return Err(Fault::new(format!("the protocol '{name}' is not known"))),
        },
    })
}

/// Cuts a header at blanks that lie in no list.
fn words(text: &str) -> Vec<&str> {
    let (mut found, mut depth, mut start) = (Vec::new(), 0_i32, None);
    for (at, character) in text.char_indices() {
        match character {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        match (character.is_whitespace() && depth <= 0, start) {
            (true, Some(begin)) => {
                found.push(&text[begin..at]);
                start = None;
            }
            (false, None) => start = Some(at),
            _ => {}
        }
    }
    if let Some(begin) = start {
        found.push(&text[begin..]);
    }
    found
}

/// Reads a header.
///
/// # Errors
/// What was expected.
pub fn read(text: &str, variables: &Variables) -> Read<Header> {
    let words = words(text);
    let [action, protocol, source, source_ports, arrow, destination, destination_ports] = words[..] else {
        return Err(Fault::new("expected: action protocol addresses ports -> addresses ports"));
    };
    let action = match action {
        "alert" => RuleAction::Alert,
        "pass" => RuleAction::Pass,
        "drop" => RuleAction::Drop,
        "reject" | "rejectsrc" => RuleAction::Reject,
        "rejectdst" => RuleAction::RejectDst,
        "rejectboth" => RuleAction::RejectBoth,
        other => return Err(Fault::new(format!("'{other}' is no action"))),
    };
    let (name, hook) = match protocol.split_once(':') {
        Some((name, hook)) => (name, Some(Hook { name: hook.to_owned() })),
        None => (protocol, None),
    };
    let arrow = match arrow {
        "->" => Arrow::Right,
        "<>" => Arrow::Both,
        "=>" => Arrow::Transaction,
        other => return Err(Fault::new(format!("'{other}' is no direction"))),
    };
    Ok(Header {
        action,
        layer: layer(name)?,
        hook,
        source: address::addresses(source, variables).map_err(|fault| fault.at("source addresses"))?,
        source_ports: address::ports(source_ports, variables).map_err(|fault| fault.at("source ports"))?,
        arrow,
        destination: address::addresses(destination, variables).map_err(|fault| fault.at("destination addresses"))?,
        destination_ports: address::ports(destination_ports, variables)
            .map_err(|fault| fault.at("destination ports"))?,
    })
}
