//! Frames of hostile origin, read into [`Packet`]s. Never panics, never allocates by a length that the frame claims.

mod checksum;
mod ethertype;
mod ipv4;
mod ipv6;
pub mod link;
pub mod read;
pub mod transport;
mod tunnel;

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
    /// Of a fragment: where it belongs.
    pub fragment: Option<Fragment>,
    /// Which UDP ports carry tunnels.
    pub tunnel_ports: TunnelPorts,
}

/// Where a fragment belongs in its packet.
#[derive(Clone, Copy, Debug)]
pub struct Fragment {
    /// Its place, in bytes.
    pub offset: u32,
    /// Whether others follow it.
    pub more: bool,
    /// IPv6: where, from the start of the IP header, the field lies that names the fragment header.
    pub next_header_at: Option<usize>,
}

/// Which UDP ports carry tunnels.
#[derive(Clone, Copy, Debug)]
pub struct TunnelPorts {
    /// VXLAN's, or 0 for none.
    pub vxlan: u16,
}

impl TunnelPorts {
    fn vxlan(self, source: u16, destination: u16) -> bool {
        self.vxlan != 0 && (destination == self.vxlan || source == self.vxlan)
    }
}

impl Default for TunnelPorts {
    fn default() -> Self {
        Self { vxlan: 4789 }
    }
}

/// A packet found inside another, not yet read.
#[derive(Clone, Debug)]
pub struct Inner<'a> {
    /// What it begins with.
    pub start: Start,
    /// Its bytes.
    pub data: &'a [u8],
    /// Which tunnel it came out of.
    pub source: Source,
    /// A VLAN that the tunnel's own header names.
    pub vlan: Option<u16>,
}

/// What a packet begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Start {
    /// A link layer, by its `LINKTYPE_` number.
    Link(u16),
    Ethernet,
    Ppp,
    Ethertype(u16),
    Ipv4,
    Ipv6,
}

impl Start {
    /// The `LINKTYPE_` number of such bytes.
    fn link_type(self) -> u16 {
        match self {
            Self::Link(number) => number,
            Self::Ethernet => link::ETHERNET,
            Self::Ppp => link::PPP,
            Self::Ethertype(_) | Self::Ipv4 | Self::Ipv6 => link::RAW,
        }
    }
}

impl<'a> Inner<'a> {
    /// A whole frame, by the `LINKTYPE_` number of what it begins with.
    #[must_use]
    pub fn frame(link_type: u16, data: &'a [u8]) -> Self {
        Self::new(Start::Link(link_type), data, Source::Wire)
    }

    fn new(start: Start, data: &'a [u8], source: Source) -> Self {
        Self { start, data, source, vlan: None }
    }
}

/// What comes after the header that was just read.
enum Next<'a> {
    Nothing,
    Ethernet(&'a [u8]),
    Ethertype(u16, &'a [u8]),
    /// IP of the version that its first bits tell.
    Ip(&'a [u8]),
    Ipv4(&'a [u8]),
    Ipv6(&'a [u8]),
    Transport(u8, &'a [u8]),
    Tunnel(Inner<'a>),
}

/// As many headers as are read before a packet's own transport layer; a hostile one could nest more.
const LAYERS_MAX: usize = 32;

/// Reads one packet; what lies in a tunnel inside it is returned unread.
#[must_use]
pub fn decode(
    time: Nanos,
    number: u64,
    start: Start,
    data: &[u8],
    tunnel_ports: TunnelPorts,
) -> (Packet<'_>, Option<Inner<'_>>) {
    let mut packet = Packet {
        time,
        number,
        data,
        ethernet: None,
        vlan: SmallVec::new(),
        ip: None,
        transport: Transport::Other,
        payload: data,
        events: SmallVec::new(),
        bad_checksum: false,
        defragmented: false,
        depth: 0,
        source: Source::Wire,
        outer: None,
        link_type: start.link_type(),
        fragment: None,
        tunnel_ports,
    };
    let mut next = match start {
        Start::Link(number) => link::decode(&mut packet, number),
        Start::Ethernet => Next::Ethernet(data),
        Start::Ppp => link::decode(&mut packet, link::PPP),
        Start::Ethertype(kind) => Next::Ethertype(kind, data),
        Start::Ipv4 => Next::Ipv4(data),
        Start::Ipv6 => Next::Ipv6(data),
    };
    for _ in 0..LAYERS_MAX {
        next = match next {
            Next::Nothing => return (packet, None),
            Next::Tunnel(inner) => return (packet, Some(inner)),
            Next::Ethernet(rest) => link::ethernet(&mut packet, rest),
            Next::Ethertype(kind, rest) => ethertype::decode(&mut packet, kind, rest),
            Next::Ip(rest) => match rest.first().map(|first| first >> 4) {
                Some(4) => ipv4::decode(&mut packet, rest),
                Some(6) => ipv6::decode(&mut packet, rest),
                Some(_) => packet.stop("ipraw.invalid_ip_version"),
                None => packet.stop("ipv4.pkt_too_small"),
            },
            Next::Ipv4(rest) => ipv4::decode(&mut packet, rest),
            Next::Ipv6(rest) => ipv6::decode(&mut packet, rest),
            Next::Transport(protocol, rest) => transport::decode(&mut packet, protocol, rest),
        };
    }
    (packet, None)
}

impl<'a> Packet<'a> {
    /// Notes what is wrong, and that nothing further can be read.
    fn stop(&mut self, event: EventName) -> Next<'a> {
        self.events.push(event);
        Next::Nothing
    }

    /// Its ports, 0 where there are none; of ICMP 0 as well.
    #[must_use]
    pub fn ports(&self) -> (u16, u16) {
        match &self.transport {
            Transport::Tcp(tcp) => (tcp.source, tcp.destination),
            Transport::Udp { source, destination, .. } | Transport::Sctp { source, destination } => {
                (*source, *destination)
            }
            Transport::Icmp { .. } | Transport::Other => (0, 0),
        }
    }
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
