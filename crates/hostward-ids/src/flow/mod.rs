//! Flows: who talks with whom, what was reassembled, and what the other parts remember of it.

use std::net::IpAddr;

use smallvec::SmallVec;

use crate::app::{Parser, Protocol};
use crate::decode::Nanos;
use crate::detect::FlowState;
use crate::{Direction, EventName};

/// One flow. The client is who opened it, or who was seen first.
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
    /// Whether recognition is over in each direction, successful or not.
    pub recognition_over: [bool; 2],
    /// What parses it.
    pub app: Option<Box<dyn Parser>>,
    /// Events of recognition and of the parser that belong to no transaction; taken away when inspected.
    pub app_events: SmallVec<[(Direction, EventName); 2]>,
    /// What the matcher remembers of it: flowbits and the like.
    pub detect: FlowState,
    /// What is done with its packets from now on.
    pub verdict: FlowVerdict,
    /// Who it belongs to; see [`Owner`]. Signatures are enabled by its profile.
    pub owner: Owner,
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
    /// Events of the last packet, for `stream-event`.
    pub events: SmallVec<[EventName; 2]>,
}

/// In-order bytes of one direction.
#[derive(Debug, Default)]
pub struct Reassembled {
    /// A window of the stream: what is kept, gaps left out.
    pub window: Vec<u8>,
    /// The stream offset of `window[0]`.
    pub window_offset: u64,
    /// Everything before this offset was inspected already; the matcher sets it when it has looked at more (the engine
    /// then lets go of what lies further back than it keeps for matches across the border).
    pub inspected: u64,
    /// How many bytes are in order by now, counted from the start of the stream.
    pub in_order: u64,
    /// The initial sequence number, for `stream_size` and relative `seq`.
    pub initial_sequence: u32,
}
