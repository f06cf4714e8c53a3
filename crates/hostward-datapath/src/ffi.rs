//! The only module with `unsafe`: the few calls of libbpf that libbpf-rs does not wrap, and shared memory.
#![allow(unsafe_code, reason = "this module is the crate's one FFI boundary")]

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use memmap2::MmapOptions;
use memmap2::MmapRaw;

fn checked(ret: i32) -> io::Result<i32> {
    if ret < 0 { Err(io::Error::from_raw_os_error(-ret)) } else { Ok(ret) }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Attaches a program to a device's tcx hook (Linux 6.6). The link is gone when its last descriptor and pin are.
pub fn attach_tcx(program: BorrowedFd<'_>, ifindex: i32, hook: libbpf_sys::bpf_attach_type) -> io::Result<OwnedFd> {
    // SAFETY: a null pointer for the options is allowed; the descriptor is open for the length of the call.
    let fd = unsafe { libbpf_sys::bpf_link_create(program.as_raw_fd(), ifindex, hook, std::ptr::null()) };
    // SAFETY: a non-negative result is a descriptor that belongs to the caller.
    checked(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Replaces the program of a link atomically.
pub fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: a null pointer for the options is allowed; both descriptors are open for the length of the call.
    checked(unsafe { libbpf_sys::bpf_link_update(link.as_raw_fd(), program.as_raw_fd(), std::ptr::null()) }).map(drop)
}

/// Pins a map, program or link into bpffs.
pub fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    // SAFETY: the path is NUL-terminated and outlives the call.
    checked(unsafe { libbpf_sys::bpf_obj_pin(fd.as_raw_fd(), path.as_ptr()) }).map(drop)
}

/// Opens what is pinned at a path.
pub fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    // SAFETY: the path is NUL-terminated and outlives the call.
    let fd = unsafe { libbpf_sys::bpf_obj_get(path.as_ptr()) };
    // SAFETY: a non-negative result is a descriptor that belongs to the caller.
    checked(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Runs a program on a packet, `repeat` times: its return value, and nanoseconds for one run.
pub fn test_run(program: BorrowedFd<'_>, packet: &[u8], repeat: u32) -> io::Result<(u32, u32)> {
    let mut options = libbpf_sys::bpf_test_run_opts {
        sz: size_of::<libbpf_sys::bpf_test_run_opts>() as libbpf_sys::size_t,
        data_in: packet.as_ptr().cast(),
        data_size_in: u32::try_from(packet.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        repeat: i32::try_from(repeat).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        ..Default::default()
    };
    // SAFETY: `options` names its own size, and the packet outlives the call; no output buffer is given.
    checked(unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut options) })?;
    Ok((options.retval, options.duration))
}

/// The words of a memory-mapped array map. Both the kernel's programs and userspace read and write them atomically.
pub struct SharedWords {
    memory: MmapRaw,
    count: usize,
}

impl SharedWords {
    /// Maps the first `count` 8-byte elements of a `BPF_F_MMAPABLE` array.
    pub fn new(map: BorrowedFd<'_>, count: usize) -> io::Result<Self> {
        let memory = MmapOptions::new().len(count * size_of::<u64>()).map_raw(map.as_raw_fd())?;
        Ok(Self { memory, count })
    }

    /// The words.
    pub fn words(&self) -> &[AtomicU64] {
        #[allow(clippy::cast_ptr_alignment, reason = "a mapping is page-aligned")]
        // SAFETY: the mapping is page-aligned, `count` words long and lives as long as `self`; every access is atomic.
        unsafe {
            std::slice::from_raw_parts(self.memory.as_ptr().cast::<AtomicU64>(), self.count)
        }
    }
}
