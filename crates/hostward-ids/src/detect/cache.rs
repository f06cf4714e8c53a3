//! Compiled databases on disk. The name of a file is a digest of what was compiled and the library's version, and its
//! contents are checked by a digest before the library sees them.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::vectorscan::{self, Database};
use crate::app::file_writer::hex;

/// What a file begins with.
const MAGIC: &[u8] = b"hostward-ids database 1\n";

/// What a database was compiled from.
pub struct Key(Sha256);

impl Key {
    /// Nothing yet, but the library's version.
    pub fn new() -> Self {
        let mut digest = Sha256::new();
        digest.update(vectorscan::version());
        digest.update([0]);
        Self(digest)
    }

    /// Adds a part, with its length so that parts cannot run into each other.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }
}

/// A folder of compiled databases, or none.
pub struct Cache {
    folder: Option<PathBuf>,
    /// How many were read, and how many compiled.
    pub counts: (usize, usize),
}

impl Cache {
    /// In `folder`, which is made if it is missing.
    pub fn new(folder: Option<PathBuf>) -> Self {
        let folder = folder.filter(|folder| fs::create_dir_all(folder).is_ok());
        Self { folder, counts: (0, 0) }
    }

    /// The database with this key: from the folder, or compiled and put there. A cache that fails only costs time.
    ///
    /// # Errors
    /// It cannot be compiled.
    pub fn database(
        &mut self,
        key: Key,
        compile: impl FnOnce() -> Result<Database, vectorscan::Error>,
    ) -> Result<Database, vectorscan::Error> {
        let name = hex(&key.0.finalize());
        let path = self.folder.as_ref().map(|folder| folder.join(format!("{name}.hs")));
        if let Some(path) = &path
            && let Some(database) = read(path)
        {
            self.counts.0 += 1;
            return Ok(database);
        }
        let database = compile()?;
        self.counts.1 += 1;
        if let Some(path) = &path
            && let Ok(bytes) = database.serialize()
        {
            let _ = write(path, &bytes);
        }
        Ok(database)
    }
}

fn read(path: &std::path::Path) -> Option<Database> {
    let contents = fs::read(path).ok()?;
    let rest = contents.strip_prefix(MAGIC)?;
    let (digest, bytes) = rest.split_at_checked(32)?;
    if Sha256::digest(bytes).as_slice() != digest {
        return None;
    }
    Database::deserialize(bytes).ok()
}

/// Writes beside and renames, so that another process never sees half of it.
fn write(path: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = fs::File::create(&beside)?;
    file.write_all(MAGIC)?;
    file.write_all(&Sha256::digest(bytes))?;
    file.write_all(bytes)?;
    drop(file);
    fs::rename(&beside, path)
}
