//! Link layers: what lies around the network layer, down to the ethertype.

use super::read::{array, byte, short, word};
use super::{Next, Packet};

/// Ethernet (IEEE 802.3).
pub const ETHERNET: u16 = 1;
/// BSD loopback, host byte order of whoever captured.
pub const NULL: u16 = 0;
/// PPP, RFC 1662 framing stripped or not.
pub const PPP: u16 = 9;
/// Raw IP, as some systems number it in their captures.
pub const RAW_OLD: u16 = 12;
/// Raw IP.
pub const RAW: u16 = 101;
/// Cisco HDLC.
pub const CISCO_HDLC: u16 = 104;
/// OpenBSD loopback, network byte order.
pub const LOOP: u16 = 108;
/// Linux cooked capture.
pub const LINUX_SLL: u16 = 113;
/// Raw IPv4.
pub const IPV4: u16 = 228;
/// Raw IPv6.
pub const IPV6: u16 = 229;
/// Linux cooked capture, second form.
pub const LINUX_SLL2: u16 = 276;

/// Reads the link header at the start of `packet.data`.
pub(super) fn decode<'a>(packet: &mut Packet<'a>, link_type: u16) -> Next<'a> {
    let data = packet.data;
    match link_type {
        ETHERNET => ethernet(packet, data),
        NULL | LOOP => null(packet, data, link_type == LOOP),
        RAW | RAW_OLD | IPV4 | IPV6 => Next::Ip(data),
        PPP => ppp(packet, data),
        CISCO_HDLC => match short(data, 2) {
            Some(kind) => Next::Ethertype(kind, data.get(4..).unwrap_or_default()),
            None => packet.stop("chdlc.pkt_too_small"),
        },
        LINUX_SLL => match short(data, 14) {
            Some(kind) => Next::Ethertype(kind, data.get(16..).unwrap_or_default()),
            None => packet.stop("sll.pkt_too_small"),
        },
        LINUX_SLL2 => match (short(data, 0), data.get(20..)) {
            (Some(kind), Some(rest)) => Next::Ethertype(kind, rest),
            _ => packet.stop("sll2.pkt_too_small"),
        },
        _ => Next::Nothing,
    }
}

/// Ethernet with its addresses; also the inner frame of a tunnel.
pub(super) fn ethernet<'a>(packet: &mut Packet<'a>, data: &'a [u8]) -> Next<'a> {
    let (Some(to), Some(from), Some(kind)) = (array(data, 0), array(data, 6), short(data, 12)) else {
        return packet.stop("ethernet.pkt_too_small");
    };
    packet.ethernet = Some((from, to));
    Next::Ethertype(kind, data.get(14..).unwrap_or_default())
}

fn null<'a>(packet: &mut Packet<'a>, data: &'a [u8], network_order: bool) -> Next<'a> {
    let Some(family) = word(data, 0) else {
        return packet.stop("ltnull.pkt_too_small");
    };
    // Families are small numbers, so a big one was written by a machine of the other byte order.
    let family = if !network_order && family > 0xffff { family.swap_bytes() } else { family };
    match family {
        2 | 10 | 24 | 28 | 30 => Next::Ip(data.get(4..).unwrap_or_default()),
        _ => packet.stop("ltnull.unsupported_type"),
    }
}

fn ppp<'a>(packet: &mut Packet<'a>, data: &'a [u8]) -> Next<'a> {
    // Address and control (RFC 1662) may be absent; the protocol may be one byte, odd (RFC 1661, section 2).
    let at = if byte(data, 0) == Some(0xff) && byte(data, 1) == Some(0x03) { 2 } else { 0 };
    ppp_protocol(packet, data.get(at..).unwrap_or_default(), "ppp.pkt_too_small")
}

/// A PPP protocol number and what follows.
pub(super) fn ppp_protocol<'a>(packet: &mut Packet<'a>, data: &'a [u8], too_small: crate::EventName) -> Next<'a> {
    let Some(first) = byte(data, 0) else {
        return packet.stop(too_small);
    };
    let (protocol, at) = if first & 1 == 1 {
        (u16::from(first), 1)
    } else {
        match short(data, 0) {
            Some(protocol) => (protocol, 2),
            None => return packet.stop(too_small),
        }
    };
    let rest = data.get(at..).unwrap_or_default();
    match protocol {
        // IPv4, Van Jacobson uncompressed, and IPv6.
        0x21 if rest.len() < 20 => packet.stop("ppp.ip4_pkt_too_small"),
        0x2f if rest.len() < 24 => packet.stop("ppp.vju_pkt_too_small"),
        0x57 if rest.len() < 40 => packet.stop("ppp.ip6_pkt_too_small"),
        0x21 | 0x2f | 0x57 => Next::Ip(rest),
        // Control protocols and compressed data carry nothing that could be inspected.
        0x23 | 0x25 | 0x27 | 0x29 | 0x2b | 0x2d | 0x31 | 0xfd | 0x0201..=0x0fff | 0x4000..=0xcfff => {
            packet.stop("ppp.unsup_proto")
        }
        _ => packet.stop("ppp.wrong_type"),
    }
}
