//! Datagrams: samples of one agent, numbered so that their receiver knows what it missed.

use std::collections::HashMap;
use std::net::IpAddr;

use super::counters;
use super::counters::CounterRecord;
use super::flow::FlowSample;
use super::xdr::Writer;

/// A datagram's most bytes: with IPv6 and UDP before it, it passes where tunnels leave 1,448 bytes of an Ethernet frame.
pub const MOST_BYTES: usize = 1_400;
const VERSION: u32 = 5;
/// Version, address with its type, sub-agent, sequence number, uptime, number of samples; of an IPv6 agent.
const HEADER_BYTES: usize = 40;

/// What takes samples: `sflow_data_source`, a class in 8 bits and an index in 24.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// An interface, by its `ifIndex`.
    Interface(u32),
    /// The host itself, by its number among the physical ones.
    Physical(u32),
    /// A logical host, by its number among those.
    Logical(u32),
}

impl Source {
    fn word(self) -> u32 {
        let (class, index) = match self {
            Self::Interface(index) => (0, index),
            Self::Physical(index) => (2, index),
            Self::Logical(index) => (3, index),
        };
        class << 24 | index & 0x00ff_ffff
    }
}

/// Samples in, whole datagrams out.
pub struct Exporter {
    agent: IpAddr,
    sub_agent: u32,
    sequence: u32,
    flow_sequences: HashMap<Source, u32>,
    counter_sequences: HashMap<Source, u32>,
    waiting: Writer,
    count: u32,
    /// Samples that did not fit into any datagram.
    oversized: u64,
}

impl Exporter {
    /// An exporter of an agent, known to collectors by its address; `sub_agent` tells it from others at the same one.
    #[must_use]
    pub fn new(agent: IpAddr, sub_agent: u32) -> Self {
        Self {
            agent,
            sub_agent,
            sequence: 0,
            flow_sequences: HashMap::new(),
            counter_sequences: HashMap::new(),
            waiting: Writer::default(),
            count: 0,
            oversized: 0,
        }
    }

    /// Samples that did not fit into any datagram, and were left out.
    #[must_use]
    pub fn oversized(&self) -> u64 {
        self.oversized
    }

    /// Adds a sampled packet; the datagram that it did not fit into any more, if there is one, is to be sent. `uptime_ms`
    /// is the time since the agent started, modulo 2^32.
    pub fn push_flow(&mut self, source: Source, sample: &FlowSample<'_>, uptime_ms: u32) -> Option<Vec<u8>> {
        let sequence = next(&mut self.flow_sequences, source);
        let mut body = Writer::default();
        sample.write(sequence, source.word(), &mut body);
        self.push(FlowSample::FORMAT, &body, uptime_ms)
    }

    /// The same with counters of a source.
    pub fn push_counters(&mut self, source: Source, records: &[CounterRecord<'_>], uptime_ms: u32) -> Option<Vec<u8>> {
        let sequence = next(&mut self.counter_sequences, source);
        let mut body = Writer::default();
        counters::write_sample(sequence, source.word(), records, &mut body);
        self.push(counters::FORMAT, &body, uptime_ms)
    }

    /// The datagram of what still waits.
    pub fn flush(&mut self, uptime_ms: u32) -> Option<Vec<u8>> {
        if self.count == 0 {
            return None;
        }
        let mut datagram = Writer::default();
        datagram.unsigned(VERSION);
        match self.agent {
            IpAddr::V4(address) => {
                datagram.unsigned(1);
                datagram.fixed(&address.octets());
            }
            IpAddr::V6(address) => {
                datagram.unsigned(2);
                datagram.fixed(&address.octets());
            }
        }
        datagram.unsigned(self.sub_agent);
        self.sequence = self.sequence.wrapping_add(1);
        datagram.unsigned(self.sequence);
        datagram.unsigned(uptime_ms);
        datagram.unsigned(self.count);
        datagram.append(&self.waiting);
        self.waiting = Writer::default();
        self.count = 0;
        Some(datagram.into_bytes())
    }

    /// Forgets a source that is gone: one that gets its number begins anew.
    pub fn forget(&mut self, source: Source) {
        self.flow_sequences.remove(&source);
        self.counter_sequences.remove(&source);
    }

    fn push(&mut self, format: u32, body: &Writer, uptime_ms: u32) -> Option<Vec<u8>> {
        let len = 8 + body.len();
        if HEADER_BYTES + len > MOST_BYTES {
            self.oversized += 1;
            return None;
        }
        let full = HEADER_BYTES + self.waiting.len() + len > MOST_BYTES;
        let datagram = if full { self.flush(uptime_ms) } else { None };
        self.waiting.structure(format, body);
        self.count += 1;
        datagram
    }
}

fn next(sequences: &mut HashMap<Source, u32>, source: Source) -> u32 {
    let sequence = sequences.entry(source).or_default();
    *sequence = sequence.wrapping_add(1);
    *sequence
}
