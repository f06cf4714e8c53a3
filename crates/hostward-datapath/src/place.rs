//! Where a port is attached, on record among its pins: who reads back what is attached, and has no slice, finds it there.
//!
//! bpffs holds folders too, and the name of an empty one is all that it says: device, and namespace in hexadecimal,
//! because bpffs allows no dots.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use crate::error::Result;
use crate::error::kernel;

/// One device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// In its namespace.
    pub ifindex: i32,
    /// As [`crate::netns::run_in`] takes it.
    pub namespace: String,
}

impl Place {
    /// The name of its folder.
    pub fn folder(&self) -> String {
        let mut name = format!("at_{}_", self.ifindex);
        for byte in self.namespace.bytes() {
            let _ = write!(name, "{byte:02x}");
        }
        name
    }

    /// Makes this the one place of a port whose pins are in `directory`.
    pub fn record(&self, directory: &Path) -> Result<()> {
        for other in Self::recorded(directory)?.iter().filter(|other| *other != self) {
            let path = directory.join(other.folder());
            fs::remove_dir(&path).map_err(kernel("remove", path.display()))?;
        }
        let path = directory.join(self.folder());
        fs::create_dir_all(&path).map_err(kernel("create", path.display()))
    }

    /// The places on record, in the order of their names; none where there are no pins.
    pub fn recorded(directory: &Path) -> Result<Vec<Self>> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(kernel("read", directory.display()))?,
        };
        let mut places = Vec::new();
        for entry in entries {
            let entry = entry.map_err(kernel("read", directory.display()))?;
            places.extend(Self::parse(&entry.file_name().to_string_lossy()));
        }
        places.sort_by_key(Self::folder);
        Ok(places)
    }

    fn parse(folder: &str) -> Option<Self> {
        let (ifindex, digits) = folder.strip_prefix("at_")?.split_once('_')?;
        let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
        let bytes = (0..digits.len()).step_by(2).map(byte).collect::<Option<Vec<_>>>()?;
        Some(Self { ifindex: ifindex.parse().ok()?, namespace: String::from_utf8(bytes).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_device_and_namespace() {
        for namespace in ["", "blue", "/proc/12/ns/net", "a.b_c"] {
            let place = Place { ifindex: 7, namespace: namespace.to_owned() };
            assert!(!place.folder().contains(['.', '/']));
            assert_eq!(Place::parse(&place.folder()), Some(place));
        }
        assert_eq!(Place::parse("egress_link"), None);
        assert_eq!(Place::parse("at_7_6"), None);
    }
}
