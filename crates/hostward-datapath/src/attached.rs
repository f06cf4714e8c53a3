//! What is attached and in force, read from the kernel as it is and changing nothing: a digest for each port, and one for
//! what decides about each endpoint.
//!
//! A digest says nothing about where things stand in the maps, of numbers of programs and maps, of stamps, counters and
//! quarantines: it is the same while nothing that decides changes, whatever traffic there is, and after a restart of the
//! agent. See `docs/adr/0022-what-is-attached.md`.

mod filters;
mod policies;
mod programs;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use sha2::Digest as _;
use sha2::Sha256;

use crate::error::Result;
use crate::error::kernel;
use crate::maps::Maps;
use policies::Policies;
use programs::Programs;

/// A SHA-256.
pub type Digest = [u8; 32];

/// By name: of each port `SLOT@NAME` or each program that watches processes, and of each port's policy.
#[derive(Debug, Default)]
pub struct Reading {
    /// What is attached.
    pub programs: Vec<(String, Digest)>,
    /// What decides; `tables` is what all endpoints share.
    pub policies: Vec<(String, Digest)>,
}

/// Reads what is pinned under one folder, again and again: a program that was read once is known by its number.
pub struct Attached {
    pins: PathBuf,
    sight: Sight,
    programs: Programs,
}

/// What a process may see of programs and maps that only have numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It has `CAP_SYS_ADMIN`: what they hold. Not to be allowed to look is an error.
    Content,
    /// It has not: their numbers, which the kernel never gives to another. What is written into such a map stays unseen.
    Numbers,
}

impl Attached {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(pins: &Path, sight: Sight) -> Self {
        Self { pins: pins.to_owned(), sight, programs: Programs::new(sight) }
    }

    /// What is there now; empty where nothing is pinned.
    ///
    /// # Errors
    /// A map that is pinned cannot be read. What is gone, or is another's, is no error: it changes a digest.
    pub fn read(&mut self) -> Result<Reading> {
        let Some(maps) = self.maps()? else { return Ok(Reading::default()) };
        let shared = maps.numbers()?;
        let mut reading = Reading::default();
        let mut policies = Policies::new(&maps, self.sight)?;
        for (folder, path) in folders(&self.pins.join("ports"))? {
            reading.programs.push((folder.clone(), self.programs.port(&folder, &path, &shared)?));
            if let Some(slot) = folder.split_once('@').and_then(|(slot, _)| slot.parse().ok()) {
                reading.policies.push((folder, policies.endpoint(slot)?));
            }
        }
        for (name, path) in folders(&self.pins.join("processes"))? {
            reading.programs.push((format!("processes/{name}"), self.programs.watcher(&path, &shared)?));
        }
        self.programs.forget();
        reading.policies.push(("tables".to_owned(), policies.tables()?));
        Ok(reading)
    }

    /// The maps of the newest version; while ports move from an older one, their programs tell that they still run on it.
    fn maps(&self) -> Result<Option<Maps>> {
        let version = |name: &str| name.strip_prefix("maps_").and_then(|number| number.parse::<u32>().ok());
        let found = folders(&self.pins)?.into_iter().filter_map(|(name, path)| Some((version(&name)?, path))).max();
        found.map(|(_, path)| Maps::open_pinned(&path)).transpose()
    }
}

/// What is in a folder, by name; nothing where there is none.
fn folders(directory: &Path) -> Result<Vec<(String, PathBuf)>> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(Vec::new()) };
    let mut found = entries
        .map(|entry| entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())))
        .collect::<io::Result<Vec<_>>>()
        .map_err(kernel("read", directory.display()))?;
    found.sort();
    Ok(found)
}

/// A hash over parts that cannot be taken for one another: each is preceded by its length.
#[derive(Default)]
struct Parts(Sha256);

impl Parts {
    fn add(&mut self, part: &[u8]) -> &mut Self {
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
        self
    }

    fn digest(self) -> Digest {
        self.0.finalize().into()
    }
}

/// What is there; `None` if it is not. Not to be allowed to look is an error: it must not be taken for something's absence.
fn unless_denied<T>(found: io::Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(kernel("look at", "what is attached")(error))
        }
        Err(_) => Ok(None),
    }
}

/// What has only a number: what `found` says of it, or the number itself where that is all that may be seen.
fn add_numbered(
    parts: &mut Parts,
    sight: Sight,
    number: Option<u32>,
    found: io::Result<Option<Vec<u8>>>,
) -> Result<()> {
    match (sight, number, found) {
        (Sight::Numbers, Some(number), Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
            parts.add(b"number").add(&number.to_be_bytes());
        }
        (_, _, found) => {
            let held = unless_denied(found)?.flatten();
            parts.add(held.as_deref().unwrap_or(b"none"));
        }
    }
    Ok(())
}

fn io_error(error: libbpf_rs::Error) -> io::Error {
    let denied = error.kind() == libbpf_rs::ErrorKind::PermissionDenied;
    io::Error::new(if denied { io::ErrorKind::PermissionDenied } else { io::ErrorKind::Other }, error.to_string())
}

/// Names of the shared maps by their numbers.
type Shared = HashMap<u32, &'static str>;
