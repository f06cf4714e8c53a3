//! The only module with `unsafe`: the few calls of libbpf that libbpf-rs does not wrap, and shared memory.
#![allow(unsafe_code, reason = "this module is the crate's one FFI boundary")]

use std::ffi::CString;
use std::fs::File;
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

/// Attaches a program to a device's hook: tcx (Linux 6.6) or XDP. The link is gone when its last descriptor and pin are.
pub fn attach_device(program: BorrowedFd<'_>, ifindex: i32, hook: libbpf_sys::bpf_attach_type) -> io::Result<OwnedFd> {
    // SAFETY: a null pointer for the options is allowed; the descriptor is open for the length of the call.
    let fd = unsafe { libbpf_sys::bpf_link_create(program.as_raw_fd(), ifindex, hook, std::ptr::null()) };
    // SAFETY: a non-negative result is a descriptor that belongs to the caller.
    checked(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a program to a cgroup. The link is gone when its last descriptor and pin are.
pub fn attach_cgroup(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    hook: libbpf_sys::bpf_attach_type,
) -> io::Result<OwnedFd> {
    // SAFETY: a null pointer for the options is allowed; both descriptors are open for the length of the call.
    let fd = unsafe { libbpf_sys::bpf_link_create(program.as_raw_fd(), cgroup.as_raw_fd(), hook, std::ptr::null()) };
    // SAFETY: a non-negative result is a descriptor that belongs to the caller.
    checked(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Runs an iterator's program on everything that it iterates over.
pub fn run_iterator(program: BorrowedFd<'_>) -> io::Result<()> {
    let hook = libbpf_sys::BPF_TRACE_ITER;
    // SAFETY: a null pointer for the options is allowed; the descriptor is open for the length of the call.
    let link = checked(unsafe { libbpf_sys::bpf_link_create(program.as_raw_fd(), 0, hook, std::ptr::null()) })?;
    // SAFETY: a non-negative result is a descriptor that belongs to the caller.
    let link = unsafe { OwnedFd::from_raw_fd(link) };
    // SAFETY: the link is open for the length of the call.
    let run = checked(unsafe { libbpf_sys::bpf_iter_create(link.as_raw_fd()) })?;
    // SAFETY: a non-negative result is a descriptor that belongs to the caller.
    let mut run = File::from(unsafe { OwnedFd::from_raw_fd(run) });
    io::copy(&mut run, &mut io::sink()).map(drop)
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

/// The BTF that a map was created with, and in it the numbers of the types of its keys and values.
pub fn map_types(map: BorrowedFd<'_>) -> io::Result<(Vec<u8>, u32, u32)> {
    let mut about = libbpf_sys::bpf_map_info::default();
    let mut length = size_of_val(&about) as u32;
    // SAFETY: `about` is as long as `length` says, and the descriptor is open for the length of the call.
    checked(unsafe { libbpf_sys::bpf_map_get_info_by_fd(map.as_raw_fd(), &raw mut about, &raw mut length) })?;
    // SAFETY: the call takes a number alone.
    let fd = checked(unsafe { libbpf_sys::bpf_btf_get_fd_by_id(about.btf_id) })?;
    // SAFETY: a non-negative result is a descriptor that belongs to the caller.
    let types = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut bytes = Vec::new();
    // The first call tells how many bytes there are, the second fetches them.
    for _ in 0..2 {
        let mut info = libbpf_sys::bpf_btf_info {
            btf: bytes.as_mut_ptr() as u64,
            btf_size: bytes.len() as u32,
            ..Default::default()
        };
        let mut length = size_of_val(&info) as u32;
        // SAFETY: `info` is as long as `length` says and points to `btf_size` bytes, which outlive the call.
        checked(unsafe { libbpf_sys::bpf_btf_get_info_by_fd(types.as_raw_fd(), &raw mut info, &raw mut length) })?;
        bytes.resize(info.btf_size as usize, 0);
    }
    Ok((bytes, about.btf_key_type_id, about.btf_value_type_id))
}

/// One step of a walk over a hash map: how many keys and values were written, and where to go on; `None` behind the last.
///
/// libbpf-rs's own iterator takes a batch that is not full for the last one, and a hash map's seldom is: whole buckets
/// only. `keys` and `values` have room for `count` elements of the map's sizes.
pub fn lookup_batch(
    map: BorrowedFd<'_>,
    after: Option<u32>,
    keys: &mut [u8],
    values: &mut [u8],
    count: u32,
) -> io::Result<(usize, Option<u32>)> {
    let options = libbpf_sys::bpf_map_batch_opts {
        sz: size_of::<libbpf_sys::bpf_map_batch_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    let (mut from, mut next, mut found) = (after.unwrap_or_default(), 0u32, count);
    let from_pointer = if after.is_some() { (&raw mut from).cast() } else { std::ptr::null_mut() };
    // SAFETY: the kernel reads and writes a hash map's place as one u32, and at most `count` elements, for which the caller
    // made room; all pointers outlive the call.
    let ret = unsafe {
        libbpf_sys::bpf_map_lookup_batch(
            map.as_raw_fd(),
            from_pointer,
            (&raw mut next).cast(),
            keys.as_mut_ptr().cast(),
            values.as_mut_ptr().cast(),
            &raw mut found,
            &raw const options,
        )
    };
    match checked(ret) {
        Ok(_) => Ok((found as usize, Some(next))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((found as usize, None)),
        Err(error) => Err(error),
    }
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

/// What the kernel tells of a loaded program.
pub struct ProgramFacts {
    /// Never given to another program.
    pub id: u32,
    /// `enum bpf_prog_type`.
    pub kind: u32,
    /// The kernel's hash of the instructions as they were loaded, without the maps.
    pub tag: [u8; 8],
    /// Zeros behind it.
    pub name: [u8; 16],
    /// As the verifier left them; maps by their numbers. Empty where the kernel does not show them.
    pub instructions: Vec<u8>,
}

/// Asks for a program's instructions and name.
pub fn program_facts(program: BorrowedFd<'_>) -> io::Result<ProgramFacts> {
    let mut instructions = Vec::new();
    let mut info = libbpf_sys::bpf_prog_info::default();
    // The first call tells how many bytes there are, the second fetches them.
    for _ in 0..2 {
        info = libbpf_sys::bpf_prog_info {
            xlated_prog_insns: instructions.as_mut_ptr() as u64,
            xlated_prog_len: instructions.len() as u32,
            ..Default::default()
        };
        let mut length = size_of_val(&info) as u32;
        // SAFETY: `info` is as long as `length` says and points to `xlated_prog_len` bytes, which outlive the call.
        checked(unsafe { libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut length) })?;
        instructions.resize(info.xlated_prog_len as usize, 0);
    }
    if info.xlated_prog_insns == 0 {
        instructions.clear(); // it was blinded (bpf_jit_harden), and we may not see kernel addresses
    }
    Ok(ProgramFacts {
        id: info.id,
        kind: info.type_,
        tag: info.tag,
        name: info.name.map(|character| character.to_ne_bytes()[0]),
        instructions,
    })
}

/// The numbers of the programs at a device's hook, in the order in which packets meet them; at most 64.
pub fn programs_at(ifindex: i32, hook: libbpf_sys::bpf_attach_type) -> io::Result<Vec<u32>> {
    let mut numbers = [0u32; 64];
    let mut options = libbpf_sys::bpf_prog_query_opts {
        sz: size_of::<libbpf_sys::bpf_prog_query_opts>() as libbpf_sys::size_t,
        prog_ids: numbers.as_mut_ptr(),
        __bindgen_anon_1: libbpf_sys::bpf_prog_query_opts__bindgen_ty_1 { count: numbers.len() as u32 },
        ..Default::default()
    };
    // SAFETY: `options` names its own size, and `prog_ids` has room for the `count` numbers that it says.
    checked(unsafe { libbpf_sys::bpf_prog_query_opts(ifindex, hook, &raw mut options) })?;
    // SAFETY: both fields of the union are the same 32-bit number.
    let count = unsafe { options.__bindgen_anon_1.count } as usize;
    Ok(numbers[..count.min(numbers.len())].to_vec())
}
