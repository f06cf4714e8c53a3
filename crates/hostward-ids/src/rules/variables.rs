//! Names for addresses and ports in headers, with Suricata's defaults (its `suricata.yaml`, section `vars`).

use std::collections::BTreeMap;

/// What `$HOME_NET` and the like stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variables {
    addresses: BTreeMap<String, String>,
    ports: BTreeMap<String, String>,
}

const ADDRESSES: &[(&str, &str)] = &[
    ("HOME_NET", "[192.168.0.0/16,10.0.0.0/8,172.16.0.0/12]"),
    ("EXTERNAL_NET", "!$HOME_NET"),
    ("HTTP_SERVERS", "$HOME_NET"),
    ("SMTP_SERVERS", "$HOME_NET"),
    ("SQL_SERVERS", "$HOME_NET"),
    ("DNS_SERVERS", "$HOME_NET"),
    ("TELNET_SERVERS", "$HOME_NET"),
    ("AIM_SERVERS", "$EXTERNAL_NET"),
    ("DC_SERVERS", "$HOME_NET"),
    ("DNP3_SERVER", "$HOME_NET"),
    ("DNP3_CLIENT", "$HOME_NET"),
    ("MODBUS_CLIENT", "$HOME_NET"),
    ("MODBUS_SERVER", "$HOME_NET"),
    ("ENIP_CLIENT", "$HOME_NET"),
    ("ENIP_SERVER", "$HOME_NET"),
];

const PORTS: &[(&str, &str)] = &[
    ("HTTP_PORTS", "80"),
    ("SHELLCODE_PORTS", "!80"),
    ("ORACLE_PORTS", "1521"),
    ("SSH_PORTS", "22"),
    ("DNP3_PORTS", "20000"),
    ("MODBUS_PORTS", "502"),
    ("FILE_DATA_PORTS", "[$HTTP_PORTS,110,143]"),
    ("FTP_PORTS", "21"),
    ("GENEVE_PORTS", "6081"),
    ("VXLAN_PORTS", "4789"),
    ("TEREDO_PORTS", "3544"),
    ("SIP_PORTS", "[5060,5061]"),
];

impl Default for Variables {
    fn default() -> Self {
        let owned = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>()
        };
        Self { addresses: owned(ADDRESSES), ports: owned(PORTS) }
    }
}

impl Variables {
    /// Defines a group of addresses, or replaces one.
    pub fn set_addresses(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.addresses.insert(name.into(), value.into());
    }

    /// Defines a group of ports, or replaces one.
    pub fn set_ports(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.ports.insert(name.into(), value.into());
    }

    pub(super) fn addresses(&self, name: &str) -> Option<&str> {
        self.addresses.get(name).map(String::as_str)
    }

    pub(super) fn ports(&self, name: &str) -> Option<&str> {
        self.ports.get(name).map(String::as_str)
    }

    /// All of them in order, for a digest of what was compiled.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.addresses.iter().chain(&self.ports).map(|(name, value)| (name.as_str(), value.as_str()))
    }
}
