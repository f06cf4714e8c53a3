//! IPv4 (RFC 791).

use std::net::{IpAddr, Ipv4Addr};

use super::read::{array, byte, short};
use super::{Fragment, Ip, Next, Packet};

/// Reads an IPv4 header and its options.
pub(super) fn decode<'a>(packet: &mut Packet<'a>, data: &'a [u8]) -> Next<'a> {
    let (Some(first), Some(source), Some(destination)) = (byte(data, 0), array::<4>(data, 12), array::<4>(data, 16))
    else {
        return packet.stop("ipv4.pkt_too_small");
    };
    if first >> 4 != 4 {
        return packet.stop("ipv4.wrong_ip_version");
    }
    let header_len = usize::from(first & 0x0f) * 4;
    if header_len < 20 {
        return packet.stop("ipv4.hlen_too_small");
    }
    let mut length = usize::from(short(data, 2).unwrap_or_default());
    // Segmentation offload above 64 KiB leaves the length zero.
    if length == 0 && data.len() > 0xffff {
        length = data.len();
    }
    if length < header_len {
        return packet.stop("ipv4.iplen_smaller_than_hlen");
    }
    let Some(whole) = data.get(..length) else {
        return packet.stop("ipv4.trunc_pkt");
    };
    let (header, payload) = whole.split_at(header_len);
    options(packet, header.get(20..).unwrap_or_default());
    let flags = short(data, 6).unwrap_or_default();
    let protocol = byte(data, 9).unwrap_or_default();
    packet.ip = Some(Ip {
        source: IpAddr::V4(Ipv4Addr::from(source)),
        destination: IpAddr::V4(Ipv4Addr::from(destination)),
        header,
        ttl: byte(data, 8).unwrap_or_default(),
        protocol,
        id: u32::from(short(data, 4).unwrap_or_default()),
        tos: byte(data, 1).unwrap_or_default(),
        length: length as u16,
    });
    packet.payload = payload;
    let (more, offset) = (flags & 0x2000 != 0, u32::from(flags & 0x1fff) * 8);
    if more || offset > 0 {
        packet.fragment = Some(Fragment { offset, more, next_header_at: None });
        return Next::Nothing;
    }
    Next::Transport(protocol, payload)
}

/// Whether the first few fields of an option's data are as its kind wants them; what is wrong with it else.
fn option_fault(kind: u8, option: &[u8]) -> Option<&'static str> {
    let len = option.len();
    let pointer = byte(option, 2);
    let bad = match kind {
        // Record route, loose and strict source route: a pointer and whole addresses.
        7 | 131 | 137 => len < 3 || !(len - 3).is_multiple_of(4) || pointer.is_none_or(|at| at < 4),
        // Time stamp.
        68 => len < 4 || pointer.is_none_or(|at| at < 5),
        136 | 148 => len != 4,
        // Commercial security (CIPSO) holds at least its domain of interpretation.
        134 => len < 6,
        // Basic and extended security.
        130 | 133 => len < 3,
        _ => false,
    };
    if bad {
        return Some(if matches!(kind, 136 | 148) { "ipv4.opt_invalid_len" } else { "ipv4.opt_malformed" });
    }
    match kind {
        7 | 68 | 130 | 131 | 133 | 134 | 136 | 137 | 148 => None,
        _ => Some("ipv4.opt_unknown"),
    }
}

fn options(packet: &mut Packet<'_>, options: &[u8]) {
    let mut seen = [false; 256];
    let mut at = 0;
    while let Some(kind) = byte(options, at) {
        match kind {
            0 => return,
            1 => at += 1,
            _ => {
                let Some(len) = byte(options, at + 1) else {
                    packet.events.push("ipv4.opt_invalid");
                    return;
                };
                let Some(option) = options.get(at..at + usize::from(len)).filter(|_| len >= 2) else {
                    packet.events.push("ipv4.opt_invalid_len");
                    return;
                };
                if let Some(seen) = seen.get_mut(usize::from(kind)) {
                    if *seen {
                        packet.events.push("ipv4.opt_duplicate");
                    }
                    *seen = true;
                }
                packet.events.extend(option_fault(kind, option));
                at += usize::from(len);
            }
        }
    }
}
