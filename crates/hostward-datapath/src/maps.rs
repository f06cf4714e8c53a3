//! The maps: created once, pinned, and shared by every port's programs.

use std::collections::HashMap;
use std::fs;
use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use libbpf_rs::MapType;
use libbpf_rs::ObjectBuilder;
use libbpf_rs::OpenObject;
use zerocopy::FromBytes;
use zerocopy::Immutable;
use zerocopy::IntoBytes;

use crate::Capacity;
use crate::error::Result;
use crate::error::invalid;
use crate::error::kernel;
use crate::error::libbpf;
use crate::ffi;

/// Every shared map of the object, in the order of `bpf/maps.h`.
const NAMES: [&str; 32] = [
    "hw_endpoints",
    "hw_active",
    "hw_networks",
    "hw_policies",
    "hw_refs",
    "hw_cells",
    "hw_decisions",
    "hw_counts",
    "hw_limits",
    "hw_buckets",
    "hw_sockets",
    "hw_processes",
    "hw_executables",
    "hw_choices",
    "hw_datagrams",
    "hw_classes",
    "hw_hosts4",
    "hw_hosts6",
    "hw_prefixes4",
    "hw_prefixes6",
    "hw_flows4",
    "hw_flows6",
    "hw_rings",
    "hw_usage",
    "hw_guards",
    "hw_reasons",
    "hw_denials",
    "hw_samplers",
    "hw_samples",
    "hw_inspect",
    "hw_inspect_usage",
    "hw_inspect_done",
];
const EVENTS: &str = "hw_events";

/// Handles to the pinned maps.
pub(crate) struct Maps {
    handles: Vec<(&'static str, MapHandle)>,
    /// Whether they were there before.
    pub reused: bool,
}

impl Maps {
    /// Opens the maps pinned under `directory`, or creates and pins them there.
    pub fn open(object: &Path, directory: &Path, capacity: &Capacity) -> Result<Self> {
        let names = || NAMES.iter().copied().chain([EVENTS]);
        if names().all(|name| directory.join(name).exists()) {
            let handles =
                names().map(|name| Ok((name, open_pinned(&directory.join(name))?))).collect::<Result<Vec<_>>>()?;
            let maps = Self { handles, reused: true };
            maps.check_capacity(capacity)?;
            return Ok(maps);
        }
        fs::create_dir_all(directory).map_err(kernel("create", directory.display()))?;
        let mut open = open_object(object)?;
        for mut program in open.progs_mut() {
            program.set_autoload(false);
        }
        for mut map in open.maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            if let Some(entries) = capacity.of_map(&name) {
                map.set_max_entries(entries).map_err(libbpf("size", name))?;
            }
        }
        let loaded = open.load().map_err(libbpf("create the maps of", object.display()))?;
        let mut handles = Vec::new();
        for map in loaded.maps() {
            let Some(name) = names().find(|name| map.name() == *name) else { continue };
            let path = directory.join(name);
            // A pin of an incomplete earlier set is of no use: its maps belong to nobody.
            if path.exists() {
                fs::remove_file(&path).map_err(kernel("remove", path.display()))?;
            }
            ffi::pin(map.as_fd(), &path).map_err(kernel("pin", path.display()))?;
            handles.push((name, MapHandle::try_from(&map).map_err(libbpf("open", name))?));
        }
        Ok(Self { handles, reused: false })
    }

    /// Opens the maps that are pinned under `directory`, whatever their sizes.
    pub fn open_pinned(directory: &Path) -> Result<Self> {
        let names = NAMES.iter().copied().chain([EVENTS]);
        let handles = names.map(|name| Ok((name, open_pinned(&directory.join(name))?))).collect::<Result<Vec<_>>>()?;
        Ok(Self { handles, reused: true })
    }

