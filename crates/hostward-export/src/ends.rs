//! Both ends of a packet, from its first bytes.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

const ETHERNET_LEN: usize = 14;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const FRAGMENT: u8 = 44;
/// Extension headers that are walked past; more stand in no packet that passes.
const MOST_EXTENSIONS: usize = 8;

/// What a frame's first bytes say of who speaks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Of the Ethernet header; 0 where there is none.
    pub ethertype: u16,
    /// IP protocol number; 0 where there is no IP header, as are the next.
    pub protocol: u8,
    /// Of the IP header.
    pub source: Option<IpAddr>,
    /// Of the IP header.
    pub destination: Option<IpAddr>,
    /// Of TCP, UDP and SCTP; else 0.
    pub source_port: u16,
    /// Of TCP, UDP and SCTP; of ICMP and `ICMPv6` the type.
    pub destination_port: u16,
}

impl Ends {
    /// Reads as far as the bytes go; what they do not say is zero or `None`.
    #[must_use]
    pub fn of(frame: &[u8]) -> Self {
        let mut ends = Self {
            ethertype: word(frame, 12).unwrap_or(0),
            protocol: 0,
            source: None,
            destination: None,
            source_port: 0,
            destination_port: 0,
        };
        let packet = frame.get(ETHERNET_LEN..).unwrap_or_default();
        let transport = match ends.ethertype {
            IPV4 => ends.read_ipv4(packet),
            IPV6 => ends.read_ipv6(packet),
            _ => None,
        };
        if let Some(transport) = transport {
            ends.read_ports(transport);
        }
        ends
    }

    fn read_ipv4<'a>(&mut self, packet: &'a [u8]) -> Option<&'a [u8]> {
        self.protocol = *packet.get(9)?;
        self.source = Some(Ipv4Addr::from(array::<4>(packet, 12)?).into());
        self.destination = Some(Ipv4Addr::from(array::<4>(packet, 16)?).into());
        let later_fragment = word(packet, 6)? & 0x1fff != 0;
        let len = usize::from(packet.first()? & 0xf) * 4;
        if later_fragment { None } else { packet.get(len.max(20)..) }
    }

    fn read_ipv6<'a>(&mut self, packet: &'a [u8]) -> Option<&'a [u8]> {
        self.protocol = *packet.get(6)?;
        self.source = Some(Ipv6Addr::from(array::<16>(packet, 8)?).into());
        self.destination = Some(Ipv6Addr::from(array::<16>(packet, 24)?).into());
        let mut rest = packet.get(40..)?;
        for _ in 0..MOST_EXTENSIONS {
            let len = match self.protocol {
                0 | 43 | 60 => usize::from(*rest.get(1)?) * 8 + 8,
                FRAGMENT => 8,
                _ => return Some(rest),
            };
            let later_fragment = self.protocol == FRAGMENT && word(rest, 2)? & 0xfff8 != 0;
            self.protocol = *rest.first()?;
            if later_fragment {
                return None;
            }
            rest = rest.get(len..)?;
        }
        None
    }

    fn read_ports(&mut self, transport: &[u8]) {
        match self.protocol {
            TCP | UDP | SCTP => {
                self.source_port = word(transport, 0).unwrap_or(0);
                self.destination_port = word(transport, 2).unwrap_or(0);
            }
            ICMP | ICMPV6 => self.destination_port = transport.first().copied().unwrap_or(0).into(),
            _ => {}
        }
    }
}

fn array<const LEN: usize>(bytes: &[u8], at: usize) -> Option<[u8; LEN]> {
    bytes.get(at..at.checked_add(LEN)?)?.try_into().ok()
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(ethertype: u16, parts: &[&[u8]]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend(ethertype.to_be_bytes());
        frame.extend(parts.concat());
        frame
    }

    fn ipv4(protocol: u8, fragment: u16) -> Vec<u8> {
        let mut header = vec![0x45, 0, 0, 40, 0, 1];
        header.extend(fragment.to_be_bytes());
        header.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        header
    }

    fn ipv6(next: u8) -> Vec<u8> {
        let mut header = vec![0x60, 0, 0, 0, 0, 8, next, 64];
        header.extend([0xfd; 16]);
        header.extend([0xfe; 16]);
        header
    }

    #[test]
    fn ports_are_read_behind_both_families_headers() {
        let ends = Ends::of(&frame(IPV4, &[&ipv4(TCP, 0x4000), &[0x9c, 0x40, 0x01, 0xbb]]));
        assert_eq!((ends.protocol, ends.source_port, ends.destination_port), (6, 40_000, 443));
        assert_eq!(ends.source, Some("10.0.0.1".parse().unwrap()));
        let extension = [UDP, 0, 0, 0, 0, 0, 0, 0];
        let ends = Ends::of(&frame(IPV6, &[&ipv6(60), &extension, &[0, 53, 0x12, 0x34]]));
        assert_eq!((ends.protocol, ends.source_port, ends.destination_port), (17, 53, 0x1234));
    }

    #[test]
    fn a_later_fragment_has_no_ports() {
        let ends = Ends::of(&frame(IPV4, &[&ipv4(UDP, 185), &[0x9c, 0x40, 0x01, 0xbb]]));
        assert_eq!((ends.protocol, ends.source_port, ends.destination_port), (17, 0, 0));
        let extension = [UDP, 0, 0, 8, 0, 0, 0, 0];
        let ends = Ends::of(&frame(IPV6, &[&ipv6(FRAGMENT), &extension, &[0, 53, 0x12, 0x34]]));
        assert_eq!((ends.protocol, ends.source_port), (17, 0));
    }

    #[test]
    fn no_bytes_are_too_few_or_too_strange() {
        let whole = [frame(IPV4, &[&ipv4(TCP, 0), &[1; 20]]), frame(IPV6, &[&ipv6(60), &[60; 64]])];
        for bytes in &whole {
            for end in 0..=bytes.len() {
                let _ = Ends::of(&bytes[..end]);
                for value in [0, 0x7f, 0xff] {
                    let mut mutated = bytes.clone();
                    if let Some(byte) = mutated.get_mut(end) {
                        *byte = value;
                    }
                    let _ = Ends::of(&mutated);
                }
            }
        }
    }
}
