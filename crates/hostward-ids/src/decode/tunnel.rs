//! Packets inside packets: IP in IP (RFC 2003, 4213), GRE (RFC 2784, 2637), ERSPAN, VXLAN (RFC 7348), Geneve (RFC 8926),
//! Teredo (RFC 4380).

use std::net::IpAddr;

use super::read::{byte, short, word};
use super::{Inner, Next, Packet, Source, Start};

const GENEVE_PORT: u16 = 6081;
const TEREDO_PORT: u16 = 3544;

/// A tunnel right on IP.
pub(super) fn decode<'a>(packet: &mut Packet<'a>, protocol: u8, data: &'a [u8]) -> Next<'a> {
    let over_v6 = matches!(packet.ip.as_ref().map(|ip| ip.source), Some(IpAddr::V6(_)));
    let version = byte(data, 0).map(|first| first >> 4);
    let source = if over_v6 { Source::Ipv6Tunnel } else { Source::Ipv4Tunnel };
    match (protocol, over_v6) {
        (4, true) if data.len() < 20 => packet.stop("ipv6.ipv4_in_ipv6_too_small"),
        (4, true) if version != Some(4) => packet.stop("ipv6.ipv4_in_ipv6_wrong_version"),
        (41, true) if data.len() < 40 => packet.stop("ipv6.ipv6_in_ipv6_too_small"),
        (41, true) if version != Some(6) => packet.stop("ipv6.ipv6_in_ipv6_wrong_version"),
        (4, _) => Next::Tunnel(Inner::new(Start::Ipv4, data, source)),
        (41, _) => Next::Tunnel(Inner::new(Start::Ipv6, data, source)),
        _ => gre(packet, data),
    }
}

fn gre<'a>(packet: &mut Packet<'a>, data: &'a [u8]) -> Next<'a> {
    let (Some(flags), Some(protocol)) = (short(data, 0), short(data, 2)) else {
        return packet.stop("gre.pkt_too_small");
    };
    let flag = |bit: u16| flags & bit != 0;
    let (checksum, routing, key, sequence) = (flag(0x8000), flag(0x4000), flag(0x2000), flag(0x1000));
    let source_route = flag(0x0800);
    let mut at = 4;
    match flags & 7 {
        0 => {
            if flags & 0x0700 != 0 {
                return packet.stop("gre.version0_recur");
            }
            if flags & 0x00f8 != 0 {
                return packet.stop("gre.version0_flags");
            }
            let words = usize::from(checksum || routing) + usize::from(key) + usize::from(sequence);
            at += 4 * words;
            if data.len() < at {
                return packet.stop("gre.version0_hdr_too_big");
            }
            if routing {
                match source_routes(data, at) {
                    Some(end) => at = end,
                    None => return packet.stop("gre.version0_malformed_sre_hdr"),
                }
            }
        }
        1 => {
            let fault = [
                (checksum, "gre.version1_chksum"),
                (routing, "gre.version1_route"),
                (source_route, "gre.version1_ssr"),
                (flags & 0x0700 != 0, "gre.version1_recur"),
                (flags & 0x0078 != 0, "gre.version1_flags"),
                (protocol != 0x880b, "gre.version1_wrong_protocol"),
                (!key, "gre.version1_no_key"),
            ];
            if let Some((_, event)) = fault.iter().find(|(wrong, _)| *wrong) {
                return packet.stop(event);
            }
            at += 4 + 4 * (usize::from(sequence) + usize::from(flag(0x0080)));
            if data.len() < at {
                return packet.stop("gre.version1_hdr_too_big");
            }
        }
        _ => return packet.stop("gre.wrong_version"),
    }
    let rest = data.get(at..).unwrap_or_default();
    let start = match protocol {
        0x0800 => Start::Ipv4,
        0x86dd => Start::Ipv6,
        0x6558 => Start::Ethernet,
        0x880b => Start::Ppp,
        0x8100 | 0x8847 | 0x8848 | 0x88a8 | 0x894f => Start::Ethertype(protocol),
        // ERSPAN: type I has no header of its own and no sequence number, type II has eight bytes.
        0x88be if !sequence => return Next::Tunnel(Inner::new(Start::Ethernet, rest, Source::Erspan)),
        0x88be => return erspan(packet, rest),
        // Transparent over ARP and others: nothing to look into.
        _ => return Next::Nothing,
    };
    Next::Tunnel(Inner::new(start, rest, Source::Gre))
}

