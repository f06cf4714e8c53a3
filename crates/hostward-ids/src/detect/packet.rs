//! What rules ask of a packet's headers.

use super::index::TransportClass;
use crate::decode::{Ip, Packet, Transport};
use crate::rules::rule::PacketBuffer;
use crate::rules::test::{FlagMode, FlagTest, IpOption, PacketTest};

/// Which lists of signatures a packet belongs to.
pub fn class(packet: &Packet<'_>) -> TransportClass {
    match packet.transport {
        Transport::Tcp(_) => TransportClass::Tcp,
        Transport::Udp { .. } => TransportClass::Udp,
        Transport::Icmp { .. } => TransportClass::Icmp,
        _ => TransportClass::Other,
    }
}

/// Whether a test holds. `stream_events` are the flow's, of this packet.
pub fn holds(test: &PacketTest, packet: &Packet<'_>, stream_events: &[&str]) -> bool {
    let tcp = match &packet.transport {
        Transport::Tcp(tcp) => Some(tcp),
        _ => None,
    };
    let ip = packet.ip.as_ref();
    match test {
        PacketTest::PayloadLen(comparison) => comparison.holds(packet.payload.len() as u64),
        PacketTest::Flags(test) => tcp.is_some_and(|tcp| flags(*test, tcp.flags)),
        PacketTest::Acknowledgement(value) => tcp.is_some_and(|tcp| tcp.acknowledgement == *value),
        PacketTest::Sequence(value) => tcp.is_some_and(|tcp| tcp.sequence == *value),
        PacketTest::Window { negated, value } => tcp.is_some_and(|tcp| (tcp.window == *value) != *negated),
        PacketTest::Mss(comparison) => {
            tcp.and_then(|tcp| mss(tcp.header)).is_some_and(|mss| comparison.holds(u64::from(mss)))
        }
        PacketTest::Ttl(comparison) => ip.is_some_and(|ip| comparison.holds(u64::from(ip.ttl))),
        PacketTest::Id(value) => ip.is_some_and(|ip| ip.id == *value),
        PacketTest::Tos { negated, value } => ip.is_some_and(|ip| (ip.tos == *value) != *negated),
        PacketTest::IpProtocol(comparison) => ip.is_some_and(|ip| comparison.holds(u64::from(ip.protocol))),
        PacketTest::IpOption(wanted) => ip.is_some_and(|ip| has_option(ip, *wanted)),
        PacketTest::FragmentBits(test) => ip.and_then(fragment_bits).is_some_and(|bits| flags(*test, bits)),
        PacketTest::FragmentOffset(comparison) => {
            ip.and_then(fragment_offset).is_some_and(|offset| comparison.holds(offset))
        }
        PacketTest::SameIp => ip.is_some_and(|ip| ip.source == ip.destination),
        PacketTest::IcmpType(comparison) => {
            matches!(packet.transport, Transport::Icmp { kind, .. } if comparison.holds(u64::from(kind)))
        }
        PacketTest::IcmpCode(comparison) => {
            matches!(packet.transport, Transport::Icmp { code, .. } if comparison.holds(u64::from(code)))
        }
        PacketTest::IcmpId(value) => matches!(packet.transport, Transport::Icmp { id: Some(id), .. } if id == *value),
        PacketTest::IcmpSequence(value) => {
            matches!(packet.transport, Transport::Icmp { sequence: Some(sequence), .. } if sequence == *value)
        }
        PacketTest::Icmpv6Mtu(comparison) => match packet.transport {
            // RFC 4443, 3.2: type 2, the MTU after four bytes.
            Transport::Icmp { kind: 2, header, .. } if ip.is_some_and(|ip| ip.source.is_ipv6()) => {
                be32(header, 4).is_some_and(|mtu| comparison.holds(u64::from(mtu)))
            }
            _ => false,
        },
        PacketTest::VlanLayers(comparison) => comparison.holds(packet.vlan.len() as u64),
        PacketTest::VlanId { layer, id } => match layer {
            None => packet.vlan.iter().any(|vlan| id.holds(u64::from(*vlan))),
            Some(layer) => {
                let back = usize::from(layer.unsigned_abs());
                let at = if *layer < 0 { packet.vlan.len().checked_sub(back) } else { Some(back) };
                at.and_then(|at| packet.vlan.get(at)).is_some_and(|vlan| id.holds(u64::from(*vlan)))
            }
        },
        PacketTest::Checksum { header: true, valid } => packet.header_checksum_is_wrong() != *valid,
        PacketTest::Checksum { header: false, valid } => packet.transport_checksum_is_wrong() != *valid,
        PacketTest::DecodeEvent(name) => packet.events.iter().any(|event| event == name),
        PacketTest::StreamEvent(name) => {
            stream_events.iter().any(|event| event.strip_prefix("stream.").unwrap_or(event) == name)
        }
    }
}

