//! Bits of hosts and of pairs of hosts, for each tenant, with an end.

use std::net::IpAddr;

use ahash::AHashMap;

use crate::decode::Nanos;
use crate::rules::test::{BitOperation, BitOwner, HostBit};

/// Most bits that are set at a time; beyond, what ends first goes.
const BITS: usize = 256 << 10;

/// Whose bit: a host, or two in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Owner {
    Host(IpAddr),
    Pair(IpAddr, IpAddr),
}

/// Bits that are set, with when they end.
#[derive(Debug, Default)]
pub struct HostBits {
    set: AHashMap<(u32, Owner, Box<str>), Nanos>,
}

/// Who talks with whom, in the direction of the packet.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Ends {
    pub tenant: u32,
    pub source: IpAddr,
    pub destination: IpAddr,
}

fn owners(owner: BitOwner, ends: Ends) -> ([Option<Owner>; 2], bool) {
    let (source, destination) = (ends.source, ends.destination);
    match owner {
        BitOwner::Source | BitOwner::Transaction => ([Some(Owner::Host(source)), None], false),
        BitOwner::Destination => ([Some(Owner::Host(destination)), None], false),
        BitOwner::Both => ([Some(Owner::Host(source)), Some(Owner::Host(destination))], true),
        BitOwner::Pair => {
            let (low, high) = if source <= destination { (source, destination) } else { (destination, source) };
            ([Some(Owner::Pair(low, high)), None], false)
        }
    }
}

impl HostBits {
    /// Whether what `bit` asks is so.
    pub fn holds(&self, bit: &HostBit, ends: Ends, now: Nanos) -> bool {
        let set =
            owners(bit.owner, ends).0.into_iter().flatten().all(|owner| {
                self.set.get(&(ends.tenant, owner, bit.name.as_str().into())).is_some_and(|&end| end > now)
            });
        match bit.operation {
            BitOperation::IsNotSet => !set,
            _ => set,
        }
    }

    /// Does what `bit` says.
    pub fn change(&mut self, bit: &HostBit, ends: Ends, now: Nanos) {
        for owner in owners(bit.owner, ends).0.into_iter().flatten() {
            let key = (ends.tenant, owner, Box::<str>::from(bit.name.as_str()));
            let is_set = self.set.get(&key).is_some_and(|&end| end > now);
            let set = match bit.operation {
                BitOperation::Set => true,
                BitOperation::Toggle => !is_set,
                BitOperation::Unset => false,
                BitOperation::IsSet | BitOperation::IsNotSet => continue,
            };
            if set {
                if self.set.len() >= BITS {
                    self.make_room(now);
                }
                self.set.insert(key, now.saturating_add(u64::from(bit.expire_s) * 1_000_000_000));
            } else {
                self.set.remove(&key);
            }
        }
    }

    /// Lets go of what has ended, and of half of the rest if that does not help.
    fn make_room(&mut self, now: Nanos) {
        self.set.retain(|_, end| *end > now);
        if self.set.len() >= BITS {
            let mut ends: Vec<Nanos> = self.set.values().copied().collect();
            let middle = ends.len() / 2;
            let (_, &mut median, _) = ends.select_nth_unstable(middle);
            self.set.retain(|_, end| *end > median);
        }
    }
}
