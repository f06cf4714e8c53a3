//! Memory that the kernel shares: the only module with `unsafe`.
//!
//! A BPF ring (`kernel/bpf/ringbuf.c`, documented in Documentation/bpf/ringbuf.rst) is two mappings of its descriptor: a
//! page with the reader's position, writable, and behind it, read-only, a page with the writer's position and the data
//! twice in a row, so that a record is contiguous wherever it begins. Neither needs a privilege, nor the `bpf()` call.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsFd;
use std::os::fd::FromRawFd as _;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::AtomicU64;

use rustix::mm::MapFlags;
use rustix::mm::ProtFlags;
use rustix::mm::mmap;
use rustix::mm::munmap;
use rustix::param::page_size;

/// One mapping, unmapped when dropped.
struct Mapping {
    start: NonNull<u64>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread, and is only reached through atomics and shared slices.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(fd: impl AsFd, len: usize, protection: ProtFlags, offset: u64) -> io::Result<Self> {
        // SAFETY: no address is asked for, so that nothing else is mapped over.
        let start = unsafe { mmap(std::ptr::null_mut(), len, protection, MapFlags::SHARED, fd, offset) }?;
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Self { start, len })
    }

    fn word(&self, offset: usize) -> Option<&AtomicU64> {
        if !offset.is_multiple_of(8) || offset.checked_add(8)? > self.len {
            return None;
        }
        // SAFETY: inside the mapping, aligned (a mapping begins at a page), and both sides use atomics only.
        Some(unsafe { &*self.start.as_ptr().add(offset / 8).cast::<AtomicU64>() })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing borrowed from it outlives it; a failure leaves it mapped.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// The two mappings of a ring of `size` bytes.
pub struct RingMemory {
    reader: Mapping,
    writer: Mapping,
    size: usize,
}

impl RingMemory {
    /// Maps a ring.
    ///
    /// # Errors
    /// The descriptor is no ring, or `size` is not its own: a power of two and a multiple of the page.
    pub fn new(fd: impl AsFd, size: usize) -> io::Result<Self> {
        let page = page_size();
        if !size.is_power_of_two() || !size.is_multiple_of(page) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the size of a ring is a power of two of pages"));
        }
        let reader = Mapping::new(&fd, page, ProtFlags::READ | ProtFlags::WRITE, 0)?;
        let writer = Mapping::new(&fd, page + 2 * size, ProtFlags::READ, page as u64)?;
        Ok(Self { reader, writer, size })
    }

    /// How far the reader is.
    pub fn read_position(&self) -> &AtomicU64 {
        self.reader.word(0).expect("a page has a first word")
    }

    /// How far writers are.
    pub fn write_position(&self) -> &AtomicU64 {
        self.writer.word(0).expect("a page has a first word")
    }

    /// The header of the record at a position.
    pub fn header(&self, position: u64) -> Option<&AtomicU64> {
        self.writer.word(page_size() + self.offset(position))
    }

    /// `len` bytes from a position on; `None` if that is more than a ring holds.
    pub fn bytes(&self, position: u64, len: usize) -> Option<&[u8]> {
        if len > self.size {
            return None;
        }
        let start = page_size() + self.offset(position);
        // SAFETY: offset() is below `size`, and the data is mapped twice, so that `size` more bytes follow. The kernel
        // writes a record before it clears its busy bit, and not again until the reader's position is behind it.
        Some(unsafe { slice::from_raw_parts(self.writer.start.as_ptr().cast::<u8>().add(start), len) })
    }

    fn offset(&self, position: u64) -> usize {
        usize::try_from(position).unwrap_or_default() & (self.size - 1)
    }
}

/// An array of words that a BPF program reads and this process writes.
pub struct Words {
    mapping: Mapping,
}

impl Words {
    /// Maps an array of `count` words of 8 bytes.
    ///
    /// # Errors
    /// The descriptor is no such array.
    pub fn new(fd: impl AsFd, count: usize) -> io::Result<Self> {
        let len = (count * 8).next_multiple_of(page_size());
        Ok(Self { mapping: Mapping::new(fd, len, ProtFlags::READ | ProtFlags::WRITE, 0)? })
    }

    /// One of them; `None` beyond the last.
    pub fn get(&self, index: usize) -> Option<&AtomicU64> {
        self.mapping.word(index.checked_mul(8)?)
    }
}

/// A descriptor that this process was started with.
pub fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: the number comes from the command line, by which the agent hands descriptors over; nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
