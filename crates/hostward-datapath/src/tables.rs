//! The datapath as one object: typed writes into the maps, and reads back from them.

use std::fs;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use hostward_abi as abi;
use hostward_abi::stride;
use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use zerocopy::FromBytes;
use zerocopy::FromZeros as _;
use zerocopy::IntoBytes as _;

use crate::Capacity;
use crate::classes::ClassSets;
use crate::constants;
use crate::decisions::Rate;
use crate::decisions::rate_value;
use crate::error::Result;
use crate::error::invalid;
use crate::error::kernel;
use crate::error::libbpf;
use crate::events::Events;
use crate::ffi::SharedWords;
use crate::guards::KINDS;
use crate::maps::Maps;
use crate::maps::memory_of;
use crate::migrate::Predecessor;
use crate::port::Port;
use crate::ring::Ring;
use crate::sampling::Pools;
use crate::sampling::sampling_word;

/// What the kernel has to know of an endpoint besides its policy.
#[derive(Clone, Copy, Debug)]
pub struct EndpointConfig {
    /// The only source MAC it may use.
    pub mac: [u8; 6],
    /// Its network's number.
    pub network: u32,
    /// Flows it may have.
    pub flow_quota: u32,
    /// Events a second, sustained.
    pub events_per_s: u32,
    /// Events at once.
    pub events_burst: u32,
    /// Whether connections whose beginning was not seen are picked up.
    pub picks_up: bool,
    /// New flows, in each direction.
    pub opening: Rate,
    /// Bytes and packets, in each direction.
    pub cap: [Rate; 2],
    /// What its packets carry to the uplink's queues; 0: what the workload wrote.
    pub priority: u32,
    /// Where its sockets are, by the number that the port's own namespace has for it.
    pub workload_netns: Option<u32>,
    /// Whether `dhcp` are all the DHCP servers that there are in its network.
    pub names_dhcp: bool,
    /// Their addresses; zeros behind them.
    pub dhcp: [[u8; 16]; stride::DHCP_SERVERS as usize],
    /// What is done about each `enum hw_guard_kind`, and what may be seen of it before: see `bpf/guard_marks.h`.
    pub guard: [(u8, u32); KINDS],
    /// One packet in so many is sampled; 0: none, see `bpf/sample.h`.
    pub sampling: u32,
}

/// Where one address of an endpoint finds its verdicts, in one revision.
#[derive(Clone, Copy, Debug)]
pub struct PolicyBlock {
    /// The revision that verdicts name.
    pub revision: u64,
    /// First reference and number of references, for flows the endpoint opens.
    pub egress: (u32, u32),
    /// The same for flows opened towards it.
    pub ingress: (u32, u32),
    /// The address's identity.
    pub identity: u32,
    /// The address; all zeros for a block that is not used.
    pub address: [u8; 16],
}

/// (network, address, prefix length within the family, peer index).
pub type PrefixEntry = (u32, [u8; 16], u32, u32);

/// `HW_QUARANTINED`: the sign of a generation.
const QUARANTINED: u32 = 0x8000_0000;

fn word_of(active: abi::Active) -> u64 {
    u64::from_ne_bytes(active.as_bytes().try_into().unwrap_or_default())
}

fn active_of(word: u64) -> abi::Active {
    abi::Active::read_from_bytes(&word.to_ne_bytes()).expect("a word is as long")
}

/// The datapath of one host.
pub struct Datapath {
    object: PathBuf,
    pub(crate) pins: PathBuf,
    capacity: Capacity,
    pub(crate) maps: Maps,
    active: SharedWords,
    epochs: SharedWords,
    pub(crate) events: Arc<Events>,
    pub(crate) samples: Ring<abi::Sample>,
    pub(crate) pools: Pools,
    classes: ClassSets,
    grace: MapHandle,
}

