//! The two clocks that events and collectors go by.

use rustix::time::ClockId;
use rustix::time::clock_getres;
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

/// Roughly what `ticks()` of `bpf/maps.h` is behind `CLOCK_MONOTONIC`, in wrapping arithmetic: the kernel's jiffies begin
/// five minutes before 2^32 (`INITIAL_JIFFIES`). Events tell it exactly.
#[must_use]
pub fn ticks_offset_ns() -> u64 {
    const EARLY_S: u64 = 300;
    let tick_ns = clock_getres(ClockId::MonotonicCoarse).tv_nsec.cast_unsigned().max(1);
    let first = (1 << 32) - EARLY_S * 1_000_000_000 / tick_ns;
    0u64.wrapping_sub(first * tick_ns)
}
