//! Flow records: what the datapath tells of flows becomes IPFIX (RFC 7011) and lines of JSON.
//!
//! ```text
//! events, walks ─▶ Cache ─▶ Record ─┬▶ Messages ─▶ Sender (UDP)
//!                                   └▶ Lines (a file)
//! ```
//!
//! Every flow is a biflow (RFC 5103): its opener is the source. What the kernel tells of a flow are totals, so that an
//! event that is lost delays what it said and takes nothing away, as long as a later one comes. What is lost all the same
//! is counted where it is lost: see [`Counts`].

mod cache;
mod counts;
mod denial;
mod element;
mod exporter;
mod json;
mod lines;
mod message;
mod names;
mod options;
mod record;
mod sender;
mod sighting;
mod template;

pub use cache::Cache;
pub use cache::Timeouts;
pub use counts::Counts;
pub use counts::DatapathLosses;
pub use denial::Denial;
pub use element::DEFAULT_ENTERPRISE;
pub use exporter::Exporter;
pub use exporter::Settings;
pub use json::write_line;
pub use lines::Lines;
pub use message::Message;
pub use message::Messages;
pub use names::EndpointName;
pub use names::Names;
pub use record::EndReason;
pub use record::Record;
pub use record::Volume;
pub use sender::Sender;
pub use sender::WAITING_LIMIT;
pub use sighting::FlowId;
pub use sighting::Sighted;
pub use sighting::Sighting;
pub use sighting::Tuple;
pub use template::Form;
