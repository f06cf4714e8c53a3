//! The two clocks that events and collectors go by.

use rustix::time::ClockId;
use rustix::time::clock_gettime;

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // Neither clock is before its zero.
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// `CLOCK_MONOTONIC`, of which events' times are.
#[must_use]
pub fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// `CLOCK_REALTIME`.
#[must_use]
pub fn real_ns() -> u64 {
    nanoseconds(ClockId::Realtime)
}
