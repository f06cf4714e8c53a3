//! Takes over flows and totals from the pinned maps of an older version, whose layout the kernel itself describes.
//!
//! The older programs decide by those maps until each port's link is moved, so they are only read here, again and again,
//! until nothing reads them any more. Which order this takes with the ports is the agent's business
//! (`hostward.datapath.upgrade`); what becomes of a flow that both datapaths have seen is decided in `bpf/import.h`.

mod btf;
mod convert;
mod opened;
mod totals;

use std::collections::HashMap;
use std::fs;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::path::PathBuf;

use hostward_abi as abi;
use hostward_abi::import_outcome;
use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use zerocopy::FromBytes as _;
use zerocopy::FromZeros as _;
use zerocopy::IntoBytes as _;

use crate::error::Result;
use crate::error::invalid;
use crate::error::kernel;
use crate::error::libbpf;
use crate::ffi;
use crate::maps::Maps;
use crate::maps::each_element;
use crate::maps::open_pinned;
use crate::port::Port;
use btf::Btf;
use btf::Layout;
use convert::Conversion;
use opened::Rings;

/// The ABI versions whose flows mean what ours mean, wherever they stand. A version whose numbers mean something else
/// gets an entry with what to do about it; one that is not here is not taken over.
///
/// 6: `decision` had no `HW_LIMITED` (it is numbered anew); reasons have other numbers (they go by name); a flow of SCTP has
/// no tags, which its next packets show (`bpf/sctp.h`).
/// 7: `kept` is a mark among others now.
const UNDERSTOOD: [u32; 2] = [6, 7];

/// What has another name now, and of its values those it had.
const RENAMED: [(&str, &str); 1] = [("marks", "kept")];

/// What refers to tables that are numbered anew. Zeros: the flow's first packet has it decided by the policy in force.
const ANEW: [&str; 6] = ["tag", "generation", "epoch", "decision", "peer", "place"];

/// Without these no flow can be judged; a layout that lacks one is another world's.
const NEEDED: [&str; 6] = ["state", "seen_ns", "ways.0.end", "ways.1.edge", "ack.0", "window.1"];

/// Longer than any packet takes from reading the clock to writing it into its flow.
const SLACK_NS: u64 = 1_000_000_000;

/// Flows of a table that are read first: as many as are read in the time of a few packets' round trips.
const BUSY: usize = 8192;

/// What became of the flows of one reading.
#[derive(Clone, Copy, Debug, Default)]
pub struct Imported {
    /// Not known here before.
    pub added: u64,
    /// Known, and moved forward.
    pub advanced: u64,
    /// No packet came since the last reading, or they are this datapath's own already.
    pub held: u64,
    /// Idle for longer than their state lets them.
    pub expired: u64,
    /// Lost: the quota or the table is used up, or a number does not fit.
    pub lost: u64,
}

/// What the flows had when they were imported last.
type Known = HashMap<[u8; size_of::<abi::FlowKey>()], abi::ImportBefore>;

/// How a table's elements become ours.
struct Conversions {
    keys: Conversion,
    flows: Conversion,
    four: bool,
}

/// One flow table of the older version.
struct Table {
    map: MapHandle,
    conversions: Conversions,
    /// Where the time of a flow's last packet stands in the older layout.
    seen_ns: usize,
    /// Keys of flows that had packets of late when the table was read last.
    busy: Vec<Box<[u8]>>,
}

/// Flows on their way into some ports' slots.
struct Taking<'a> {
    ports: HashMap<u32, &'a Port>,
    before: &'a mut Known,
    imported: Imported,
}

/// The maps of another version beside ours.
pub struct Predecessor {
    version: u32,
    directory: PathBuf,
    refusal: String,
    tables: Vec<Table>,
    /// `None` where nothing is taken over.
    rings: Option<Rings>,
    before: Known,
    /// The latest packet of any flow that was read.
    newest_ns: u64,
    /// By slot: what `newest_ns` was when its last reading began. No flow has changed unseen that is older.
    horizons: HashMap<u32, u64>,
}

impl Predecessor {
    /// The newest other version whose maps are pinned under `pins`, if there is one.
    pub(crate) fn find(pins: &Path, own: u32, maps: &Maps) -> Option<Self> {
        let entries = fs::read_dir(pins).ok()?;
        let versions = entries.filter_map(|entry| {
            let name = entry.ok()?.file_name().to_string_lossy().into_owned();
            name.strip_prefix("maps_")?.parse::<u32>().ok()
        });
        let version = versions.filter(|&version| version != own).max()?;
        let directory = pins.join(format!("maps_{version}"));
        let (tables, rings, refusal) = match open_tables(version, &directory, maps) {
            Ok((tables, rings)) => (tables, Some(rings), String::new()),
            Err(error) => (Vec::new(), None, error.to_string()),
        };
        Some(Self {
            version,
            directory,
            refusal,
            tables,
            rings,
            before: HashMap::new(),
            newest_ns: 0,
            horizons: HashMap::new(),
        })
    }