impl Datapath {
    /// Opens the datapath pinned under `pins`, or creates it there from the object file.
    ///
    /// # Errors
    /// The object does not load, the pins are of another capacity, or bpffs is not there.
    pub fn open(object: &Path, pins: &Path, capacity: Capacity) -> Result<Self> {
        // Maps of another layout are another directory: they are never reused.
        let directory = pins.join(format!("maps_{}", abi_version(object)?));
        let maps = Maps::open(object, &directory, &capacity)?;
        let count = capacity.endpoints as usize;
        let words = |name| SharedWords::new(maps.get(name).as_fd(), count).map_err(kernel("map", name));
        let (active, epochs) = (words("hw_active")?, words("hw_networks")?);
        let events = Arc::new(Events::open(maps.get("hw_events"))?);
        let samples = Ring::open(maps.get("hw_samples"), "hw_samples")?;
        let grace = Maps::create_inner("hw_grace", size_of::<abi::RingPlace>(), 1, libbpf_sys::BPF_F_INNER_MAP)?;
        let opened = Self {
            object: object.to_owned(),
            pins: pins.to_owned(),
            capacity,
            maps,
            active,
            epochs,
            events,
            samples,
            pools: Pools::default(),
            classes: ClassSets::default(),
            grace,
        };
        if opened.maps.reused {
            opened.read_pools()?;
        }
        Ok(opened)
    }

    /// Whether the maps were there before: what they hold is then in force.
    #[must_use]
    pub fn reused(&self) -> bool {
        self.maps.reused
    }

    /// The maps of another version that lie beside these, if there are any.
    ///
    /// # Errors
    /// The object cannot be read.
    pub fn predecessor(&self) -> Result<Option<Predecessor>> {
        Ok(Predecessor::find(&self.pins, abi_version(&self.object)?, &self.maps))
    }

