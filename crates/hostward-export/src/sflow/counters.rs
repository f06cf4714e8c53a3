//! Counter samples: what a source has counted since it is there.

use super::xdr::Writer;
use super::xdr::cut;

/// Ethernet, `ifType` 6 (RFC 1213, ifType).
const ETHERNET: u32 = 6;
const FULL_DUPLEX: u32 = 1;
/// `os_name` of `host_descr`.
const LINUX: u32 = 2;
const MOST_HOSTNAME: usize = 64;
const MOST_RELEASE: usize = 32;
/// `sflow_version_5.txt`: what is not known is the highest value.
const NOT_KNOWN: u32 = u32::MAX;

/// Generic interface counters (RFC 2233), of one port, as its host sees it: what the workload sends comes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IfCounters {
    /// `ifIndex`.
    pub index: u32,
    /// Bits a second; 0: not known.
    pub speed: u64,
    /// Whether it is up.
    pub up: bool,
    /// Coming in.
    pub received: NetIo,
    /// Going out.
    pub sent: NetIo,
}

/// Of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetIo {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets with errors.
    pub errors: u64,
    /// Packets that were dropped.
    pub drops: u64,
}

/// A physical or logical host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostDescription<'a> {
    /// Its name.
    pub name: &'a str,
    /// Zeros: none is known.
    pub uuid: [u8; 16],
    /// As `uname -m` says it; empty: not known.
    pub machine: &'a str,
    /// The kernel's release; empty: not known.
    pub release: &'a str,
}

/// One group of counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterRecord<'a> {
    /// A port's.
    Interface(IfCounters),
    /// Who counts.
    Host(HostDescription<'a>),
    /// The host that a logical one runs on: the source with this index among the physical ones.
    Parent(u32),
    /// What the host has.
    Node {
        /// MHz of a processor; 0: not known.
        mhz: u32,
        /// Processors.
        cpus: u32,
        /// Bytes of memory.
        memory: u64,
        /// Bytes of it that are free.
        memory_free: u64,
        /// Logical hosts on it.
        domains: u32,
    },
    /// What a logical host received and sent, as it sees it itself.
    NetIo {
        /// Received.
        received: NetIo,
        /// Sent.
        sent: NetIo,
    },
}

impl CounterRecord<'_> {
    pub(super) fn write(&self, to: &mut Writer) {
        let mut body = Writer::default();
        let format = match self {
            Self::Interface(counters) => write_interface(counters, &mut body),
            Self::Host(host) => {
                body.variable(cut(host.name, MOST_HOSTNAME).as_bytes(), MOST_HOSTNAME);
                body.fixed(&host.uuid);
                body.unsigned(machine_type(host.machine));
                body.unsigned(LINUX);
                body.variable(cut(host.release, MOST_RELEASE).as_bytes(), MOST_RELEASE);
                2000
            }
            Self::Parent(index) => {
                body.unsigned(2); // a physical entity
                body.unsigned(*index);
                2002
            }
            Self::Node { mhz, cpus, memory, memory_free, domains } => {
                body.unsigned(*mhz);
                body.unsigned(*cpus);
                body.hyper(*memory);
                body.hyper(*memory_free);
                body.unsigned(*domains);
                2100
            }
            Self::NetIo { received, sent } => {
                for way in [received, sent] {
                    body.hyper(way.bytes);
                    body.unsigned(way.packets as u32);
                    body.unsigned(way.errors as u32);
                    body.unsigned(way.drops as u32);
                }
                2104
            }
        };
        to.structure(format, &body);
    }
}

fn write_interface(counters: &IfCounters, body: &mut Writer) -> u32 {
    body.unsigned(counters.index);
    body.unsigned(ETHERNET);
    body.hyper(counters.speed);
    body.unsigned(FULL_DUPLEX);
    body.unsigned(if counters.up { 3 } else { 0 }); // admin and operational status
    body.hyper(counters.received.bytes);
    body.unsigned(counters.received.packets as u32);
    body.unsigned(NOT_KNOWN); // multicast
    body.unsigned(NOT_KNOWN); // broadcast
    body.unsigned(counters.received.drops as u32);
    body.unsigned(counters.received.errors as u32);
    body.unsigned(NOT_KNOWN); // unknown protocols
    body.hyper(counters.sent.bytes);
    body.unsigned(counters.sent.packets as u32);
    body.unsigned(NOT_KNOWN);
    body.unsigned(NOT_KNOWN);
    body.unsigned(counters.sent.drops as u32);
    body.unsigned(counters.sent.errors as u32);
    body.unsigned(0); // promiscuous mode
    1
}

/// `machine_type` of `host_descr`.
fn machine_type(machine: &str) -> u32 {
    match machine {
        "" => 0,
        "i386" | "i586" | "i686" => 2,
        "x86_64" => 3,
        "ppc64" | "ppc64le" => 7,
        "mips" | "mips64" => 9,
        "s390x" => 12,
        other if other.starts_with("arm") || other == "aarch64" => 10,
        _ => 1,
    }
}

/// What one source has counted.
pub(super) fn write_sample(sequence: u32, source: u32, records: &[CounterRecord<'_>], body: &mut Writer) {
    body.unsigned(sequence);
    body.unsigned(source);
    body.unsigned(u32::try_from(records.len()).unwrap_or(0));
    for record in records {
        record.write(body);
    }
}

/// `counters_sample`.
pub(super) const FORMAT: u32 = 2;
