//! Loads, attaches, fills and reads back the datapath.
//!
//! This crate knows maps, programs and devices. What to write into the maps, and in which order, is the agent's business
//! (`hostward.datapath.programmer`); what it means to a packet is decided in `bpf/`.

mod bench;
mod capacity;
mod classes;
mod constants;
mod error;
mod events;
mod ffi;
mod flows;
mod maps;
mod messages;
pub mod netns;
mod port;
mod tables;

pub use bench::Bench;
pub use bench::Rotation;
pub use capacity::Capacity;
pub use error::Error;
pub use error::Result;
pub use flows::TrackedFlow;
pub use hostward_abi as abi;
pub use messages::filter_messages;
pub use port::Direction;
pub use port::Hook;
pub use port::Port;
pub use tables::Datapath;
pub use tables::Decision;
pub use tables::EndpointConfig;
pub use tables::PolicyBlock;
pub use tables::PrefixEntry;