    /// Whether a slot has a ring: maps that are new, or whose making was interrupted, have none for it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn has_ring(&self, slot: u32) -> Result<bool> {
        Ok(self.maps.read::<u32, u32>("hw_rings", &slot)?.is_some())
    }

    /// The sizes of the maps.
    #[must_use]
    pub fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// Pins again what was unpinned by hand; the names of those maps.
    ///
    /// # Errors
    /// bpffs refuses.
    pub fn repin_maps(&self) -> Result<Vec<&'static str>> {
        self.maps.repin(&self.pins.join(format!("maps_{}", abi_version(&self.object)?)))
    }

    /// Loads the programs for a slot; `name` becomes the folder of the port's pins (bpffs allows no dot in it).
    ///
    /// # Errors
    /// The verifier refuses, or the name cannot be a folder.
    pub fn load_port(&self, slot: u32, name: &str) -> Result<Port> {
        if name.is_empty() || name.contains(['/', '.']) {
            return Err(invalid(name, "the name of a port's pins has a slash or a dot"));
        }
        Port::load(&self.object, &self.maps, self.pins.join("ports").join(format!("{slot}@{name}")), slot)
    }

    /// The ports that are pinned: slot and name.
    ///
    /// # Errors
    /// bpffs cannot be read.
    pub fn pinned_ports(&self) -> Result<Vec<(u32, String)>> {
        let directory = self.pins.join("ports");
        let Ok(entries) = fs::read_dir(&directory) else { return Ok(Vec::new()) };
        let mut ports = Vec::new();
        for entry in entries {
            let entry = entry.map_err(kernel("read", directory.display()))?;
            let folder = entry.file_name().to_string_lossy().into_owned();
            if let Some((slot, name)) = folder.split_once('@')
                && let Ok(slot) = slot.parse()
            {
                ports.push((slot, name.to_owned()));
            }
        }
        Ok(ports)
    }

    /// Writes an endpoint's configuration. Its policy follows by [`Datapath::activate`].
    ///
    /// # Errors
    /// The slot is beyond the capacity.
    pub fn write_endpoint(&self, slot: u32, config: &EndpointConfig) -> Result<()> {
        self.maps.write_array("hw_endpoints", slot, &[endpoint_value(config)])
    }

    /// Whether an endpoint's configuration is the one given.
    ///
    /// # Errors
    /// The slot is beyond the capacity.
    pub fn holds_endpoint(&self, slot: u32, config: &EndpointConfig) -> Result<bool> {
        let held: Option<abi::Endpoint> = self.maps.read("hw_endpoints", &slot)?;
        Ok(held.is_some_and(|held| held.as_bytes() == endpoint_value(config).as_bytes()))
    }

    /// Gives the slot a new ring of `quota` places. Only while the endpoint has no flows.
    ///
    /// # Errors
    /// The kernel has no memory for it.
    pub fn create_ring(&self, slot: u32, quota: u32) -> Result<()> {
        let flags = libbpf_sys::BPF_F_INNER_MAP;
        let ring = Maps::create_inner("hw_ring", size_of::<abi::RingPlace>(), quota.max(1), flags)?;
        self.maps.write("hw_rings", &slot, &ring.as_fd().as_raw_fd().cast_unsigned())
    }

    /// What the maps take of the kernel's memory, in bytes, and as `hw_ring` one endpoint's ring.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn map_memory(&self, slot: u32) -> Result<Vec<(&'static str, u64)>> {
        let mut held = self.maps.memory();
        if let Some(id) = self.maps.read::<u32, u32>("hw_rings", &slot)? {
            let ring = MapHandle::from_map_id(id).map_err(libbpf("open", "hw_ring"))?;
            held.extend(memory_of(&ring).map(|bytes| ("hw_ring", bytes)));
        }
        Ok(held)
    }

    /// Says which peer a prefix of a network is. `bits` counts within the family's own length.
    ///
    /// # Errors
    /// The map is full.
    pub fn write_prefix(&self, network: u32, address: [u8; 16], bits: u32, peer: u32) -> Result<()> {
        match prefix_key(network, address, bits) {
            PrefixKey::Host4(key) => self.maps.write("hw_hosts4", &key, &peer),
            PrefixKey::Host6(key) => self.maps.write("hw_hosts6", &key, &peer),
            PrefixKey::Prefix4(key) => self.maps.write("hw_prefixes4", &key, &peer),
            PrefixKey::Prefix6(key) => self.maps.write("hw_prefixes6", &key, &peer),
        }
    }

    /// Takes a prefix away.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove_prefix(&self, network: u32, address: [u8; 16], bits: u32) -> Result<()> {
        match prefix_key(network, address, bits) {
            PrefixKey::Host4(key) => self.maps.remove("hw_hosts4", &key),
            PrefixKey::Host6(key) => self.maps.remove("hw_hosts6", &key),
            PrefixKey::Prefix4(key) => self.maps.remove("hw_prefixes4", &key),
            PrefixKey::Prefix6(key) => self.maps.remove("hw_prefixes6", &key),
        }
    }

    /// Every prefix: (network, address, bits, peer).
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn read_prefixes(&self) -> Result<Vec<PrefixEntry>> {
        let mut prefixes = Vec::new();
        for name in ["hw_hosts4", "hw_hosts6", "hw_prefixes4", "hw_prefixes6"] {
            let map = self.maps.get(name);
            for key in map.keys() {
                let value = map.lookup(&key, MapFlags::ANY).map_err(libbpf("read", name))?;
                let Some(peer) = value.and_then(|bytes| u32::read_from_bytes(&bytes).ok()) else { continue };
                if let Some((network, address, bits)) = prefix_of(name, &key) {
                    prefixes.push((network, address, bits, peer));
                }
            }
        }
        Ok(prefixes)
    }

    /// Writes the four blocks of a class set, 65,536 classes each, in the order of `enum hw_class_block_index`. Only one
    /// that no reference names.
    ///
    /// # Errors
    /// A block has another length, or the kernel has no memory for it.
    pub fn write_class_set(&mut self, class_set: u32, blocks: &[Vec<u16>]) -> Result<()> {
        self.classes.write(&self.maps, class_set, blocks)
    }

    /// Whether the four blocks of a class set are the ones given.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn holds_class_set(&self, class_set: u32, blocks: &[Vec<u16>]) -> Result<bool> {
        self.classes.holds(&self.maps, class_set, blocks)
    }

    /// Writes cells: decision slots, 0 for none.
    ///
    /// # Errors
    /// They lie beyond the capacity.
    pub fn write_cells(&self, first: u32, decisions: &[u32]) -> Result<()> {
        let cells: Vec<_> = decisions.iter().map(|&decision| abi::Cell { decision, padding: 0 }).collect();
        self.maps.write_array("hw_cells", first, &cells)
    }

    /// Writes references: (first cell, cells, class set); a length of 0 is an unknown peer.
    ///
    /// # Errors
    /// They lie beyond the capacity.
    pub fn write_refs(&self, first: u32, refs: &[(u32, u16, u16)]) -> Result<()> {
        let refs: Vec<_> =
            refs.iter().map(|&(row, row_length, class_set)| abi::Ref { row, row_length, class_set }).collect();
        self.maps.write_array("hw_refs", first, &refs)
    }

    /// Packets and bytes of a decision, summed over processors.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn read_count(&self, slot: u32) -> Result<(u64, u64)> {
        let values = self
            .maps
            .get("hw_counts")
            .lookup_percpu(&slot.to_ne_bytes(), MapFlags::ANY)
            .map_err(libbpf("read", "hw_counts"))?;
        Ok(values
            .into_iter()
            .flatten()
            .filter_map(|bytes| abi::Count::read_from_bytes(&bytes).ok())
            .fold((0, 0), |(packets, bytes), count| (packets + count.packets, bytes + count.bytes)))
    }

    /// An endpoint's denied packets by reason number; reasons that never occurred are left out.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn read_reasons(&self, slot: u32) -> Result<Vec<(u32, u64)>> {
        let map = self.maps.get("hw_reasons");
        let mut reasons = Vec::new();
        for reason in 1..abi::reason::REASON_COUNT {
            let key = (slot * stride::REASON_STRIDE + reason).to_ne_bytes();
            let values = map.lookup_percpu(&key, MapFlags::ANY).map_err(libbpf("read", "hw_reasons"))?;
            let packets =
                values.into_iter().flatten().filter_map(|bytes| u64::read_from_bytes(&bytes).ok()).sum::<u64>();
            if packets > 0 {
                reasons.push((reason, packets));
            }
        }
        Ok(reasons)
    }

    /// An endpoint's flows now, and its events lost since the slot was cleared.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn read_usage(&self, slot: u32) -> Result<(u64, u64, u64)> {
        let usage: abi::Usage =
            self.maps.read("hw_usage", &slot)?.ok_or_else(|| invalid("hw_usage", format!("no slot {slot}")))?;
        Ok((usage.flows, usage.events_lost, usage.answers_suppressed))
    }

    /// Writes a policy block. Only one that no endpoint's active word names.
    ///
    /// # Errors
    /// It lies beyond the capacity.
    pub fn write_policy(&self, index: u32, block: &PolicyBlock) -> Result<()> {
        let value = abi::Policy {
            revision: block.revision,
            table: [block.egress.0, block.ingress.0],
            peers: [block.egress.1, block.ingress.1],
            identity: block.identity,
            padding: 0,
            address: block.address,
        };
        self.maps.write_array("hw_policies", index, &[value])
    }

    /// Reads a policy block back.
    ///
    /// # Errors
    /// It lies beyond the capacity.
    pub fn read_policy(&self, index: u32) -> Result<PolicyBlock> {
        let value: abi::Policy = self
            .maps
            .read("hw_policies", &index)?
            .ok_or_else(|| invalid("hw_policies", format!("no block {index}")))?;
        Ok(PolicyBlock {
            revision: value.revision,
            egress: (value.table[0], value.peers[0]),
            ingress: (value.table[1], value.peers[1]),
            identity: value.identity,
            address: value.address,
        })
    }

    /// Reads references back: (first cell, cells, class set).
    ///
    /// # Errors
    /// They lie beyond the capacity.
    pub fn read_refs(&self, first: u32, count: u32) -> Result<Vec<(u32, u16, u16)>> {
        let refs: Vec<abi::Ref> = self.maps.read_array("hw_refs", first, count)?;
        Ok(refs.into_iter().map(|value| (value.row, value.row_length, value.class_set)).collect())
    }

    /// Reads cells back: decision slots.
    ///
    /// # Errors
    /// They lie beyond the capacity.
    pub fn read_cells(&self, first: u32, count: u32) -> Result<Vec<u32>> {
        let cells: Vec<abi::Cell> = self.maps.read_array("hw_cells", first, count)?;
        Ok(cells.into_iter().map(|cell| cell.decision).collect())
    }

    /// Puts a policy in force for a slot: one aligned word, which a packet sees whole or not at all. A quarantine stays,
    /// also one that a packet brings about meanwhile.
    ///
    /// # Errors
    /// The slot is beyond the capacity.
    pub fn activate(&self, slot: u32, policy: u32, generation: u32) -> Result<()> {
        if generation & QUARANTINED != 0 {
            return Err(invalid("hw_active", format!("generation {generation} is none")));
        }
        let word = self.active_word(slot)?;
        let next = |held: u64| {
            let generation = generation | (active_of(held).generation & QUARANTINED);
            Some(word_of(abi::Active { policy, generation }))
        };
        // The closure never declines.
        let _ = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        Ok(())
    }

    /// Whether packets of a slot find it quarantined.
    pub(crate) fn is_quarantined(&self, slot: u32) -> Result<bool> {
        let active = active_of(self.active_word(slot)?.load(Ordering::Acquire));
        Ok(active.generation & QUARANTINED != 0)
    }

    fn active_word(&self, slot: u32) -> Result<&AtomicU64> {
        self.active.words().get(slot as usize).ok_or_else(|| invalid("hw_active", format!("no slot {slot}")))
    }

    /// What is in force for a slot: (policy, generation).
    ///
    /// # Errors
    /// The slot is beyond the capacity.
    pub fn read_active(&self, slot: u32) -> Result<(u32, u32)> {
        let active = active_of(self.active_word(slot)?.load(Ordering::Acquire));
        Ok((active.policy, active.generation & !QUARANTINED))
    }

    /// Makes every flow of a network be decided anew at its next packet.
    ///
    /// # Errors
    /// The network's number is beyond the capacity.
    pub fn advance_epoch(&self, network: u32) -> Result<()> {
        let word = self.epochs.words().get(network as usize);
        word.ok_or_else(|| invalid("hw_networks", format!("no network {network}")))?.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Returns when no packet that started before still runs.
    ///
    /// An update of an array of maps by system call waits for an RCU grace period (`maybe_wait_bpf_programs`), and every
    /// program runs inside one; the last slot's ring is rewritten for it, which is never an endpoint's.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn synchronize(&self) -> Result<()> {
        let spare = self.capacity.endpoints - 1;
        self.maps.write("hw_rings", &spare, &self.grace.as_fd().as_raw_fd().cast_unsigned())
    }

    /// Forgets a slot's flows and waiting denials, and adds its counts to those of all that are gone. Only when nothing is attached for it any more.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn clear_slot(&self, slot: u32) -> Result<()> {
        self.remove_flows("hw_flows4", |key: &abi::Flow4Key| key.slot_protocol >> 8 == slot)?;
        self.remove_flows("hw_flows6", |key: &abi::FlowKey| key.slot == slot)?;
        self.retire_slot_counts(slot)?;
        self.maps.write_array("hw_usage", slot, &[abi::Usage::new_zeroed()])?;
        // A quarantine was its endpoint's, and ends with it.
        self.maps.write_array("hw_guards", slot, &[abi::Guard::new_zeroed()])?;
        self.active_word(slot)?
            .fetch_and(!word_of(abi::Active { policy: 0, generation: QUARANTINED }), Ordering::AcqRel);
        let denial = abi::Denial::read_from_bytes(&[0; size_of::<abi::Denial>()])
            .map_err(|_| invalid("hw_denials", "another layout"))?;
        let denials = [denial; stride::DENIALS_PER_ENDPOINT as usize];
        self.maps.write_array("hw_denials", slot * stride::DENIALS_PER_ENDPOINT, &denials)?;
        let buckets = [abi::Bucket::new_zeroed(); stride::BUCKETS_PER_ENDPOINT as usize];
        self.maps.write_array("hw_buckets", slot * stride::BUCKETS_PER_ENDPOINT, &buckets)?;
        let datagrams = [abi::Datagram::new_zeroed(); stride::DATAGRAMS_PER_ENDPOINT as usize];
        self.maps.write_array("hw_datagrams", slot * stride::DATAGRAMS_PER_ENDPOINT, &datagrams)?;
        let processors = libbpf_rs::num_possible_cpus().map_err(libbpf("count", "processors"))?;
        for reason in 0..stride::REASON_STRIDE {
            self.maps
                .get("hw_reasons")
                .update_percpu(
                    &(slot * stride::REASON_STRIDE + reason).to_ne_bytes(),
                    &vec![vec![0; 8]; processors],
                    MapFlags::ANY,
                )
                .map_err(libbpf("clear", "hw_reasons"))?;
        }
        Ok(())
    }

    fn remove_flows<K: FromBytes>(&self, name: &'static str, which: impl Fn(&K) -> bool) -> Result<()> {
        let flows = self.maps.get(name);
        let mine: Vec<_> = flows.keys().filter(|key| K::read_from_bytes(key).is_ok_and(|key| which(&key))).collect();
        for key in mine {
            flows.delete(&key).map_err(libbpf("remove from", name))?;
        }
        Ok(())
    }

    /// Takes at most `limit` events; never waits.
    ///
    /// # Errors
    /// The ring cannot be read.
    pub fn drain_events(&self, limit: usize) -> Result<Vec<abi::Event>> {
        self.events.drain(limit)
    }
}

