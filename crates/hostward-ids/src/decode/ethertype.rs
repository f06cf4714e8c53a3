//! What lies between link and network layer: VLAN tags, MPLS labels, `PPPoE`, NSH.

use super::link;
use super::read::{byte, short, word};
use super::{Next, Packet};

/// As many VLAN tags, and as many MPLS labels, as are looked through; more are told and left alone.
const VLAN_LAYERS_MAX: usize = 3;
const MPLS_LABELS_MAX: usize = 16;

/// Reads one layer by its ethertype.
pub(super) fn decode<'a>(packet: &mut Packet<'a>, kind: u16, data: &'a [u8]) -> Next<'a> {
    match kind {
        0x0800 => Next::Ipv4(data),
        0x86dd => Next::Ipv6(data),
        0x8100 | 0x88a8 | 0x9100 | 0x9200 | 0x9300 => vlan(packet, data),
        0x8847 | 0x8848 => mpls(packet, data),
        0x8864 => pppoe_session(packet, data),
        0x8863 => {
            if data.len() < 6 {
                return packet.stop("pppoe.pkt_too_small");
            }
            Next::Nothing
        }
        0x894f => nsh(packet, data),
        // Transparent Ethernet bridging: an Ethernet frame inside GRE and its like.
        0x6558 => Next::Ethernet(data),
        // 802.3 lengths (LLC) are no types; ARP, RARP, LLDP, EAPOL and loop carry no flow.
        0..=1500 | 0x0806 | 0x8035 | 0x88cc | 0x888e | 0x9000 => Next::Nothing,
        _ => packet.stop("ethernet.unknown_ethertype"),
    }
}

fn vlan<'a>(packet: &mut Packet<'a>, data: &'a [u8]) -> Next<'a> {
    let (Some(tag), Some(kind)) = (short(data, 0), short(data, 2)) else {
        return packet.stop("vlan.header_too_small");
    };
    if packet.vlan.len() >= VLAN_LAYERS_MAX {
        return packet.stop("vlan.too_many_layers");
    }
    packet.vlan.push(tag & 0x0fff);
    Next::Ethertype(kind, data.get(4..).unwrap_or_default())
}

/// RFC 3032. What follows the last label is told by its first four bits.
fn mpls<'a>(packet: &mut Packet<'a>, data: &'a [u8]) -> Next<'a> {
    let mut at = 0;
    for _ in 0..MPLS_LABELS_MAX {
        let Some(entry) = word(data, at) else {
            return packet.stop("mpls.header_too_small");
        };
        at += 4;
        if entry & 0x100 == 0 {
            continue;
        }
        let rest = data.get(at..).unwrap_or_default();
        let label = entry >> 12;
        let version = byte(rest, 0).map(|first| first >> 4);
        return match (label, version) {
            (_, None) => packet.stop("mpls.pkt_too_small"),
            (_, Some(4)) if label != 2 => Next::Ipv4(rest),
            (_, Some(6)) if label != 0 => Next::Ipv6(rest),
            (1, _) => packet.stop("mpls.bad_label_router_alert"),
            (0 | 3, _) => packet.stop("mpls.bad_label_implicit_null"),
            (4..=15, _) => packet.stop("mpls.bad_label_reserved"),
            // A pseudowire with its control word (RFC 4385), whose first bits are zero.
            (_, Some(0)) => Next::Ethernet(rest.get(4..).unwrap_or_default()),
            _ => packet.stop("mpls.unknown_payload_type"),
        };
    }
    packet.stop("mpls.header_too_small")
}

/// RFC 2516, section 4.
fn pppoe_session<'a>(packet: &mut Packet<'a>, data: &'a [u8]) -> Next<'a> {
    if data.len() < 7 {
        return packet.stop("pppoe.pkt_too_small");
    }
    let length = usize::from(short(data, 4).unwrap_or_default());
    let payload = data.get(6..).unwrap_or_default();
    if length > payload.len() {
        packet.events.push("pppoe.malformed_tags");
    }
    link::ppp_protocol(packet, payload, "ppp.pkt_too_small")
}

/// RFC 8300.
fn nsh<'a>(packet: &mut Packet<'a>, data: &'a [u8]) -> Next<'a> {
    let Some(first) = word(data, 0).filter(|_| data.len() >= 8) else {
        return packet.stop("nsh.header_too_small");
    };
    let version = first >> 30;
    let length = ((first >> 16) & 0x3f) as usize * 4;
    let metadata_type = (first >> 8) & 0x0f;
    let next = first & 0xff;
    if version != 0 {
        return packet.stop("nsh.unsupported_version");
    }
    let Some(rest) = data.get(length..).filter(|rest| length >= 8 && !rest.is_empty()) else {
        return packet.stop("nsh.bad_header_length");
    };
    match metadata_type {
        0 => return packet.stop("nsh.reserved_type"),
        1 if length != 24 => return packet.stop("nsh.bad_header_length"),
        1 | 2 => {}
        _ => return packet.stop("nsh.unsupported_type"),
    }
    match next {
        1 => Next::Tunnel(super::Inner::new(super::Start::Ipv4, rest, super::Source::Nsh)),
        2 => Next::Tunnel(super::Inner::new(super::Start::Ipv6, rest, super::Source::Nsh)),
        3 => Next::Tunnel(super::Inner::new(super::Start::Ethernet, rest, super::Source::Nsh)),
        _ => packet.stop("nsh.unknown_payload"),
    }
}
