//! TCP (RFC 9293), UDP (RFC 768), ICMP (RFC 792), `ICMPv6` (RFC 4443), SCTP (RFC 9260).

use std::net::IpAddr;

use super::read::{byte, short, word};
use super::{Next, Packet, Tcp, Transport, tunnel};

/// Reads what lies on IP.
pub(super) fn decode<'a>(packet: &mut Packet<'a>, protocol: u8, data: &'a [u8]) -> Next<'a> {
    let v6 = matches!(packet.ip.as_ref().map(|ip| ip.source), Some(IpAddr::V6(_)));
    packet.payload = data;
    match protocol {
        6 => tcp(packet, data),
        17 => return udp(packet, data),
        1 if v6 => packet.events.push("ipv6.icmpv4"),
        58 if !v6 => packet.events.push("ipv4.icmpv6"),
        1 => icmpv4(packet, data),
        58 => icmpv6(packet, data),
        132 => sctp(packet, data),
        50 if data.len() < 8 => packet.events.push("esp.pkt_too_small"),
        4 | 41 | 47 => return tunnel::decode(packet, protocol, data),
        // IGMP, ESP, AH, PIM, OSPF, VRRP, L2TP: known, and not looked into.
        2 | 50 | 51 | 89 | 103 | 112 | 115 => {}
        _ => packet.events.push(if v6 { "ipv6.unknown_next_header" } else { "ipv4.unknown_protocol" }),
    }
    Next::Nothing
}

fn tcp<'a>(packet: &mut Packet<'a>, data: &'a [u8]) {
    if data.len() < 20 {
        packet.events.push("tcp.pkt_too_small");
        return;
    }
    let header_len = usize::from(byte(data, 12).unwrap_or_default() >> 4) * 4;
    if header_len < 20 {
        packet.events.push("tcp.hlen_too_small");
        return;
    }
    let Some((header, payload)) = data.split_at_checked(header_len) else {
        packet.events.push("tcp.hlen_too_small");
        return;
    };
    tcp_options(packet, header.get(20..).unwrap_or_default());
    packet.transport = Transport::Tcp(Tcp {
        source: short(data, 0).unwrap_or_default(),
        destination: short(data, 2).unwrap_or_default(),
        sequence: word(data, 4).unwrap_or_default(),
        acknowledgement: word(data, 8).unwrap_or_default(),
        flags: byte(data, 13).unwrap_or_default(),
        window: short(data, 14).unwrap_or_default(),
        urgent: short(data, 18).unwrap_or_default(),
        header,
    });
    packet.payload = payload;
}

fn tcp_options(packet: &mut Packet<'_>, options: &[u8]) {
    let mut seen = 0_u64;
    for (kind, option) in TcpOptions(options) {
        let Some(option) = option else {
            packet.events.push("tcp.invalid_optlen");
            return;
        };
        let right = match kind {
            2 => option.len() == 4,
            3 => option.len() == 3,
            4 => option.len() == 2,
            // No block at all is useless but seen; more than four do not fit.
            5 => option.len() == 2 || (option.len() - 2) % 8 == 0,
            8 => option.len() == 10,
            34 => option.len() == 2 || (6..=18).contains(&option.len()) && option.len() % 2 == 0,
            // Experiment 0xf989: fast open as it was tried first (RFC 7413, appendix A).
            254 if short(option, 2) == Some(0xf989) => {
                option.len() == 4 || (8..=18).contains(&option.len()) && option.len() % 2 == 0
            }
            19 => option.len() == 18,
            29 => option.len() >= 4,
            _ => true,
        };
        if !right {
            packet.events.push("tcp.opt_invalid_len");
        }
        if matches!(kind, 2 | 3 | 4 | 5 | 8 | 34) {
            let bit = 1_u64 << kind;
            if seen & bit != 0 {
                packet.events.push("tcp.opt_duplicate");
            }
            seen |= bit;
        }
    }
}

/// The options of a TCP header as (kind, whole option); `None` for one whose length is wrong, which ends it.
#[derive(Clone, Debug)]
pub struct TcpOptions<'a>(pub &'a [u8]);

impl<'a> Iterator for TcpOptions<'a> {
    type Item = (u8, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        while byte(self.0, 0) == Some(1) {
            self.0 = self.0.get(1..)?;
        }
        let kind = byte(self.0, 0).filter(|kind| *kind != 0)?;
        let option = byte(self.0, 1).filter(|len| *len >= 2).and_then(|len| self.0.split_at_checked(usize::from(len)));
        let Some((option, rest)) = option else {
            self.0 = &[];
            return Some((kind, None));
        };
        self.0 = rest;
        Some((kind, Some(option)))
    }
}

