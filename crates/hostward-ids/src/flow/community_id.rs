//! Community ID (version 1 of the specification of Corelight): the same number for a flow in every tool.

use std::net::IpAddr;

use sha1::{Digest, Sha1};

/// ICMP's and `ICMPv6`'s types that answer each other: (kind, its counterpart).
const ICMP_PAIRS: &[(u16, u16)] =
    &[(8, 0), (0, 8), (13, 14), (14, 13), (15, 16), (16, 15), (17, 18), (18, 17), (10, 9), (9, 10)];
const ICMPV6_PAIRS: &[(u16, u16)] = &[
    (128, 129),
    (129, 128),
    (133, 134),
    (134, 133),
    (135, 136),
    (136, 135),
    (130, 131),
    (131, 130),
    (144, 145),
    (145, 144),
];

/// The identifier of a flow between two ends; the ports of ICMP are type and code.
#[must_use]
pub fn community_id(seed: u16, client: (IpAddr, u16), server: (IpAddr, u16), protocol: u8) -> String {
    let (mut from, mut to) = (client, server);
    let mut one_way = false;
    let pairs = match protocol {
        1 => ICMP_PAIRS,
        58 => ICMPV6_PAIRS,
        _ => &[],
    };
    if matches!(protocol, 1 | 58) {
        match pairs.iter().find(|(kind, _)| *kind == from.1) {
            Some((_, counterpart)) => to.1 = *counterpart,
            None => one_way = true,
        }
    }
    if !one_way && (to.0, to.1) < (from.0, from.1) {
        std::mem::swap(&mut from, &mut to);
    }
    let mut hash = Sha1::new();
    hash.update(seed.to_be_bytes());
    for address in [from.0, to.0] {
        match address {
            IpAddr::V4(address) => hash.update(address.octets()),
            IpAddr::V6(address) => hash.update(address.octets()),
        }
    }
    hash.update([protocol, 0]);
    if matches!(protocol, 1 | 6 | 17 | 58 | 132) {
        hash.update(from.1.to_be_bytes());
        hash.update(to.1.to_be_bytes());
    }
    let mut text = String::from("1:");
    crate::output::json::base64(&hash.finalize(), &mut |byte| text.push(char::from(byte)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_specification_has_it() {
        let end = |address: &str, port| (address.parse().unwrap(), port);
        // The specification's own baseline.
        let id = |a, b, protocol| community_id(0, a, b, protocol);
        let (client, server) = (end("128.232.110.120", 34_855), end("66.35.250.204", 80));
        assert_eq!(id(client, server, 6), "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
        assert_eq!(id(server, client, 6), "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
        let (client, server) = (end("192.168.1.52", 54_585), end("8.8.8.8", 53));
        assert_eq!(id(client, server, 17), "1:d/FP5EW3wiY1vCndhwleRRKHowQ=");
        assert_eq!(community_id(1, client, server, 17), "1:Q9We8WO3piVF8yEQBNJF4uiSVrI=");
        assert_eq!(id(end("192.168.0.89", 8), end("192.168.0.1", 0), 1), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk=");
    }
}
