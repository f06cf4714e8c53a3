//! What is attached, by what it does: a program's instructions as the verifier left them, and which maps they name.
//!
//! Numbers of programs and maps and addresses in the kernel differ between two loads of one object, and are left out. The
//! kernel's tag holds what is lost by that: which helpers are called.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::os::fd::AsFd as _;
use std::os::fd::BorrowedFd;
use std::path::Path;

use libbpf_rs::Link;
use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use libbpf_rs::Program;
use libbpf_rs::query::LinkTypeInfo;

use super::Digest;
use super::Parts;
use super::Shared;
use crate::error::Result;
use crate::ffi;
use crate::netns;
use crate::place::Place;
use crate::port::BASE_PRIORITY;
use crate::port::Direction;
use crate::port::VERDICT_PRIORITY;
use crate::port::query_filter;

const LOAD_64: u8 = 0x18;
const CALL: u8 = 0x85;
// What the second half of an instruction's register byte says of a LOAD_64's number: BPF_PSEUDO_*.
const PLAIN: u8 = 0;
const TYPE: u8 = 3;
const FUNCTION: u8 = 4;
/// The kernel's half of the address space begins here, on every architecture that Hostward runs on.
const KERNEL: u64 = 0xffff_8000_0000_0000;

/// A program's own part of the digest, and the maps that it names in the order in which it does.
struct Code {
    digest: Digest,
    maps: Vec<u32>,
    met: bool,
}

impl Code {
    fn read(number: u32) -> io::Result<Self> {
        let program = Program::fd_from_id(number).map_err(|error| io::Error::other(error.to_string()))?;
        let facts = ffi::program_facts(program.as_fd())?;
        let mut instructions = facts.instructions;
        let maps = normalise(&mut instructions);
        let mut parts = Parts::default();
        parts.add(&facts.name).add(&facts.kind.to_be_bytes()).add(&facts.tag).add(&instructions);
        Ok(Self { digest: parts.digest(), maps, met: false })
    }
}

/// Programs that were read, by number: what is loaded cannot change.
#[derive(Default)]
pub struct Programs {
    known: HashMap<u32, Code>,
}

impl Programs {
    /// Forgets what was not met since the last call.
    pub fn forget(&mut self) {
        self.known.retain(|_, code| std::mem::take(&mut code.met));
    }

    /// One port: which programs its device's packets meet, in which order, before they pass.
    pub fn port(&mut self, folder: &str, directory: &Path, shared: &Shared) -> Result<Digest> {
        let mut parts = Parts::default();
        parts.add(folder.as_bytes());
        for place in Place::recorded(directory)? {
            parts.add(place.folder().as_bytes());
            for direction in Direction::BOTH {
                let pinned = ffi::open_pinned(&directory.join(format!("{}_program", direction.word())));
                let pinned = pinned.and_then(|program| number(program.as_fd()));
                self.add_link(&mut parts, &directory.join(format!("{}_link", direction.word())), shared);
                let met = pinned.and_then(|own| {
                    let met = netns::run_in(&place.namespace, || Ok(met_at(own, place.ifindex, direction)))?;
                    parts.add(self.digest(own, shared)?.as_slice());
                    Ok((own, met))
                });
                let Ok((own, (chain, filters))) = met else {
                    parts.add(b"gone");
                    continue;
                };
                for one in chain {
                    parts.add(if one == own { b"own" } else { b"another's" });
                }
                for filter in filters {
                    match filter.map(|one| self.digest(one, shared)) {
                        Some(Ok(digest)) => parts.add(&digest),
                        _ => parts.add(b"none"),
                    };
                }
            }
        }
        Ok(parts.digest())
    }

    /// A program that watches the processes of a cgroup, by its pinned link.
    pub fn watcher(&mut self, path: &Path, shared: &Shared) -> Digest {
        let mut parts = Parts::default();
        self.add_link(&mut parts, path, shared);
        parts.digest()
    }

    fn add_link(&mut self, parts: &mut Parts, path: &Path, shared: &Shared) {
        let Some(link) = Link::open(path).ok().and_then(|link| link.info().ok()) else {
            parts.add(b"no link");
            return;
        };
        match link.info {
            LinkTypeInfo::Tcx(at) => {
                parts.add(&at.ifindex.to_be_bytes()).add(&(at.attach_type as u32).to_be_bytes());
            }
            LinkTypeInfo::Cgroup(at) => {
                parts.add(&at.cgroup_id.to_be_bytes()).add(&(at.attach_type as u32).to_be_bytes());
            }
            _ => {
                parts.add(b"a link of another kind");
            }
        }
        match self.digest(link.prog_id, shared) {
            Ok(digest) => parts.add(&digest),
            Err(_) => parts.add(b"no program"),
        };
    }

