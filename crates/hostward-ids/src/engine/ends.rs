//! Between whom a packet goes, and whether it begins something new.

use std::net::IpAddr;

use crate::decode::{Packet, Transport};
use crate::flow::Flow;
use crate::flow::tcp::{State, flag};

/// Two ends, each with its port, and the protocol between them.
pub(super) type Ends = ((IpAddr, u16), (IpAddr, u16), u8);

/// A packet's ends and the protocol of its flow, if it belongs to one.
pub(super) fn ends(packet: &Packet<'_>) -> Option<Ends> {
    let ip = packet.ip.as_ref()?;
    if packet.fragment.is_some() {
        return None;
    }
    let (from, to) = match &packet.transport {
        Transport::Icmp { kind, code, .. } => {
            let (request, reply) = icmp_pair(*kind, ip.source);
            // Request and reply belong together; the client's "port" is the request's type.
            if *kind == reply {
                ((ip.source, u16::from(*code)), (ip.destination, u16::from(request)))
            } else {
                ((ip.source, u16::from(request)), (ip.destination, u16::from(*code)))
            }
        }
        Transport::Other => ((ip.source, 0), (ip.destination, 0)),
        _ => {
            let ports = packet.ports();
            ((ip.source, ports.0), (ip.destination, ports.1))
        }
    };
    // Packets of TCP and UDP that could not be read have no flow.
    if matches!(packet.transport, Transport::Other) && matches!(ip.protocol, 1 | 6 | 17 | 58 | 132) {
        return None;
    }
    Some((from, to, ip.protocol))
}

/// The types of a request and its reply, for any of the two; a type that is neither stands for itself.
fn icmp_pair(kind: u8, address: IpAddr) -> (u8, u8) {
    match (kind, address) {
        (8 | 0, IpAddr::V4(_)) => (8, 0),
        (13 | 14, IpAddr::V4(_)) => (13, 14),
        (15 | 16, IpAddr::V4(_)) => (15, 16),
        (17 | 18, IpAddr::V4(_)) => (17, 18),
        (128 | 129, IpAddr::V6(_)) => (128, 129),
        (133 | 134, IpAddr::V6(_)) => (133, 134),
        (135 | 136, IpAddr::V6(_)) => (135, 136),
        _ => (kind, u8::MAX),
    }
}

/// Whether a packet opens a new connection between ends whose last one is over.
pub(super) fn begins_anew(packet: &Packet<'_>, flow: &Flow) -> bool {
    let Transport::Tcp(tcp) = &packet.transport else { return false };
    let Some(stream) = &flow.stream else { return false };
    tcp.flags & (flag::SYN | flag::ACK | flag::RST) == flag::SYN && stream.tracker.state >= State::TimeWait
}
