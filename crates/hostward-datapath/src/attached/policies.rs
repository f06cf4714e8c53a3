//! What decides about an endpoint, by what it says and not by where it stands: followed from the endpoint's active word
//! to policy blocks, tables, rows, decisions and their limits. What several endpoints share is read once.

use std::collections::HashMap;
use std::os::fd::AsFd as _;

use hostward_abi as abi;
use hostward_abi::decision_flag;
use hostward_abi::stride;
use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use zerocopy::FromBytes;
use zerocopy::IntoBytes as _;

use super::Digest;
use super::Parts;
use super::Sight;
use super::add_numbered;
use super::io_error;
use crate::error::Result;
use crate::error::kernel;
use crate::error::libbpf;
use crate::ffi;
use crate::maps::Maps;
use crate::maps::each_element;

const LIMITED: u8 = decision_flag::DECISION_LIMITED as u8;
/// `HW_CLASSES_PER_SET`.
const BLOCKS: u32 = 4;

/// One reading of the maps.
pub struct Policies<'a> {
    maps: &'a Maps,
    sight: Sight,
    choices: HashMap<u32, Vec<(abi::ChoiceKey, u32)>>,
    processes: HashMap<u32, Vec<(u64, u8)>>,
    decisions: HashMap<u32, Digest>,
    rows: HashMap<(u32, u16), Digest>,
    class_sets: HashMap<u16, Digest>,
    tables: HashMap<(u32, u32), Digest>,
}

impl<'a> Policies<'a> {
    /// Reads what is kept in hash tables; the rest as it is asked for.
    pub fn new(maps: &'a Maps, sight: Sight) -> Result<Self> {
        let mut choices: HashMap<u32, Vec<_>> = HashMap::new();
        each_element(maps.get("hw_choices"), |key, value| {
            if let (Ok(key), Ok(chosen)) = (abi::ChoiceKey::read_from_bytes(key), u32::read_from_bytes(value)) {
                choices.entry(key.decision).or_default().push((key, chosen));
            }
            Ok(())
        })?;
        let mut processes: HashMap<u32, Vec<_>> = HashMap::new();
        each_element(maps.get("hw_processes"), |key, value| {
            if let Ok(key) = abi::ProcessKey::read_from_bytes(key) {
                processes.entry(key.slot).or_default().push((key.executable, value[0]));
            }
            Ok(())
        })?;
        for found in choices.values_mut() {
            found.sort_by_key(|(key, _)| (key.end, key.process, key.executable));
        }
        for found in processes.values_mut() {
            found.sort_unstable();
        }
        Ok(Self {
            maps,
            sight,
            choices,
            processes,
            decisions: HashMap::new(),
            rows: HashMap::new(),
            class_sets: HashMap::new(),
            tables: HashMap::new(),
        })
    }

    /// One endpoint: its configuration, and for each of its addresses what is decided about each peer.
    pub fn endpoint(&mut self, slot: u32) -> Result<Digest> {
        let mut parts = Parts::default();
        parts.add(&range(self.maps.get("hw_endpoints"), slot, 1)?);
        let active: Option<abi::Active> = self.maps.read("hw_active", &slot)?;
        let blocks = active.map_or(Ok(Vec::new()), |active| {
            range(self.maps.get("hw_policies"), active.policy, stride::ADDRESSES_PER_ENDPOINT)
        })?;
        for block in values::<abi::Policy>(&blocks) {
            parts.add(&block.revision.to_be_bytes()).add(&block.identity.to_be_bytes()).add(&block.address);
            for (first, count) in block.table.into_iter().zip(block.peers) {
                parts.add(&self.table(first, count)?);
            }
        }
        for (executable, number) in self.processes.get(&slot).into_iter().flatten() {
            parts.add(&executable.to_be_bytes()).add(&[*number]);
        }
        Ok(parts.digest())
    }

    /// What every endpoint's look-ups begin with: who an address is.
    pub fn tables(&self) -> Result<Digest> {
        let mut parts = Parts::default();
        for name in ["hw_hosts4", "hw_hosts6"] {
            let mut found = Vec::new();
            each_element(self.maps.get(name), |key, value| {
                found.push([key, value].concat());
                Ok(())
            })?;
            add_sorted(&mut parts, name, found);
        }
        for name in ["hw_prefixes4", "hw_prefixes6"] {
            let map = self.maps.get(name);
            let mut found = Vec::new();
            for key in map.keys() {
                let value = map.lookup(&key, MapFlags::ANY).map_err(libbpf("read", name))?;
                found.push([key, value.unwrap_or_default()].concat());
            }
            add_sorted(&mut parts, name, found);
        }
        Ok(parts.digest())
    }

