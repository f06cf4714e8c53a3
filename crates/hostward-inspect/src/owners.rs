//! Whose a flow is: what the datapath said of its packets, by a number that the detector hands back.

use ahash::AHashMap;
use hostward_abi::Inspected;
use hostward_ids::decode::Nanos;
use hostward_ids::flow::Owner;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use zerocopy::IntoBytes as _;

use crate::control::Names;

/// Flows that are remembered at once: more than the detector follows itself.
const MAX_FLOWS: usize = 1 << 20;
/// For how long after the last packet.
const IDLE_NS: Nanos = 600_000_000_000;

/// One flow of the datapath's.
#[derive(Clone, Debug)]
pub struct Origin {
    /// `struct hw_flow_key`.
    pub key: [u8; 48],
    /// Its tag, 0 for packets of no flow.
    pub tag: u32,
    /// Whose port.
    pub slot: u32,
    /// Of the rule that lets it pass.
    pub number: u32,
    /// Of the executable at this end.
    pub process: u8,
    /// The revision in force when the packet came.
    pub revision: u64,
    last: Nanos,
}

/// Every flow whose packets came of late.
#[derive(Default)]
pub struct Owners {
    names: Names,
    numbers: AHashMap<([u8; 48], u32), u64>,
    origins: AHashMap<u64, Origin>,
    next: u64,
    /// Flows that were forgotten because there were too many.
    pub forgotten: u64,
}

impl Owners {
    /// Takes new names; flows that are known keep their numbers.
    pub fn rename(&mut self, names: Names) {
        self.names = names;
    }

    /// Whose a packet is.
    pub fn of(&mut self, inspected: &Inspected, now: Nanos) -> Owner {
        let key: [u8; 48] = inspected.key.as_bytes().try_into().unwrap_or([0; 48]);
        let slot = inspected.key.slot;
        let known = self.numbers.get(&(key, inspected.tag)).copied();
        let reference = known.unwrap_or_else(|| {
            self.next += 1;
            self.next
        });
        if known.is_none() {
            if self.numbers.len() >= MAX_FLOWS {
                self.forgotten += self.numbers.len() as u64;
                self.numbers.clear();
                self.origins.clear();
            }
            self.numbers.insert((key, inspected.tag), reference);
        }
        let origin = Origin {
            key,
            tag: inspected.tag,
            slot,
            number: inspected.number,
            process: inspected.process,
            revision: inspected.revision,
            last: now,
        };
        self.origins.insert(reference, origin);
        let tenant = self.names.endpoints.get(&slot).map_or(0, |endpoint| endpoint.tenant_id);
        Owner { reference, tenant, endpoint: slot, profile: inspected.profile }
    }

    /// What is known of a flow.
    pub fn origin(&self, reference: u64) -> Option<&Origin> {
        self.origins.get(&reference)
    }

    /// Forgets flows that have been idle for long.
    pub fn tidy(&mut self, now: Nanos) {
        self.origins.retain(|_, origin| now.saturating_sub(origin.last) < IDLE_NS);
        let origins = &self.origins;
        self.numbers.retain(|_, number| origins.contains_key(number));
    }

    /// The object `hostward` of an event, and `tenant_id`.
    pub fn describe(&self, reference: u64) -> Option<(Map<String, Value>, u32)> {
        let origin = self.origins.get(&reference)?;
        let endpoint = self.names.endpoints.get(&origin.slot);
        let process = self.names.processes.get(&origin.slot).and_then(|numbers| numbers.get(&origin.process));
        let mut object = Map::new();
        object.insert("tenant".into(), json!(endpoint.map(|endpoint| &endpoint.tenant)));
        object.insert("endpoint".into(), json!(endpoint.map(|endpoint| &endpoint.name)));
        object.insert("group".into(), json!(endpoint.map(|endpoint| &endpoint.groups)));
        object.insert("host".into(), json!(self.names.host));
        object.insert("process".into(), json!(process));
        object.insert("rule".into(), json!(self.names.rules.get(&origin.number)));
        object.insert("revision".into(), json!(origin.revision));
        Some((object, endpoint.map_or(0, |endpoint| endpoint.tenant_id)))
    }
}
