//! Records of the datapath's ring `hw_inspect`, in place.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Acquire;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::Ordering::Release;

use hostward_abi::Inspected;
use zerocopy::FromBytes as _;

use crate::shared::RingMemory;
use crate::shared::Words;

/// `BPF_RINGBUF_BUSY_BIT` and `BPF_RINGBUF_DISCARD_BIT` of a record's length.
const BUSY: u32 = 1 << 31;
const DISCARD: u32 = 1 << 30;
/// `BPF_RINGBUF_HDR_SZ`.
const HEADER: u64 = 8;

/// The reading end of the ring, and the array in which it says how much room it has given back.
pub struct Ring {
    memory: RingMemory,
    done: Words,
}

/// What became of one step.
pub enum Step<T> {
    /// Nothing is there.
    Empty,
    /// A record that its writer took back, or that is none of ours.
    Skipped,
    /// What was made of a record.
    Read(T),
}

impl Ring {
    /// Maps both.
    ///
    /// # Errors
    /// The descriptors are other maps'.
    pub fn new(ring: impl AsFd, size: usize, done: impl AsFd, slots: usize) -> io::Result<Self> {
        Ok(Self { memory: RingMemory::new(ring, size)?, done: Words::new(done, slots)? })
    }

    /// Takes the next record without looking at it: what it holds has killed a reader before.
    pub fn skip(&mut self) -> bool {
        matches!(self.step(|_, _| ()), Step::Read(()) | Step::Skipped)
    }

    /// Hands the next record, a frame and what the datapath says of it, to `take`; its room is given back afterwards.
    pub fn step<T>(&mut self, take: impl FnOnce(&Inspected, &[u8]) -> T) -> Step<T> {
        let position = self.memory.read_position().load(Relaxed);
        if position >= self.memory.write_position().load(Acquire) {
            return Step::Empty;
        }
        let Some(header) = self.memory.header(position) else { return Step::Empty };
        // The length is the lower half: little endian, as every processor that is supported.
        let word = (header.load(Acquire) & u64::from(u32::MAX)) as u32;
        if word & BUSY != 0 {
            return Step::Empty;
        }
        let len = word & !DISCARD;
        let next = position + (u64::from(len) + HEADER).next_multiple_of(8);
        let mut step = Step::Skipped;
        if word & DISCARD == 0
            && let Some(bytes) = self.memory.bytes(position + HEADER, len as usize)
            && let Ok((inspected, rest)) = Inspected::read_from_prefix(bytes)
        {
            if let Some(frame) = rest.get(..inspected.len_bytes as usize) {
                step = Step::Read(take(&inspected, frame));
            }
            if let Some(done) = self.done.get(inspected.key.slot as usize) {
                done.fetch_add(inspected.room_bytes.into(), Relaxed);
            }
        }
        self.memory.read_position().store(next, Release);
        step
    }
}