    /// Its `HW_ABI_VERSION`.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Why nothing is taken over; empty if it is.
    #[must_use]
    pub fn refusal(&self) -> &str {
        &self.refusal
    }

    /// How many flows its tables hold, of whatever layout.
    ///
    /// # Errors
    /// The kernel refuses to read a table.
    pub fn count_flows(&self) -> Result<u64> {
        let mut count = 0;
        for name in ["hw_flows4", "hw_flows6"] {
            if let Ok(map) = open_pinned(&self.directory.join(name)) {
                each_element(&map, |_, _| {
                    count += 1;
                    Ok(())
                })?;
            }
        }
        Ok(count)
    }

    /// Takes over the flows of these ports' slots, and what happened to them since the last time.
    ///
    /// # Errors
    /// The kernel refuses to read a table, or to run the program that imports.
    pub fn import_flows(&mut self, ports: &[&Port]) -> Result<Imported> {
        let horizon_ns = ports.iter().map(|port| self.horizons.get(&port.slot()).copied().unwrap_or(0)).min();
        let begun_ns = self.newest_ns;
        if let Some(rings) = &mut self.rings {
            rings.mark(ports)?;
        }
        let mut taking = Taking::new(ports, &mut self.before);
        for table in &mut self.tables {
            table.busy.clear();
            each_element(&table.map, |key, value| {
                let seen_ns = value.get(table.seen_ns..).and_then(|rest| u64::read_from_prefix(rest).ok());
                let seen_ns = seen_ns.map_or(u64::MAX, |(seen_ns, _)| seen_ns);
                self.newest_ns = seen_ns.max(self.newest_ns);
                // Most flows are idle: before all else, because packets wait while a table is read.
                if horizon_ns.is_some_and(|horizon_ns| seen_ns.saturating_add(SLACK_NS) < horizon_ns) {
                    taking.imported.held += 1;
                    return Ok(());
                }
                if seen_ns.saturating_add(SLACK_NS) >= self.newest_ns && table.busy.len() < BUSY {
                    table.busy.push(key.into());
                }
                taking.take(&table.conversions, key, value)
            })?;
        }
        let imported = taking.imported;
        self.horizons.extend(ports.iter().map(|port| (port.slot(), begun_ns)));
        Ok(imported)
    }

    /// The same for those flows alone that had packets of late when the tables were read last: a busy connection waits
    /// for this and not for the whole tables.
    ///
    /// # Errors
    /// As for [`Predecessor::import_flows`].
    pub fn import_busy_flows(&mut self, ports: &[&Port]) -> Result<Imported> {
        let mut taking = Taking::new(ports, &mut self.before);
        for table in &self.tables {
            for key in &table.busy {
                if !taking.wants(&table.conversions, key) {
                    continue;
                }
                if let Some(value) = table.map.lookup(key, MapFlags::ANY).map_err(libbpf("read", "a flow"))? {
                    taking.take(&table.conversions, key, &value)?;
                }
            }
        }
        Ok(taking.imported)
    }

    /// Ends the older version: what may still run its programs denies everything, and its maps go with their users.
    ///
    /// # Errors
    /// bpffs refuses.
    pub fn remove(&self) -> Result<()> {
        let path = self.directory.join("hw_active");
        // Its words are policy and generation since the first version; zeros are no policy.
        if let Ok(active) = open_pinned(&path) {
            let closed = vec![0; active.value_size() as usize];
            for slot in 0..active.max_entries() {
                active.update(&slot.to_ne_bytes(), &closed, MapFlags::ANY).map_err(libbpf("close", path.display()))?;
            }
        }
        fs::remove_dir_all(&self.directory).map_err(kernel("remove", self.directory.display()))
    }
}

