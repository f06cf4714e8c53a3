//! Flows: who talks with whom, what was reassembled, and what the other parts remember of it.

pub mod community_id;
pub mod defrag;
pub mod table;
pub mod tcp;

use std::net::IpAddr;

use smallvec::SmallVec;

use table::Key;
use tcp::Tracker;

use crate::app::{Expected, Parser, Protocol};
use crate::decode::Nanos;
use crate::detect::FlowState;
use crate::{Direction, EventName};

/// One flow. The client is who opened it, or who was seen first.
#[allow(clippy::struct_excessive_bools)]
pub struct Flow {
    /// Unique within the engine, below 2^53 so that JSON readers keep it.
    pub id: u64,
    /// Client and server, as (address, port); the ports of ICMP are its type and code.
    pub client: (IpAddr, u16),
    /// See [`Self::client`].
    pub server: (IpAddr, u16),
    /// IP protocol.
    pub protocol: u8,
    /// First and last packet.
    pub first: Nanos,
    /// See [`Self::first`].
    pub last: Nanos,
    /// Packets and bytes, indexed by [`Direction`].
    pub packets: [u64; 2],
    /// See [`Self::packets`].
    pub bytes: [u64; 2],
    /// TCP: the three-way handshake was seen (or a stream picked up midway is believed); others: both directions were.
    pub established: bool,
    /// TCP: picked up without a handshake.
    pub midstream: bool,
    /// TCP's reassembly; `None` for others.
    pub stream: Option<Box<Stream>>,
    /// The protocol, once recognised, by direction: they can differ, which is an event.
    pub recognised: [Option<Protocol>; 2],
    /// The protocol that it began with, if it went on with another (STARTTLS, an upgrade).
    pub original: Option<Protocol>,
    /// In which directions recognition came to its end by the last packet; for `app-layer-protocol` without anything else.
    pub recognised_now: [bool; 2],
    /// Whether recognition is over in each direction, successful or not.
    pub recognition_over: [bool; 2],
    /// What parses it.
    pub app: Option<Box<dyn Parser>>,
    /// Whether it gave up: what it has parsed stays, nothing more is fed to it.
    pub app_failed: bool,
    /// Events of recognition and of the parser that belong to no transaction; taken away when inspected.
    pub app_events: SmallVec<[(Direction, EventName); 2]>,
    /// What the matcher remembers of it: flowbits and the like.
    pub detect: FlowState,
    /// By which of the engine's sets of signatures, one after the other.
    pub matched_by: u32,
    /// What is done with its packets from now on.
    pub verdict: FlowVerdict,
    /// Whether signatures no longer look at it: a pass rule or an exception policy said so. It is still parsed and logged.
    pub passed: bool,
    /// Who it belongs to; see [`Owner`]. Signatures are enabled by its profile.
    pub owner: Owner,
    /// What it is found by.
    pub key: Key,
    /// Its community ID, where events are to have it.
    pub community_id: Option<Box<str>>,
    /// VLAN numbers of its first packet.
    pub vlan: SmallVec<[u16; 3]>,
    /// The number in the capture of the last packet of each direction.
    pub numbers: [u64; 2],
    /// How many alerts it has had.
    pub alerts: u64,
    /// Its bytes showed that who was seen first is the server: its ends are exchanged once the packet was followed.
    pub reversed: bool,
    /// First bytes that are not recognised yet.
    pub probe: Option<Box<Probe>>,
    /// The protocol that another flow announced for it.
    pub announced: Option<Expected>,
}

/// First bytes of a stream, kept until they are recognised.
#[derive(Debug, Default)]
pub struct Probe {
    /// By [`Direction`].
    pub data: [Vec<u8>; 2],
    /// Who sent first.
    pub first: Option<Direction>,
}

impl Flow {
    /// A flow that was seen for the first time.
    #[must_use]
    pub fn new(id: u64, key: Key, client: (IpAddr, u16), server: (IpAddr, u16), protocol: u8, now: Nanos) -> Self {
        Self {
            id,
            client,
            server,
            protocol,
            first: now,
            last: now,
            packets: [0; 2],
            bytes: [0; 2],
            established: false,
            midstream: false,
            stream: None,
            recognised: [None; 2],
            original: None,
            recognised_now: [false; 2],
            recognition_over: [false; 2],
            app: None,
            app_failed: false,
            app_events: SmallVec::new(),
            detect: FlowState::default(),
            matched_by: 0,
            verdict: FlowVerdict::default(),
            passed: false,
            owner: Owner::default(),
            key,
            community_id: None,
            vlan: SmallVec::new(),
            numbers: [0; 2],
            alerts: 0,
            reversed: false,
            probe: None,
            announced: None,
        }
    }

    /// Exchanges client and server: who was seen first was the server.
    pub fn exchange(&mut self) {
        std::mem::swap(&mut self.client, &mut self.server);
        self.packets.swap(0, 1);
        self.bytes.swap(0, 1);
        self.numbers.swap(0, 1);
        if let Some(stream) = &mut self.stream {
            stream.exchange();
        }
    }

    /// The protocol that it speaks, if it was recognised.
    #[must_use]
    pub fn application(&self) -> Option<Protocol> {
        self.app.as_ref().map(|app| app.protocol()).or(self.recognised[0]).or(self.recognised[1])
    }
}

/// What happens with the rest of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlowVerdict {
    /// Goes on being inspected.
    #[default]
    Inspect,
    /// Passes without inspection.
    Bypass,
    /// Is dropped.
    Drop,
    /// Is answered by RST or ICMP unreachable, and dropped.
    Reject,
}

