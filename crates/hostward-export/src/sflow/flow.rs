//! Flow samples and what they say of a packet.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use super::xdr::Writer;
use super::xdr::cut;

/// `header_protocol` of a frame that begins with an Ethernet header.
const ETHERNET: u32 = 1;
/// UTF-8 by its `MIBenum` (IANA character sets; RFC 2978).
const UTF_8: u32 = 106;
/// `string<>` has no bound of its own; names longer than this are cut.
const MOST_TEXT: usize = 255;
/// Header bytes that are kept; `sflow_version_5.txt` recommends up to 128.
const MOST_HEADER: usize = 256;

/// Where a packet came from or went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// Not known.
    Unknown,
    /// An `ifIndex`.
    Index(u32),
    /// Nowhere: it was dropped.
    Discarded(DropReason),
}

impl Interface {
    /// The format in the two highest bits, the value in the others.
    fn word(self) -> u32 {
        const DISCARDED: u32 = 1 << 30;
        match self {
            Self::Unknown => 0,
            Self::Index(index) => index.min(0x3fff_fffe),
            Self::Discarded(reason) => DISCARDED | reason as u32,
        }
    }
}

/// Why a packet was dropped: `sflow_version_5.txt`, "interface", and `sflow_drops.txt`, "`drop_reason`".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum DropReason {
    /// Communication administratively prohibited (RFC 1812, section 5.2.7.1): the sender is told.
    Prohibited = 13,
    /// None of the others.
    Unknown = 256,
    /// An access control list.
    Acl = 258,
    /// No space.
    NoBuffer = 259,
    /// A rate limit.
    Shaping = 261,
    /// A VLAN tag where none may be.
    VlanTag = 264,
    /// Neither IPv4 nor IPv6.
    NonIp = 270,
    /// A header that no sender makes.
    IpHeader = 275,
}

/// Both ends, from the workload's side: `extended_socket_ipv4` and `extended_socket_ipv6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// IP protocol number.
    pub protocol: u8,
    /// The workload's address. Of the same family as `remote`.
    pub local: IpAddr,
    /// Its peer's.
    pub remote: IpAddr,
    /// The workload's port; 0 where the protocol has none.
    pub local_port: u16,
    /// Its peer's.
    pub remote_port: u16,
}

/// One thing that is known of a sampled packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowRecord<'a> {
    /// The first bytes of the frame, from its Ethernet header on, and the whole frame's length. A virtual port's frames
    /// have no check sequence: none is counted and none was stripped.
    RawHeader {
        /// In bytes.
        frame_len: u32,
        /// The first bytes.
        header: &'a [u8],
    },
    /// Who sent it and who was to get it.
    User {
        /// Empty: not known.
        source: &'a str,
        /// Empty: not known.
        destination: &'a str,
    },
    /// Both ends.
    Socket(Socket),
    /// Why it was dropped, in words.
    Reason(&'a str),
}

impl FlowRecord<'_> {
    pub(super) fn write(&self, to: &mut Writer) {
        let mut body = Writer::default();
        let format = match self {
            Self::RawHeader { frame_len, header } => {
                body.unsigned(ETHERNET);
                body.unsigned(*frame_len);
                body.unsigned(0); // stripped
                body.variable(header, MOST_HEADER);
                1
            }
            Self::User { source, destination } => {
                for text in [source, destination] {
                    body.unsigned(UTF_8);
                    body.variable(cut(text, MOST_TEXT).as_bytes(), MOST_TEXT);
                }
                1004
            }
            Self::Socket(socket) => write_socket(socket, &mut body),
            Self::Reason(reason) => {
                body.variable(cut(reason, MOST_TEXT).as_bytes(), MOST_TEXT);
                1042
            }
        };
        to.structure(format, &body);
    }
}

fn write_socket(socket: &Socket, body: &mut Writer) -> u32 {
    body.unsigned(socket.protocol.into());
    let format = match (socket.local, socket.remote) {
        (IpAddr::V4(local), IpAddr::V4(remote)) => {
            body.fixed(&local.octets());
            body.fixed(&remote.octets());
            2100
        }
        (local, remote) => {
            body.fixed(&as_ipv6(local).octets());
            body.fixed(&as_ipv6(remote).octets());
            2101
        }
    };
    body.unsigned(socket.local_port.into());
    body.unsigned(socket.remote_port.into());
    format
}

fn as_ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::to_ipv6_mapped(&address),
        IpAddr::V6(address) => address,
    }
}

/// One packet that was taken.
#[derive(Clone, Copy, Debug)]
pub struct FlowSample<'a> {
    /// One packet in so many.
    pub rate: u32,
    /// Packets that could have been taken at its source up to now.
    pub pool: u64,
    /// Packets that were taken there and lost since.
    pub drops: u64,
    /// Where it came from.
    pub input: Interface,
    /// Where it went.
    pub output: Interface,
    /// What is known of it. Wireshark 4.0 cannot step over records that are younger than 2004: those belong at the end.
    pub records: &'a [FlowRecord<'a>],
}

impl FlowSample<'_> {
    pub(super) const FORMAT: u32 = 1;

    pub(super) fn write(&self, sequence: u32, source: u32, body: &mut Writer) {
        body.unsigned(sequence);
        body.unsigned(source);
        body.unsigned(self.rate);
        // Counters of 32 bits wrap; collectors take differences.
        body.unsigned(self.pool as u32);
        body.unsigned(self.drops as u32);
        body.unsigned(self.input.word());
        body.unsigned(self.output.word());
        body.unsigned(u32::try_from(self.records.len()).unwrap_or(0));
        for record in self.records {
            record.write(body);
        }
    }
}
