//! Protocols that begin with a binary header.

use super::Recognition;
use crate::Direction::{self, ToClient, ToServer};
use crate::app::Protocol;

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(data.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

/// Whether the bytes that are there fit: each test gets one, in order.
fn fits(data: &[u8], tests: &[fn(u8) -> bool], protocol: Protocol) -> Recognition {
    if !data.iter().zip(tests).all(|(&byte, test)| test(byte)) {
        Recognition::Unknown
    } else if data.len() >= tests.len() {
        Recognition::Found(protocol)
    } else {
        Recognition::More
    }
}

/// TLS: a handshake or alert record (RFC 8446 section 5.1), or a hello in SSL 2.0's format (RFC 6101 appendix E).
pub(super) fn tls(direction: Direction, data: &[u8], _: u16) -> Recognition {
    let hello: fn(u8) -> bool = match direction {
        ToServer => |byte| byte == 1,
        ToClient => |byte| matches!(byte, 0 | 2 | 11),
    };
    let record = fits(data, &[|b| b == 0x16, |b| b == 3, |b| b <= 4, |b| b <= 0x48, |_| true, hello], Protocol::Tls);
    let alert = fits(
        data,
        &[|b| b == 0x15, |b| b == 3, |b| b <= 4, |b| b == 0, |b| b == 2, |b| matches!(b, 1 | 2)],
        Protocol::Tls,
    );
    let old = if direction == ToServer {
        fits(
            data,
            &[|b| b & 0x80 != 0, |_| true, |b| b == 1, |b| matches!(b, 0 | 3), |b| b <= 4, |b| b <= 1],
            Protocol::Tls,
        )
    } else {
        Recognition::Unknown
    };
    [record, alert, old].into_iter().find(|answer| *answer != Recognition::Unknown).unwrap_or(Recognition::Unknown)
}

/// SMB over the `NetBIOS` session service (RFC 1002 section 4.3.1) or direct TCP.
pub(super) fn smb(_: Direction, data: &[u8], server_port: u16) -> Recognition {
    let netbios = server_port == 139 || server_port == 445;
    match data.first() {
        Some(0x81 | 0x82 | 0x85) if netbios => fits(data, &[|_| true, |b| b <= 1, |_| true, |_| true], Protocol::Smb),
        Some(0) => fits(
            data,
            &[
                |_| true,
                |_| true,
                |_| true,
                |_| true,
                |b| matches!(b, 0xfc..=0xff),
                |b| b == b'S',
                |b| b == b'M',
                |b| b == b'B',
            ],
            Protocol::Smb,
        ),
        _ => Recognition::Unknown,
    }
}

/// DCE/RPC, connection-oriented: version 5.0 or 5.1, a known PDU type, data representation (C706 chapter 12.6.3).
pub(super) fn dcerpc(_: Direction, data: &[u8], _: u16) -> Recognition {
    fits(
        data,
        &[
            |b| b == 5,
            |b| b <= 1,
            |b| b <= 19,
            |_| true,
            |b| matches!(b, 0x00 | 0x01 | 0x10 | 0x11),
            |b| b <= 3,
            |b| b == 0,
            |b| b == 0,
            |_| true,
            |_| true,
        ],
        Protocol::Dcerpc,
    )
}

/// DCE/RPC, connectionless: version 4, header of 80 bytes (C706 chapter 12.5.2).
pub(super) fn dcerpc_datagram(_: Direction, data: &[u8], _: u16) -> Recognition {
    if data.len() < 80 {
        return Recognition::Unknown;
    }
    fits(
        data,
        &[
            |b| b == 4,
            |b| b <= 10,
            |b| b & 0x81 == 0,
            |b| b & 0xfc == 0,
            |b| matches!(b, 0x00 | 0x01 | 0x10 | 0x11),
            |b| b <= 3,
        ],
        Protocol::Dcerpc,
    )
}

/// HTTP/2 from the server, where the client's preface was not seen: a SETTINGS frame on stream 0 (RFC 9113 section 6.5).
pub(super) fn http2_settings(direction: Direction, data: &[u8], _: u16) -> Recognition {
    if direction == ToServer {
        return Recognition::Unknown;
    }
    fits(
        data,
        &[
            |b| b == 0,
            |b| b == 0,
            |b| b % 6 == 0,
            |b| b == 4,
            |b| b <= 1,
            |b| b == 0,
            |b| b == 0,
            |b| b == 0,
            |b| b == 0,
        ],
        Protocol::Http2,
    )
}

/// The length of DNS's header.
const DNS_HEADER: usize = 12;

/// DNS in one datagram (RFC 1035 section 4.1).
pub(super) fn dns_datagram(direction: Direction, data: &[u8], server_port: u16) -> Recognition {
    let known_port = server_port == 53 || server_port == 5353 || server_port == 5355;
    dns_message(direction, data, known_port, true)
}

/// DNS over TCP: each message behind its length (RFC 1035 section 4.2.2).
pub(super) fn dns_stream(direction: Direction, data: &[u8], server_port: u16) -> Recognition {
    let known_port = server_port == 53;
    let Some(len) = u16_at(data, 0) else { return Recognition::More };
    if usize::from(len) < DNS_HEADER {
        return Recognition::Unknown;
    }
    let message = data.get(2..).unwrap_or_default();
    let whole = message.len() >= usize::from(len);
    dns_message(direction, message.get(..usize::from(len)).unwrap_or(message), known_port, whole)
}

/// Header and first question must make sense; on DNS's own port a plausible header alone decides, since malformed
/// messages are worth events.
fn dns_message(direction: Direction, message: &[u8], known_port: bool, whole: bool) -> Recognition {
    let more = if whole { Recognition::Unknown } else { Recognition::More };
    let Some(flags) = u16_at(message, 2) else { return more };
    let (response, opcode) = (flags & 0x8000 != 0, flags >> 11 & 0xf);
    let sensible =
        response == (direction == ToClient) && opcode <= 5 && opcode != 3 && flags & 0x0040 == 0 && flags & 0xf <= 10;
    if !known_port && !sensible {
        return Recognition::Unknown;
    }
    let Some(questions) = u16_at(message, 4) else { return more };
    if questions != 1 && !(known_port && questions <= 16) {
        return Recognition::Unknown;
    }
    let (Some(answers), Some(authorities), Some(additionals)) =
        (u16_at(message, 6), u16_at(message, 8), u16_at(message, 10))
    else {
        return more;
    };
    if known_port {
        return if response || answers <= 1024 { Recognition::Found(Protocol::Dns) } else { Recognition::Unknown };
    }
    if response || (answers == 0 && (authorities == 0 || opcode == 5) && additionals <= 2) {
        first_question(message.get(DNS_HEADER..).unwrap_or_default(), more)
    } else {
        Recognition::Unknown
    }
}

fn first_question(mut rest: &[u8], more: Recognition) -> Recognition {
    let mut name_len = 0_usize;
    loop {
        let Some((&len, tail)) = rest.split_first() else { return more };
        let len = usize::from(len);
        name_len += len + 1;
        if len > 63 || name_len > 255 {
            return Recognition::Unknown;
        }
        if len == 0 {
            return match (u16_at(tail, 0), u16_at(tail, 2)) {
                (Some(kind), Some(class)) if kind != 0 && matches!(class & 0x7fff, 1 | 3 | 4 | 254 | 255) => {
                    Recognition::Found(Protocol::Dns)
                }
                (Some(_), Some(_)) => Recognition::Unknown,
                _ => more,
            };
        }
        let Some(label) = tail.get(..len) else { return more };
        if !label.iter().all(|byte| byte.is_ascii_graphic() || *byte >= 0x80) {
            return Recognition::Unknown;
        }
        rest = tail.get(len..).unwrap_or_default();
    }
}