    /// A program by its number, with what its maps are to it.
    fn digest(&mut self, number: u32, shared: &Shared) -> io::Result<Digest> {
        let code = match self.known.entry(number) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Code::read(number)?),
        };
        code.met = true;
        let mut parts = Parts::default();
        parts.add(&code.digest);
        for map in &code.maps {
            match shared.get(map) {
                Some(name) => parts.add(b"shared").add(name.as_bytes()),
                None => parts.add(b"own").add(&own_map(*map)?),
            };
        }
        Ok(parts.digest())
    }
}

fn number(program: BorrowedFd<'_>) -> io::Result<u32> {
    ffi::program_facts(program).map(|facts| facts.id)
}

/// The programs of the device's tcx hook, and its filters: verdict and base.
fn met_at(own: u32, ifindex: i32, direction: Direction) -> (Vec<u32>, [Option<u32>; 2]) {
    // Linux before 6.6 has no such hook, and then nothing is there.
    let chain = ffi::programs_at(ifindex, direction.tcx()).unwrap_or_default();
    let filters = Program::fd_from_id(own).map_or([None; 2], |any| {
        [VERDICT_PRIORITY, BASE_PRIORITY].map(|priority| query_filter(any.as_fd(), ifindex, direction, priority))
    });
    (chain, filters)
}

/// A map that is no shared one: what it is, and of a program's constants what they are.
fn own_map(number: u32) -> io::Result<Digest> {
    let failed = |error: libbpf_rs::Error| io::Error::other(error.to_string());
    let map = MapHandle::from_map_id(number).map_err(failed)?;
    let info = map.info().map_err(failed)?.info;
    let mut parts = Parts::default();
    parts.add(map.name().as_encoded_bytes());
    for fact in [info.type_, info.key_size, info.value_size, info.max_entries, info.map_flags] {
        parts.add(&fact.to_be_bytes());
    }
    if info.map_flags & libbpf_sys::BPF_F_RDONLY_PROG != 0 {
        let constants = map.lookup(&0u32.to_ne_bytes(), MapFlags::ANY).map_err(failed)?;
        parts.add(&constants.unwrap_or_default());
    }
    Ok(parts.digest())
}

/// Takes out what differs between two loads of one program; returns the maps' numbers, whose places in that list stand
/// instead of them.
fn normalise(instructions: &mut [u8]) -> Vec<u32> {
    let mut maps = Vec::new();
    let mut at = 0;
    while at + 8 <= instructions.len() {
        let (code, source) = (instructions[at], instructions[at + 1] >> 4);
        if code == CALL {
            instructions[at + 4..at + 8].fill(0); // a helper's address
        }
        if code != LOAD_64 || at + 16 > instructions.len() {
            at += 8;
            continue;
        }
        let half = |at: usize| u32::from_le_bytes(instructions[at..at + 4].try_into().unwrap_or_default());
        let (low, high) = (half(at + 4), half(at + 12));
        let address = u64::from(high) << 32 | u64::from(low);
        match source {
            PLAIN if address >= KERNEL => {
                instructions[at + 4..at + 8].fill(0);
                instructions[at + 12..at + 16].fill(0);
            }
            TYPE => {
                instructions[at + 4..at + 8].fill(0);
                instructions[at + 12..at + 16].fill(0);
            }
            PLAIN | FUNCTION => {}
            _ => {
                let place = maps.iter().position(|&map| map == low).unwrap_or_else(|| {
                    maps.push(low);
                    maps.len() - 1
                });
                instructions[at + 4..at + 8].copy_from_slice(&(place as u32).to_le_bytes());
            }
        }
        at += 16;
    }
    maps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(source: u8, low: u32, high: u32) -> Vec<u8> {
        let mut bytes = vec![LOAD_64, source << 4 | 1, 0, 0];
        bytes.extend(low.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(high.to_le_bytes());
        bytes
    }

    #[test]
    fn numbers_of_maps_become_places_and_addresses_go() {
        let mut code = [load(1, 70, 0), load(2, 71, 8), load(1, 70, 0), load(0, 5, 0xffff_ffff)].concat();
        code.extend([CALL, 0, 0, 0, 9, 9, 9, 9]);
        assert_eq!(normalise(&mut code), [70, 71]);
        let expected = [load(1, 0, 0), load(2, 1, 8), load(1, 0, 0), load(0, 0, 0)].concat();
        assert_eq!(code[..64], expected);
        assert_eq!(code[64..], [CALL, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn plain_numbers_stay() {
        let mut code = load(0, 5, 6);
        let before = code.clone();
        assert!(normalise(&mut code).is_empty());
        assert_eq!(code, before);
    }
}