impl<'a> Taking<'a> {
    fn new(ports: &[&'a Port], before: &'a mut Known) -> Self {
        let ports = ports.iter().map(|port| (port.slot(), *port)).collect();
        Self { ports, before, imported: Imported::default() }
    }

    fn wants(&self, conversions: &Conversions, key: &[u8]) -> bool {
        conversions.key(key).is_some_and(|key| self.ports.contains_key(&key.slot))
    }

    fn take(&mut self, conversions: &Conversions, key: &[u8], value: &[u8]) -> Result<()> {
        let Some(key) = conversions.key(key) else { return Ok(()) };
        let Some(port) = self.ports.get(&key.slot) else { return Ok(()) };
        let Some(flow) = conversions.flow(value) else {
            self.imported.lost += 1;
            return Ok(());
        };
        let last = self.before.get(key.as_bytes()).copied();
        if last.is_some_and(|last| last.packets == flow.packets && last.seen_ns == flow.seen_ns) {
            self.imported.held += 1;
            return Ok(());
        }
        let record = abi::Import { key, flow, before: last.unwrap_or_else(abi::ImportBefore::new_zeroed) };
        let counter = match port.import(record.as_bytes())? {
            import_outcome::IMPORT_ADDED => &mut self.imported.added,
            import_outcome::IMPORT_ADVANCED => &mut self.imported.advanced,
            import_outcome::IMPORT_HELD => &mut self.imported.held,
            import_outcome::IMPORT_EXPIRED => {
                self.imported.expired += 1;
                return Ok(());
            }
            _ => {
                self.imported.lost += 1;
                return Ok(());
            }
        };
        *counter += 1;
        self.before.insert(key.as_bytes().try_into().unwrap_or([0; _]), seen(&flow));
        Ok(())
    }
}

impl Conversions {
    fn key(&self, bytes: &[u8]) -> Option<abi::FlowKey> {
        let bytes = self.keys.apply(bytes)?;
        if !self.four {
            return abi::FlowKey::read_from_bytes(&bytes).ok();
        }
        let short = abi::Flow4Key::read_from_bytes(&bytes).ok()?;
        let ports = short.ports.to_ne_bytes();
        Some(abi::FlowKey {
            slot: short.slot_protocol >> 8,
            protocol: short.slot_protocol & 0xff,
            local: crate::flows::mapped(short.local),
            remote: crate::flows::mapped(short.remote),
            local_port: u16::from_ne_bytes([ports[0], ports[1]]),
            remote_port: u16::from_ne_bytes([ports[2], ports[3]]),
            padding: 0,
        })
    }

    fn flow(&self, bytes: &[u8]) -> Option<abi::Flow> {
        abi::Flow::read_from_bytes(&self.flows.apply(bytes)?).ok()
    }
}

fn seen(flow: &abi::Flow) -> abi::ImportBefore {
    abi::ImportBefore {
        seen_ns: flow.seen_ns,
        packets: flow.packets,
        bytes: flow.bytes,
        reported_bytes: flow.reported_bytes,
        reported_packets: flow.reported_packets,
        padding: 0,
    }
}

fn open_tables(version: u32, directory: &Path, maps: &Maps) -> Result<(Vec<Table>, Rings)> {
    if !UNDERSTOOD.contains(&version) {
        return Err(invalid(directory.display(), format!("the layout of version {version} is not known here")));
    }
    let mut older = Vec::new();
    let tables = [("hw_flows4", true), ("hw_flows6", false)]
        .into_iter()
        .map(|(name, four)| {
            let map = open_pinned(&directory.join(name))?;
            let (keys, flows) = layouts_of(&map, name)?;
            let (own_keys, own_flows) = layouts_of(maps.get(name), name)?;
            let lacking = own_keys.numbers.keys().filter(|path| *path != "padding").map(String::as_str);
            let lacking = lacking.filter(|path| !keys.numbers.contains_key(*path));
            let unjudged = NEEDED.into_iter().filter(|path| !flows.numbers.contains_key(*path));
            if let Some(path) = lacking.chain(unjudged).next() {
                return Err(invalid(directory.join(name).display(), format!("its layout has no {path}")));
            }
            let seen_ns = flows.numbers["seen_ns"].offset;
            older.push(keys);
            let keys = Conversion::between(&older[older.len() - 1], &own_keys, &[]);
            let flows = Conversion::renaming(&flows, &own_flows, &ANEW, &RENAMED);
            Ok(Table { map, conversions: Conversions { keys, flows, four }, seen_ns, busy: Vec::new() })
        })
        .collect::<Result<Vec<_>>>()?;
    let rings = Rings::open(directory, maps, [&older[0], &older[1]])?;
    Ok((tables, rings))
}

/// The layouts of a map's keys and values.
fn layouts_of(map: &MapHandle, name: &str) -> Result<(Layout, Layout)> {
    let (bytes, key, value) = ffi::map_types(map.as_fd()).map_err(kernel("read the types of", name))?;
    let types = Btf::parse(&bytes)?;
    Ok((types.layout(key)?, types.layout(value)?))
}
