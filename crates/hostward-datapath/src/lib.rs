//! Loads, attaches, fills and reads back the datapath.
//!
//! This crate knows maps, programs and devices. What to write into the maps, and in which order, is the agent's business
//! (`hostward.datapath.programmer`); what it means to a packet is decided in `bpf/`.

mod attached;
mod bench;
mod capacity;
mod classes;
mod constants;
mod counters;
mod decisions;
mod error;
mod events;
mod ffi;
mod flows;
mod gate;
mod guards;
mod inspection;
mod maps;
mod messages;
mod migrate;
pub mod netns;
mod place;
mod port;
mod processes;
mod sampling;
mod tables;
mod talkers;
mod uplink;

pub use attached::Attached;
pub use attached::Digest;
pub use attached::Reading;
pub use attached::Sight;
pub use bench::Bench;
pub use bench::Rotation;
pub use capacity::Capacity;
pub use counters::EndpointCounts;
pub use decisions::Decision;
pub use decisions::Limit;
pub use decisions::Rate;
pub use error::Error;
pub use error::Result;
pub use flows::TrackedFlow;
pub use gate::Gate;
pub use gate::GateHook;
pub use guards::GuardState;
pub use hostward_abi as abi;
pub use inspection::InspectionCounts;
pub use messages::filter_messages;
pub use migrate::Imported;
pub use migrate::Predecessor;
pub use port::Direction;
pub use port::Hook;
pub use port::Order;
pub use port::Port;
pub use sampling::SPARSEST;
pub use sampling::SampleCounts;
pub use sampling::TakenSample;
pub use tables::Datapath;
pub use tables::EndpointConfig;
pub use tables::PolicyBlock;
pub use tables::PrefixEntry;
pub use talkers::Conversation;
pub use talkers::Talkers;
pub use talkers::Volume;
pub use uplink::Ceiling;
pub use uplink::Uplink;
