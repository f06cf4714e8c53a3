//! Sets of values that buffers and digests of files are looked up in.

use std::collections::HashMap;
use std::net::IpAddr;

use ahash::AHashSet;
use serde_json::Value;

use super::transform::base64;
use crate::rules::dataset::{DataSet, Format, Operation, ValueKind};
use crate::rules::test::DigestKind;
use crate::rules::transform::Base64Mode;
use crate::rules::{Fault, Read};

/// Most values that one rule file's set begins with.
const LOADED_MAX: usize = 4 << 20;
/// Most values that traffic adds to one set, for each tenant.
const ADDED_MAX: usize = 64 << 10;
/// Longest value that traffic adds.
const VALUE_LEN: usize = 4096;

/// One set, as its file says.
#[derive(Debug, Default)]
pub struct Loaded {
    values: AHashSet<Box<[u8]>>,
}

/// What a rule does with a set.
#[derive(Debug)]
pub struct Use {
    set: u16,
    operation: Operation,
    kind: ValueKind,
    subdomains: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub struct DataSets {
    sets: Vec<Loaded>,
    uses: Vec<Use>,
}

/// What traffic added and took away: (tenant, set) to values.
#[derive(Debug, Default)]
pub struct Changes {
    added: HashMap<(u32, u16), AHashSet<Box<[u8]>>, ahash::RandomState>,
    removed: HashMap<(u32, u16), AHashSet<Box<[u8]>>, ahash::RandomState>,
}

/// Reads a file by its name in a rule.
pub type ReadFile<'r> = &'r dyn Fn(&str) -> std::io::Result<Vec<u8>>;

/// Sets in the making.
#[derive(Default)]
pub struct Builder<'r> {
    made: DataSets,
    names: HashMap<(String, ValueKind), u16>,
    read: Option<ReadFile<'r>>,
}

impl<'r> Builder<'r> {
    /// Files are read by `read`.
    pub fn new(read: ReadFile<'r>) -> Self {
        Self { made: DataSets::default(), names: HashMap::new(), read: Some(read) }
    }

    /// What was made.
    pub fn finish(self) -> DataSets {
        self.made
    }

    fn contents(&self, name: &str) -> Read<Vec<u8>> {
        let read = self.read.ok_or_else(|| Fault::new("no files are read"))?;
        read(name).map_err(|error| Fault::new(format!("{name}: {error}")))
    }

    /// The number of one use of a set.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn number(&mut self, wanted: &DataSet) -> Read<u16> {
        let key = (wanted.name.clone(), wanted.kind);
        let set = if let Some(&set) = self.names.get(&key) {
            set
        } else {
            let mut loaded = Loaded::default();
            if let Some(file) = &wanted.load {
                let bytes = self.contents(file).map_err(|fault| fault.at("dataset"))?;
                fill(&mut loaded, &bytes, wanted);
            }
            let set = u16::try_from(self.made.sets.len()).map_err(|_| Fault::new("too many sets"))?;
            self.made.sets.push(loaded);
            self.names.insert(key, set);
            set
        };
        let number = u16::try_from(self.made.uses.len()).map_err(|_| Fault::new("too many sets"))?;
        let (operation, kind, subdomains) = (wanted.operation, wanted.kind, wanted.subdomains);
        self.made.uses.push(Use { set, operation, kind, subdomains });
        Ok(number)
    }

    /// The number of a file of digests.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn digests(&mut self, kind: DigestKind, file: &str) -> Read<u16> {
        let bytes = self.contents(file).map_err(|fault| fault.at("file digests"))?;
        let len = match kind {
            DigestKind::Md5 => 32,
            DigestKind::Sha1 => 40,
            DigestKind::Sha256 => 64,
        };
        let mut loaded = Loaded::default();
        for line in bytes.split(|&byte| byte == b'\n').take(LOADED_MAX) {
            if let Some(digest) = line.get(..len)
                && digest.iter().all(u8::is_ascii_hexdigit)
            {
                loaded.values.insert(digest.to_ascii_lowercase().into());
            }
        }
        let set = u16::try_from(self.made.sets.len()).map_err(|_| Fault::new("too many sets"))?;
        self.made.sets.push(loaded);
        Ok(set)
    }
}

/// A value of a file, as buffers have it.
fn value(text: &[u8], kind: ValueKind) -> Option<Box<[u8]>> {
    let text = text.trim_ascii();
    match kind {
        ValueKind::String => Some(text).filter(|text| !text.is_empty()).map(Box::from),
        ValueKind::Md5 | ValueKind::Sha256 => {
            let len = if kind == ValueKind::Md5 { 16 } else { 32 };
            let digits = std::str::from_utf8(text).ok()?;
            let bytes: Option<Vec<u8>> =
                (0..digits.len() / 2).map(|at| u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()).collect();
            bytes.filter(|bytes| bytes.len() == len).map(Vec::into_boxed_slice)
        }
        ValueKind::Ip => {
            let address: IpAddr = std::str::from_utf8(text).ok()?.parse().ok()?;
            Some(address_bytes(address))
        }
    }
}

