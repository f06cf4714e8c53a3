//! Protocol recognition: which protocol a flow speaks, told from its first bytes.
//!
//! Works on any port. Ports decide only where bytes cannot: a bare `220` greets in SMTP and in FTP alike. The caller
//! hands over everything that one direction has sent so far (at most [`LIMIT`] bytes are looked at) and asks again when
//! there is more, until the answer is no longer [`Recognition::More`].

mod binary;
mod text;

#[cfg(test)]
mod tests;

use super::Protocol;
use crate::Direction;

/// How many bytes of one direction decide; where these were not enough the protocol stays unknown.
pub const LIMIT: usize = 1024;

/// TCP's number as an IP protocol.
pub const TCP: u8 = 6;
/// UDP's number.
pub const UDP: u8 = 17;

/// What the first bytes of one direction say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognition {
    /// They are this protocol's, going the way the flow has it.
    Found(Protocol),
    /// They are this protocol's, but from the other end: client and server are to be exchanged.
    Reversed(Protocol),
    /// More bytes could tell.
    More,
    /// They are of no known protocol.
    Unknown,
}

/// Tells by the bytes of one direction, the server's port as a hint.
type Probe = fn(Direction, &[u8], u16) -> Recognition;

const STREAM_PROBES: &[Probe] = &[
    binary::tls,
    text::http2,
    text::http1,
    text::ssh,
    binary::smb,
    binary::dcerpc,
    text::smtp,
    text::ftp,
    binary::dns_stream,
    binary::http2_settings,
];

const DATAGRAM_PROBES: &[Probe] = &[binary::dns_datagram, binary::dcerpc_datagram];

/// Recognises from all bytes of one direction so far (a stream) or from one datagram. `transport` is the IP protocol
/// ([`TCP`], [`UDP`]), `server_port` the port that the client connected to.
#[must_use]
pub fn recognise(transport: u8, direction: Direction, server_port: u16, data: &[u8]) -> Recognition {
    let probes = match transport {
        TCP => STREAM_PROBES,
        UDP => DATAGRAM_PROBES,
        _ => return Recognition::Unknown,
    };
    match first_found(probes, direction, data, server_port) {
        Recognition::Unknown => {}
        Recognition::More if transport == UDP => {}
        answer => return answer,
    }
    match first_found(probes, direction.reversed(), data, server_port) {
        Recognition::Found(protocol) => Recognition::Reversed(protocol),
        Recognition::More if transport == TCP => Recognition::More,
        _ => Recognition::Unknown,
    }
}

fn first_found(probes: &[Probe], direction: Direction, data: &[u8], server_port: u16) -> Recognition {
    let window = data.get(..LIMIT).unwrap_or(data);
    let mut answer = if window.is_empty() { Recognition::More } else { Recognition::Unknown };
    for probe in probes {
        match probe(direction, window, server_port) {
            found @ (Recognition::Found(_) | Recognition::Reversed(_)) => return found,
            Recognition::More => answer = Recognition::More,
            Recognition::Unknown => {}
        }
    }
    if answer == Recognition::More && window.len() >= LIMIT { Recognition::Unknown } else { answer }
}

/// Compares with a fixed beginning: all of it, a part so far, or something else.
fn beginning(data: &[u8], expected: &[u8], protocol: Protocol) -> Recognition {
    let common = data.len().min(expected.len());
    if data.get(..common) != expected.get(..common) {
        Recognition::Unknown
    } else if data.len() >= expected.len() {
        Recognition::Found(protocol)
    } else {
        Recognition::More
    }
}
