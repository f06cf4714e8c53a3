//! One sampled packet, as Python sees it.

use std::net::IpAddr;

use hostward_datapath::TakenSample;
use hostward_datapath::abi;
use hostward_export::Ends;
use pyo3::prelude::*;

/// See `_core.pyi`.
#[pyclass(frozen, get_all)]
pub struct Sample {
    time_ns: u64,
    pub pool: u64,
    pub lost: u64,
    slot: u32,
    pub rate: u32,
    number: u32,
    peer: u32,
    pub frame_len: u32,
    segments: u16,
    pub direction: String,
    pub verdict: String,
    pub reason: String,
    process: u8,
    pub header: Vec<u8>,
    ethertype: u16,
    pub protocol: u8,
    source: String,
    pub source_port: u16,
    destination: String,
    pub destination_port: u16,
}

fn address(found: Option<IpAddr>) -> String {
    found.map(|address| address.to_string()).unwrap_or_default()
}

impl Sample {
    /// Both ends, where they are known.
    pub fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        Some((self.source.parse().ok()?, self.destination.parse().ok()?))
    }
}

impl From<TakenSample> for Sample {
    fn from(taken: TakenSample) -> Self {
        let sample = taken.sample;
        let header = sample.header.get(..usize::from(sample.header_len_bytes)).unwrap_or(&sample.header);
        let ends = Ends::of(header);
        let direction = if u32::from(sample.direction) == abi::direction::EGRESS { "egress" } else { "ingress" };
        let reason = if u32::from(sample.reason) == abi::reason::REASON_NONE {
            String::new()
        } else {
            abi::reason_word(sample.reason.into()).unwrap_or_default()
        };
        Self {
            time_ns: sample.time_ns,
            pool: taken.pool,
            lost: taken.lost,
            slot: sample.slot,
            rate: sample.rate,
            number: sample.number,
            peer: sample.peer,
            frame_len: sample.frame_len_bytes,
            segments: sample.segments,
            direction: direction.to_owned(),
            verdict: abi::verdict_word(sample.verdict.into()).unwrap_or_default(),
            reason,
            process: sample.process,
            header: header.to_vec(),
            ethertype: ends.ethertype,
            protocol: ends.protocol,
            source: address(ends.source),
            source_port: ends.source_port,
            destination: address(ends.destination),
            destination_port: ends.destination_port,
        }
    }
}