fn flags(test: FlagTest, flags: u8) -> bool {
    let flags = flags & !test.ignored;
    match test.mode {
        FlagMode::Exactly => flags == test.flags,
        FlagMode::All => flags & test.flags == test.flags,
        FlagMode::Any => flags & test.flags != 0,
        FlagMode::Not => flags & test.flags != test.flags,
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

/// Reserved, don't fragment, more fragments (RFC 791), as 4, 2 and 1.
fn fragment_bits(ip: &Ip<'_>) -> Option<u8> {
    ip.source.is_ipv4().then(|| be16(ip.header, 6)).flatten().map(|word| (word >> 13) as u8)
}

fn fragment_offset(ip: &Ip<'_>) -> Option<u64> {
    ip.source.is_ipv4().then(|| be16(ip.header, 6)).flatten().map(|word| u64::from(word & 0x1fff))
}

/// The maximum segment size of a TCP header's options (RFC 9293, 3.2).
fn mss(header: &[u8]) -> Option<u16> {
    let mut options = header.get(20..)?;
    loop {
        match options {
            [] | [0, ..] => return None,
            [1, rest @ ..] => options = rest,
            [2, 4, high, low, ..] => return Some(u16::from_be_bytes([*high, *low])),
            [_, len, ..] => options = options.get(usize::from((*len).max(2))..)?,
            [_] => return None,
        }
    }
}

/// Whether an IPv4 header has an option. The first of a kind counts; reading ends at the end-of-options one.
fn has_option(ip: &Ip<'_>, wanted: IpOption) -> bool {
    if ip.source.is_ipv6() {
        return false;
    }
    let Some(mut options) = ip.header.get(20..).filter(|options| !options.is_empty()) else { return false };
    let wanted = match wanted {
        IpOption::Any => return true,
        IpOption::Type(wanted) => wanted,
    };
    while let [kind, rest @ ..] = options {
        if *kind == wanted {
            return true;
        }
        options = match kind {
            0 => return false,
            1 => rest,
            _ => match rest.first() {
                Some(&len) if len >= 2 => options.get(usize::from(len)..).unwrap_or_default(),
                _ => return false,
            },
        };
    }
    false
}

/// The bytes of a header or an address.
pub fn buffer<'p>(buffer: PacketBuffer, packet: &'p Packet<'_>, room: &'p mut [u8; 16]) -> Option<&'p [u8]> {
    let ip = packet.ip.as_ref();
    let address = match buffer {
        PacketBuffer::Ipv4Header => return ip.filter(|ip| ip.source.is_ipv4()).map(|ip| ip.header),
        PacketBuffer::Ipv6Header => return ip.filter(|ip| ip.source.is_ipv6()).map(|ip| ip.header),
        PacketBuffer::TcpHeader => match &packet.transport {
            Transport::Tcp(tcp) => return Some(tcp.header),
            _ => return None,
        },
        PacketBuffer::UdpHeader => match packet.transport {
            Transport::Udp { header, .. } => return Some(header),
            _ => return None,
        },
        PacketBuffer::IcmpHeader => match packet.transport {
            Transport::Icmp { header, .. } => return Some(header),
            _ => return None,
        },
        PacketBuffer::SourceAddress => ip?.source,
        PacketBuffer::DestinationAddress => ip?.destination,
    };
    Some(address_bytes(address, room))
}

/// An address's bytes.
pub fn address_bytes(address: std::net::IpAddr, room: &mut [u8; 16]) -> &[u8] {
    match address {
        std::net::IpAddr::V4(v4) => {
            let bytes = v4.octets();
            room[..4].copy_from_slice(&bytes);
            &room[..4]
        }
        std::net::IpAddr::V6(v6) => {
            *room = v6.octets();
            room
        }
    }
}
