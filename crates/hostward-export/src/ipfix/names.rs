//! What the numbers of the datapath are called, as the agent knows it.

use std::collections::HashMap;

/// One endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointName {
    /// Its tenant.
    pub tenant: String,
    /// `tenant/name`.
    pub endpoint: String,
    /// Its groups, sorted and joined by commas.
    pub groups: String,
    /// Index of the device that it is attached by; 0: none.
    pub interface: u32,
    /// The device's name.
    pub device: String,
}

/// The tables that one revision and the devices of one moment give.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// By slot.
    pub endpoints: HashMap<u32, EndpointName>,
    /// By the decision's number: ids, joined by commas. Numbers never change their meaning.
    pub rules: HashMap<u32, String>,
    /// By slot and number of the executable: its path.
    pub executables: HashMap<(u32, u8), String>,
}

impl Names {
    /// The endpoint of a slot, if it has one.
    #[must_use]
    pub fn endpoint(&self, slot: u32) -> Option<&EndpointName> {
        self.endpoints.get(&slot)
    }

    /// The rules of a decision; empty where none was consulted.
    #[must_use]
    pub fn rules(&self, number: u32) -> &str {
        self.rules.get(&number).map_or("", String::as_str)
    }

    /// The path of an executable; empty if it is not known, or no rule names it.
    #[must_use]
    pub fn executable(&self, slot: u32, process: u8) -> &str {
        self.executables.get(&(slot, process)).map_or("", String::as_str)
    }
}