    fn table(&mut self, first: u32, count: u32) -> Result<Digest> {
        if let Some(known) = self.tables.get(&(first, count)) {
            return Ok(*known);
        }
        let mut parts = Parts::default();
        let refs = range(self.maps.get("hw_refs"), first, count)?;
        // Fewer than the block says: it names what is beyond the map.
        parts.add(&count.to_be_bytes());
        for peer in values::<abi::Ref>(&refs) {
            if peer.row_length == 0 {
                parts.add(b"unknown");
                continue;
            }
            parts.add(&self.row(peer.row, peer.row_length)?).add(&self.class_set(peer.class_set)?);
        }
        let digest = parts.digest();
        self.tables.insert((first, count), digest);
        Ok(digest)
    }

    fn row(&mut self, first: u32, length: u16) -> Result<Digest> {
        if let Some(known) = self.rows.get(&(first, length)) {
            return Ok(*known);
        }
        let mut parts = Parts::default();
        let cells = range(self.maps.get("hw_cells"), first, u32::from(length))?;
        parts.add(&length.to_be_bytes());
        for cell in values::<abi::Cell>(&cells) {
            parts.add(&self.decision(cell.decision)?);
        }
        let digest = parts.digest();
        self.rows.insert((first, length), digest);
        Ok(digest)
    }

    /// A decision with the limits and choices that hang on it; what a choice leads to chooses no more.
    fn decision(&mut self, index: u32) -> Result<Digest> {
        if let Some(known) = self.decisions.get(&index) {
            return Ok(*known);
        }
        let mut parts = Parts::default();
        parts.add(&self.verdict(index)?);
        for (key, chosen) in self.choices.get(&index).into_iter().flatten() {
            parts.add(&key.executable.to_be_bytes()).add(&key.end.to_be_bytes()).add(&key.process.to_be_bytes());
            parts.add(&self.verdict(*chosen)?);
        }
        let digest = parts.digest();
        self.decisions.insert(index, digest);
        Ok(digest)
    }

    fn verdict(&self, index: u32) -> Result<Digest> {
        let mut parts = Parts::default();
        // Index 0 is no decision, whatever stands there: a cell without one denies.
        if index != 0 {
            let held: Option<abi::Decision> = self.maps.read("hw_decisions", &index)?;
            parts.add(held.as_ref().map_or(&[][..], |held| held.as_bytes()));
            if held.is_some_and(|held| held.flags & LIMITED != 0) {
                let limits: Option<abi::Limits> = self.maps.read("hw_limits", &index)?;
                parts.add(limits.as_ref().map_or(&[][..], |limits| limits.as_bytes()));
            }
        }
        Ok(parts.digest())
    }

    fn class_set(&mut self, number: u16) -> Result<Digest> {
        if let Some(known) = self.class_sets.get(&number) {
            return Ok(*known);
        }
        let mut parts = Parts::default();
        for place in 0..BLOCKS {
            // Read, an array of maps tells the number of the map in it.
            let id = self.maps.read::<_, u32>("hw_classes", &(u32::from(number) * BLOCKS + place)).unwrap_or_default();
            let block = id.map(|id| MapHandle::from_map_id(id).map_err(io_error)).transpose();
            let content = block.map(|block| block?.lookup(&0u32.to_ne_bytes(), MapFlags::ANY).ok().flatten());
            add_numbered(&mut parts, self.sight, id, content)?;
        }
        let digest = parts.digest();
        self.class_sets.insert(number, digest);
        Ok(digest)
    }
}

/// Elements of an array map, as they lie behind one another; fewer where it ends before.
fn range(map: &MapHandle, first: u32, count: u32) -> Result<Vec<u8>> {
    let count = count.min(map.max_entries().saturating_sub(first));
    if count == 0 {
        return Ok(Vec::new());
    }
    let mut keys = vec![0; 4 * count as usize];
    let mut found = vec![0; map.value_size() as usize * count as usize];
    ffi::lookup_batch(map.as_fd(), first.checked_sub(1), &mut keys, &mut found, count)
        .map_err(kernel("read", map.name().to_string_lossy()))?;
    Ok(found)
}

fn values<T: FromBytes>(bytes: &[u8]) -> impl Iterator<Item = T> {
    bytes.chunks_exact(size_of::<T>()).filter_map(|chunk| T::read_from_bytes(chunk).ok())
}

fn add_sorted(parts: &mut Parts, name: &str, mut found: Vec<Vec<u8>>) {
    found.sort_unstable();
    parts.add(name.as_bytes());
    for entry in found {
        parts.add(&entry);
    }
}
