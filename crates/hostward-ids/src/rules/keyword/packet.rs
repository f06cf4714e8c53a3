//! Keywords that ask something of a packet's headers.

use super::super::number::{self, Comparison};
use super::super::test::{FlagMode, FlagTest, IpOption, PacketTest};
use super::super::{Fault, Read};
use super::Builder;

impl Builder {
    pub(super) fn packet(&mut self, keyword: &str, value: Option<&str>) -> Read<bool> {
        let text = value.unwrap_or_default().trim().trim_matches('"');
        let asked = match keyword {
            "dsize" => PacketTest::PayloadLen(Comparison::read(text)?),
            "flags" | "tcp.flags" => PacketTest::Flags(flags(text, tcp_flag)?),
            "fragbits" => PacketTest::FragmentBits(flags(text, fragment_bit)?),
            "ack" | "tcp.ack" => PacketTest::Acknowledgement(number::narrow(text)?),
            "seq" | "tcp.seq" => PacketTest::Sequence(number::narrow(text)?),
            "window" | "tcp.window" => match text.strip_prefix('!') {
                Some(rest) => PacketTest::Window { negated: true, value: number::narrow(rest)? },
                None => PacketTest::Window { negated: false, value: number::narrow(text)? },
            },
            "tcp.mss" => PacketTest::Mss(Comparison::read(text)?),
            "ttl" => PacketTest::Ttl(Comparison::read(text)?),
            "id" => PacketTest::Id(number::narrow(text)?),
            "tos" => match text.strip_prefix('!') {
                Some(rest) => PacketTest::Tos { negated: true, value: tos(rest)? },
                None => PacketTest::Tos { negated: false, value: tos(text)? },
            },
            "ip_proto" => PacketTest::IpProtocol(Comparison::read_with(text, &ip_protocol)?),
            "ipopts" => PacketTest::IpOption(ip_option(text)?),
            "fragoffset" => PacketTest::FragmentOffset(Comparison::read(text)?),
            "sameip" => PacketTest::SameIp,
            "itype" => PacketTest::IcmpType(Comparison::read(text)?),
            "icode" => PacketTest::IcmpCode(Comparison::read(text)?),
            "icmp_id" => PacketTest::IcmpId(number::narrow(text)?),
            "icmp_seq" => PacketTest::IcmpSequence(number::narrow(text)?),
            "icmpv6.mtu" => PacketTest::Icmpv6Mtu(Comparison::read(text)?),
            "vlan.layers" => PacketTest::VlanLayers(Comparison::read(text)?),
            "vlan.id" => vlan_id(text)?,
            "ipv4-csum" | "tcpv4-csum" | "tcpv6-csum" | "udpv4-csum" | "udpv6-csum" | "icmpv4-csum" | "icmpv6-csum" => {
                match text {
                    "valid" => PacketTest::Checksum { header: keyword == "ipv4-csum", valid: true },
                    "invalid" => PacketTest::Checksum { header: keyword == "ipv4-csum", valid: false },
                    _ => return Err(Fault::new("expected valid or invalid")),
                }
            }
            "decode-event" => PacketTest::DecodeEvent(event(text)?),
            "stream-event" => PacketTest::StreamEvent(event(text)?),
            _ => return Ok(false),
        };
        if self.rule.packet_tests.len() >= 64 {
            return Err(Fault::new("more than 64 tests of the packet"));
        }
        self.rule.packet_tests.push(asked);
        Ok(true)
    }
}

fn tos(text: &str) -> Read<u8> {
    match text.strip_prefix('x') {
        Some(hex) => u8::from_str_radix(hex, 16).map_err(|_| Fault::new("no number")),
        None => number::narrow(text),
    }
}

fn event(text: &str) -> Read<String> {
    match text {
        "" => Err(Fault::new("the event's name is missing")),
        name => Ok(name.to_ascii_lowercase()),
    }
}

fn vlan_id(text: &str) -> Read<PacketTest> {
    let (id, layer) = match text.split_once(',') {
        Some((id, layer)) => (id, Some(layer.trim())),
        None => (text, None),
    };
    let layer = match layer {
        None | Some("any") => None,
        Some(layer) => Some(
            layer
                .parse::<i8>()
                .ok()
                .filter(|layer| (-3..=2).contains(layer))
                .ok_or_else(|| Fault::new(format!("'{layer}' is no layer")))?,
        ),
    };
    Ok(PacketTest::VlanId { layer, id: Comparison::read(id)? })
}

fn flags(text: &str, bit: fn(char) -> Option<u8>) -> Read<FlagTest> {
    let (wanted, ignored) = text.split_once(',').unwrap_or((text, ""));
    let mut wanted_flags = FlagTest { mode: FlagMode::Exactly, flags: 0, ignored: 0 };
    let mut none = false;
    for character in wanted.chars().filter(|character| !character.is_whitespace()) {
        match character {
            '+' => wanted_flags.mode = FlagMode::All,
            '*' => wanted_flags.mode = FlagMode::Any,
            '!' => wanted_flags.mode = FlagMode::Not,
            '0' => none = true,
            other => wanted_flags.flags |= bit(other).ok_or_else(|| Fault::new(format!("'{other}' is no flag")))?,
        }
    }
    if wanted_flags.flags == 0 && !none {
        return Err(Fault::new("no flag is named"));
    }
    for character in ignored.chars().filter(|character| !character.is_whitespace()) {
        wanted_flags.ignored |= bit(character).ok_or_else(|| Fault::new(format!("'{character}' is no flag")))?;
    }
    Ok(wanted_flags)
}

fn tcp_flag(character: char) -> Option<u8> {
    Some(match character.to_ascii_uppercase() {
        'F' => 0x01,
        'S' => 0x02,
        'R' => 0x04,
        'P' => 0x08,
        'A' => 0x10,
        'U' => 0x20,
        'E' | '2' => 0x40,
        'C' | '1' => 0x80,
        _ => return None,
    })
}

fn fragment_bit(character: char) -> Option<u8> {
    Some(match character.to_ascii_uppercase() {
        'M' => 1,
        'D' => 2,
        'R' => 4,
        _ => return None,
    })
}

/// Protocol numbers by name (IANA's registry; those in use).
fn ip_protocol(text: &str) -> Option<u64> {
    Some(match text.to_ascii_lowercase().as_str() {
        "icmp" => 1,
        "igmp" => 2,
        "ipip" | "ip-in-ip" => 4,
        "tcp" => 6,
        "udp" => 17,
        "ipv6" => 41,
        "gre" => 47,
        "esp" => 50,
        "ah" => 51,
        "ipv6-icmp" | "icmpv6" => 58,
        "ospf" => 89,
        "pim" => 103,
        "sctp" => 132,
        _ => return number::unsigned(text).ok().filter(|&number| number < 256),
    })
}

/// IPv4 options by name (RFC 791; RFC 1108 for the security ones).
fn ip_option(text: &str) -> Read<IpOption> {
    Ok(IpOption::Type(match text {
        "any" => return Ok(IpOption::Any),
        "eol" => 0,
        "nop" => 1,
        "rr" => 7,
        "ts" => 68,
        "sec" => 130,
        "lsrr" => 131,
        "esec" => 133,
        "satid" => 136,
        "ssrr" => 137,
        _ => return Err(Fault::new(format!("'{text}' is no option"))),
    }))
}
