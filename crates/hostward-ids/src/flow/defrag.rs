//! Fragments of IPv4 (RFC 815) and IPv6 (RFC 8200, section 4.5), put together.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use smallvec::SmallVec;

use super::Owner;
use super::tcp::OverlapPolicy;
use crate::EventName;
use crate::decode::{Fragment, Ip, Nanos, Packet};

/// Fragments whose rest does not come within so long are let go (RFC 8200 has 60 s).
const TIMEOUT: Nanos = 60_000_000_000;
/// The longest packet there is.
const PACKET_MAX: u64 = 65_535;
/// The most memory that waiting fragments take.
const BYTES_MAX: usize = 32 << 20;
/// As many fragments as one packet may come in; the smallest hold eight bytes.
const PARTS_MAX: usize = 8192;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    id: u32,
    protocol: u8,
    owner: (u32, u32),
    vlan: [u16; 3],
}

struct Part {
    start: u64,
    data: Vec<u8>,
}

impl Part {
    fn end(&self) -> u64 {
        self.start + self.data.len() as u64
    }
}

#[derive(Default)]
struct Pending {
    began: Nanos,
    /// Sorted, free of overlaps.
    parts: Vec<Part>,
    bytes: usize,
    fragments: usize,
    /// Where the packet ends, once its last fragment was seen.
    end: Option<u64>,
    /// What comes before the fragments' contents: link header, and the IP header as it will be.
    head: Option<Head>,
}

struct Head {
    bytes: Vec<u8>,
    ip_at: usize,
}

/// What a fragment led to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was odd about it.
    pub events: SmallVec<[EventName; 2]>,
    /// The whole packet, with the link header of its first fragment.
    pub whole: Option<Vec<u8>>,
    /// Whether there was no memory for it.
    pub no_memory: bool,
}

/// All packets that wait for their fragments.
#[derive(Default)]
pub struct Defragmenter {
    packets: HashMap<Key, Pending, ahash::RandomState>,
    /// In the order they began; one that was completed meanwhile is no longer in `packets`, or began later.
    order: VecDeque<(Nanos, Key)>,
    bytes: usize,
    fragments: usize,
    fragments_max: usize,
}

impl Defragmenter {
    /// One that holds at most so many fragments.
    #[must_use]
    pub fn new(fragments_max: usize) -> Self {
        Self { fragments_max, ..Self::default() }
    }

    /// Takes a packet that is a fragment.
    pub fn insert(&mut self, packet: &Packet<'_>, owner: Owner) -> Outcome {
        let mut outcome = Outcome::default();
        let (Some(ip), Some(fragment)) = (&packet.ip, packet.fragment) else { return outcome };
        self.expire(packet.time);
        let v6 = ip.source.is_ipv6();
        let name = |four, six| if v6 { six } else { four };
        let start = u64::from(fragment.offset);
        let end = start + packet.payload.len() as u64;
        if end > PACKET_MAX {
            outcome.events.push(name("ipv4.frag_pkt_too_large", "ipv6.frag_pkt_too_large"));
            return outcome;
        }
        if fragment.more && !packet.payload.len().is_multiple_of(8) {
            if v6 {
                outcome.events.push("ipv6.frag_invalid_length");
            }
            return outcome;
        }
        if packet.payload.is_empty() {
            return outcome;
        }
        if self.fragments >= self.fragments_max || self.bytes + packet.payload.len() > BYTES_MAX {
            outcome.events.push(name("ipv4.frag_ignored", "ipv6.frag_ignored"));
            outcome.no_memory = true;
            return outcome;
        }
        let key = key(packet, ip, owner);
        if !self.packets.contains_key(&key) {
            self.order.push_back((packet.time, key));
        }
        let pending = self.packets.entry(key).or_insert_with(|| Pending { began: packet.time, ..Pending::default() });
        pending.fragments += 1;
        self.fragments += 1;
        if pending.fragments > PARTS_MAX {
            outcome.events.push(name("ipv4.frag_ignored", "ipv6.frag_ignored"));
            return outcome;
        }
        let before = pending.bytes;
        if pending.insert(start, packet.payload) {
            outcome.events.push(name("ipv4.frag_overlap", "ipv6.frag_overlap"));
        }
        self.bytes += pending.bytes - before;
        if !fragment.more {
            pending.end.get_or_insert(end);
        }
        if start == 0 && pending.head.is_none() {
            pending.head = head(packet, ip, fragment);
        }
        outcome.whole = pending.whole();
        if outcome.whole.is_some() {
            self.forget(&key);
        }
        outcome
    }

    fn forget(&mut self, key: &Key) {
        if let Some(pending) = self.packets.remove(key) {
            self.bytes -= pending.bytes;
            self.fragments -= pending.fragments;
        }
    }

