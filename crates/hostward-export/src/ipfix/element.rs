//! Information elements: the registered ones that records use, and Hostward's own.

/// Private enterprise number of RFC 5612, for documentation: an operator who has one sets it.
pub const DEFAULT_ENTERPRISE: u32 = 32_473;
/// Under this number an element is of the reverse direction (RFC 5103, section 6.1).
pub const REVERSE: u32 = 29_305;
/// The length that says that each value has one of its own (RFC 7011, section 7).
pub const VARIABLE: u16 = 0xffff;

/// Whose number an element has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// The registry's.
    Iana,
    /// RFC 5103's.
    Reverse,
    /// The configured enterprise's.
    Own,
}

/// informationElementDataType (RFC 5610, section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DataType {
    /// Eight octets.
    Unsigned64 = 4,
    /// UTF-8.
    String = 13,
}

/// One field of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the registry's names")]
pub enum Field {
    FlowStartMilliseconds,
    FlowEndMilliseconds,
    SourceIpv4Address,
    DestinationIpv4Address,
    SourceIpv6Address,
    DestinationIpv6Address,
    SourceMacAddress,
    EthernetType,
    SourceTransportPort,
    DestinationTransportPort,
    IcmpTypeCodeIpv4,
    IcmpTypeCodeIpv6,
    ProtocolIdentifier,
    TcpControlBits,
    PacketDeltaCount,
    OctetDeltaCount,
    IngressInterface,
    EgressInterface,
    FlowDirection,
    FlowEndReason,
    ForwardingStatus,
    BiflowDirection,
    ReversePacketDeltaCount,
    ReverseOctetDeltaCount,
    ReverseTcpControlBits,
    Revision,
    Tenant,
    Group,
    Process,
    Rule,
    Endpoint,
    Reason,
}

/// How a field stands in a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Whose number it is.
    pub space: Space,
    /// The number.
    pub id: u16,
    /// Octets, or [`VARIABLE`].
    pub length: u16,
}

impl Field {
    /// Number and length; tcpControlBits in one octet (RFC 7125; the ninth bit is never known here).
    #[must_use]
    pub fn spec(self) -> Spec {
        let iana = |id, length| Spec { space: Space::Iana, id, length };
        let reverse = |id, length| Spec { space: Space::Reverse, id, length };
        let own = |id, length| Spec { space: Space::Own, id, length };
        match self {
            Self::OctetDeltaCount => iana(1, 8),
            Self::PacketDeltaCount => iana(2, 8),
            Self::ProtocolIdentifier => iana(4, 1),
            Self::TcpControlBits => iana(6, 1),
            Self::SourceTransportPort => iana(7, 2),
            Self::SourceIpv4Address => iana(8, 4),
            Self::IngressInterface => iana(10, 4),
            Self::DestinationTransportPort => iana(11, 2),
            Self::DestinationIpv4Address => iana(12, 4),
            Self::EgressInterface => iana(14, 4),
            Self::SourceIpv6Address => iana(27, 16),
            Self::DestinationIpv6Address => iana(28, 16),
            Self::IcmpTypeCodeIpv4 => iana(32, 2),
            Self::SourceMacAddress => iana(56, 6),
            Self::FlowDirection => iana(61, 1),
            Self::ForwardingStatus => iana(89, 1),
            Self::FlowEndReason => iana(136, 1),
            Self::IcmpTypeCodeIpv6 => iana(139, 2),
            Self::FlowStartMilliseconds => iana(152, 8),
            Self::FlowEndMilliseconds => iana(153, 8),
            Self::BiflowDirection => iana(239, 1),
            Self::EthernetType => iana(256, 2),
            Self::ReverseOctetDeltaCount => reverse(1, 8),
            Self::ReversePacketDeltaCount => reverse(2, 8),
            Self::ReverseTcpControlBits => reverse(6, 1),
            Self::Revision => own(5, 8),
            Self::Tenant => own(1, VARIABLE),
            Self::Group => own(2, VARIABLE),
            Self::Process => own(3, VARIABLE),
            Self::Rule => own(4, VARIABLE),
            Self::Endpoint => own(6, VARIABLE),
            Self::Reason => own(7, VARIABLE),
        }
    }
}

/// One of Hostward's own, as collectors are told of it (RFC 5610) and as lines of JSON call it.
#[derive(Clone, Copy, Debug)]
pub struct OwnElement {
    /// Its number.
    pub id: u16,
    /// informationElementName.
    pub name: &'static str,
    /// informationElementDescription.
    pub description: &'static str,
    /// informationElementDataType.
    pub data_type: DataType,
    /// informationElementSemantics: 0 default, 3 totalCounter, 4 identifier.
    pub semantics: u8,
}

const fn own(id: u16, name: &'static str, description: &'static str, data_type: DataType, semantics: u8) -> OwnElement {
    OwnElement { id, name, description, data_type, semantics }
}

/// All of them. Numbers are given once: what is not used any more keeps its own.
pub const OWN: [OwnElement; 14] = [
    own(1, "hostwardTenant", "Tenant of the endpoint at which the flow was observed", DataType::String, 0),
    own(2, "hostwardGroup", "Groups of that endpoint, sorted, joined by commas", DataType::String, 0),
    own(3, "hostwardProcess", "Executable at that endpoint, where a rule names it", DataType::String, 0),
    own(4, "hostwardRule", "Ids of the rules that decided, joined by commas", DataType::String, 0),
    own(5, "hostwardRevision", "Revision of the policy that decided", DataType::Unsigned64, 4),
    own(6, "hostwardEndpoint", "The endpoint, tenant/name", DataType::String, 0),
    own(7, "hostwardReason", "Why packets were denied; empty for what passed", DataType::String, 0),
    own(8, "hostwardBucketLostEventTotalCount", "Events beyond an endpoint's quota", DataType::Unsigned64, 3),
    own(9, "hostwardRingLostEventTotalCount", "Events for which the ring had no room", DataType::Unsigned64, 3),
    own(10, "hostwardUntabledTotalCount", "Sightings for which the record table had no room", DataType::Unsigned64, 3),
    own(11, "hostwardUnseenEndTotalCount", "Flows whose end was not told", DataType::Unsigned64, 3),
    own(12, "hostwardSocketErrorTotalCount", "Messages refused because of earlier ones", DataType::Unsigned64, 3),
    own(13, "hostwardRecordTotalCount", "Biflows and denials of which records were made", DataType::Unsigned64, 3),
    own(14, "hostwardEstimatedTotalCount", "Records whose direction is estimated", DataType::Unsigned64, 3),
];
