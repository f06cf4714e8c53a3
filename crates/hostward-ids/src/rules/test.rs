//! What a rule asks of packets, flows and transactions beside what is in their bytes.

use super::number::Comparison;
use crate::Direction;
use crate::app::buffer::Integer;
use crate::app::{Protocol, Stage};

/// Asked of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PacketTest {
    /// `dsize`
    PayloadLen(Comparison),
    Flags(FlagTest),
    Acknowledgement(u32),
    Sequence(u32),
    Window {
        negated: bool,
        value: u16,
    },
    Mss(Comparison),
    Ttl(Comparison),
    /// IP identification.
    Id(u32),
    Tos {
        negated: bool,
        value: u8,
    },
    IpProtocol(Comparison),
    IpOption(IpOption),
    FragmentBits(FlagTest),
    FragmentOffset(Comparison),
    SameIp,
    IcmpType(Comparison),
    IcmpCode(Comparison),
    IcmpId(u16),
    IcmpSequence(u16),
    Icmpv6Mtu(Comparison),
    VlanLayers(Comparison),
    VlanId {
        layer: Option<i8>,
        id: Comparison,
    },
    Checksum {
        /// That of the IPv4 header rather than of what lies on it.
        header: bool,
        valid: bool,
    },
    DecodeEvent(String),
    StreamEvent(String),
}

/// How TCP flags or fragment bits are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlagTest {
    /// How.
    pub mode: FlagMode,
    /// With these.
    pub flags: u8,
    /// These do not count.
    pub ignored: u8,
}

/// See [`FlagTest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagMode {
    /// These and no others.
    Exactly,
    /// `+`: these, others as well.
    All,
    /// `*`: some of these.
    Any,
    /// `!`: not these.
    Not,
}

/// An IPv4 option (its type), or any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum IpOption {
    Any,
    Type(u8),
}

/// Who opened the flow, or the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum StreamSide {
    Client,
    Server,
    Both,
    Either,
}

/// Whether a flow has to be established.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Establishment {
    Established,
    NotEstablished,
}

/// What a protocol test looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ProtocolOf {
    Direction,
    ToServer,
    ToClient,
    Either,
    Final,
    Original,
}

/// What `app-layer-protocol` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolName {
    /// One of these.
    Known(&'static [Protocol]),
    /// Recognition ended without a result.
    Failed,
    /// Recognition goes on.
    Unknown,
    /// A protocol that is never recognised.
    Never,
}

/// An operation on a bit: of a flow, a host, a pair of hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum BitOperation {
    Set,
    Unset,
    Toggle,
    IsSet,
    IsNotSet,
}

impl BitOperation {
    /// Whether it asks rather than changes.
    #[must_use]
    pub fn asks(self) -> bool {
        matches!(self, Self::IsSet | Self::IsNotSet)
    }
}

/// Whose bit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum BitOwner {
    Source,
    Destination,
    Both,
    Pair,
    Transaction,
}

/// `hostbits` and `xbits`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct HostBit {
    pub operation: BitOperation,
    pub name: String,
    pub owner: BitOwner,
    /// Seconds after which it is gone.
    pub expire_s: u32,
}

/// `flowint`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct FlowInteger {
    pub name: String,
    pub operation: FlowIntegerOperation,
    pub value: FlowIntegerValue,
}

/// See [`FlowInteger`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum FlowIntegerOperation {
    Assign,
    Add,
    Subtract,
    Less,
    AtMost,
    Equal,
    NotEqual,
    AtLeast,
    Greater,
    IsSet,
    IsNotSet,
}

/// See [`FlowInteger`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum FlowIntegerValue {
    Number(u32),
    Name(String),
}

/// Asked of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum FlowTest {
    /// `flowbits:isset,a|b` (any of them) and `isnotset` (none of them).
    Bits {
        set: bool,
        names: Vec<String>,
    },
    Integer(FlowInteger),
    HostBit(HostBit),
    /// Seconds since its first packet.
    Age(Comparison),
    Packets {
        to_server: Option<bool>,
        count: Comparison,
    },
    Bytes {
        to_server: Option<bool>,
        count: Comparison,
    },
    StreamSize {
        side: StreamSide,
        size: Comparison,
    },
    Protocol {
        negated: bool,
        name: ProtocolName,
        of: ProtocolOf,
    },
}

/// Asked of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TransactionTest {
    Event(String),
    Integer(Integer, Vec<Comparison>),
    /// UUID in the order it is written in, and what its version has to be; `any_frag` if not only in a first fragment.
    DcerpcInterface {
        uuid: [u8; 16],
        version: Option<Comparison>,
        any_fragment: bool,
    },
    /// Whether the certificate's time has passed by the time of the packet.
    TlsCertificateExpired(bool),
    TlsVersion {
        negated: bool,
        versions: Vec<u16>,
    },
    /// `ssl_state`: whether some of these points of a handshake were reached.
    TlsState {
        negated: bool,
        reached: Vec<(Direction, Stage)>,
    },
    FtpBounce,
    FileName {
        content: Box<[u8]>,
        nocase: bool,
        negated: bool,
    },
    FileExtension {
        content: Box<[u8]>,
        negated: bool,
    },
    FileSize(Comparison),
    FileDigest {
        kind: DigestKind,
        negated: bool,
        file: String,
    },
    /// How far the transaction came in the direction looked at: an index of the protocol's stages.
    State(Comparison),
}

/// A digest of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum DigestKind {
    Md5,
    Sha1,
    Sha256,
}

/// Done when the rule matched.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Effect {
    FlowBit {
        operation: BitOperation,
        name: String,
    },
    Integer(FlowInteger),
    HostBit(HostBit),
    /// Following packets are to be recorded.
    Tag(Tag),
    /// The file is to be stored.
    StoreFile,
    /// The rest of the flow needs no inspection.
    Bypass,
}

/// `tag`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Tag {
    pub host: bool,
    pub destination: bool,
    pub count: u32,
    pub unit: TagUnit,
}

/// See [`Tag`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TagUnit {
    Packets,
    Bytes,
    Seconds,
}

/// Whose matches are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Track {
    Source,
    Destination,
    Both,
    Rule,
    Flow,
}

/// Which of the counted matches become alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ThresholdKind {
    /// The first `count` of each interval.
    Limit,
    /// Every `count`-th.
    Threshold,
    /// The `count`-th of each interval, once.
    Both,
    /// The `count`-th, then each time the number has grown by the multiplier.
    Backoff { multiplier: u32 },
    /// All after the `count`-th of each interval (`detection_filter`).
    Filter,
}

/// `threshold` and `detection_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Threshold {
    pub kind: ThresholdKind,
    pub track: Track,
    pub count: u32,
    pub seconds: u32,
}
