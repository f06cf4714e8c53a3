//! sFlow version 5 (sflow.org, `sflow_version_5.txt`, July 2004), with structures of `sflow_host.txt` (July 2010) and
//! `sflow_drops.txt` (November 2020).
//!
//! A packet that was dropped is a flow sample whose output interface says so (`sflow_version_5.txt`, "interface", format
//! 1), and is counted in the pool as any other; so what collectors scale up stays right. The *discarded packet* of
//! `sflow_drops.txt` is a notification of each drop and has no sampling rate: it would say how often a sampler looked, and
//! not how much was dropped.

mod counters;
mod datagram;
mod flow;
mod xdr;

pub use counters::CounterRecord;
pub use counters::HostDescription;
pub use counters::IfCounters;
pub use counters::NetIo;
pub use datagram::Exporter;
pub use datagram::MOST_BYTES;
pub use datagram::Source;
pub use flow::DropReason;
pub use flow::FlowRecord;
pub use flow::FlowSample;
pub use flow::Interface;
pub use flow::Socket;
