//! Decisions and their limits: written before anything names them, and read back.

use std::collections::HashMap;

use hostward_abi as abi;
use hostward_abi::choice_end;
use hostward_abi::unit;
use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use zerocopy::FromBytes as _;
use zerocopy::FromZeros as _;

use crate::error::Result;
use crate::error::invalid;
use crate::error::libbpf;
use crate::tables::Datapath;

/// What one unit costs, in ns << `HW_RATE_SHIFT`, and what may come at once, in ns. Both 0: no bound.
pub type Rate = (u64, u64);

/// One limit: whose endpoint counts (0 the opener's, 1 the other), `enum hw_unit`, the rule's number, the rate.
pub type Limit = (u32, u32, u32, Rate);

/// One choice: `enum hw_choice_end`, `enum hw_process` (other, beside every executable), executable, a decision's slot.
pub type Choice = (u16, u16, u64, u32);

/// A decision: number, verdict, log, flags (`enum hw_decision_flag`), limits, choices, `enum hw_inspect` of each end.
pub type Decision = (u32, u8, bool, u8, Vec<Limit>, Vec<Choice>, [u8; 2]);

const LOG: u8 = abi::decision_flag::DECISION_LOG as u8;
const LIMITED: u8 = abi::decision_flag::DECISION_LIMITED as u8;
const BY_PROCESS: u8 = abi::decision_flag::DECISION_BY_PROCESS as u8;
const AT_PROCESS: u8 = abi::decision_flag::DECISION_AT_PROCESS as u8;

impl Datapath {
    /// Writes a decision. Its counter starts at zero.
    ///
    /// # Errors
    /// It lies beyond the capacity, or two of its limits are of one unit at one end.
    pub fn write_decision(&self, slot: u32, decision: &Decision) -> Result<()> {
        let processors = libbpf_rs::num_possible_cpus().map_err(libbpf("count", "processors"))?;
        let zero = vec![vec![0; size_of::<abi::Count>()]; processors];
        self.maps
            .get("hw_counts")
            .update_percpu(&slot.to_ne_bytes(), &zero, MapFlags::ANY)
            .map_err(libbpf("clear", "hw_counts"))?;
        // The limits first: a decision that is limited and has none lets nothing pass.
        match limits_value(decision)? {
            Some(limits) => self.maps.write("hw_limits", &slot, &limits)?,
            None => self.maps.remove("hw_limits", &slot)?,
        }
        if !decision.5.is_empty() {
            // Those of an earlier decision in this slot must not be taken for this one's.
            for (key, _) in self.choices()? {
                if key.decision == slot {
                    self.maps.remove("hw_choices", &key)?;
                }
            }
            for &choice in &decision.5 {
                self.maps.write("hw_choices", &choice_key(slot, choice), &choice.3)?;
            }
        }
        self.maps.write_array("hw_decisions", slot, &[decision_value(decision)])
    }

    /// Whether a decision is the one given.
    ///
    /// # Errors
    /// It lies beyond the capacity.
    pub fn holds_decision(&self, slot: u32, decision: &Decision) -> Result<bool> {
        let held: Option<abi::Decision> = self.maps.read("hw_decisions", &slot)?;
        let limits: Option<abi::Limits> = self.maps.read("hw_limits", &slot)?;
        for &choice in &decision.5 {
            if self.maps.read::<_, u32>("hw_choices", &choice_key(slot, choice))? != Some(choice.3) {
                return Ok(false);
            }
        }
        Ok(held.is_some_and(|held| held == decision_value(decision)) && limits == limits_value(decision)?)
    }

    fn choices(&self) -> Result<Vec<(abi::ChoiceKey, u32)>> {
        let map = self.maps.get("hw_choices");
        let found = map.lookup_batch(4_096, MapFlags::ANY, MapFlags::ANY).map_err(libbpf("read", "hw_choices"))?;
        let entry = |(key, value): (Vec<u8>, Vec<u8>)| {
            Some((abi::ChoiceKey::read_from_bytes(&key).ok()?, u32::read_from_bytes(&value).ok()?))
        };
        Ok(found.filter_map(entry).collect())
    }

    /// Reads decisions back, with their slots: those that are written.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn read_decisions(&self) -> Result<Vec<(u32, Decision)>> {
        let map = self.maps.get("hw_decisions");
        let mut choices: HashMap<u32, Vec<Choice>> = HashMap::new();
        for (key, chosen) in self.choices()? {
            choices.entry(key.decision).or_default().push((key.end, key.process, key.executable, chosen));
        }
        let mut found = Vec::new();
        for (key, value) in
            map.lookup_batch(4_096, MapFlags::ANY, MapFlags::ANY).map_err(libbpf("read", "hw_decisions"))?
        {
            let (Ok(slot), Ok(decision)) = (u32::read_from_bytes(&key), abi::Decision::read_from_bytes(&value)) else {
                continue;
            };
            if decision.verdict != 0 {
                let limits = if decision.flags & LIMITED == 0 { None } else { self.maps.read("hw_limits", &slot)? };
                let mut choices =
                    if decision.flags & BY_PROCESS == 0 { None } else { choices.remove(&slot) }.unwrap_or_default();
                choices.sort_unstable();
                let flags = decision.flags & !(LOG | LIMITED | BY_PROCESS | AT_PROCESS);
                let limits = limits.map_or_else(Vec::new, listed);
                let log = decision.flags & LOG != 0;
                found.push((slot, (decision.number, decision.verdict, log, flags, limits, choices, decision.inspect)));
            }
        }
        Ok(found)
    }
}

fn decision_value(&(number, verdict, log, flags, ref limits, ref choices, inspect): &Decision) -> abi::Decision {
    let limited = if limits.is_empty() { 0 } else { LIMITED };
    let by_process = if choices.is_empty() { 0 } else { BY_PROCESS };
    let acceptors = || choices.iter().filter(|choice| u32::from(choice.0) == choice_end::CHOICE_ACCEPTOR);
    let matters = acceptors().any(|choice| acceptors().any(|other| choice.3 != other.3));
    let at_process = if matters { AT_PROCESS } else { 0 };
    let logged = if log { LOG } else { 0 };
    abi::Decision { number, verdict, flags: flags | logged | limited | by_process | at_process, inspect }
}

fn choice_key(decision: u32, (end, process, executable, _): Choice) -> abi::ChoiceKey {
    abi::ChoiceKey { executable, decision, end, process }
}

fn limits_value(decision: &Decision) -> Result<Option<abi::Limits>> {
    let mut value = abi::Limits::new_zeroed();
    for &(end, unit, number, rate) in &decision.4 {
        let place = value.at.get_mut(end as usize).and_then(|units| units.get_mut(unit as usize));
        match place {
            Some(place) if place.number == 0 && number != 0 && rate.0 != 0 => {
                *place = abi::Limit { rate: rate_value(rate), number, padding: 0 };
            }
            _ => return Err(invalid(decision.0, format!("no limit can be of end {end}, unit {unit}, rule {number}"))),
        }
    }
    Ok((!decision.4.is_empty()).then_some(value))
}

fn listed(limits: abi::Limits) -> Vec<Limit> {
    let mut found = Vec::new();
    for end in 0..2_u32 {
        for unit in 0..unit::UNITS {
            let limit = limits.at[end as usize][unit as usize];
            if limit.number != 0 {
                found.push((end, unit, limit.number, (limit.rate.cost, limit.rate.burst_ns)));
            }
        }
    }
    found
}

pub(crate) fn rate_value((cost, burst_ns): Rate) -> abi::Rate {
    abi::Rate { cost, burst_ns }
}
