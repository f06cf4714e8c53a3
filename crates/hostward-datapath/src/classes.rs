//! Class sets in the kernel: `hw_classes` is an array of maps, each holding one block of the port space.
//!
//! To put another map into an array of maps waits for an RCU grace period, some milliseconds in which a change is not yet
//! enforced. So a block that only a free class set uses is written in place, and equal blocks are one map.

use std::collections::HashMap;
use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use hostward_abi as abi;
use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use zerocopy::IntoBytes as _;

use crate::error::Result;
use crate::error::invalid;
use crate::error::libbpf;
use crate::maps::Maps;

const BLOCK: &str = "hw_class_block";
const ZERO: [u8; 4] = [0; 4];

/// What this process put into `hw_classes`.
#[derive(Default)]
pub(crate) struct ClassSets {
    /// Blocks by content.
    blocks: HashMap<Arc<[u8]>, MapHandle>,
    /// The content of a place: the very key of `blocks`, so that pointers can be compared.
    places: HashMap<u32, Arc<[u8]>>,
}

impl ClassSets {
    /// Writes the four blocks of a class set that no reference names, or whose content was tampered with.
    pub fn write(&mut self, maps: &Maps, class_set: u32, blocks: &[Vec<u16>]) -> Result<()> {
        let mut install = false;
        let mut files = Vec::new();
        for (place, classes) in (class_set * 4..).zip(blocks) {
            if classes.len() * 2 != size_of::<abi::ClassBlock>() {
                return Err(invalid("hw_classes", format!("a block of {} classes", classes.len())));
            }
            let block = self.provide(maps, place, classes.as_bytes())?;
            install |= !names(maps, place, block)?;
            files.push(u32::from_ne_bytes(block.as_fd().as_raw_fd().to_ne_bytes()));
        }
        if install {
            // In one call, since each waits by itself.
            maps.write_array("hw_classes", class_set * 4, &files)?;
        }
        Ok(())
    }

    /// A block of this content for a place.
    fn provide(&mut self, maps: &Maps, place: u32, content: &[u8]) -> Result<&MapHandle> {
        let intact = self.blocks.get(content).map(|block| holds(block, content)).transpose()? == Some(true);
        let before = self.places.get(&place).cloned();
        if !intact {
            // One that is there and not intact was written to behind our back: it is of no use to anybody.
            let map = match self.take_unused(maps, place, before.as_ref())? {
                Some(map) => map,
                None => Maps::create_inner(BLOCK, content.len(), 1, 0)?,
            };
            map.update(&ZERO, content, MapFlags::ANY).map_err(libbpf("write", BLOCK))?;
            self.blocks.insert(content.into(), map);
        }
        let (key, _) = self.blocks.get_key_value(content).ok_or_else(|| invalid(BLOCK, "it is gone"))?;
        self.places.insert(place, key.clone());
        if let Some(before) = before.filter(|before| !self.is_used(before, None)) {
            self.blocks.remove(&before);
        }
        self.blocks.get(content).ok_or_else(|| invalid(BLOCK, "it is gone"))
    }

    /// The map of a place's content before, if the place still names it and no other has that content.
    fn take_unused(&mut self, maps: &Maps, place: u32, before: Option<&Arc<[u8]>>) -> Result<Option<MapHandle>> {
        let Some(before) = before.filter(|before| !self.is_used(before, Some(place))) else { return Ok(None) };
        match self.blocks.get(before) {
            Some(block) if names(maps, place, block)? => Ok(self.blocks.remove(before)),
            _ => Ok(None),
        }
    }

    /// Whether the four blocks of a class set are the ones given, whoever wrote them.
    pub fn holds(&self, maps: &Maps, class_set: u32, blocks: &[Vec<u16>]) -> Result<bool> {
        for (place, classes) in (class_set * 4..).zip(blocks) {
            let content = classes.as_bytes();
            // Our own can be read without the right to open maps by their numbers, which a confined agent has not.
            let own = self.places.get(&place).and_then(|used| self.blocks.get(used));
            let intact = match own {
                Some(block) if names(maps, place, block)? => holds(block, content)?,
                _ => {
                    // Read, an array of maps tells the number of the map in it.
                    let Ok(Some(id)) = maps.read::<_, u32>("hw_classes", &place) else { return Ok(false) };
                    let Ok(block) = MapHandle::from_map_id(id) else { return Ok(false) };
                    holds(&block, content)?
                }
            };
            if !intact {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a place has this content, one of them left out.
    fn is_used(&self, content: &Arc<[u8]>, but: Option<u32>) -> bool {
        self.places.iter().any(|(&place, used)| Some(place) != but && Arc::ptr_eq(used, content))
    }
}

fn holds(block: &MapHandle, content: &[u8]) -> Result<bool> {
    let held = block.lookup(&ZERO, MapFlags::ANY).map_err(libbpf("read", BLOCK))?;
    Ok(held.is_some_and(|held| held == content))
}

/// Whether a place names this map.
fn names(maps: &Maps, place: u32, block: &MapHandle) -> Result<bool> {
    let id = block.info().map_err(libbpf("look at", BLOCK))?.info.id;
    Ok(matches!(maps.read::<_, u32>("hw_classes", &place), Ok(Some(named)) if named == id))
}
