//! The intrusion detector.
//!
//! Packets go in, EVE JSON events come out: [`decode`] reads frames, [`flow`] tracks flows, defragments and reassembles,
//! [`app`] recognises and parses application protocols into transactions, [`rules`] reads signatures in Suricata's
//! syntax, [`detect`] matches them, [`output`] writes events, and [`engine`] joins them. Nothing here does I/O, reads
//! a clock or holds a privilege: the caller hands over frames with their time.

pub mod app;
pub mod capture;
pub mod decode;
pub mod detect;
pub mod engine;
pub mod flow;
pub mod offline;
pub mod output;
pub mod rules;

/// The name of something noticed, as rules call it: `ipv4.pkt_too_small` (decode), `stream.reassembly_seq_gap`
/// (stream), `http.missing_host_header` (application). Always without the engine's module in front of it.
pub type EventName = &'static str;

/// Which way data flows, seen from who opened the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client, who opened the flow.
    ToServer = 0,
    /// From the server.
    ToClient = 1,
}

impl Direction {
    /// The other way.
    #[must_use]
    pub fn reversed(self) -> Self {
        match self {
            Self::ToServer => Self::ToClient,
            Self::ToClient => Self::ToServer,
        }
    }
}
