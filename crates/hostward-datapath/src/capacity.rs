//! How much the maps hold. Fixed when the maps are created; a change needs new maps.

use hostward_abi::stride;

/// Sizes of the maps, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Endpoints, and networks.
    pub endpoints: u32,
    /// Flows of all endpoints together, in either family; the sum of their quotas must not exceed it.
    pub flows: u32,
    /// Cells of all rows.
    pub cells: u32,
    /// References of all tables.
    pub refs: u32,
    /// Prefixes of each family, and as many single addresses.
    pub prefixes: u32,
    /// Decisions, and their counters.
    pub decisions: u32,
    /// Class sets.
    pub class_sets: u32,
}

impl Capacity {
    /// The number of elements of a map; `None` for a map whose size is not a matter of capacity.
    pub(crate) fn of_map(&self, name: &str) -> Option<u32> {
        Some(match name {
            "hw_endpoints" | "hw_active" | "hw_networks" | "hw_rings" | "hw_usage" | "hw_guards"
            | "hw_inspect_usage" | "hw_inspect_done" | "hw_samplers" => self.endpoints,
            // Those of the old and of the new revision.
            "hw_policies" => self.endpoints * 2 * stride::ADDRESSES_PER_ENDPOINT,
            "hw_reasons" => self.endpoints * stride::REASON_STRIDE,
            "hw_denials" => self.endpoints * stride::DENIALS_PER_ENDPOINT,
            "hw_buckets" => self.endpoints * stride::BUCKETS_PER_ENDPOINT,
            "hw_processes" | "hw_executables" => self.endpoints * stride::PROCESSES_PER_ENDPOINT,
            "hw_datagrams" => self.endpoints * stride::DATAGRAMS_PER_ENDPOINT,
            "hw_refs" => self.refs,
            "hw_cells" => self.cells,
            "hw_decisions" | "hw_counts" | "hw_limits" | "hw_choices" => self.decisions,
            "hw_classes" => self.class_sets * 4,
            "hw_hosts4" | "hw_hosts6" | "hw_prefixes4" | "hw_prefixes6" => self.prefixes,
            "hw_flows4" | "hw_flows6" => self.flows,
            _ => return None,
        })
    }
}
