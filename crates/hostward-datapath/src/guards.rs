//! What the datapath has recognised of an endpoint and does about it: read, and changed by order.
//!
//! Only programs write a guard (`bpf/guard.h`), so that no order races with a packet.

use hostward_abi as abi;
use rustix::time::ClockId;
use rustix::time::clock_gettime;

use crate::error::Result;
use crate::error::invalid;
use crate::tables::Datapath;

/// How many kinds a guard recognises.
pub const KINDS: usize = abi::guard_kind::GUARD_KINDS as usize;

/// One endpoint's guard, now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardState {
    /// It may open few flows, for this `enum hw_guard_kind`.
    pub throttled_for: Option<u32>,
    /// Nothing of it passes, for this one.
    pub quarantined_for: Option<u32>,
    /// Nothing of it passes, by command.
    pub held: bool,
    /// Number of the last release that was carried out.
    pub release: u32,
    /// What was recognised since the slot was cleared, by kind.
    pub recognised: [u64; KINDS],
    /// Whether packets find it as it says.
    pub in_force: bool,
}

impl Datapath {
    /// An endpoint's guard.
    ///
    /// # Errors
    /// The slot is beyond the capacity.
    pub fn read_guard(&self, slot: u32) -> Result<GuardState> {
        let guard = self.guard(slot)?;
        let now = clock_gettime(ClockId::Monotonic);
        let now_ns = now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned();
        let quarantined = guard.quarantined_ns != 0;
        Ok(GuardState {
            throttled_for: (guard.throttled_until_ns > now_ns).then(|| guard.throttled_for.into()),
            quarantined_for: quarantined.then(|| guard.quarantined_for.into()),
            held: guard.held != 0,
            release: guard.release,
            recognised: guard.recognised,
            in_force: self.is_quarantined(slot)? == (quarantined || guard.held != 0),
        })
    }

    pub(crate) fn guard(&self, slot: u32) -> Result<abi::Guard> {
        self.maps.read("hw_guards", &slot)?.ok_or_else(|| invalid("hw_guards", format!("no slot {slot}")))
    }
}
