//! The Internet checksum (RFC 1071). Only looked at where a setting or a signature asks for it: a host sees its own packets
//! before the card has filled it in.

use std::net::IpAddr;

use super::{Packet, Transport};

fn sum(data: &[u8], mut total: u64) -> u64 {
    let (pairs, rest) = data.as_chunks::<2>();
    for pair in pairs {
        total += u64::from(u16::from_be_bytes(*pair));
    }
    total + rest.first().map_or(0, |last| u64::from(*last) << 8)
}

fn is_right(mut total: u64) -> bool {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total == 0xffff
}

/// The sum over addresses, protocol and length that TCP, UDP and `ICMPv6` begin with (RFC 9293, RFC 8200 section 8.1).
fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> u64 {
    let address = |address, total| match address {
        IpAddr::V4(address) => sum(&address.octets(), total),
        IpAddr::V6(address) => sum(&address.octets(), total),
    };
    address(source, address(destination, u64::from(protocol) + len as u64))
}

impl Packet<'_> {
    /// Whether the checksum of its transport layer is wrong. A packet without one is not.
    #[must_use]
    pub fn transport_checksum_is_wrong(&self) -> bool {
        let Some(ip) = &self.ip else { return false };
        let header = match &self.transport {
            Transport::Tcp(tcp) => tcp.header,
            // UDP over IPv4 may go without.
            Transport::Udp { header, .. } if header.get(6..8) == Some(&[0, 0]) => return false,
            Transport::Udp { header, .. } | Transport::Icmp { header, .. } => header,
            Transport::Sctp { .. } | Transport::Other => return false,
        };
        let begin = match (&self.transport, ip.source) {
            (Transport::Icmp { .. }, IpAddr::V4(_)) => 0,
            _ => pseudo_header(ip.source, ip.destination, ip.protocol, header.len() + self.payload.len()),
        };
        !is_right(sum(self.payload, sum(header, begin)))
    }

    /// Whether the checksum of its IPv4 header is wrong.
    #[must_use]
    pub fn header_checksum_is_wrong(&self) -> bool {
        self.ip.as_ref().is_some_and(|ip| ip.source.is_ipv4() && !is_right(sum(ip.header, 0)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Start, TunnelPorts, decode};

    #[test]
    fn of_a_real_packet() {
        // A query of DNS, as a resolver sent it.
        let mut packet =
            [0x45, 0, 0, 0x1d, 0, 1, 0, 0, 0x40, 0x11, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 53, 0, 53, 0, 9, 0, 0, b'a'];
        let sums = |packet: &[u8]| {
            let (read, _) = decode(0, 0, Start::Ipv4, packet, TunnelPorts::default());
            (read.header_checksum_is_wrong(), read.transport_checksum_is_wrong())
        };
        assert_eq!(sums(&packet), (true, false));
        packet[10..12].copy_from_slice(&0x66cd_u16.to_be_bytes());
        // Addresses 0x1403, protocol 17, lengths 9 and 9, ports 106, data 0x6100.
        packet[26..28].copy_from_slice(&(!0x7590_u16).to_be_bytes());
        assert_eq!(sums(&packet), (false, false));
        packet[28] = b'b';
        assert_eq!(sums(&packet), (false, true));
    }
}