    /// The maps' names by the kernel's numbers.
    pub fn numbers(&self) -> Result<HashMap<u32, &'static str>> {
        let number = |(name, handle): &(&'static str, MapHandle)| {
            Ok((handle.info().map_err(libbpf("look at", name))?.info.id, *name))
        };
        self.handles.iter().map(number).collect()
    }

    fn check_capacity(&self, capacity: &Capacity) -> Result<()> {
        for (name, handle) in &self.handles {
            let have = handle.max_entries();
            if capacity.of_map(name).is_some_and(|want| want != have) {
                return Err(invalid(
                    name,
                    format!("the pinned map holds {have} elements, not what the configuration asks for"),
                ));
            }
        }
        Ok(())
    }

    /// What each map takes of the kernel's memory, in bytes, by the kernel's own count (Linux 6.4; before it an estimate).
    pub fn memory(&self) -> Vec<(&'static str, u64)> {
        self.handles.iter().filter_map(|(name, handle)| Some((*name, memory_of(handle)?))).collect()
    }

    /// The handle of a map by name.
    pub fn get(&self, name: &str) -> &MapHandle {
        self.handles
            .iter()
            .find_map(|(candidate, handle)| (*candidate == name).then_some(handle))
            .expect("the name is one of NAMES")
    }

    /// Pins again what was unpinned by hand; the names that were missing.
    pub fn repin(&self, directory: &Path) -> Result<Vec<&'static str>> {
        let mut missing = Vec::new();
        for (name, handle) in &self.handles {
            let path = directory.join(name);
            if !path.exists() {
                fs::create_dir_all(directory).map_err(kernel("create", directory.display()))?;
                ffi::pin(handle.as_fd(), &path).map_err(kernel("pin", path.display()))?;
                missing.push(*name);
            }
        }
        Ok(missing)
    }

    /// Opens the object for one port, with these maps in place of new ones.
    pub fn object_for_port(&self, object: &Path) -> Result<OpenObject> {
        let mut open = open_object(object)?;
        for mut map in open.maps_mut() {
            let found = self.handles.iter().find(|(name, _)| map.name() == *name);
            if let Some((name, handle)) = found {
                map.reuse_fd(handle.as_fd()).map_err(libbpf("reuse", name))?;
            }
        }
        Ok(open)
    }

    /// Writes consecutive elements of an array map.
    pub fn write_array<T: IntoBytes + Immutable>(&self, name: &str, first: u32, values: &[T]) -> Result<()> {
        let handle = self.get(name);
        let count = u32::try_from(values.len()).map_err(|_| invalid(name, "too many elements"))?;
        if count == 0 {
            return Ok(());
        }
        if first.checked_add(count).is_none_or(|end| end > handle.max_entries()) {
            return Err(invalid(name, format!("elements {first}+{count} lie beyond its {}", handle.max_entries())));
        }
        let keys: Vec<u32> = (first..first + count).collect();
        handle
            .update_batch(keys.as_bytes(), values.as_bytes(), count, MapFlags::ANY, MapFlags::ANY)
            .map_err(libbpf("write", name))
    }

    /// Reads one element of an array or hash map.
    pub fn read<K: IntoBytes + Immutable, T: FromBytes>(&self, name: &str, key: &K) -> Result<Option<T>> {
        let value = self.get(name).lookup(key.as_bytes(), MapFlags::ANY).map_err(libbpf("read", name))?;
        Ok(value.and_then(|bytes| T::read_from_bytes(&bytes).ok()))
    }

    /// Reads consecutive elements of an array map.
    pub fn read_array<T: FromBytes>(&self, name: &str, first: u32, count: u32) -> Result<Vec<T>> {
        (first..first + count)
            .map(|index| self.read(name, &index)?.ok_or_else(|| invalid(name, format!("no element {index}"))))
            .collect()
    }

    /// Writes one element of a hash map, or of an array of maps.
    pub fn write<K: IntoBytes + Immutable, T: IntoBytes + Immutable>(
        &self,
        name: &str,
        key: &K,
        value: &T,
    ) -> Result<()> {
        self.get(name).update(key.as_bytes(), value.as_bytes(), MapFlags::ANY).map_err(libbpf("write", name))
    }

    /// Removes one element of a hash map; one that is not there is removed already.
    pub fn remove<K: IntoBytes + Immutable>(&self, name: &str, key: &K) -> Result<()> {
        match self.get(name).delete(key.as_bytes()) {
            Err(error) if error.kind() != libbpf_rs::ErrorKind::NotFound => Err(libbpf("remove from", name)(error)),
            _ => Ok(()),
        }
    }

    /// Creates a map to be put into an array of maps.
    pub fn create_inner(name: &'static str, value_len: usize, entries: u32, flags: u32) -> Result<MapHandle> {
        let options = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
            map_flags: flags,
            ..Default::default()
        };
        MapHandle::create(MapType::Array, Some(name), 4, value_len as u32, entries, &options)
            .map_err(libbpf("create", name))
    }
}

/// Elements read by one system call; more than any bucket of a hash map holds.
const BATCH: u32 = 256;

/// Visits every element of a hash or array map, while packets may come and go.
pub(crate) fn each_element(map: &MapHandle, mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
    let (key_len, value_len) = (map.key_size() as usize, map.value_size() as usize);
    let (mut keys, mut values) = (vec![0; key_len * BATCH as usize], vec![0; value_len * BATCH as usize]);
    let mut position = None;
    loop {
        let (found, next) = ffi::lookup_batch(map.as_fd(), position, &mut keys, &mut values, BATCH)
            .map_err(kernel("read", map.name().to_string_lossy()))?;
        for (key, value) in keys.chunks_exact(key_len).zip(values.chunks_exact(value_len)).take(found) {
            visit(key, value)?;
        }
        if next.is_none() {
            return Ok(());
        }
        position = next;
    }
}

/// `proc_pid_fdinfo(5)`: bpf maps tell their memory there.
pub(crate) fn memory_of(map: &MapHandle) -> Option<u64> {
    let path = format!("/proc/self/fdinfo/{}", map.as_fd().as_raw_fd());
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix("memlock:"))?.trim().parse().ok()
}

fn open_object(path: &Path) -> Result<OpenObject> {
    ObjectBuilder::default().open_file(path).map_err(libbpf("open", path.display()))
}

pub(crate) fn open_pinned(path: &Path) -> Result<MapHandle> {
    MapHandle::from_pinned_path(path).map_err(libbpf("open", path.display()))
}
