//! One flow record, before anybody encodes it.

use hostward_abi::reason;
use hostward_abi::verdict;

use crate::ipfix::denial::Denial;
use crate::ipfix::sighting::Tuple;

/// Packets and octets of frames, from the opener and back to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Forward, reverse.
    pub packets: [u64; 2],
    /// Forward, reverse.
    pub octets: [u64; 2],
}

impl Volume {
    /// Both directions together.
    #[must_use]
    pub fn sum(&self) -> (u64, u64) {
        (self.packets.iter().sum(), self.octets.iter().sum())
    }

    /// Whether nothing was carried.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The greater of each count.
    #[must_use]
    pub fn max(&self, other: &Self) -> Self {
        let greater = |a: [u64; 2], b: [u64; 2]| [a[0].max(b[0]), a[1].max(b[1])];
        Self { packets: greater(self.packets, other.packets), octets: greater(self.octets, other.octets) }
    }

    /// What came since `before`; None if this is less, and so of another flow.
    #[must_use]
    pub fn since(&self, before: &Self) -> Option<Self> {
        let less = |now: [u64; 2], then: [u64; 2]| -> Option<[u64; 2]> {
            Some([now[0].checked_sub(then[0])?, now[1].checked_sub(then[1])?])
        };
        Some(Self { packets: less(self.packets, before.packets)?, octets: less(self.octets, before.octets)? })
    }
}

/// flowEndReason (IANA IPFIX element 136).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EndReason {
    /// No packet for so long.
    Idle = 1,
    /// It lives on, and what it carried so far is told.
    Active = 2,
    /// Its ends said so.
    End = 3,
    /// Its endpoint went, a revision revoked it, or the agent ends.
    Forced = 4,
    /// Its place was needed.
    Resources = 5,
}

/// One record. Times are of `CLOCK_MONOTONIC`, and become real time when they are written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record {
    /// The endpoint's.
    pub slot: u32,
    /// The source opened the flow, or sent what was denied.
    pub tuple: Tuple,
    /// `enum hw_direction`: whether the endpoint opened it.
    pub direction: u8,
    /// `enum hw_verdict`.
    pub verdict: u8,
    /// `enum hw_reason`; 0 for what passes.
    pub reason: u8,
    /// Number of the executable at this end; 0: not known.
    pub process: u8,
    /// Of the decision.
    pub number: u32,
    /// Under which it was decided.
    pub revision: u64,
    /// The state word of `bpf/tcp.h`.
    pub state: u32,
    /// What this record tells for the first time.
    pub volume: Volume,
    /// First packet told of.
    pub start_ns: u64,
    /// Last packet told of.
    pub end_ns: u64,
    /// Why it is told now.
    pub end_reason: EndReason,
    /// Of a frame that is no IP; 0 for others.
    pub ethertype: u16,
    /// The same.
    pub source_mac: [u8; 6],
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;

impl Record {
    /// The record of a denial.
    #[must_use]
    pub fn of_denial(denial: &Denial) -> Self {
        Self {
            slot: denial.slot,
            tuple: denial.tuple,
            direction: denial.direction,
            verdict: denial.verdict,
            reason: denial.reason,
            process: 0,
            number: denial.number,
            revision: denial.revision,
            state: 0,
            volume: Volume { packets: [denial.packets, 0], octets: [denial.octets, 0] },
            start_ns: denial.time_ns,
            end_ns: denial.time_ns,
            end_reason: EndReason::End,
            ethertype: denial.ethertype,
            source_mac: denial.source_mac,
        }
    }

    /// Whether packets of it were let through.
    #[must_use]
    pub fn passed(&self) -> bool {
        matches!(u32::from(self.verdict), verdict::VERDICT_ALLOW | verdict::VERDICT_WOULD_DENY)
    }

    /// tcpControlBits (RFC 7125) from the opener: SYN, ACK, FIN and RST as far as the connection's state proves that they
    /// were sent. The datapath remembers no others. A RST counts for both directions.
    #[must_use]
    pub fn tcp_flags(&self) -> u8 {
        let answered = if self.state & 0xff >= 1 { ACK } else { 0 };
        self.flags_of(SYN | answered, u32::from(self.direction & 1))
    }

    /// The same from the other end.
    #[must_use]
    pub fn reverse_tcp_flags(&self) -> u8 {
        let answered = if self.state & 0xff >= 1 { SYN | ACK } else { 0 };
        self.flags_of(answered, u32::from(self.direction & 1 ^ 1))
    }

    fn flags_of(&self, opening: u8, direction: u32) -> u8 {
        if self.tuple.protocol != TCP || !self.passed() {
            return 0;
        }
        let fin = if self.state & (0x100 << direction) != 0 { FIN } else { 0 };
        let reset = if self.state & 0x400 != 0 { RST } else { 0 };
        opening | fin | reset
    }

    /// forwardingStatus (RFC 7270, section 4.12).
    #[must_use]
    pub fn forwarding_status(&self) -> u8 {
        if self.passed() {
            return 64; // forwarded
        }
        match u32::from(self.reason) {
            reason::REASON_POLICY | reason::REASON_UNKNOWN_PEER | reason::REASON_QUARANTINED => 129, // ACL deny
            reason::REASON_RATE_LIMIT | reason::REASON_RATE_CAP | reason::REASON_THROTTLED => 138,   // policer
            reason::REASON_MAC_SPOOF | reason::REASON_IP_SPOOF => 140,                               // RPF
            _ => 128,
        }
    }

    /// The other direction as a record of its own; None if nothing came.
    #[must_use]
    pub fn reversed(&self) -> Option<Self> {
        let (packets, octets) = (self.volume.packets[1], self.volume.octets[1]);
        if packets == 0 {
            return None;
        }
        let tuple = &self.tuple;
        let (source_port, destination_port) = match tuple.protocol {
            // Of the flow's request the type is known; what comes back is its answer.
            ICMP => (0, 0),
            ICMPV6 => (0, tuple.destination_port.wrapping_add(1)),
            _ => (tuple.destination_port, tuple.source_port),
        };
        Some(Self {
            tuple: Tuple {
                source: tuple.destination,
                destination: tuple.source,
                source_port,
                destination_port,
                protocol: tuple.protocol,
            },
            volume: Volume { packets: [packets, 0], octets: [octets, 0] },
            direction: self.direction ^ 1,
            ..*self
        })
    }
}
