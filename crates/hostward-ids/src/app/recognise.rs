//! Which protocol a flow speaks, from its first bytes.

use super::Protocol;
use crate::Direction;

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

/// Recognises from all bytes of one direction so far (a stream) or from one datagram. `transport` is the IP protocol (6, 17),
/// `server_port` the port that the client connected to.
#[must_use]
pub fn recognise(transport: u8, direction: Direction, server_port: u16, data: &[u8]) -> Recognition {
    let _ = (transport, direction, server_port, data);
    Recognition::Unknown
}
