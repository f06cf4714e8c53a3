//! Frames of hostile origin, read into [`Packet`]s. Never panics, never allocates by a length that the frame claims.

use std::net::IpAddr;

use smallvec::SmallVec;

use crate::EventName;

/// Nanoseconds since 1970-01-01 UTC.
pub type Nanos = u64;

/// One packet, with where its parts lie in [`Packet::data`]. An inner packet of a tunnel is a `Packet` of its own.
#[derive(Clone, Debug)]
pub struct Packet<'a> {
    /// When it was seen.
    pub time: Nanos,
    /// Its number in the capture, from 1; 0 where there is no capture.
    pub number: u64,
    /// The whole frame, link header included.
    pub data: &'a [u8],
    /// Source and destination hardware address, where the link has them.
    pub ethernet: Option<([u8; 6], [u8; 6])>,
    /// VLAN numbers, outermost first.
    pub vlan: SmallVec<[u16; 3]>,
    /// The network layer, if it could be read.
    pub ip: Option<Ip<'a>>,
    /// The transport layer, if it could be read and this is no fragment.
    pub transport: Transport<'a>,
    /// What follows the last header that was read.
    pub payload: &'a [u8],
    /// What was odd about it.
    pub events: SmallVec<[EventName; 2]>,
    /// Whether a checksum was found wrong (always false where checksums are not looked at).
    pub bad_checksum: bool,
    /// Whether it was put together from fragments.
    pub defragmented: bool,
    /// How deep inside tunnels it lies; 0 for the frame's own packet.
    pub depth: u8,
    /// Where it came from.
    pub source: Source,
    /// Of a tunnel's inner packet: the packet around it.
    pub outer: Option<Box<Outer>>,
    /// The link type of [`Self::data`] (`LINKTYPE_` numbers).
    pub link_type: u16,
}

/// Where a packet came from; EVE's `pkt_src`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Source {
    #[default]
    Wire,
    Ipv4Tunnel,
    Ipv6Tunnel,
    Gre,
    Vxlan,
    Geneve,
    Teredo,
    Erspan,
    Nsh,
    Defragmented,
    /// Made by the engine at a flow's end, to inspect what is left of it; it has no bytes of its own.
    FlowEnd,
}

/// The packet around a tunnel's inner one.
#[derive(Clone, Debug)]
pub struct Outer {
    /// Its addresses.
    pub source: IpAddr,
    /// See [`Self::source`].
    pub destination: IpAddr,
    /// Its ports, 0 where it has none.
    pub ports: (u16, u16),
    /// Its protocol, as EVE names it.
    pub protocol: u8,
    /// Its depth.
    pub depth: u8,
}

/// An IPv4 or IPv6 header.
#[derive(Clone, Debug)]
pub struct Ip<'a> {
    /// Where from.
    pub source: IpAddr,
    /// Where to.
    pub destination: IpAddr,
    /// The header with options or extension headers.
    pub header: &'a [u8],
    /// IPv4: TTL; IPv6: hop limit.
    pub ttl: u8,
    /// The protocol of what follows the headers.
    pub protocol: u8,
    /// IPv4 identification, or IPv6 fragment identification.
    pub id: u32,
    /// IPv4 type of service or IPv6 traffic class.
    pub tos: u8,
    /// The length that the header claims, headers included.
    pub length: u16,
}

/// A transport header. Ports, types and codes as on the wire, in host order.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Transport<'a> {
    /// None that is known.
    Other,
    /// TCP (RFC 9293).
    Tcp(Tcp<'a>),
    /// UDP, with its header.
    Udp { source: u16, destination: u16, header: &'a [u8] },
    /// ICMP for IPv4 and IPv6 alike.
    Icmp { kind: u8, code: u8, header: &'a [u8], id: Option<u16>, sequence: Option<u16> },
    /// SCTP.
    Sctp { source: u16, destination: u16 },
}

/// A TCP header.
#[derive(Clone, Debug)]
pub struct Tcp<'a> {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// CWR ECE URG ACK PSH RST SYN FIN, from the highest bit.
    pub flags: u8,
    /// The advertised window, unscaled.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// The header with options.
    pub header: &'a [u8],
}