fn endpoint_value(config: &EndpointConfig) -> abi::Endpoint {
    #[expect(clippy::cast_possible_truncation, reason = "flags of a byte")]
    let flag = |set: bool, flag: u32| if set { flag as u8 } else { 0 };
    let interval_ns = 1_000_000_000 / u64::from(config.events_per_s.max(1));
    abi::Endpoint {
        mac: config.mac,
        capped: u8::from(config.cap.iter().any(|rate| rate.0 != 0)),
        flags: flag(config.picks_up, abi::endpoint_flag::ENDPOINT_PICKS_UP)
            | flag(config.names_dhcp, abi::endpoint_flag::ENDPOINT_NAMES_DHCP),
        network: config.network,
        flow_quota: config.flow_quota,
        event_interval_ns: interval_ns,
        event_burst_ns: interval_ns * u64::from(config.events_burst.max(1)),
        opening: rate_value(config.opening),
        cap: config.cap.map(rate_value),
        priority: config.priority,
        workload_netns: config.workload_netns.map_or(0, |number| number + 1),
        dhcp: config.dhcp,
        unused: 0,
        sampling: sampling_word(config.sampling),
        responses: config.guard.map(|(response, _)| response),
        thresholds: config.guard.map(|(_, threshold)| threshold),
    }
}

