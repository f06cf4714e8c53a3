//! Protocol recognition: which protocol a flow speaks, told from its first bytes.
//!
//! Works on any port. Ports decide only where bytes cannot: a bare `220` greets in SMTP and in FTP alike. The caller
//! hands over everything that one direction has sent so far (at most [`LIMIT`] bytes are looked at) and asks again when
//! there is more, until the answer is no longer [`Recognition::NeedMore`].

mod binary;
mod text;

#[cfg(test)]
mod tests;

use super::Protocol;
use crate::Direction;

/// How many bytes of one direction decide; where these were not enough the protocol stays unknown.
pub const LIMIT: usize = 1024;

/// What the bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognition {
    /// It is this one.
    Found(Protocol),
    /// Too few bytes to tell.
    NeedMore,
    /// None that is known.
    No,
}

/// Ports of the flow, as hints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Who opened the flow.
    pub client: u16,
    /// Whom it was opened to.
    pub server: u16,
}

impl Ports {
    /// Whether either side uses this port: who the server is may be unknown when a flow was picked up midway.
    fn has(self, port: u16) -> bool {
        self.client == port || self.server == port
    }
}

type Probe = fn(Direction, &[u8], Ports) -> Recognition;

/// Recognises a stream by all that `direction` has sent so far.
#[must_use]
pub fn stream(direction: Direction, data: &[u8], ports: Ports) -> Recognition {
    const PROBES: &[Probe] = &[
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
    first_found(PROBES, direction, data, ports)
}

/// Recognises a flow of datagrams by one of them.
#[must_use]
pub fn datagram(direction: Direction, data: &[u8], ports: Ports) -> Recognition {
    const PROBES: &[Probe] = &[binary::dns_datagram, binary::dcerpc_datagram];
    match first_found(PROBES, direction, data, ports) {
        Recognition::NeedMore => Recognition::No,
        other => other,
    }
}

fn first_found(probes: &[Probe], direction: Direction, data: &[u8], ports: Ports) -> Recognition {
    let window = data.get(..LIMIT).unwrap_or(data);
    let mut answer = if window.is_empty() { Recognition::NeedMore } else { Recognition::No };
    for probe in probes {
        match probe(direction, window, ports) {
            found @ Recognition::Found(_) => return found,
            Recognition::NeedMore => answer = Recognition::NeedMore,
            Recognition::No => {}
        }
    }
    if answer == Recognition::NeedMore && window.len() >= LIMIT { Recognition::No } else { answer }
}

/// Compares with a fixed beginning: all of it, a part so far, or something else.
fn beginning(data: &[u8], expected: &[u8], protocol: Protocol) -> Recognition {
    let common = data.len().min(expected.len());
    if data.get(..common) != expected.get(..common) {
        Recognition::No
    } else if data.len() >= expected.len() {
        Recognition::Found(protocol)
    } else {
        Recognition::NeedMore
    }
}