/// Whose flow it is: an index into what the caller keeps, and the profile of rules that it asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The caller's number of endpoint, process, rule and revision; 0 offline.
    pub reference: u64,
    /// The tenant's number.
    pub tenant: u32,
    /// The endpoint whose port saw the packet. It belongs to the key of every flow, fragment, expected flow and host:
    /// two tenants may use the same addresses, and a packet between two endpoints of one host is seen at both.
    pub endpoint: u32,
    /// Which rule profile: a bit of [`crate::detect::Signature`]'s mask; 0 is the profile of all rules.
    pub profile: u8,
}

/// TCP reassembly of one flow. What the matcher may see of it is in the fields here; how it is done, in the modules below.
#[derive(Debug, Default)]
pub struct Stream {
    /// In-order bytes of each direction that are kept for signatures that look at the stream.
    pub sides: [Reassembled; 2],
    /// Whether the last packet's payload is the stream's: signatures then look for it there, not in the packet.
    pub taken: bool,
    /// Events of the last packet, for `stream-event`.
    pub events: SmallVec<[EventName; 2]>,
    /// The connection's state.
    pub tracker: Tracker,
}

/// In-order bytes of one direction. Offsets count the bytes that were seen; what is missing in a gap is not counted.
#[derive(Debug, Default)]
pub struct Reassembled {
    /// What is kept of the stream. Use [`Self::fresh`] to look at what is new: no match may cross a gap.
    pub window: Vec<u8>,
    /// The offset of `window[0]`.
    pub window_offset: u64,
    /// Everything before this offset was inspected already; the matcher sets it when it has looked at more (the engine
    /// then lets go of what lies further back than it keeps for matches across the border).
    pub inspected: u64,
    /// The offset behind the last byte that is in order by now.
    pub in_order: u64,
    /// Gaps within or before the window: at which offset, and how many bytes are missing there.
    pub gaps: SmallVec<[(u64, u64); 1]>,
    /// The initial sequence number, for `stream_size` and relative `seq`.
    pub initial_sequence: u32,
}

impl Stream {
    /// Exchanges client and server.
    pub fn exchange(&mut self) {
        self.sides.swap(0, 1);
        self.tracker.sides.swap(0, 1);
        self.tracker.reset.swap(0, 1);
        self.tracker.opener = self.tracker.opener.map(Direction::reversed);
    }
}

impl Reassembled {
    /// The pieces between gaps that hold bytes not inspected yet, each with at most `back` bytes that were. Each comes with
    /// its offset in the stream.
    pub fn fresh(&self, back: u64) -> impl Iterator<Item = (u64, &[u8])> {
        let from = self.inspected.saturating_sub(back).max(self.window_offset);
        let borders = self.gaps.iter().map(|(at, _)| *at).filter(move |at| *at > from).chain([self.in_order]);
        let mut start = self.gaps.iter().map(|(at, _)| *at).filter(|at| *at <= self.inspected).fold(from, u64::max);
        borders.filter_map(move |end| {
            let begin = start;
            start = end.max(start);
            let piece = self.window.get(self.index(begin)..self.index(end))?;
            (!piece.is_empty() && end > self.inspected).then_some((begin, piece))
        })
    }

    fn index(&self, offset: u64) -> usize {
        usize::try_from(offset.saturating_sub(self.window_offset)).unwrap_or(usize::MAX)
    }

    /// Notes that bytes are missing behind those that are in order.
    pub fn gap(&mut self, len: u64) {
        match self.gaps.last_mut() {
            Some((at, missing)) if *at == self.in_order => *missing += len,
            _ => self.gaps.push((self.in_order, len)),
        }
    }

    /// What is kept, with a note where bytes are missing.
    #[must_use]
    pub fn shown(&self) -> std::borrow::Cow<'_, [u8]> {
        // A gap with nothing behind it yet is not shown.
        let within = || self.gaps.iter().filter(|(at, _)| *at >= self.window_offset && *at < self.in_order);
        if within().next().is_none() {
            return self.window.as_slice().into();
        }
        let mut shown = Vec::with_capacity(self.window.len() + 64);
        let mut from = 0;
        for (at, missing) in within() {
            let to = self.index(*at);
            shown.extend_from_slice(self.window.get(from..to).unwrap_or_default());
            shown.extend_from_slice(format!("[{missing} bytes missing]").as_bytes());
            from = to;
        }
        shown.extend_from_slice(self.window.get(from..).unwrap_or_default());
        shown.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(side: &Reassembled, back: u64) -> Vec<(u64, Vec<u8>)> {
        side.fresh(back).map(|(at, piece)| (at, piece.to_vec())).collect()
    }

    #[test]
    fn no_piece_crosses_a_gap() {
        let mut side = Reassembled { window: b"abcdefgh".to_vec(), in_order: 8, ..Reassembled::default() };
        assert_eq!(pieces(&side, 3), [(0, b"abcdefgh".to_vec())]);
        side.gaps.push((4, 10));
        assert_eq!(pieces(&side, 3), [(0, b"abcd".to_vec()), (4, b"efgh".to_vec())]);
        side.inspected = 3;
        assert_eq!(pieces(&side, 1), [(2, b"abcd"[2..].to_vec()), (4, b"efgh".to_vec())]);
        side.inspected = 4;
        assert_eq!(pieces(&side, 3), [(4, b"efgh".to_vec())]);
        side.inspected = 6;
        assert_eq!(pieces(&side, 3), [(4, b"efgh".to_vec())]);
        assert_eq!(side.shown().as_ref(), b"abcd[10 bytes missing]efgh");
        side.inspected = 8;
        assert_eq!(pieces(&side, 3), []);
    }
}