    fn expire(&mut self, now: Nanos) {
        while let Some((began, key)) = self.order.front().copied() {
            let current = self.packets.get(&key).is_some_and(|pending| pending.began == began);
            if current && now.saturating_sub(began) < TIMEOUT && self.order.len() <= self.fragments_max {
                return;
            }
            self.order.pop_front();
            if current {
                self.forget(&key);
            }
        }
    }
}

fn key(packet: &Packet<'_>, ip: &Ip<'_>, owner: Owner) -> Key {
    let mut vlan = [0; 3];
    for (tag, seen) in vlan.iter_mut().zip(&packet.vlan) {
        *tag = *seen;
    }
    // IPv6 fragments of one packet may name different next headers; only the first one's counts.
    let protocol = if ip.source.is_ipv6() { 0 } else { ip.protocol };
    Key {
        source: ip.source,
        destination: ip.destination,
        id: ip.id,
        protocol,
        owner: (owner.tenant, owner.endpoint),
        vlan,
    }
}

/// Link and IP header of the whole packet, as its first fragment has them; lengths are filled in at the end.
fn head(packet: &Packet<'_>, ip: &Ip<'_>, fragment: Fragment) -> Option<Head> {
    // Where the header lies within the frame: both are slices of the same bytes.
    let ip_at = (ip.header.as_ptr() as usize).checked_sub(packet.data.as_ptr() as usize)?;
    let mut bytes = packet.data.get(..ip_at)?.to_vec();
    bytes.extend_from_slice(ip.header);
    let in_ip = |at: usize| ip_at + at;
    match fragment.next_header_at {
        Some(at) => *bytes.get_mut(in_ip(at))? = ip.protocol,
        None => bytes.get_mut(in_ip(6)..in_ip(8))?.fill(0),
    }
    Some(Head { bytes, ip_at })
}

impl Pending {
    /// Keeps a fragment's bytes; whether they overlap what is there.
    fn insert(&mut self, start: u64, data: &[u8]) -> bool {
        let (mut at, mut rest) = (start, data);
        let end = start + data.len() as u64;
        let mut overlap = false;
        let mut index = self.parts.partition_point(|part| part.end() <= at);
        while !rest.is_empty() {
            let next = self.parts.get_mut(index);
            let room = next.as_ref().map_or(u64::MAX, |part| part.start.saturating_sub(at));
            if room > 0 {
                let (fill, after) = rest.split_at(rest.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
                self.parts.insert(index, Part { start: at, data: fill.to_vec() });
                self.bytes += fill.len();
                at += fill.len() as u64;
                rest = after;
                index += 1;
                continue;
            }
            let Some(part) = next else { break };
            overlap = true;
            let replace = OverlapPolicy::Linux.replaces((start, end), (part.start, part.end()));
            let within = usize::try_from(at - part.start).unwrap_or(usize::MAX);
            let Some(kept) = part.data.get_mut(within..) else { break };
            let common = kept.len().min(rest.len());
            let (overlapping, after) = rest.split_at(common);
            if let Some(kept) = kept.get_mut(..common).filter(|_| replace) {
                kept.copy_from_slice(overlapping);
            }
            at += common as u64;
            rest = after;
            index += 1;
        }
        overlap
    }

    /// The whole packet, if nothing is missing.
    fn whole(&self) -> Option<Vec<u8>> {
        let (end, head) = (self.end?, self.head.as_ref()?);
        let mut at = 0;
        for part in &self.parts {
            if part.start != at {
                return None;
            }
            at = part.end();
        }
        if at < end {
            return None;
        }
        let mut whole = head.bytes.clone();
        for part in &self.parts {
            whole.extend_from_slice(&part.data);
        }
        // What lies behind the end that the last fragment told is nobody's.
        whole.truncate(head.bytes.len() + usize::try_from(end).unwrap_or(usize::MAX));
        finish(&mut whole, head.ip_at)?;
        Some(whole)
    }
}

/// Writes the lengths, and for IPv4 the checksum.
fn finish(whole: &mut [u8], ip_at: usize) -> Option<()> {
    let ip = whole.get_mut(ip_at..)?;
    let len = ip.len();
    if ip.first()? >> 4 == 6 {
        let length = u16::try_from(len - 40).ok()?;
        ip.get_mut(4..6)?.copy_from_slice(&length.to_be_bytes());
        return Some(());
    }
    let length = u16::try_from(len).ok()?;
    ip.get_mut(2..4)?.copy_from_slice(&length.to_be_bytes());
    ip.get_mut(10..12)?.fill(0);
    let header_len = usize::from(ip.first()? & 0x0f) * 4;
    let mut sum = 0_u32;
    for pair in ip.get(..header_len)?.chunks_exact(2) {
        sum += u32::from(u16::from_be_bytes([*pair.first()?, *pair.last()?]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    ip.get_mut(10..12)?.copy_from_slice(&(!(sum as u16)).to_be_bytes());
    Some(())
}
