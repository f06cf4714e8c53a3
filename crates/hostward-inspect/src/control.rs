//! What the agent and the inspector tell each other: JSON, one message a line, over a socket pair.

use std::collections::BTreeMap;
use std::collections::HashMap;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

/// From the agent.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Signatures to match from now on; compiled beside those in force.
    Rules(Rules),
    /// Whose numbers are whose.
    Names(Names),
}

/// See [`Order::Rules`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Files of signatures, in order.
    pub files: Vec<RuleText>,
    /// Contents of the files that signatures name, by that name.
    #[serde(default)]
    pub data: BTreeMap<String, String>,
    /// Addresses and ports that signatures name, without the `$`.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// What profiles are there, by name.
    #[serde(default)]
    pub profiles: BTreeMap<String, Profile>,
    /// Sets of profiles, by the number that records carry (1 to 63).
    #[serde(default)]
    pub sets: BTreeMap<u8, Vec<String>>,
    /// The engine's settings, by Suricata's names.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

/// One of [`Rules::files`]: this process may open none itself.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleText {
    /// Its name, without the folder.
    pub name: String,
    /// Its content.
    pub text: String,
}

/// Which signatures a profile has; empty lists do not restrict.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Names of files, without their folder; `*` stands for any characters.
    #[serde(default)]
    pub files: Vec<String>,
    /// Class types.
    #[serde(default)]
    pub classtypes: Vec<String>,
    /// Numbers of signatures, beside the above.
    #[serde(default)]
    pub signatures: Vec<u32>,
    /// Numbers of signatures that it leaves out, whatever the above say.
    #[serde(default)]
    pub except: Vec<u32>,
}

/// See [`Order::Names`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Names {
    /// This host's.
    pub host: String,
    /// Endpoints by slot.
    #[serde(default)]
    pub endpoints: HashMap<u32, Endpoint>,
    /// Rules' ids by number.
    #[serde(default)]
    pub rules: HashMap<u32, String>,
    /// Executables by slot and number.
    #[serde(default)]
    pub processes: HashMap<u32, HashMap<u8, String>>,
}

/// One of [`Names::endpoints`].
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Its id.
    pub name: String,
    /// Whose it is.
    pub tenant: String,
    /// The same as a number, stable within this host.
    pub tenant_id: u32,
    /// Its groups.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// To the agent.
#[derive(Debug, Serialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum Report<'a> {
    /// It is confined and waits for signatures.
    Confined {
        /// Whether files are, too.
        files: bool,
    },
    /// Signatures are in force.
    Loaded {
        /// How many.
        signatures: usize,
        /// How long it took.
        milliseconds: u64,
        /// Those that were not understood: file, line, keyword, why.
        problems: &'a [String],
        /// How many there are of these, listed or not.
        refused: usize,
    },
    /// Signatures could not be loaded; those before stay in force.
    NotLoaded {
        /// Why.
        why: String,
    },
    /// An alert, in EVE's form.
    Alert {
        /// The event.
        event: &'a Value,
    },
    /// What a flow's packets shall meet in the datapath.
    Judged {
        /// Whose port.
        slot: u32,
        /// `struct hw_flow_key`, in hex.
        key: String,
        /// The flow's tag.
        tag: u32,
        /// `enum hw_flow_mark`.
        marks: u32,
        /// The signature that asks for it; 0 where the detector is done with the flow.
        signature: u32,
    },
    /// Counters since the start, once a second.
    Counted {
        /// By name.
        counters: &'a BTreeMap<&'static str, u64>,
    },
}