/// Where an address or a prefix stands: the two are kept apart, see `bpf/maps.h`.
enum PrefixKey {
    Host4(abi::Host4Key),
    Host6(abi::Host6Key),
    Prefix4(abi::Prefix4Key),
    Prefix6(abi::Prefix6Key),
}

fn prefix_key(network: u32, address: [u8; 16], bits: u32) -> PrefixKey {
    let network = network.to_be();
    if let Some(ipv4) = Ipv6Addr::from(address).to_ipv4_mapped() {
        let address = ipv4.octets();
        match bits {
            32 => PrefixKey::Host4(abi::Host4Key { network, address }),
            _ => PrefixKey::Prefix4(abi::Prefix4Key { prefix_bits: 32 + bits, network, address }),
        }
    } else {
        match bits {
            128 => PrefixKey::Host6(abi::Host6Key { network, padding: 0, address }),
            _ => PrefixKey::Prefix6(abi::Prefix6Key { prefix_bits: 32 + bits, network, address }),
        }
    }
}

/// The network, address and length that a key of one of the four maps stands for.
fn prefix_of(map: &str, key: &[u8]) -> Option<(u32, [u8; 16], u32)> {
    let mapped = |address| Ipv4Addr::from(address).to_ipv6_mapped().octets();
    let (network, address, bits) = match map {
        "hw_hosts4" => {
            let key = abi::Host4Key::read_from_bytes(key).ok()?;
            (key.network, mapped(key.address), 32)
        }
        "hw_hosts6" => {
            let key = abi::Host6Key::read_from_bytes(key).ok()?;
            (key.network, key.address, 128)
        }
        "hw_prefixes4" => {
            let key = abi::Prefix4Key::read_from_bytes(key).ok()?;
            (key.network, mapped(key.address), key.prefix_bits - 32)
        }
        _ => {
            let key = abi::Prefix6Key::read_from_bytes(key).ok()?;
            (key.network, key.address, key.prefix_bits - 32)
        }
    };
    Some((u32::from_be(network), address, bits))
}

/// The object's ABI version, which names the folder of its maps.
fn abi_version(object: &Path) -> Result<u32> {
    let open = libbpf_rs::ObjectBuilder::default().open_file(object).map_err(libbpf("open", object.display()))?;
    constants::abi_version(&open, object)
}