/// An address as the buffers `ip.src` and `ip.dst` hold it, and as sets compare it.
fn address_bytes(address: IpAddr) -> Box<[u8]> {
    match address {
        IpAddr::V4(v4) => v4.octets().into(),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.octets().into(),
            None => v6.octets().into(),
        },
    }
}

fn fill(loaded: &mut Loaded, bytes: &[u8], wanted: &DataSet) {
    match &wanted.format {
        Format::Lines => {
            for line in bytes.split(|&byte| byte == b'\n').take(LOADED_MAX) {
                let text = line.split(|&byte| byte == b',').next().unwrap_or_default().trim_ascii();
                let found = match wanted.kind {
                    ValueKind::String => Some(base64::decode(text, Base64Mode::Strict).into_boxed_slice()),
                    kind => value(text, kind),
                };
                loaded.values.extend(found.filter(|value| !value.is_empty()));
            }
        }
        Format::Json { array, value: key } => {
            let Ok(document) = serde_json::from_slice::<Value>(bytes) else { return };
            let found = array.as_ref().map_or(Some(&document), |path| at_path(&document, path));
            for element in found.and_then(Value::as_array).into_iter().flatten().take(LOADED_MAX) {
                loaded.values.extend(json_value(element, key, wanted.kind));
            }
        }
        Format::JsonLines { value: key } => {
            for line in bytes.split(|&byte| byte == b'\n').take(LOADED_MAX) {
                if let Ok(element) = serde_json::from_slice::<Value>(line) {
                    loaded.values.extend(json_value(&element, key, wanted.kind));
                }
            }
        }
    }
}

fn json_value(element: &Value, key: &str, kind: ValueKind) -> Option<Box<[u8]>> {
    value(at_path(element, key)?.as_str()?.as_bytes(), kind)
}

fn at_path<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(value, |value, key| value.get(key))
}

impl DataSets {
    /// Whether a digest is in a file of digests.
    #[must_use]
    pub fn has_digest(&self, set: u16, digest: &str) -> bool {
        self.sets.get(usize::from(set)).is_some_and(|set| set.values.contains(digest.as_bytes()))
    }

    /// Does what use `number` says with `value`; whether it succeeded.
    pub fn apply(&self, number: u16, tenant: u32, value: &[u8], changes: &mut Changes) -> bool {
        let Some(wanted) = self.uses.get(usize::from(number)) else { return false };
        let mapped;
        let value = match wanted.kind {
            ValueKind::Md5 if value.len() != 16 => return false,
            ValueKind::Sha256 if value.len() != 32 => return false,
            // Addresses in IPv6's form are compared in IPv4's where they are IPv4 addresses.
            ValueKind::Ip => match <[u8; 16]>::try_from(value) {
                Ok(bytes) => {
                    mapped = address_bytes(IpAddr::from(bytes));
                    &*mapped
                }
                Err(_) => value,
            },
            _ => value,
        };
        let key = (tenant, wanted.set);
        match wanted.operation {
            Operation::IsSet => self.has(wanted, key, value, changes),
            Operation::IsNotSet => !self.has(wanted, key, value, changes),
            Operation::Set => {
                if value.is_empty() || value.len() > VALUE_LEN || self.exactly(key, value, changes) {
                    return false;
                }
                if let Some(removed) = changes.removed.get_mut(&key) {
                    removed.remove(value);
                }
                let added = changes.added.entry(key).or_default();
                added.len() < ADDED_MAX && added.insert(value.into())
            }
            Operation::Unset => {
                if !self.exactly(key, value, changes) {
                    return false;
                }
                if let Some(added) = changes.added.get_mut(&key) {
                    added.remove(value);
                }
                if self.sets.get(usize::from(key.1)).is_some_and(|set| set.values.contains(value)) {
                    let removed = changes.removed.entry(key).or_default();
                    if removed.len() < ADDED_MAX {
                        removed.insert(value.into());
                    }
                }
                true
            }
        }
    }

    fn has(&self, wanted: &Use, key: (u32, u16), value: &[u8], changes: &Changes) -> bool {
        if self.exactly(key, value, changes) {
            return true;
        }
        if !wanted.subdomains {
            return false;
        }
        // Every end of the name that begins at a label, with and without the dot.
        value.iter().enumerate().filter(|(_, byte)| **byte == b'.').take(128).any(|(dot, _)| {
            value.get(dot..).is_some_and(|end| self.exactly(key, end, changes))
                || value.get(dot + 1..).is_some_and(|end| self.exactly(key, end, changes))
        })
    }

    fn exactly(&self, key: (u32, u16), value: &[u8], changes: &Changes) -> bool {
        if changes.added.get(&key).is_some_and(|added| added.contains(value)) {
            return true;
        }
        self.sets.get(usize::from(key.1)).is_some_and(|set| set.values.contains(value))
            && !changes.removed.get(&key).is_some_and(|removed| removed.contains(value))
    }
}
