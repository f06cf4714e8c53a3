//! Templates of flow records: by what kind of addresses there are, whether it is ICMP, and what the collector can read.

use crate::ipfix::element::Field;
use crate::ipfix::element::REVERSE;
use crate::ipfix::element::Space;
use crate::ipfix::record::Record;

/// What records hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Biflows, and behind everything else Hostward's own elements.
    #[default]
    Full,
    /// No number of any enterprise, RFC 5103's included: a biflow is two records.
    Standard,
}

/// The kinds of frames that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IPv4, and not ICMP.
    Ipv4,
    /// IPv6, and not `ICMPv6`.
    Ipv6,
    /// ICMP.
    Icmp,
    /// `ICMPv6`.
    Icmpv6,
    /// No IP address is known: ARP, other ethertypes, and what could not be parsed.
    Link,
}

/// Every kind, in the order of the templates' numbers.
pub const KINDS: [Kind; 5] = [Kind::Ipv4, Kind::Ipv6, Kind::Icmp, Kind::Icmpv6, Kind::Link];

/// The first template number (RFC 7011, section 3.4.1).
const FIRST_TEMPLATE: u16 = 256;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

impl Kind {
    /// Which kind a record is.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let source = &record.tuple.source;
        if *source == [0; 16] && record.tuple.destination == [0; 16] {
            return Self::Link;
        }
        match (source.starts_with(&MAPPED), record.tuple.protocol) {
            (true, ICMP) => Self::Icmp,
            (true, _) => Self::Ipv4,
            (false, ICMPV6) => Self::Icmpv6,
            (false, _) => Self::Ipv6,
        }
    }

    /// The number of its template.
    #[must_use]
    pub fn template(self) -> u16 {
        FIRST_TEMPLATE + self as u16
    }
}

/// The fields of a kind's records, in order: what may have any length is last.
#[must_use]
pub fn fields(kind: Kind, form: Form) -> Vec<Field> {
    use Field as F;
    let mut fields = vec![F::FlowStartMilliseconds, F::FlowEndMilliseconds];
    match kind {
        Kind::Ipv4 | Kind::Icmp => fields.extend([F::SourceIpv4Address, F::DestinationIpv4Address]),
        Kind::Ipv6 | Kind::Icmpv6 => fields.extend([F::SourceIpv6Address, F::DestinationIpv6Address]),
        Kind::Link => fields.extend([F::SourceMacAddress, F::EthernetType]),
    }
    match kind {
        Kind::Ipv4 | Kind::Ipv6 => fields.extend([F::SourceTransportPort, F::DestinationTransportPort]),
        Kind::Icmp => fields.push(F::IcmpTypeCodeIpv4),
        Kind::Icmpv6 => fields.push(F::IcmpTypeCodeIpv6),
        Kind::Link => {}
    }
    if kind != Kind::Link {
        fields.push(F::ProtocolIdentifier);
    }
    if matches!(kind, Kind::Ipv4 | Kind::Ipv6) {
        fields.push(F::TcpControlBits);
    }
    fields.extend([
        F::PacketDeltaCount,
        F::OctetDeltaCount,
        F::IngressInterface,
        F::EgressInterface,
        F::FlowDirection,
        F::FlowEndReason,
        F::ForwardingStatus,
    ]);
    if form == Form::Full {
        fields.extend([F::BiflowDirection, F::ReversePacketDeltaCount, F::ReverseOctetDeltaCount]);
        if matches!(kind, Kind::Ipv4 | Kind::Ipv6) {
            fields.push(F::ReverseTcpControlBits);
        }
        fields.extend([F::Revision, F::Tenant, F::Group, F::Process, F::Rule, F::Endpoint, F::Reason]);
    }
    fields
}

/// Writes a field specifier (RFC 7011, section 3.2).
pub fn write_specifier(out: &mut Vec<u8>, space: Space, id: u16, length: u16, enterprise: u32) {
    let number = match space {
        Space::Iana => None,
        Space::Reverse => Some(REVERSE),
        Space::Own => Some(enterprise),
    };
    let bit = if number.is_some() { 0x8000 } else { 0 };
    out.extend((id | bit).to_be_bytes());
    out.extend(length.to_be_bytes());
    if let Some(number) = number {
        out.extend(number.to_be_bytes());
    }
}

/// Writes the template record of a kind.
pub fn write_template(out: &mut Vec<u8>, kind: Kind, form: Form, enterprise: u32) {
    let fields = fields(kind, form);
    out.extend(kind.template().to_be_bytes());
    out.extend((fields.len() as u16).to_be_bytes());
    for field in fields {
        let spec = field.spec();
        write_specifier(out, spec.space, spec.id, spec.length, enterprise);
    }
}
