//! The flows that an older datapath has opened of late, found by its rings: a new flow claims the place behind the last
//! one's, so what came since a cursor was read stands between it and the present one. That is a few look-ups where the
//! tables take as long as they are large.

use std::collections::HashMap;
use std::os::fd::AsFd as _;

use hostward_abi as abi;
use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use zerocopy::FromBytes as _;
use zerocopy::IntoBytes as _;

use super::Imported;
use super::Predecessor;
use super::Taking;
use super::btf::Btf;
use super::btf::Layout;
use super::btf::Number;
use super::convert::Conversion;
use super::layouts_of;
use crate::error::Result;
use crate::error::invalid;
use crate::error::kernel;
use crate::error::libbpf;
use crate::ffi;
use crate::maps::Maps;
use crate::maps::open_pinned;
use crate::port::Port;

/// Places before a cursor that are looked at again: they were claimed, and perhaps their flows not written yet.
const SLACK: u64 = 64;

/// The older version's rings, and how keys of their places become keys of its tables.
pub struct Rings {
    usage: MapHandle,
    cursor: Number,
    endpoints: MapHandle,
    quota: Number,
    outer: MapHandle,
    keys: Conversion,
    /// From our layout to the older one, as the tables come: IPv4, IPv6.
    back: [Conversion; 2],
    /// By slot: flows of places behind these are not known here.
    cursors: HashMap<u32, u64>,
}

impl Rings {
    pub fn open(directory: &std::path::Path, maps: &Maps, older: [&Layout; 2]) -> Result<Self> {
        let open = |name: &str| open_pinned(&directory.join(name));
        let (usage, endpoints) = (open("hw_usage")?, open("hw_endpoints")?);
        let number = |map: &MapHandle, name: &str, field: &str| {
            let found = layouts_of(map, name)?.1.numbers.get(field).copied();
            found.ok_or_else(|| invalid(name, format!("its layout has no {field}")))
        };
        let (own_four, own_six) =
            (layouts_of(maps.get("hw_flows4"), "hw_flows4")?.0, layouts_of(maps.get("hw_flows6"), "hw_flows6")?.0);
        let (types, _, _) = ffi::map_types(usage.as_fd()).map_err(kernel("read the types of", "hw_usage"))?;
        let place = Btf::parse(&types)?.structure("hw_ring_place")?.within("key");
        Ok(Self {
            cursor: number(&usage, "hw_usage", "cursor")?,
            quota: number(&endpoints, "hw_endpoints", "flow_quota")?,
            usage,
            endpoints,
            outer: open("hw_rings")?,
            keys: Conversion::between(&place, &own_six, &[]),
            back: [Conversion::between(&own_four, older[0], &[]), Conversion::between(&own_six, older[1], &[])],
            cursors: HashMap::new(),
        })
    }

    fn read(map: &MapHandle, slot: u32, number: Number) -> Result<u64> {
        let value = map.lookup(&slot.to_ne_bytes(), MapFlags::ANY).map_err(libbpf("read", "an element"))?;
        let bytes = value.as_ref().and_then(|value| value.get(number.offset..number.offset + number.size));
        // Little endian, see Conversion::apply().
        Ok(bytes.unwrap_or_default().iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
    }

    /// Says that whatever was opened until now is about to be read from the tables.
    pub fn mark(&mut self, ports: &[&Port]) -> Result<()> {
        for port in ports {
            self.cursors.insert(port.slot(), Self::read(&self.usage, port.slot(), self.cursor)?);
        }
        Ok(())
    }

    /// Keys of the flows whose places were claimed since the last mark, of this table of the older version and of that.
    fn claimed(&mut self, slot: u32) -> Result<Vec<(usize, Vec<u8>)>> {
        let Some(&marked) = self.cursors.get(&slot) else { return Ok(Vec::new()) };
        let cursor = Self::read(&self.usage, slot, self.cursor)?;
        let quota = Self::read(&self.endpoints, slot, self.quota)?;
        self.cursors.insert(slot, cursor);
        let ring = self.outer.lookup(&slot.to_ne_bytes(), MapFlags::ANY).map_err(libbpf("read", "hw_rings"))?;
        let Some(id) = ring.and_then(|bytes| u32::read_from_bytes(&bytes).ok()) else { return Ok(Vec::new()) };
        let ring = MapHandle::from_map_id(id).map_err(libbpf("open", "a ring"))?;
        // A cursor that went back began anew: the readings of the whole tables find what is left out here.
        let first = marked.min(cursor).saturating_sub(SLACK).max(cursor.saturating_sub(quota));
        let mut keys = Vec::new();
        for position in first..cursor {
            #[expect(clippy::cast_possible_truncation, reason = "a quota has 32 bits")]
            let index = (position % quota.max(1)) as u32;
            let place = ring.lookup(&index.to_ne_bytes(), MapFlags::ANY).map_err(libbpf("read", "a ring"))?;
            let key = place.and_then(|place| abi::FlowKey::read_from_bytes(&self.keys.apply(&place)?).ok());
            let Some(key) = key.filter(|key| key.slot == slot) else { continue };
            let four = short_key(&key);
            let key = match &four {
                Some(four) => (0, self.back[0].apply(four.as_bytes())),
                None => (1, self.back[1].apply(key.as_bytes())),
            };
            if let (table, Some(key)) = key {
                keys.push((table, key));
            }
        }
        Ok(keys)
    }
}

/// The key of an IPv4 flow, as `bpf/flow_table.h` makes it; `None` of an IPv6 flow.
fn short_key(key: &abi::FlowKey) -> Option<abi::Flow4Key> {
    let four = |address: [u8; 16]| {
        let word = address[12..].try_into().map(u32::from_ne_bytes).ok()?;
        (crate::flows::mapped(word) == address).then_some(word)
    };
    Some(abi::Flow4Key {
        local: four(key.local)?,
        remote: four(key.remote)?,
        ports: u32::from(key.local_port) | u32::from(key.remote_port) << 16,
        slot_protocol: key.slot << 8 | key.protocol & 0xff,
    })
}

impl Predecessor {
    /// Takes over the flows of these ports' slots that were opened since their tables were read, by [`Rings`].
    ///
    /// # Errors
    /// As for [`Predecessor::import_flows`].
    pub fn import_opened_flows(&mut self, ports: &[&Port]) -> Result<Imported> {
        let mut taking = Taking::new(ports, &mut self.before);
        let Some(rings) = &mut self.rings else { return Ok(taking.imported) };
        for port in ports {
            for (table, key) in rings.claimed(port.slot())? {
                let Some(table) = self.tables.get(table) else { continue };
                if let Some(value) = table.map.lookup(&key, MapFlags::ANY).map_err(libbpf("read", "a flow"))? {
                    taking.take(&table.conversions, &key, &value)?;
                }
            }
        }
        Ok(taking.imported)
    }
}
