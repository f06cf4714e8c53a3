//! Counters of the older version, so that metrics do not step back: denials by reason, usage, and decisions' totals.

use std::collections::HashMap;
use std::os::fd::AsFd as _;

use hostward_abi as abi;
use hostward_abi::stride;
use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use zerocopy::FromBytes as _;
use zerocopy::IntoBytes as _;

use super::Predecessor;
use super::btf::Btf;
use super::convert::Conversion;
use super::layouts_of;
use crate::error::Result;
use crate::error::kernel;
use crate::error::libbpf;
use crate::ffi;
use crate::maps::each_element;
use crate::maps::open_pinned;
use crate::port::Order;
use crate::port::Port;
use crate::tables::Datapath;

/// What of a slot's usage is a total; the rest is of the older ring, or a bucket, which begins full.
const NOT_TOTALS: [&str; 6] =
    ["flows", "cursor", "tickets", "event_arrival_ns", "opening_arrival_ns", "answer_arrival_ns"];

/// What of a guard is of the older ring, or of a moment.
const GUARD_ANEW: [&str; 2] = ["busy", "judged"];

impl Predecessor {
    /// Carries the totals of these ports' slots, and of the decisions that are here too. Only before the ports are
    /// attached: nobody else counts then. What has a total already, from an earlier attempt, keeps it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn carry_totals(&self, datapath: &Datapath, ports: &[&Port]) -> Result<()> {
        if !self.refusal().is_empty() {
            return Ok(());
        }
        self.carry_usage(datapath, ports)?;
        self.carry_guards(datapath, ports)?;
        self.carry_reasons(datapath, ports)?;
        self.carry_decisions(datapath)
    }

    fn open(&self, name: &str) -> Result<MapHandle> {
        open_pinned(&self.directory.join(name))
    }

    fn carry_usage(&self, datapath: &Datapath, ports: &[&Port]) -> Result<()> {
        let old = self.open("hw_usage")?;
        let (_, layout) = layouts_of(&old, "hw_usage")?;
        let (_, own) = layouts_of(datapath.maps.get("hw_usage"), "hw_usage")?;
        let conversion = Conversion::between(&layout, &own, &NOT_TOTALS);
        for port in ports {
            let held: Option<abi::Usage> = datapath.maps.read("hw_usage", &port.slot())?;
            let untouched = held.is_some_and(|held| held.as_bytes().iter().all(|&byte| byte == 0));
            let value = old.lookup(&port.slot().to_ne_bytes(), MapFlags::ANY).map_err(libbpf("read", "hw_usage"))?;
            let usage = value.and_then(|bytes| abi::Usage::read_from_bytes(&conversion.apply(&bytes)?).ok());
            if let (true, Some(usage)) = (untouched, usage) {
                datapath.maps.write_array("hw_usage", port.slot(), &[usage])?;
            }
        }
        Ok(())
    }

    /// Who was quarantined stays so. A version without guards has none to carry.
    fn carry_guards(&self, datapath: &Datapath, ports: &[&Port]) -> Result<()> {
        if !self.directory.join("hw_guards").exists() {
            return Ok(());
        }
        let old = self.open("hw_guards")?;
        let (_, layout) = layouts_of(&old, "hw_guards")?;
        let (_, own) = layouts_of(datapath.maps.get("hw_guards"), "hw_guards")?;
        let conversion = Conversion::between(&layout, &own, &GUARD_ANEW);
        for port in ports {
            let held: Option<abi::Guard> = datapath.maps.read("hw_guards", &port.slot())?;
            let untouched = held.is_some_and(|held| held.as_bytes().iter().all(|&byte| byte == 0));
            let value = old.lookup(&port.slot().to_ne_bytes(), MapFlags::ANY).map_err(libbpf("read", "hw_guards"))?;
            let guard = value.and_then(|bytes| abi::Guard::read_from_bytes(&conversion.apply(&bytes)?).ok());
            if let (true, Some(guard)) = (untouched, guard) {
                datapath.maps.write_array("hw_guards", port.slot(), &[guard])?;
                port.order(Order::Mend)?;
            }
        }
        Ok(())
    }

    /// By the reasons' names: a new one moves the numbers of those behind it.
    fn carry_reasons(&self, datapath: &Datapath, ports: &[&Port]) -> Result<()> {
        let old = self.open("hw_reasons")?;
        let (bytes, _, _) = ffi::map_types(old.as_fd()).map_err(kernel("read the types of", "hw_reasons"))?;
        let names = Btf::parse(&bytes)?.enumerators("hw_reason");
        let old_stride = old.max_entries() / self.open("hw_usage")?.max_entries().max(1);
        let own = datapath.maps.get("hw_reasons");
        for port in ports {
            for (&number, name) in names.range(1..old_stride) {
                let here = abi::reason::NAMES.iter().find(|(_, own_name)| name.strip_prefix("HW_") == Some(own_name));
                let Some(&(here, _)) = here.filter(|(here, _)| *here < abi::reason::REASON_COUNT) else { continue };
                let packets = sum_words(&old, port.slot() * old_stride + number)?[0];
                add_words(own, port.slot() * stride::REASON_STRIDE + here, &[packets])?;
            }
        }
        Ok(())
    }

    /// By the rule's number, which means the same in every version and revision.
    fn carry_decisions(&self, datapath: &Datapath) -> Result<()> {
        let (decisions, counts) = (self.open("hw_decisions")?, self.open("hw_counts")?);
        let (_, layout) = layouts_of(&decisions, "hw_decisions")?;
        let Some(&field) = layout.numbers.get("number") else { return Ok(()) };
        let mut totals: HashMap<u32, Vec<u64>> = HashMap::new();
        each_element(&decisions, |index, value| {
            let number = value.get(field.offset..).and_then(|rest| u32::read_from_prefix(rest).ok());
            let (Some((number, _)), Ok(index)) = (number, u32::read_from_bytes(index)) else { return Ok(()) };
            if number == 0 {
                return Ok(());
            }
            let total = totals.entry(number).or_insert_with(|| vec![0; 2]);
            for (sum, word) in total.iter_mut().zip(sum_words(&counts, index)?) {
                *sum += word;
            }
            Ok(())
        })?;
        for (slot, decision) in datapath.read_decisions()? {
            if let Some(total) = totals.remove(&decision.0) {
                add_words(datapath.maps.get("hw_counts"), slot, &total)?;
            }
        }
        Ok(())
    }
}

/// The words of one element of a map of counters, each summed over the processors.
fn sum_words(map: &MapHandle, index: u32) -> Result<Vec<u64>> {
    let values = map.lookup_percpu(&index.to_ne_bytes(), MapFlags::ANY).map_err(libbpf("read", "a counter"))?;
    let mut sums = vec![0; map.value_size() as usize / 8];
    for value in values.into_iter().flatten() {
        for (sum, word) in sums.iter_mut().zip(value.chunks_exact(8)) {
            *sum += u64::from_ne_bytes(word.try_into().unwrap_or_default());
        }
    }
    Ok(sums)
}

/// Gives an element that has counted nothing yet what was counted before.
fn add_words(map: &MapHandle, index: u32, words: &[u64]) -> Result<()> {
    if words.iter().all(|&word| word == 0) || sum_words(map, index)?.iter().any(|&word| word != 0) {
        return Ok(());
    }
    let processors = libbpf_rs::num_possible_cpus().map_err(libbpf("count", "processors"))?;
    let mut values = vec![vec![0; map.value_size() as usize]; processors];
    values[0] = words.as_bytes().to_vec();
    map.update_percpu(&index.to_ne_bytes(), &values, MapFlags::ANY).map_err(libbpf("write", "a counter"))
}
