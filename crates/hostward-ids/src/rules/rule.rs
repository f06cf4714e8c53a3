//! A rule as it was read.

use super::byte::{ByteExtract, ByteJump, ByteMath, ByteTest, DataAt};
use super::content::Content;
use super::dataset::DataSet;
use super::header::Header;
use super::number::Comparison;
use super::pattern::Pattern;
use super::test::{Effect, Establishment, FlowTest, PacketTest, Threshold, TransactionTest};
use super::transform::{Base64Decode, Transform};
use crate::Direction;
use crate::app::buffer::Buffer;

/// Which bytes are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// The packet's payload or the stream.
    Payload,
    /// A buffer of a transaction.
    Buffer(Buffer),
    /// A header or an address of the packet.
    Packet(PacketBuffer),
}

/// See [`Target::Packet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum PacketBuffer {
    Ipv4Header,
    Ipv6Header,
    TcpHeader,
    UdpHeader,
    IcmpHeader,
    SourceAddress,
    DestinationAddress,
}

/// One thing looked for in a buffer, in the order of the rule.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Step {
    Content(Content),
    Pattern(Pattern),
    ByteTest(ByteTest),
    ByteJump(ByteJump),
    ByteExtract(ByteExtract),
    ByteMath(ByteMath),
    DataAt(DataAt),
    Size(Comparison),
    DataSet(DataSet),
    Entropy(Entropy),
    Base64Decode(Base64Decode),
    /// What follows looks at what [`Step::Base64Decode`] made.
    Base64Data,
}

/// `entropy`: Shannon's, in bits per byte.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Entropy {
    pub offset: usize,
    pub len: Option<usize>,
    pub compare: EntropyCompare,
}

/// See [`Entropy`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum EntropyCompare {
    Equal(f64),
    NotEqual(f64),
    Less(f64),
    AtMost(f64),
    Greater(f64),
    AtLeast(f64),
    Between(f64, f64),
    NotBetween(f64, f64),
}

/// What `absent` says of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// It must not be there.
    Only,
    /// It may be missing; if it is there, the rest must hold.
    OrElse,
}

/// Everything that a rule wants of one buffer.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    /// Which one.
    pub target: Target,
    /// What is done with it first.
    pub transforms: Vec<Transform>,
    /// What has to hold.
    pub steps: Vec<Step>,
    /// See [`Absent`].
    pub absent: Option<Absent>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Rule {
    pub header: Header,
    pub gid: u32,
    pub sid: u32,
    pub rev: u32,
    pub message: String,
    pub category: String,
    pub priority: u8,
    /// Whether `priority` was written.
    pub references: Vec<(String, String)>,
    pub metadata: Vec<(String, String)>,
    /// Whether the source (true) or the destination is attacked, if it says.
    pub target_is_source: Option<bool>,
    /// `flow:to_server` and `to_client`.
    pub direction: Option<Direction>,
    pub establishment: Option<Establishment>,
    /// `flow:only_stream` (true) or `no_stream`.
    pub stream_only: Option<bool>,
    /// `flow:stateless`.
    pub stateless: bool,
    pub inspections: Vec<Inspection>,
    pub packet_tests: Vec<PacketTest>,
    pub flow_tests: Vec<FlowTest>,
    pub transaction_tests: Vec<TransactionTest>,
    pub effects: Vec<Effect>,
    pub threshold: Option<Threshold>,
    pub no_alert: bool,
    /// `alert`: a pass rule that is told nevertheless.
    pub alert_anyway: bool,
    /// How many variables its steps extract.
    pub variables: u8,
    /// The file it stands in, as named, and the line.
    pub place: (std::sync::Arc<str>, usize),
}