/// The source route entries (RFC 1701) end with one whose family and length are zero.
fn source_routes(data: &[u8], mut at: usize) -> Option<usize> {
    // Each step takes at least five bytes, so this ends with the data.
    loop {
        let (family, length) = (short(data, at)?, byte(data, at + 3)?);
        at += 4;
        if family == 0 && length == 0 {
            return Some(at);
        }
        if length == 0 {
            return None;
        }
        at += usize::from(length);
    }
}

fn erspan<'a>(packet: &mut Packet<'a>, data: &'a [u8]) -> Next<'a> {
    let Some(first) = short(data, 0).filter(|_| data.len() >= 8) else {
        return packet.stop("erspan.header_too_small");
    };
    if first >> 12 != 1 {
        return packet.stop("erspan.unsupported_version");
    }
    if packet.vlan.len() >= 3 {
        return packet.stop("erspan.too_many_vlan_layers");
    }
    let mut inner = Inner::new(Start::Ethernet, data.get(8..).unwrap_or_default(), Source::Erspan);
    inner.vlan = Some(first & 0x0fff);
    Next::Tunnel(inner)
}

/// A tunnel on UDP, by its port.
pub(super) fn on_udp<'a>(packet: &mut Packet<'a>, source: u16, destination: u16) -> Next<'a> {
    let payload = packet.payload;
    if packet.tunnel_ports.vxlan(source, destination) {
        return vxlan(packet, payload);
    }
    if destination == GENEVE_PORT {
        return geneve(packet, payload);
    }
    if source == TEREDO_PORT || destination == TEREDO_PORT {
        return teredo(payload);
    }
    Next::Nothing
}

fn vxlan<'a>(packet: &mut Packet<'a>, data: &'a [u8]) -> Next<'a> {
    // The flag I must be set, the others of the first byte must not.
    if data.len() < 8 || byte(data, 0) != Some(0x08) {
        return Next::Nothing;
    }
    let frame = data.get(8..).unwrap_or_default();
    match short(frame, 12) {
        Some(0x0800 | 0x86dd | 0x8100 | 0x88a8 | 0x9100 | 0x0806 | 0x8847 | 0x8848 | 0x8864) => {
            Next::Tunnel(Inner::new(Start::Ethernet, frame, Source::Vxlan))
        }
        _ => packet.stop("vxlan.unknown_payload_type"),
    }
}

fn geneve<'a>(packet: &mut Packet<'a>, data: &'a [u8]) -> Next<'a> {
    let (Some(first), Some(protocol)) = (byte(data, 0), short(data, 2)) else {
        return Next::Nothing;
    };
    let Some(rest) = data.get(8 + usize::from(first & 0x3f) * 4..).filter(|_| first >> 6 == 0) else {
        return Next::Nothing;
    };
    let start = match protocol {
        0x6558 => Start::Ethernet,
        0x0800 => Start::Ipv4,
        0x86dd => Start::Ipv6,
        0x0806 => return Next::Nothing,
        _ => return packet.stop("geneve.unknown_payload_type"),
    };
    Next::Tunnel(Inner::new(start, rest, Source::Geneve))
}

/// Section 5.1.1 of RFC 4380: an authentication part, an origin part, then IPv6.
fn teredo(data: &[u8]) -> Next<'_> {
    let mut rest = data;
    if short(rest, 0) == Some(0x0001) {
        let (Some(id), Some(auth)) = (byte(rest, 2), byte(rest, 3)) else {
            return Next::Nothing;
        };
        rest = rest.get(13 + usize::from(id) + usize::from(auth)..).unwrap_or_default();
    }
    if short(rest, 0) == Some(0x0000) {
        rest = rest.get(8..).unwrap_or_default();
    }
    // Anything may run on that port: only what has the exact length of an IPv6 packet is believed.
    let whole = word(rest, 0).is_some_and(|first| first >> 28 == 6)
        && short(rest, 4).is_some_and(|len| usize::from(len) + 40 == rest.len());
    if whole { Next::Tunnel(Inner::new(Start::Ipv6, rest, Source::Teredo)) } else { Next::Nothing }
}
