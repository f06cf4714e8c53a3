//! Counters that only grow: read many at once, and kept when what they count goes and its place is given to another.
//!
//! Element 0 of each map is nobody's (slots and decisions are numbered from 1). What has gone is added there, so that the
//! sum over a map never falls for as long as the map lives, whoever reads it and however often the agent was restarted.

use hostward_abi as abi;
use hostward_abi::stride;
use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use zerocopy::FromBytes as _;

use crate::error::Result;
use crate::error::invalid;
use crate::error::libbpf;
use crate::tables::Datapath;

/// The element that counts for all that are gone.
const GONE: u32 = 0;

/// What was counted for one endpoint.
#[derive(Clone, Debug)]
pub struct EndpointCounts {
    /// Flows in the table now.
    pub flows: u64,
    /// Events that a quota or a full ring kept from being reported.
    pub events_lost: u64,
    /// Those of them for which the ring had no room.
    pub events_unplaced: u64,
    /// Answers sent to those whose packets a rule rejects.
    pub answers: u64,
    /// Answers that were not sent.
    pub answers_suppressed: u64,
    /// Denied packets by reason number; reasons that never occurred are left out.
    pub denied: Vec<(u32, u64)>,
}

impl Datapath {
    /// The counts of slots, in their order; slot 0 is all that are gone.
    ///
    /// # Errors
    /// A slot is beyond the capacity.
    pub fn read_counts(&self, slots: &[u32]) -> Result<Vec<EndpointCounts>> {
        slots
            .iter()
            .map(|&slot| {
                let usage = self.usage(slot)?;
                Ok(EndpointCounts {
                    flows: usage.flows,
                    events_lost: usage.events_lost,
                    events_unplaced: usage.events_unplaced,
                    answers: usage.answers,
                    answers_suppressed: usage.answers_suppressed,
                    denied: self.read_reasons(slot)?,
                })
            })
            .collect()
    }

    /// Packets and bytes of decisions together; decision 0 is all that are gone.
    ///
    /// # Errors
    /// A decision is beyond the capacity.
    pub fn sum_counts(&self, decisions: &[u32]) -> Result<(u64, u64)> {
        decisions.iter().try_fold((0, 0), |(packets, bytes), &decision| {
            let (more_packets, more_bytes) = self.read_count(decision)?;
            Ok((packets + more_packets, bytes + more_bytes))
        })
    }

    /// Adds a decision's count to that of all that are gone, and starts it at zero.
    ///
    /// # Errors
    /// The decision is beyond the capacity.
    pub fn retire_count(&self, decision: u32) -> Result<()> {
        self.retire("hw_counts", decision, GONE)
    }

    /// The same with everything that was counted for an endpoint. Only when nothing is attached for it any more.
    pub(crate) fn retire_slot_counts(&self, slot: u32) -> Result<()> {
        for (reason, _) in self.read_reasons(slot)? {
            self.retire("hw_reasons", slot * stride::REASON_STRIDE + reason, GONE * stride::REASON_STRIDE + reason)?;
        }
        let (leaving, mut gone) = (self.usage(slot)?, self.usage(GONE)?);
        gone.events_lost += leaving.events_lost;
        gone.events_unplaced += leaving.events_unplaced;
        gone.answers += leaving.answers;
        gone.answers_suppressed += leaving.answers_suppressed;
        self.maps.write_array("hw_usage", GONE, &[gone])?;
        let (leaving, mut gone) = (self.guard(slot)?, self.guard(GONE)?);
        for (sum, count) in gone.recognised.iter_mut().zip(leaving.recognised) {
            *sum += count;
        }
        self.maps.write_array("hw_guards", GONE, &[gone])?;
        self.retire_samplers(slot, GONE)
    }

    fn usage(&self, slot: u32) -> Result<abi::Usage> {
        self.maps.read("hw_usage", &slot)?.ok_or_else(|| invalid("hw_usage", format!("no slot {slot}")))
    }

    /// Adds one element of a per-CPU array of words to another, CPU by CPU, and zeroes it. Killed in between, it counts
    /// twice: too much once is better than a counter that falls.
    fn retire(&self, name: &'static str, from: u32, to: u32) -> Result<()> {
        let map = self.maps.get(name);
        let read = |element: u32| -> Result<Vec<Vec<u8>>> {
            let values = map.lookup_percpu(&element.to_ne_bytes(), MapFlags::ANY).map_err(libbpf("read", name))?;
            values.ok_or_else(|| invalid(name, format!("no element {element}")))
        };
        let leaving = read(from)?;
        let sums: Vec<Vec<u8>> =
            read(to)?.iter().zip(&leaving).map(|(kept, leaving)| add_words(kept, leaving)).collect();
        let zeros: Vec<Vec<u8>> = leaving.iter().map(|value| vec![0; value.len()]).collect();
        for (element, values) in [(to, &sums), (from, &zeros)] {
            map.update_percpu(&element.to_ne_bytes(), values, MapFlags::ANY).map_err(libbpf("write", name))?;
        }
        Ok(())
    }
}

fn add_words(a: &[u8], b: &[u8]) -> Vec<u8> {
    let words = |bytes: &[u8]| -> Vec<u64> {
        bytes.chunks_exact(8).map(|word| u64::read_from_bytes(word).unwrap_or_default()).collect()
    };
    words(a).into_iter().zip(words(b)).flat_map(|(a, b)| (a + b).to_ne_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_added_each_to_its_own() {
        let bytes = |words: [u64; 2]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
        assert_eq!(add_words(&bytes([1, 250]), &bytes([2, 10])), bytes([3, 260]));
    }
}
