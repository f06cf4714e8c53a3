//! The flow that an error of ICMP is about: the one whose packet it quotes (RFC 792; RFC 4443 §3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::app::cursor::Cursor;
use crate::decode::{Packet, Transport};

/// Ends of the flow, as if the error came from the quoted packet's destination, and its protocol.
pub(super) fn ends(packet: &Packet<'_>) -> Option<super::Ends> {
    let Transport::Icmp { kind, .. } = packet.transport else { return None };
    let (source, destination, protocol, rest) = match (packet.ip.as_ref()?.source, kind) {
        (IpAddr::V4(_), 3 | 4 | 5 | 11 | 12) => version4(packet.payload)?,
        (IpAddr::V6(_), 1..=4) => version6(packet.payload)?,
        _ => return None,
    };
    if !matches!(protocol, 6 | 17 | 132) {
        return None;
    }
    let mut ports = Cursor::big(rest);
    let (from, to) = (ports.u16()?, ports.u16()?);
    Some(((destination, to), (source, from), protocol))
}

type Quoted<'a> = (IpAddr, IpAddr, u8, &'a [u8]);

fn version4(quoted: &[u8]) -> Option<Quoted<'_>> {
    let mut cursor = Cursor::big(quoted);
    let first = cursor.u8()?;
    cursor.take(8)?;
    let protocol = cursor.u8()?;
    cursor.take(2)?;
    let (source, destination) = (cursor.array::<4>()?, cursor.array::<4>()?);
    cursor.take((usize::from(first & 0xf) * 4).checked_sub(20)?)?;
    (first >> 4 == 4).then_some((
        Ipv4Addr::from(source).into(),
        Ipv4Addr::from(destination).into(),
        protocol,
        cursor.rest(),
    ))
}

fn version6(quoted: &[u8]) -> Option<Quoted<'_>> {
    let mut cursor = Cursor::big(quoted);
    let first = cursor.u8()?;
    cursor.take(5)?;
    let protocol = cursor.u8()?;
    cursor.take(1)?;
    let (source, destination) = (cursor.array::<16>()?, cursor.array::<16>()?);
    (first >> 4 == 6).then_some((
        Ipv6Addr::from(source).into(),
        Ipv6Addr::from(destination).into(),
        protocol,
        cursor.rest(),
    ))
}
