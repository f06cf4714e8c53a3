//! IPv6 and its extension headers (RFC 8200).

use std::net::{IpAddr, Ipv6Addr};

use super::read::{array, byte, short, word};
use super::{Fragment, Ip, Next, Packet};

const HEADER_LEN: usize = 40;
/// More extension headers than this are nobody's honest packet.
const EXTENSIONS_MAX: usize = 64;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const ENCRYPTED: u8 = 50;
const AUTHENTICATION: u8 = 51;
const NOTHING: u8 = 59;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const HOST_IDENTITY: u8 = 139;
const SHIM6: u8 = 140;

/// Which extension headers were met already.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools)]
struct Seen {
    hop_by_hop: bool,
    routing: bool,
    fragment: bool,
    authentication: bool,
    destination: u8,
}

/// Reads an IPv6 header and what extends it.
pub(super) fn decode<'a>(packet: &mut Packet<'a>, data: &'a [u8]) -> Next<'a> {
    let (Some(first), Some(source), Some(destination)) = (word(data, 0), array::<16>(data, 8), array::<16>(data, 24))
    else {
        return packet.stop("ipv6.pkt_too_small");
    };
    if first >> 28 != 6 {
        return packet.stop("ipv6.wrong_ip_version");
    }
    let mut payload_len = usize::from(short(data, 4).unwrap_or_default());
    // A jumbogram, or segmentation offload above 64 KiB.
    if payload_len == 0 && data.len() > 0xffff {
        payload_len = data.len() - HEADER_LEN;
    }
    let Some(whole) = data.get(..HEADER_LEN + payload_len) else {
        return packet.stop("ipv6.trunc_pkt");
    };
    packet.ip = Some(Ip {
        source: IpAddr::V6(Ipv6Addr::from(source)),
        destination: IpAddr::V6(Ipv6Addr::from(destination)),
        header: whole.get(..HEADER_LEN).unwrap_or_default(),
        ttl: byte(data, 7).unwrap_or_default(),
        protocol: byte(data, 6).unwrap_or_default(),
        id: 0,
        tos: ((first >> 20) & 0xff) as u8,
        length: (HEADER_LEN + payload_len).min(0xffff) as u16,
    });
    extensions(packet, whole)
}

/// Walks the chain; `whole` is the packet from its fixed header to the length that header claims.
fn extensions<'a>(packet: &mut Packet<'a>, whole: &'a [u8]) -> Next<'a> {
    let mut kind = byte(whole, 6).unwrap_or(NOTHING);
    let mut kind_at = 6;
    let mut at = HEADER_LEN;
    let mut seen = Seen::default();
    for _ in 0..EXTENSIONS_MAX {
        let rest = whole.get(at..).unwrap_or_default();
        let length = match kind {
            HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY | HOST_IDENTITY | SHIM6 => {
                let Some(units) = byte(rest, 1) else {
                    return truncated(packet, whole, at, kind);
                };
                (usize::from(units) + 1) * 8
            }
            AUTHENTICATION => {
                let Some(units) = byte(rest, 1) else {
                    return truncated(packet, whole, at, kind);
                };
                (usize::from(units) + 2) * 4
            }
            FRAGMENT => 8,
            _ => return finish(packet, whole, at, kind),
        };
        let Some(header) = rest.get(..length) else {
            return truncated(packet, whole, at, kind);
        };
        duplicates(packet, &mut seen, kind);
        inspect(packet, kind, header);
        let next = byte(header, 0).unwrap_or(NOTHING);
        if kind == FRAGMENT {
            let field = short(header, 2).unwrap_or_default();
            let (more, offset) = (field & 1 != 0, u32::from(field >> 3) * 8);
            if let Some(ip) = &mut packet.ip {
                ip.id = word(header, 4).unwrap_or_default();
            }
            if more || offset > 0 {
                let body = whole.get(at + length..).unwrap_or_default();
                set_header(packet, whole, at, next);
                packet.payload = body;
                packet.fragment = Some(Fragment { offset, more, next_header_at: Some(kind_at) });
                return Next::Nothing;
            }
            // Offset 0 and no more: it is whole already (RFC 6946).
            packet.events.push("ipv6.exthdr_useless_fh");
        }
        kind_at = at;
        at += length;
        kind = next;
    }
    finish(packet, whole, at, NOTHING)
}