fn udp<'a>(packet: &mut Packet<'a>, data: &'a [u8]) -> Next<'a> {
    let Some(header) = data.get(..8) else {
        return packet.stop("udp.pkt_too_small");
    };
    let mut length = usize::from(short(data, 4).unwrap_or_default());
    // Segmentation offload (and IPv6 jumbograms) leave the length zero.
    if length == 0 {
        length = data.len();
    }
    if length < 8 {
        return packet.stop("udp.len_invalid");
    }
    if length > data.len() {
        return packet.stop("udp.hlen_too_small");
    }
    if length < data.len() {
        packet.events.push("udp.hlen_invalid");
    }
    let (source, destination) = (short(data, 0).unwrap_or_default(), short(data, 2).unwrap_or_default());
    packet.transport = Transport::Udp { source, destination, header };
    packet.payload = data.get(8..length).unwrap_or_default();
    tunnel::on_udp(packet, source, destination)
}

fn icmpv4<'a>(packet: &mut Packet<'a>, data: &'a [u8]) {
    let (Some(kind), Some(code), true) = (byte(data, 0), byte(data, 1), data.len() >= 8) else {
        packet.events.push("icmpv4.pkt_too_small");
        return;
    };
    let codes = match kind {
        0 | 4 | 8 | 10 | 13..=18 => 1,
        3 => 16,
        5 => 4,
        9 => 17,
        11 => 2,
        12 => 3,
        _ => {
            packet.events.push("icmpv4.unknown_type");
            256
        }
    };
    if u16::from(code) >= codes {
        packet.events.push("icmpv4.unknown_code");
    }
    if matches!(kind, 3 | 4 | 5 | 11 | 12) {
        let quoted = data.get(8..).unwrap_or_default();
        if quoted.len() < 20 {
            packet.events.push("icmpv4.ipv4_trunc_pkt");
        } else if byte(quoted, 0).is_some_and(|first| first >> 4 != 4) {
            packet.events.push("icmpv4.ipv4_unknown_ver");
        }
    }
    let numbered = matches!(kind, 0 | 8 | 13..=18);
    icmp(packet, data, kind, code, numbered);
}

fn icmpv6<'a>(packet: &mut Packet<'a>, data: &'a [u8]) {
    let (Some(kind), Some(code), true) = (byte(data, 0), byte(data, 1), data.len() >= 8) else {
        packet.events.push("icmpv6.pkt_too_small");
        return;
    };
    let codes = match kind {
        1 => 8,
        3 => 2,
        4 => 4,
        2 | 128..=137 | 143 => 1,
        138..=142 | 144..=161 => 256,
        100 | 101 | 200 | 201 => {
            packet.events.push("icmpv6.experimentation_type");
            256
        }
        5..=99 | 102..=126 => {
            packet.events.push("icmpv6.unassigned_type");
            256
        }
        _ => {
            packet.events.push("icmpv6.unknown_type");
            256
        }
    };
    if u16::from(code) >= codes {
        packet.events.push("icmpv6.unknown_code");
    }
    if (1..=4).contains(&kind) {
        let quoted = data.get(8..).unwrap_or_default();
        if quoted.len() < 40 {
            packet.events.push("icmpv6.ipv6_trunc_pkt");
        } else if byte(quoted, 0).is_some_and(|first| first >> 4 != 6) {
            packet.events.push("icmpv6.ipv6_unknown_version");
        }
    }
    // Multicast listener discovery is link-local: hop limit 1 (RFC 3810, section 5).
    if matches!(kind, 130..=132 | 143) && packet.ip.as_ref().is_some_and(|ip| ip.ttl != 1) {
        packet.events.push("icmpv6.mld_message_with_invalid_hl");
    }
    icmp(packet, data, kind, code, matches!(kind, 128 | 129));
}

fn icmp<'a>(packet: &mut Packet<'a>, data: &'a [u8], kind: u8, code: u8, numbered: bool) {
    packet.transport = Transport::Icmp {
        kind,
        code,
        header: data.get(..8).unwrap_or_default(),
        id: if numbered { short(data, 4) } else { None },
        sequence: if numbered { short(data, 6) } else { None },
    };
    packet.payload = data.get(8..).unwrap_or_default();
}

fn sctp<'a>(packet: &mut Packet<'a>, data: &'a [u8]) {
    if data.len() < 12 {
        packet.events.push("sctp.pkt_too_small");
        return;
    }
    packet.transport =
        Transport::Sctp { source: short(data, 0).unwrap_or_default(), destination: short(data, 2).unwrap_or_default() };
    packet.payload = data.get(12..).unwrap_or_default();
}
