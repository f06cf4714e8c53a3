//! What a host's collectors are sent, encoded: samples of packets as sFlow version 5, records of flows as IPFIX.
//!
//! The encoders are pure: values go in, whole datagrams come out. Who reads the kernel and who owns the socket is elsewhere.

mod ends;
pub mod ipfix;
pub mod sflow;

pub use ends::Ends;
