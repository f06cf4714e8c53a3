//! What goes to the inspector: its ring, handed to another process, and what was sent, missed and refused.

use std::os::fd::AsFd as _;
use std::os::fd::OwnedFd;

use hostward_abi as abi;
use libbpf_rs::MapCore as _;

use crate::error::Result;
use crate::error::invalid;
use crate::error::kernel;
use crate::tables::Datapath;

/// One endpoint's packets for the inspector, since its slot was first used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectionCounts {
    /// Sent.
    pub packets: u64,
    /// Passed without having been seen, as their rule has it.
    pub missed_packets: u64,
    /// Their bytes.
    pub missed_bytes: u64,
    /// Denied, because they would not have been seen.
    pub refused_packets: u64,
}

impl Datapath {
    /// What an endpoint has sent to the inspector.
    ///
    /// # Errors
    /// The slot is beyond the capacity.
    pub fn read_inspection(&self, slot: u32) -> Result<InspectionCounts> {
        let held: Option<abi::InspectUsage> = self.maps.read("hw_inspect_usage", &slot)?;
        let held = held.ok_or_else(|| invalid("hw_inspect_usage", format!("no slot {slot}")))?;
        Ok(InspectionCounts {
            packets: held.packets,
            missed_packets: held.missed_packets,
            missed_bytes: held.missed_bytes,
            refused_packets: held.refused_packets,
        })
    }

    /// The same of all slots together, of those that are free now, too.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn sum_inspection(&self) -> Result<InspectionCounts> {
        let held: Vec<abi::InspectUsage> = self.maps.read_array("hw_inspect_usage", 0, self.capacity().endpoints)?;
        let sum = |part: fn(&abi::InspectUsage) -> u64| held.iter().map(part).sum();
        Ok(InspectionCounts {
            packets: sum(|one| one.packets),
            missed_packets: sum(|one| one.missed_packets),
            missed_bytes: sum(|one| one.missed_bytes),
            refused_packets: sum(|one| one.refused_packets),
        })
    }

    /// The ring `hw_inspect` and its length in bytes, and the array `hw_inspect_done` and its slots, for the process that
    /// reads the one and writes the other.
    ///
    /// # Errors
    /// No more descriptors.
    pub fn inspector_maps(&self) -> Result<(OwnedFd, u32, OwnedFd, u32)> {
        let held = |name| -> Result<(OwnedFd, u32)> {
            let map = self.maps.get(name);
            Ok((map.as_fd().try_clone_to_owned().map_err(kernel("hold", name))?, map.max_entries()))
        };
        let ((ring, len), (done, slots)) = (held("hw_inspect")?, held("hw_inspect_done")?);
        Ok((ring, len, done, slots))
    }
}