fn set_header<'a>(packet: &mut Packet<'a>, whole: &'a [u8], end: usize, protocol: u8) {
    if let Some(ip) = &mut packet.ip {
        ip.header = whole.get(..end).unwrap_or_default();
        ip.protocol = protocol;
    }
}

fn truncated<'a>(packet: &mut Packet<'a>, whole: &'a [u8], at: usize, kind: u8) -> Next<'a> {
    set_header(packet, whole, at, kind);
    packet.payload = whole.get(at..).unwrap_or_default();
    packet.stop("ipv6.trunc_exthdr")
}

fn finish<'a>(packet: &mut Packet<'a>, whole: &'a [u8], at: usize, kind: u8) -> Next<'a> {
    let payload = whole.get(at..).unwrap_or_default();
    set_header(packet, whole, at, kind);
    packet.payload = payload;
    if at > HEADER_LEN && payload.len() < 2 && kind != NOTHING {
        packet.events.push("ipv6.trunc_exthdr");
    }
    if kind == NOTHING && !payload.is_empty() {
        packet.events.push("ipv6.data_after_none_header");
    }
    match kind {
        NOTHING | ENCRYPTED => Next::Nothing,
        _ => Next::Transport(kind, payload),
    }
}

fn duplicates(packet: &mut Packet<'_>, seen: &mut Seen, kind: u8) {
    let event = match kind {
        HOP_BY_HOP => std::mem::replace(&mut seen.hop_by_hop, true).then_some("ipv6.exthdr_dupl_hh"),
        ROUTING => std::mem::replace(&mut seen.routing, true).then_some("ipv6.exthdr_dupl_rh"),
        FRAGMENT => std::mem::replace(&mut seen.fragment, true).then_some("ipv6.exthdr_dupl_fh"),
        AUTHENTICATION => std::mem::replace(&mut seen.authentication, true).then_some("ipv6.exthdr_dupl_ah"),
        // Destination options may come twice: before a routing header and last.
        DESTINATION => {
            seen.destination = seen.destination.saturating_add(1);
            (seen.destination > 2).then_some("ipv6.exthdr_dupl_dh")
        }
        _ => None,
    };
    packet.events.extend(event);
}

fn inspect(packet: &mut Packet<'_>, kind: u8, header: &[u8]) {
    match kind {
        FRAGMENT if byte(header, 1) != Some(0) => packet.events.push("ipv6.fh_non_zero_reserved_field"),
        // Deprecated for its amplification (RFC 5095).
        ROUTING if byte(header, 2) == Some(0) => packet.events.push("ipv6.exthdr_rh_type_0"),
        AUTHENTICATION if short(header, 2).is_some_and(|reserved| reserved != 0) => {
            packet.events.push("ipv6.exthdr_ah_res_not_null");
        }
        HOP_BY_HOP => options(packet, header, "ipv6.hopopts_unknown_opt", "ipv6.hopopts_only_padding"),
        DESTINATION => options(packet, header, "ipv6.dstopts_unknown_opt", "ipv6.dstopts_only_padding"),
        _ => {}
    }
}

fn options(packet: &mut Packet<'_>, header: &[u8], unknown: crate::EventName, only_padding: crate::EventName) {
    let mut at = 2;
    let mut other = false;
    while let Some(kind) = byte(header, at) {
        if kind == 0 {
            at += 1;
            continue;
        }
        let Some(len) = byte(header, at + 1).map(usize::from).filter(|len| at + 2 + len <= header.len()) else {
            packet.events.push("ipv6.exthdr_invalid_optlen");
            return;
        };
        match kind {
            1 if len == 0 => packet.events.push("ipv6.exthdr_zero_len_padn"),
            1 => {}
            // Router alert, jumbo payload, home address, tunnel limit, RPL, MPL, CALIPSO, endpoint id.
            0x05 | 0xc2 | 0xc9 | 0x04 | 0x63 | 0x6d | 0x07 | 0x8a => other = true,
            _ => {
                other = true;
                packet.events.push(unknown);
            }
        }
        at += 2 + len;
    }
    if !other {
        packet.events.push(only_padding);
    }
}
