//! TCP: the state of a connection as seen from between its ends, and its bytes in order.

pub mod options;
pub mod overlap;
pub mod reassembly;
mod state;

pub use options::Options;
pub use overlap::OverlapPolicy;
pub use reassembly::{Budget, Piece, Reassembly};
pub use state::{Accepted, State};

use crate::Direction;
use crate::decode::Nanos;

/// Flag bits of [`crate::decode::Tcp::flags`].
pub mod flag {
    #![allow(missing_docs)]
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
    pub const URG: u8 = 0x20;
}

/// Whether flows are picked up without their handshake. One that began before the detector did has no other chance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Midstream {
    /// Never: such packets are looked at one by one.
    #[default]
    Off,
    /// They count as established once the other end has answered with anything but RST.
    Answered,
    /// They count as established at once.
    On,
}

/// What settings say of TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpSettings {
    /// Whether flows are picked up without their handshake.
    pub midstream: Midstream,
    /// Whether flows of which only one direction is seen are followed.
    pub async_oneside: bool,
    /// Whether bytes are handed over at once rather than when they are acknowledged.
    pub inline: bool,
    /// Whose bytes count in overlaps.
    pub policy: OverlapPolicy,
    /// How many bytes of a direction are followed; 0 is all.
    pub depth: u64,
}

/// One direction: what its sender said.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools)]
pub struct Side {
    /// The initial sequence number; offset 0 is the one after it.
    pub initial: u32,
    /// Whether [`Self::initial`] is known.
    pub known: bool,
    /// The offset behind the last byte sent, as seen so far.
    pub next: u64,
    /// The offset up to which the other end has acknowledged.
    pub acknowledged: u64,
    /// How much the sender of this direction will receive, scaled.
    pub window: u32,
    /// By how many bits its window is scaled.
    pub scale: u8,
    /// Where its FIN stands.
    pub fin: Option<u64>,
    /// Its last time stamp (RFC 7323) and when it was seen.
    pub timestamp: Option<(u32, Nanos)>,
    /// Its bytes.
    pub bytes: Reassembly,
    /// All flags it has sent, together.
    pub flags: u8,
    /// Whether the parser was told that nothing more comes.
    pub closed: bool,
    /// Whether a gap was told.
    pub gaps: bool,
    /// Whether it offered to scale windows.
    pub scaling: bool,
}

impl Side {
    /// Begins with an initial sequence number.
    pub fn begin(&mut self, initial: u32) {
        self.initial = initial;
        self.known = true;
    }

    /// The offset of a sequence number, which lies within 2^31 of what was sent last; negative before the first byte.
    #[must_use]
    pub fn offset(&self, sequence: u32) -> i64 {
        let next_sequence = self.initial.wrapping_add(1).wrapping_add(self.next as u32);
        let distance = sequence.wrapping_sub(next_sequence).cast_signed();
        self.next.cast_signed() + i64::from(distance)
    }

    /// The offset behind the last byte that the other end may send to have acknowledged: where the FIN is, it takes a place
    /// of its own which is no byte.
    #[must_use]
    pub fn acknowledged_bytes(&self) -> u64 {
        match self.fin {
            Some(fin) => self.acknowledged.min(fin),
            None => self.acknowledged.min(self.next.max(self.acknowledged)),
        }
    }
}

/// A connection.
#[derive(Debug, Default)]
pub struct Tracker {
    /// How far it has come.
    pub state: State,
    /// Its directions, by [`Direction`].
    pub sides: [Side; 2],
    /// Only one direction is seen.
    pub one_sided: bool,
    /// A RST was seen from that direction.
    pub reset: [bool; 2],
    /// Picked up midway, and not answered yet.
    pub unanswered: bool,
    /// Which way the packet went that it was picked up with.
    pub opener: Option<Direction>,
    /// Fast open (RFC 7413): bytes may travel with the SYN.
    pub fast_open: bool,
}

impl Tracker {
    /// The side that sends in a direction, and the other.
    pub fn pair(&mut self, direction: Direction) -> (&mut Side, &mut Side) {
        let [client, server] = &mut self.sides;
        match direction {
            Direction::ToServer => (client, server),
            Direction::ToClient => (server, client),
        }
    }
}
